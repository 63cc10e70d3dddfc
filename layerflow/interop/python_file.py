"""Writes models as one Python file that needs NumPy alone: the recorded forward, one line for each operation."""

import base64
import io
import pprint
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.engine.open_batch import Extent
from layerflow.engine.program import Node, Program
from layerflow.parameter import Array

INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/", "power": "**", "greater": ">",
    "greater_equal": ">=", "less": "<", "less_equal": "<=", "equal": "==", "not_equal": "!=",
}  # fmt: skip
LONGEST_LINE = 100
TEMPLATE = '''\
"""{title}

Written by layerflow; needs NumPy alone.

    python {file} samples.csv           one line for each sample
    >>> from {module} import {function}

samples: {samples}.
"""

import base64
import csv
import io
import sys

import numpy as np

FACTS = {facts}
WEIGHTS = dict(np.load(io.BytesIO(base64.b85decode("".join("""
{weights}
""".split())))))


@np.errstate(all="ignore")
def forward({inputs}):
    """Return {outputs}."""
{lines}
    return {results}
'''
RUN = '''

def predict(x):
    """Return the predictions for samples, as the model makes them: labels by name, or numbers."""
    found = forward(np.asarray(x, {dtype!r}))
    classes = FACTS.get("classes")
    return found[0] if classes is None else np.array(classes)[found[-1]]


def read(path):
    """Return the samples of a .npy file, or of a CSV file whose columns are named like the features."""
    if path.endswith(".npy"):
        return np.load(path)
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    x = np.zeros((len(rows), len(FACTS["features"])))
    for j, feature in enumerate(FACTS["features"]):
        column, is_category, category = feature.partition("=")
        if feature in (rows[0] if rows else ()):
            column, is_category = feature, ""
        for i, row in enumerate(rows):
            if column not in row:
                sys.exit(f"{{path}}: no column {{column!r}}; there are {{', '.join(row)}}")
            try:
                x[i, j] = row[column] == category if is_category else float(row[column] or "nan")
            except ValueError:
                sys.exit(f"{{path}}:{{i + 2}}: column {{column!r}}: {{row[column]!r}} is not a number")
    return x


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for prediction in predict(read(sys.argv[1])):
        print(prediction if np.ndim(prediction) == 0 else " ".join(map(str, np.ravel(prediction))))
'''


def python_file(
    program: Program,
    arrays: Mapping[str, Array],
    file: str,
    title: str,
    outputs: Sequence[str],
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Return the text of a Python file that computes a forward.

    Args:
        program: the forward, for batches of any size; see `open_forward`.
        arrays: parameters and buffers by the names of the program's inputs.
        file: its name.
        title: its first line.
        outputs: what the outputs are, in words.
        facts: of a run: "features" and "classes", as far as there are any; a command line is written for it.
    """
    held: dict[str, Array] = {}
    names: dict[int, str] = {}
    lines: list[str] = []
    inputs = [name for name in program.inputs if name.startswith("input.")]
    variables = ["x"] if len(inputs) == 1 else [f"x{i}" for i in range(len(inputs))]
    gate = ""
    for node in program.live(guards=False):
        if node.kind == "input" and node.settings["name"] in inputs:
            names[node.number] = variables[inputs.index(node.settings["name"])]
            continue
        if node.kind == "input":
            key = node.settings["name"].partition(".")[2]
            held[key] = arrays[node.settings["name"]]
            names[node.number] = f"WEIGHTS[{key!r}]"
            continue
        if node.kind == "constant" and "value" in node.settings and node.settings["value"].ndim == 0:
            names[node.number] = _scalar(node)
            continue
        name = names[node.number] = f"v{node.number}"
        if node.origin and node.origin.gate != gate:
            gate = node.origin.gate
            lines.append(f"# {gate}")
        operands = [names[each.number] for each in node.inputs]
        lines += [f"{name} = {text}" if i == 0 else text for i, text in enumerate(_lines(node, name, operands, held))]
    if any("n" in line for line in lines):
        lines.insert(0, f"n = len({variables[0]})")
    results = ", ".join(names[program.outputs[f"output.{i}"].number] for i in range(len(outputs)))
    results = f"({results},)" if facts is not None and len(outputs) == 1 else results
    packed = io.BytesIO()
    np.savez_compressed(packed, **held)  # type: ignore[arg-type]
    text = base64.b85encode(packed.getvalue()).decode()
    given = dict(facts or {})
    run = RUN.format(dtype=str(program.inputs[inputs[0]].dtype)) if facts is not None else ""
    text = TEMPLATE.format(
        title=title, file=file, module=file.removesuffix(".py"), function="predict" if run else "forward",
        samples=" x ".join(map(str, program.inputs[inputs[0]].shape)),
        facts=pprint.pformat(given, width=100, compact=True),
        weights="\n".join(text[i : i + LONGEST_LINE] for i in range(0, len(text), LONGEST_LINE)),
        inputs=", ".join(variables), outputs=", ".join(outputs), results=results,
        lines="\n".join(f"    {line}" for line in lines),
    )  # fmt: skip
    return text + run


# Nodes as text -----------------------------------------------------------------------------------------------------


def _size(number: Any) -> str:
    if not isinstance(number, Extent):
        return str(int(number))
    product = "n" if number.each == 1 else f"{number.each} * n"
    return f"{number.fixed} + {product}" if number.fixed else product


def _sizes(numbers: Sequence[Any]) -> str:
    return f"({', '.join(map(_size, numbers))}{',' if len(numbers) == 1 else ''})"


def _type(dtype: Any) -> str:
    return "bool" if dtype == np.bool_ else f"np.{dtype}"


def _scalar(node: Node) -> str:
    value = node.settings["value"]
    if node.dtype.kind == "f":
        number = (
            repr(float(value)) if np.isfinite(value) else {"inf": "np.inf", "-inf": "-np.inf"}.get(str(value), "np.nan")
        )
        return f"np.{node.dtype}({number})"
    return repr(bool(value)) if node.dtype.kind == "b" else f"np.{node.dtype}({int(value)})"


def _places(settings: Mapping[str, Any], shape: Sequence[Any], whole: Sequence[Any]) -> str:
    """The key of a slice."""
    parts = []
    for start, step, size, all_of in zip(settings["starts"], settings["steps"], shape, whole, strict=True):
        if size == all_of and step == 1:
            parts.append(":")
            continue
        (low, each), (rows, per) = (v if isinstance(v, Extent) else Extent(v, 0) for v in (start, size))
        stop = Extent(low + step * rows, each + step * per)
        end = _size(stop) if stop.each else str(stop.fixed) if stop.fixed >= 0 else ""  # before the first element
        parts.append(f"{_size(start)}:{end}" + (f":{step}" if step != 1 else ""))
    while len(parts) > 1 and parts[-1] == ":":
        parts.pop()
    return ", ".join(parts)


def _lines(node: Node, name: str, x: list[str], held: dict[str, Array]) -> list[str]:
    """The value of a node as text, and lines that change it afterwards."""
    settings = node.settings
    if node.kind == "constant":
        return [_constant(node, name, held)]
    if node.kind == "update":
        return [f"{x[0]}.copy()", f"{name}[{_places(settings, node.inputs[1].shape, node.shape)}] = {x[1]}"]
    if node.kind == "scatter":
        key = f"({', '.join(x[2:])},)"
        change = f"np.add.at({name}, {key}, {x[1]})" if settings["mode"] == "add" else f"{name}[{key}] = {x[1]}"
        return [f"{x[0]}.copy()", change]
    return [KINDS[node.kind](node, settings, x)]


def _constant(node: Node, name: str, held: dict[str, Array]) -> str:
    settings = node.settings
    if "extent" in settings:
        return f"np.full({_sizes(node.shape)}, {_size(settings['extent'])}, {_type(node.dtype)})"
    held[name] = settings["value"]
    if "axis" not in settings:
        return f"WEIGHTS[{name!r}]"
    if not settings["slope"].any():
        return f"np.broadcast_to(WEIGHTS[{name!r}], {_sizes(node.shape)})"
    held[f"{name}.slope"], axis = settings["slope"], settings["axis"]
    shape = ", ".join("-1" if i == axis else "1" for i in range(len(node.shape)))
    steps = f"np.arange({_size(node.shape[axis])}).reshape({shape}).astype({_type(node.dtype)})"
    return f"WEIGHTS[{name!r}] + WEIGHTS[{name + '.slope'!r}] * {steps}"


def _elementwise(node: Node, settings: Mapping[str, Any], x: list[str]) -> str:
    function = settings["function"]
    if function == "cast":
        return f"{x[0]}.astype({_type(node.dtype)})"
    if function in INFIX:
        return f"{x[0]} {INFIX[function]} {x[1]}"
    return f"-{x[0]}" if function == "negative" else f"np.{function}({', '.join(x)})"


def _reduced(node: Node, settings: Mapping[str, Any], x: list[str]) -> str:
    axes = settings["axes"]
    kind = f", dtype={_type(node.dtype)}" if settings["function"] in ("sum", "prod") else ""
    return f"np.{settings['function']}({x[0]}, axis={axes[0] if len(axes) == 1 else axes}{kind})"


KINDS: dict[str, Callable[[Node, Mapping[str, Any], list[str]], str]] = {
    "elementwise": _elementwise,
    "reduce": _reduced,
    "arg": lambda node, s, x: f"np.{s['function']}({x[0]}, axis={s['axis']})",
    "cumulate": lambda node, s, x: f"np.cum{s['function']}({x[0]}, axis={s['axis']})",
    "dot": lambda node, s, x: f"{x[0]} @ {x[1]}",
    "reshape": lambda node, s, x: f"{x[0]}.reshape{_sizes(node.shape)}",
    "transpose": lambda node, s, x: f"{x[0]}.transpose{s['axes']}",
    "broadcast": lambda node, s, x: f"np.broadcast_to({x[0]}, {_sizes(node.shape)})",
    "slice": lambda node, s, x: f"{x[0]}[{_places(s, node.shape, node.inputs[0].shape)}]",
    "windows": lambda node, s, x:
        f"np.lib.stride_tricks.sliding_window_view({x[0]}, {s['sizes']}, {s['axes']})",
    "gather": lambda node, s, x: f"{x[0]}[{', '.join(x[1:])}]",
    "concatenate": lambda node, s, x: f"np.concatenate([{', '.join(x)}], axis={s['axis']})",
}  # fmt: skip
