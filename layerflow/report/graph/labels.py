"""How gates and numbers are written in a picture: operator signs, short labels, formulas from the docstrings."""

import inspect
import re
from typing import Any

import numpy as np

from layerflow.gate import Gate

SIGNS = {
    "Add": "+",
    "Subtract": "−",
    "Multiply": "×",
    "Divide": "÷",
    "Negate": "−1·",
    "MatMul": "@",
    "Maximum": "max",
    "Minimum": "min",
    "Exp": "exp",
    "Log": "log",
    "Sum": "Σ",
    "Mean": "mean",
    "Max": "max",
    "Transpose": "T",
    "Tanh": "tanh",
    "Sigmoid": "σ",
}
LONGEST_LABEL = 26


def label_of(gate: Gate) -> str:
    """A gate in one word: its operator sign, or its type with the arguments that aren't the default, shortened."""
    kind = type(gate).__name__
    defaults = inspect.signature(type(gate)).parameters
    chosen = {name: value for name, value in gate.arguments.items() if not _is_same(value, defaults[name].default)}
    if kind == "Power":
        return f"^{chosen['exponent']}"
    if not chosen:
        return SIGNS.get(kind, kind)
    first, *others = chosen
    written = [repr(chosen[first]) if first == next(iter(defaults)) else f"{first}={chosen[first]!r}"]
    label = f"{kind}({', '.join(written + [f'{name}={chosen[name]!r}' for name in others])})"
    return label if len(label) <= LONGEST_LABEL else f"{kind}(…)"


def is_sign(label: str) -> bool:
    """Whether a label is an operator sign, which is drawn in a circle."""
    return label in SIGNS.values()


def is_generated(name: str, gate: Gate) -> bool:
    """Whether a node's name was made up from the gate's type."""
    return re.fullmatch(rf"{type(gate).__name__.lower()}(_\d+)?", name) is not None


def formula_of(gate: Gate) -> str:
    """The first sentence of the gate's docstring, which is its formula; empty where there is none."""
    return (inspect.cleandoc(type(gate).__doc__ or "").split("\n\n")[0]).replace("\n", " ")


def local_gradient_of(gate: Gate) -> str:
    """What the gate's docstring says after `Local gradient:`; empty where it says nothing."""
    document = inspect.cleandoc(type(gate).__doc__ or "")
    found = re.search(r"^Local gradient:\s*(.*?)(?=\n[A-Z]\w*:|\n\n|\Z)", document, re.DOTALL | re.MULTILINE)
    return " ".join(found.group(1).split()) if found else ""


def number(value: Any) -> str:
    """A number in three significant digits, without an exponent where it can be avoided."""
    value = float(value)
    if value != value or value in (np.inf, -np.inf):
        return str(value)
    if value == 0 or 0.001 <= abs(value) < 100_000:
        text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
        return "0" if text == "-0" else text
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as `32 × 64`; a scalar's is empty."""
    return " × ".join(map(str, shape))


def _is_same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(np.all(value == default))
