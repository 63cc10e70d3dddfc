"""A table from the nodes of a program to those of ONNX."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from layerflow.engine.open_batch import Extent
from layerflow.engine.program import Node
from layerflow.errors import LayerflowError

ALL = np.iinfo(np.int64)

SAME: dict[str, str] = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "true_divide": "Div", "power": "Pow",
    "negative": "Neg", "absolute": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan", "sinh": "Sinh",
    "cosh": "Cosh", "tanh": "Tanh", "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh", "sign": "Sign",
    "floor": "Floor", "ceil": "Ceil", "rint": "Round", "maximum": "Max", "minimum": "Min", "greater": "Greater",
    "greater_equal": "GreaterOrEqual", "less": "Less", "less_equal": "LessOrEqual", "equal": "Equal",
    "logical_and": "And", "logical_or": "Or", "logical_xor": "Xor", "logical_not": "Not", "isnan": "IsNaN",
    "isinf": "IsInf", "where": "Where", "copy": "Identity", "positive": "Identity", "bitwise_and": "And",
    "bitwise_or": "Or", "bitwise_xor": "Xor", "invert": "Not",
}  # fmt: skip
"""Functions that are one operator; those of bits are recorded for truth values."""

REDUCTIONS = {"sum": "ReduceSum", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin"}


class Graph:
    """Holds the operators of an ONNX graph while it is built; values are known by their names.

    Args:
        onnx: the module.
        batch: a value whose first axis is the batch.
    """

    def __init__(self, onnx: Any, batch: str) -> None:
        self.onnx, self.batch = onnx, batch
        self.operators: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self._constants: dict[Any, str] = {}
        self._made: dict[Any, str] = {}

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add an operator, and return the name of its output; the same one on the same inputs is there once."""
        key = operator, inputs, repr(attributes)
        if not name and key in self._made:
            return self._made[key]
        name = name or f"v{len(self.operators)}"
        self.operators.append(self.onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        self._made.setdefault(key, name)
        return name

    def constant(self, value: Any, name: str = "") -> str:
        """Return the name of an array that never changes."""
        array = np.asarray(value)
        key = array.dtype, array.shape, array.tobytes()
        if name or key not in self._constants:
            name = name or f"c{len(self.initializers)}"
            self.initializers[name] = self.onnx.numpy_helper.from_array(array, name)
            self._constants.setdefault(key, name)
        return name or self._constants[key]

    def sizes(self, numbers: Iterable[Any]) -> str:
        """Return the name of a vector of whole numbers, which may depend on the batch."""
        listed = list(numbers)
        fixed = self.constant(np.array([n.fixed if isinstance(n, Extent) else n for n in listed], np.int64))
        each = np.array([n.each if isinstance(n, Extent) else 0 for n in listed], np.int64)
        if not each.any():
            return fixed
        samples = self.add("Shape", self.batch, start=0, end=1)
        return self.add("Add", fixed, self.add("Mul", samples, self.constant(each)))

    def cast(self, value: str, dtype: Any) -> str:
        return self.add("Cast", value, to=self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def number(self, value: Any, dtype: Any) -> str:
        return self.constant(np.asarray(value, dtype))

    def transposed(self, value: str, axes: Sequence[int]) -> str:
        return self.add("Transpose", value, perm=list(axes))

    def indices(self, count: Any) -> str:
        """The numbers from 0 to below a count that may depend on the batch."""
        if not isinstance(count, Extent):
            return self.constant(np.arange(count))
        stop = self.add("Squeeze", self.sizes([count]))
        return self.add("Range", self.number(0, np.int64), stop, self.number(1, np.int64))

    def write(self, node: Node, operands: list[str]) -> str:
        """Add the operators of a node of a program; return the name of its value."""
        writer = KINDS.get(node.kind)
        if writer is None:
            raise LayerflowError(f"{node.origin}: ONNX has no operator for {node.kind}")
        return writer(self, node, *operands)


# Kinds of nodes ----------------------------------------------------------------------------------------------------


def _constant(graph: Graph, node: Node) -> str:
    settings = node.settings
    if "extent" in settings:
        return graph.add("Reshape", graph.cast(graph.sizes([settings["extent"]]), node.dtype), graph.sizes(node.shape))
    if "axis" not in settings:
        return graph.constant(settings["value"])
    start, axis = settings["value"], settings["axis"]
    start_name = graph.constant(start)
    if settings["slope"].any():
        steps = graph.cast(graph.indices(node.shape[axis]), node.dtype)
        axes = graph.constant(np.array([i for i in range(start.ndim) if i != axis], np.int64))
        steps = graph.add("Unsqueeze", steps, axes) if start.ndim > 1 else steps
        return graph.add("Add", start_name, graph.add("Mul", steps, graph.constant(settings["slope"])))
    return graph.add("Expand", start_name, graph.sizes(node.shape))


def _elementwise(graph: Graph, node: Node, *operands: str) -> str:
    function = node.settings["function"]
    if function == "cast":
        return graph.cast(operands[0], node.dtype)
    kind = node.inputs[0].dtype
    if function in ("floor", "ceil", "rint", "trunc") and kind.kind in "iu":
        return operands[0]
    if function in COMPOSED:
        return COMPOSED[function](graph, kind, *operands)
    if function not in SAME:
        raise LayerflowError(f"{node.origin}: ONNX has no operator for np.{function}")
    return graph.add(SAME[function], *operands)


def _reduce(graph: Graph, node: Node, x: str) -> str:
    function, axes = node.settings["function"], graph.sizes(node.settings["axes"])
    if function in ("all", "any"):
        number = graph.cast(x, np.int32)
        found = graph.add("ReduceMin" if function == "all" else "ReduceMax", number, axes, keepdims=0)
        return graph.cast(found, np.bool_)
    if node.inputs[0].dtype != node.dtype:
        x = graph.cast(x, node.dtype)
    return graph.add(REDUCTIONS[function], x, axes, keepdims=0, noop_with_empty_axes=1)


def _arg(graph: Graph, node: Node, x: str) -> str:
    if node.inputs[0].dtype.kind == "b":
        x = graph.cast(x, np.int32)
    operator = "ArgMax" if node.settings["function"] == "argmax" else "ArgMin"
    return graph.add(operator, x, axis=int(node.settings["axis"]), keepdims=0)


def _cumulate(graph: Graph, node: Node, x: str) -> str:
    axis = int(node.settings["axis"])
    if node.settings["function"] == "sum":
        return graph.add("CumSum", x, graph.constant(np.array(axis, np.int64)))
    count = node.shape[axis]
    if isinstance(count, Extent):
        raise LayerflowError(f"{node.origin}: ONNX has no operator for a product over all samples before")
    parts: list[str] = []
    for i in range(count):
        part = graph.add("Gather", x, graph.constant(np.array([i])), axis=axis)
        parts.append(graph.add("Mul", parts[-1], part) if parts else part)
    return graph.add("Concat", *parts, axis=axis)


def _slice(graph: Graph, node: Node, x: str) -> str:
    return _sliced(graph, x, node.settings["starts"], node.settings["steps"], node.shape, node.inputs[0].shape)


def _sliced(graph: Graph, x: str, starts: Any, steps: Any, shape: Any, whole: Any) -> str:
    axes = [i for i in range(len(shape)) if shape[i] != whole[i] or steps[i] != 1]
    if not axes:
        return x
    if any(shape[i] == 0 for i in axes):
        starts, stops = [0 for _ in starts], [0 for _ in starts]
        steps = [1 for _ in starts]
    else:
        stops = [_stop(start, step, size) for start, step, size in zip(starts, steps, shape, strict=True)]
    chosen = [[values[i] for i in axes] for values in (starts, stops, steps)]
    return graph.add(
        "Slice", x, graph.sizes(chosen[0]), graph.sizes(chosen[1]), graph.sizes(axes), graph.sizes(chosen[2])
    )


def _stop(start: Any, step: int, size: Any) -> Any:
    """Where a slice ends; before the first element, which a negative number cannot say, far below."""
    (fixed, each), (rows, per_sample) = (n if isinstance(n, Extent) else Extent(n, 0) for n in (start, size))
    stop = Extent(fixed + step * rows, each + step * per_sample)
    if stop.each:
        return stop
    return stop.fixed if stop.fixed >= 0 else ALL.min


def _windows(graph: Graph, node: Node, x: str) -> str:
    """Each window's axis comes by an index, beside the axis that it slides over, and is moved to the end."""
    rank = len(node.inputs[0].shape)
    for axis, size in zip(node.settings["axes"], node.settings["sizes"], strict=True):
        count = node.shape[axis]
        if isinstance(count, Extent):
            raise LayerflowError(f"{node.origin}: windows that slide over the samples of a batch")
        places = np.arange(count)[:, None] + np.arange(size)
        x = graph.add("Gather", x, graph.constant(places), axis=int(axis))
        rank += 1
        x = graph.transposed(x, [*(i for i in range(rank) if i != axis + 1), axis + 1])
    return x


def _update(graph: Graph, node: Node, base: str, value: str) -> str:
    starts, steps, shape = node.settings["starts"], node.settings["steps"], node.inputs[1].shape
    return _updated(graph, node, base, value, list(starts), list(steps), list(shape), list(node.shape))


def _updated(
    graph: Graph, node: Node, base: str, value: str, starts: Any, steps: Any, shape: Any, whole: Any
) -> str:  # fmt: skip
    """Put a value into a slice: axis by axis, the outermost first, and what remains of the base around it."""
    partial = [i for i in range(len(whole)) if shape[i] != whole[i] or steps[i] != 1]
    if not partial:
        return value
    axis = partial[0]
    start, step, size = starts[axis], steps[axis], shape[axis]
    inner_whole = [*whole[:axis], size, *whole[axis + 1 :]]
    if len(partial) > 1:
        only = [start if i == axis else 0 for i in range(len(whole))]
        strides = [step if i == axis else 1 for i in range(len(whole))]
        part = _sliced(graph, base, only, strides, inner_whole, whole)
        rest = (
            [0 if i == axis else s for i, s in enumerate(starts)],
            [1 if i == axis else s for i, s in enumerate(steps)],
        )
        value = _updated(graph, node, part, value, *rest, shape, inner_whole)
    if step == 1 and isinstance(whole[axis], Extent):
        zero = [0] * len(whole)
        before = _sliced(graph, base, zero, [1] * len(whole), [*whole[:axis], start, *whole[axis + 1 :]], whole)
        stop = _stop(start, 1, size)
        after = graph.add("Slice", base, graph.sizes([stop]), graph.constant(np.array([ALL.max])), graph.sizes([axis]))
        return graph.add("Concat", *([before] if start != 0 else []), value, after, axis=axis)
    if isinstance(whole[axis], Extent) or isinstance(size, Extent) or isinstance(start, Extent):
        raise LayerflowError(f"{node.origin}: every {step}th sample of a batch is written")
    chosen = np.arange(whole[axis])
    chosen[start + step * np.arange(size)] = whole[axis] + np.arange(size)
    both = graph.add("Concat", base, value, axis=axis)
    return graph.add("Gather", both, graph.constant(chosen), axis=axis)


def _places(graph: Graph, indices: Sequence[str], nodes: Sequence[Node], base: Node, shape: Sequence[Any]) -> str:
    """The indices of all leading axes, side by side on a last axis, and none below zero."""
    columns = []
    for axis, (name, node) in enumerate(zip(indices, nodes, strict=True)):
        index = graph.cast(name, np.int64) if node.dtype != np.int64 else name
        size = graph.add("Squeeze", graph.sizes([base.shape[axis]]))
        index = graph.add("Where", graph.add("Less", index, graph.number(0, np.int64)),
                          graph.add("Add", index, size), index)  # fmt: skip
        index = graph.add("Expand", index, graph.sizes(shape)) if tuple(node.shape) != tuple(shape) else index
        columns.append(graph.add("Unsqueeze", index, graph.constant(np.array([len(shape)]))))
    return columns[0] if len(columns) == 1 else graph.add("Concat", *columns, axis=len(shape))


def _gather(graph: Graph, node: Node, base: str, *indices: str) -> str:
    if len(indices) == 1:
        return graph.add("Gather", base, indices[0], axis=0)
    rank = len(node.shape) - len(node.inputs[0].shape) + len(indices)
    return graph.add("GatherND", base, _places(graph, indices, node.inputs[1:], node.inputs[0], node.shape[:rank]))


def _scatter(graph: Graph, node: Node, base: str, value: str, *indices: str) -> str:
    shape = node.inputs[1].shape
    rank = len(shape) - len(node.inputs[0].shape) + len(indices)
    places = _places(graph, indices, node.inputs[2:], node.inputs[0], shape[:rank])
    return graph.add("ScatterND", base, places, value, reduction="add" if node.settings["mode"] == "add" else "none")


KINDS: dict[str, Callable[..., str]] = {
    "constant": _constant,
    "elementwise": _elementwise,
    "reduce": _reduce,
    "arg": _arg,
    "cumulate": _cumulate,
    "dot": lambda graph, node, a, b: graph.add("MatMul", a, b),
    "reshape": lambda graph, node, x: graph.add("Reshape", x, graph.sizes(node.shape), allowzero=1),
    "transpose": lambda graph, node, x: graph.transposed(x, node.settings["axes"]),
    "broadcast": lambda graph, node, x: graph.add("Expand", x, graph.sizes(node.shape)),
    "slice": _slice,
    "windows": _windows,
    "update": _update,
    "gather": _gather,
    "scatter": _scatter,
    "concatenate": lambda graph, node, *parts: graph.add("Concat", *parts, axis=int(node.settings["axis"])),
}


# Functions of several operators --------------------------------------------------------------------------------------


def _truncated(graph: Graph, kind: Any, x: str) -> str:
    return graph.add("Mul", graph.add("Sign", x), graph.add("Floor", graph.add("Abs", x)))


def _remainder(graph: Graph, kind: Any, x: str, y: str) -> str:
    if kind.kind in "iu":
        return graph.add("Mod", x, y)
    return graph.add("Sub", x, graph.add("Mul", graph.add("Floor", graph.add("Div", x, y)), y))


def _floor_divide(graph: Graph, kind: Any, x: str, y: str) -> str:
    if kind.kind in "iu":
        return graph.add("Div", graph.add("Sub", x, graph.add("Mod", x, y)), y)
    return graph.add("Floor", graph.add("Div", x, y))


def _logaddexp(graph: Graph, kind: Any, x: str, y: str) -> str:
    low = graph.add("Neg", graph.add("Abs", graph.add("Sub", x, y)))
    return graph.add("Add", graph.add("Max", x, y), _log1p(graph, kind, graph.add("Exp", low)))


def _log1p(graph: Graph, kind: Any, x: str) -> str:
    """log(u) x / (u - 1) for u = 1 + x rounded, which is exact to rounding (Higham 2002, section 1.14.1)."""
    one = graph.number(1, kind)
    u = graph.add("Add", one, x)
    change = graph.add("Sub", u, one)
    is_nothing = graph.add("Equal", change, graph.number(0, kind))
    ratio = graph.add("Div", x, graph.add("Where", is_nothing, one, change))
    ratio = graph.add("Where", graph.add("IsInf", u), one, ratio)
    return graph.add("Where", is_nothing, x, graph.add("Mul", graph.add("Log", u), ratio))


def _expm1(graph: Graph, kind: Any, x: str) -> str:
    """2 sinh(x / 2) exp(x / 2), with a series of sinh where it is small."""
    half = graph.add("Mul", x, graph.number(0.5, kind))
    square = graph.add("Mul", half, half)
    series = graph.number(1, kind)
    for factor in (42, 20, 6):
        series = graph.add("Add", graph.number(1, kind),
                           graph.add("Div", graph.add("Mul", square, series), graph.number(factor, kind)))  # fmt: skip
    small = graph.add("Mul", graph.add("Mul", graph.add("Mul", half, series), graph.number(2, kind)),
                      graph.add("Exp", half))  # fmt: skip
    is_small = graph.add("Less", graph.add("Abs", x), graph.number(0.7, kind))
    return graph.add("Where", is_small, small, graph.add("Sub", graph.add("Exp", x), graph.number(1, kind)))


def _scaled(operator: str, factor: float) -> Callable[..., str]:
    return lambda graph, kind, x: graph.add("Mul", graph.add(operator, x), graph.number(factor, kind))


def _arctan2(graph: Graph, kind: Any, y: str, x: str) -> str:
    zero, pi = graph.number(0, kind), graph.number(np.pi, kind)
    half = graph.add("Mul", graph.add("Sign", y), graph.number(np.pi / 2, kind))
    is_zero = graph.add("Equal", x, zero)
    angle = graph.add("Atan", graph.add("Div", y, graph.add("Where", is_zero, graph.number(1, kind), x)))
    turned = graph.add("Where", graph.add("Less", y, zero), graph.add("Neg", pi), pi)
    angle = graph.add("Where", graph.add("Less", x, zero), graph.add("Add", angle, turned), angle)
    return graph.add("Where", is_zero, half, angle)


def _hypot(graph: Graph, kind: Any, x: str, y: str) -> str:
    return graph.add("Sqrt", graph.add("Add", graph.add("Mul", x, x), graph.add("Mul", y, y)))


def _copysign(graph: Graph, kind: Any, x: str, y: str) -> str:
    size = graph.add("Abs", x)
    return graph.add("Where", graph.add("Less", y, graph.number(0, kind)), graph.add("Neg", size), size)


def _isfinite(graph: Graph, kind: Any, x: str) -> str:
    if kind.kind != "f":
        return graph.add("Equal", x, x)
    return graph.add("Not", graph.add("Or", graph.add("IsInf", x), graph.add("IsNaN", x)))


COMPOSED: dict[str, Callable[..., str]] = {
    "square": lambda graph, kind, x: graph.add("Mul", x, x),
    "not_equal": lambda graph, kind, x, y: graph.add("Not", graph.add("Equal", x, y)),
    "trunc": _truncated, "fix": _truncated,
    "remainder": _remainder, "mod": _remainder, "floor_divide": _floor_divide,
    "fmod": lambda graph, kind, x, y: graph.add("Mod", x, y, fmod=1),
    "erf": lambda graph, kind, x: graph.add("Erf", x),
    "erfc": lambda graph, kind, x: graph.add("Sub", graph.number(1, kind), graph.add("Erf", x)),
    "logaddexp": _logaddexp, "log1p": _log1p, "expm1": _expm1,
    "exp2": lambda graph, kind, x: graph.add("Pow", graph.number(2, kind), x),
    "log2": _scaled("Log", 1 / np.log(2)), "log10": _scaled("Log", 1 / np.log(10)),
    "cbrt": lambda graph, kind, x: graph.add(
        "Mul", graph.add("Sign", x), graph.add("Pow", graph.add("Abs", x), graph.number(1 / 3, kind))),
    "arctan2": _arctan2, "hypot": _hypot, "copysign": _copysign, "isfinite": _isfinite,
    "fmax": lambda graph, kind, x, y: graph.add("Max", x, y),
    "fmin": lambda graph, kind, x, y: graph.add("Min", x, y),
    "signbit": lambda graph, kind, x: graph.add("Less", x, graph.number(0, kind)),
    "deg2rad": lambda graph, kind, x: graph.add("Mul", x, graph.number(np.pi / 180, kind)),
    "rad2deg": lambda graph, kind, x: graph.add("Mul", x, graph.number(180 / np.pi, kind)),
    "heaviside": lambda graph, kind, x, y: graph.add(
        "Where", graph.add("Equal", x, graph.number(0, kind)), y,
        graph.cast(graph.add("Less", graph.number(0, kind), x), kind)),
}  # fmt: skip
