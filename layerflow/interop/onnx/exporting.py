"""Writes models as ONNX files: the recorded forward, one operator after the other, checked before the file is kept."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.containers.graph import ComputationalGraph
from layerflow.engine.open_batch import Extent, open_program
from layerflow.engine.program import Program
from layerflow.engine.recorder import detached, record_gate
from layerflow.engine.traced import Traced, recorder
from layerflow.errors import ConfigError, DataError, GateError, LayerflowError
from layerflow.gate import Gate
from layerflow.gates import elementwise, shared
from layerflow.interop.onnx.nodes import Graph
from layerflow.parameter import Array
from layerflow.runs.files import write_atomically

OPSET, IR = 18, 9  # read by onnxruntime 1.14 and later
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def export_onnx(
    model: Gate,
    path: str | Path,
    example: Any,
    dtype: str = "float32",
    names: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Write a model as an ONNX file, for batches of any size.

        lf.export_onnx(model, "model.onnx", x[:1])

    The forward in evaluation mode is recorded and written operator by operator, custom gates included. Before the file
    is kept, onnx.checker looks at it, and onnxruntime's results are compared with those of the model: on the example,
    and on a batch of another size.

    Args:
        model: a built gate.
        path: the file.
        example: a batch of samples (batch, ...), or for a model of several inputs a dict or tuple of them.
        dtype: of parameters and real inputs in the file, "float32" or "float64".
        names: of the outputs; by default those of the graph, else "output".
        metadata: what else the file says about the model: text, or what JSON can hold.
        labels: the names of the classes, if the last output is the index of one: the file gives the name.

    Returns:
        The path.

    Raises:
        ConfigError: onnx or onnxruntime is not installed; the model has no weights yet.
        RecordError: a gate cannot be recorded, or depends on the batch in a way that no program for all sizes has.
        LayerflowError: ONNX has no such operator, or onnxruntime gives other numbers.
        StorageError: the file cannot be written; an existing one is unchanged.
    """
    onnx, runtime = modules()
    missing = [name for name, parameter in model.named_parameters().items() if not parameter.has_value]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: no value yet; train the model, or run forward once, before exporting")
    if dtype not in TOLERANCE:
        raise ConfigError(f"dtype is {dtype!r}, expected 'float32' or 'float64'")
    inputs = examples_of(model, example, dtype)
    twin = detached(model)
    twin.astype(np.dtype(dtype))
    twin.training = False
    with whole_error_function() if dtype == "float32" else nullcontext():
        program = open_forward(twin, list(inputs.values()))
    outputs = list(names or _output_names(model, program))
    proto = _proto(onnx, twin, program, list(inputs), outputs, labels)
    proto.producer_name, proto.doc_string = "layerflow", repr(model)
    onnx.helper.set_model_props(
        proto, {k: v if isinstance(v, str) else json.dumps(v) for k, v in (metadata or {}).items()}
    )
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as error:
        raise LayerflowError(f"onnx.checker refuses the model: {error}; please report it") from error
    content = proto.SerializeToString()
    _compare(runtime, content, twin, inputs, dtype, labels)
    write_atomically(Path(path), content)
    return Path(path)


def modules() -> tuple[Any, Any]:
    """The modules onnx and onnxruntime."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"ONNX needs {error.name}, which is not installed: pip install 'layerflow[onnx]'") from None
    return onnx, onnxruntime


def examples_of(model: Gate, example: Any, dtype: str) -> dict[str, Array]:
    """The inputs of an example by their names, real numbers in the given type."""
    names = list(model.input_names) if isinstance(model, ComputationalGraph) else ["x"]
    if isinstance(example, Mapping):
        if set(example) != set(names):
            raise DataError(
                f"the example has {', '.join(map(repr, example))}; the model's inputs are {', '.join(names)}"
            )
        given = [example[name] for name in names]
    else:
        given = list(example) if isinstance(example, tuple) else [example]
        if len(given) != len(names):
            names = [f"x{i}" for i in range(len(given))]
    arrays = [np.asarray(value) for value in given]
    for name, array in zip(names, arrays, strict=True):
        if array.ndim == 0 or not len(array) or array.dtype.kind not in "fiub":
            raise DataError(
                f"example {name!r} is {array.dtype} {array.shape}, expected a batch of samples (batch, ...)"
            )
    found = [array.astype(dtype) if array.dtype.kind == "f" else array for array in arrays]
    return dict(zip(names, found, strict=True))


@contextmanager
def whole_error_function() -> Iterator[None]:
    """While this lasts, erf and erfc are recorded by their names, not as the polynomials that compute them.

    In float64, the Erf of onnxruntime is less accurate than these.
    """
    places = [(shared, "erf"), (shared, "erfc"), (elementwise, "erf")]
    former = [getattr(module, name) for module, name in places]

    def named(name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(x: Any) -> Any:
            if recorder() is None or not isinstance(x, Traced):
                return function(x)
            node = recorder().add("elementwise", (x.node,), {"function": name}, x.shape, x.dtype)
            return Traced(node, function(x.value))

        return call

    for (module, name), function in zip(places, former, strict=True):
        setattr(module, name, named(name, function))
    try:
        yield
    finally:
        for (module, name), function in zip(places, former, strict=True):
            setattr(module, name, function)


def open_forward(model: Gate, inputs: Sequence[Array]) -> Program:
    """The forward of a model in evaluation mode as a program for batches of any size."""

    def recorded(size: int) -> Program:
        try:
            return record_gate(model, [resized(value, size) for value in inputs], None)
        except (GateError, ValueError) as error:
            raise ConfigError(
                f"a batch of {size} samples cannot run: {error}; the file is for batches of any size"
            ) from error

    program = open_program(recorded)
    if program.draws:
        raise LayerflowError(f"the model draws random numbers in evaluation too, by {program.draws[0].method}")
    return program


def resized(value: Array, size: int) -> Array:
    """So many samples: those that there are, again and again."""
    return value.take(np.arange(size) % len(value), axis=0)


def _output_names(model: Gate, program: Program) -> list[str]:
    count = sum(name.startswith("output.") for name in program.outputs)
    if isinstance(model, ComputationalGraph) and count > 1:
        by_slot = {node.slot: name for name, node in model.nodes.items()}
        return [by_slot[slot] for slot in model.output_slots]
    return ["output"] if count == 1 else [f"output{i}" for i in range(count)]


def _proto(
    onnx: Any, model: Gate, program: Program, inputs: list[str], outputs: list[str], labels: Sequence[str] | None
) -> Any:
    """The ONNX model of a program."""
    cells = {f"parameter.{name}": cell.value for name, cell in model.named_parameters().items()}
    cells |= {f"buffer.{name}": cell.value for name, cell in model.named_buffers().items()}
    used = {name: node for name, node in program.inputs.items() if name.startswith("input.")}
    graph = Graph(onnx, inputs[0])
    values: dict[int, str] = {}
    for node in program.live(guards=False):
        if node.kind != "input":
            values[node.number] = graph.write(node, [values[each.number] for each in node.inputs])
            continue
        kind, _, name = node.settings["name"].partition(".")
        values[node.number] = (
            inputs[int(name)]
            if kind == "input"
            else graph.constant(cells[f"{kind}.{name}"], _free(name, inputs, outputs))
        )
    described = []
    for i, name in enumerate(inputs):
        if (given := used.get(f"input.{i}")) is not None:
            described.append(_described(onnx, name, given.shape, given.dtype))
    results = []
    for i, name in enumerate(outputs):
        node = program.outputs[f"output.{i}"]
        if labels is not None and i == len(outputs) - 1:
            graph.add("Gather", graph.constant(np.array(labels, object), "classes"), values[node.number], name=name)
            results.append(_described(onnx, name, node.shape, np.dtype(object)))
            continue
        graph.add("Identity", values[node.number], name=name)
        results.append(_described(onnx, name, node.shape, node.dtype))
    made = onnx.helper.make_graph(graph.operators, "layerflow", described, results, list(graph.initializers.values()))
    imports = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(made, opset_imports=imports, ir_version=IR)


def _free(name: str, *taken: list[str]) -> str:
    return f"{name}_" if any(name in names for names in taken) else name


def _described(onnx: Any, name: str, shape: Sequence[Any], dtype: Any) -> Any:
    """An input or output with its type and shape, in which the batch is open."""
    sizes = [
        None if isinstance(n, Extent) and tuple(n) != (0, 1) else "batch" if isinstance(n, Extent) else n for n in shape
    ]
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), sizes)


def _compare(
    runtime: Any, content: bytes, model: Gate, inputs: dict[str, Array], dtype: str, labels: Sequence[str] | None
) -> None:
    """Raise unless onnxruntime gives the numbers of the model."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise LayerflowError(f"onnxruntime refuses the model: {error}") from error
    wanted = {each.name for each in session.get_inputs()}
    for size in sorted({len(next(iter(inputs.values()))), 1, 3}):
        given = {name: resized(value, size) for name, value in inputs.items()}
        with np.errstate(all="ignore"):
            output = model.forward(*given.values())
        expected = list(output) if isinstance(output, tuple) else [output]
        if labels is not None:
            expected[-1] = np.array(labels, object)[expected[-1]]
        found = session.run(None, {name: value for name, value in given.items() if name in wanted})
        for one, other in zip(expected, found, strict=True):
            if not close_to(one, other, TOLERANCE[dtype]):
                raise LayerflowError(
                    f"onnxruntime gives other results for {size} samples, {_difference(one, other)}; the file was not "
                    "written. Try dtype='float64', or report it"
                )


def close_to(expected: Array, found: Array, tolerance: float) -> bool:
    """Whether results are equal, or real numbers but for rounding, relative to the largest."""
    if expected.shape != found.shape or expected.dtype.kind != "f":
        return np.array_equal(expected, found)
    scale = max(float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)), 1.0)
    return np.allclose(expected, found, tolerance, tolerance * scale, equal_nan=True)


def _difference(one: Array, other: Array) -> str:
    if one.shape != other.shape or one.dtype.kind != "f":
        return f"{other.dtype} {other.shape} for {one.dtype} {one.shape}"
    return f"off by {np.abs(one - other).max():.3g}"
