"""A table from the operators of ONNX to gates.

An entry is a function of the importer, the operator, its inputs (nodes of the graph, arrays, or None where one is left
out) and its attributes; it returns the node or nodes of the outputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import layerflow.gates as lf
from layerflow.containers.node import Node
from layerflow.gate import Gate
from layerflow.interop.onnx.layers import (
    Attributes,
    Inputs,
    batch_norm,
    conv,
    conv_transpose,
    instance_norm,
    layer_norm,
    lp_pool,
    pooled,
    recurrent,
)
from layerflow.interop.onnx.onnx_gates import SLOPES, Cast, Function, Operator, Remainder


def simple(make: Callable[..., Gate], **defaults: Any) -> Callable[..., Any]:
    """An operator that is one gate, whose arguments are attributes: {argument: (attribute, default)}."""

    def entry(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
        settings = {name: attributes.get(key, default) for name, (key, default) in defaults.items()}
        return imp.apply(make(**settings), *inputs)

    return entry


def folded(make: Callable[[], Gate]) -> Callable[..., Any]:
    """An operator of any number of inputs, which are combined two by two."""

    def entry(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
        result = inputs[0]
        for other in inputs[1:]:
            result = imp.apply(make(), result, other)
        return imp.node(result)

    return entry


def reduced(
    make: Callable[..., Gate], before: Callable[..., Any] | None = None, after: Any = None
) -> Callable[..., Any]:
    """A reduction, its axes an input or an attribute."""

    def entry(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
        axes = imp.axes(node, inputs, attributes)
        x = before(imp, inputs[0]) if before else imp.node(inputs[0])
        if axes or not attributes.get("noop_with_empty_axes"):
            x = imp.apply(make(axis=axes or None, keepdims=bool(attributes.get("keepdims", 1))), x)
        return after(imp, x) if after else x

    return entry


def squared(imp: Any, x: Any) -> Any:
    return imp.apply(lf.Multiply(), x, x)


def resize(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    if attributes.get("mode", "nearest") != "nearest":
        raise imp.refused(node, f"mode={attributes['mode']}")
    return imp.moved(node, inputs, (0,), attributes.get("extrapolation_value", 0.0))


def top_k(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    index = imp.operator(node, inputs, 1)
    return imp.apply(lf.Gather(attributes.get("axis", -1)), inputs[0], index), index


def scattered(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    if attributes.get("reduction", "none") != "none":
        raise imp.refused(node, f"reduction={attributes['reduction']}")
    return imp.moved(node, inputs, (0, 2))


def global_max(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    rank = len(imp.shape(inputs[0], node))
    return imp.apply(lf.Max(axis=tuple(range(2, rank)), keepdims=True), inputs[0])


def global_mean(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    rank = len(imp.shape(inputs[0], node))
    return imp.apply(lf.Mean(axis=tuple(range(2, rank)), keepdims=True), inputs[0])


def gemm(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    """alpha A B + beta C; with constant weights a Linear."""
    a, b, c = (*inputs, None)[:3]
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    turned_a, turned_b = attributes.get("transA", 0), attributes.get("transB", 0)
    constant = isinstance(b, np.ndarray) and (c is None or (isinstance(c, np.ndarray) and c.ndim == 1))
    if constant and not turned_a and b.dtype.kind == "f":
        weight = (b if turned_b else b.T) * b.dtype.type(alpha)
        gate = lf.Linear(weight.shape[0], bias=c is not None)
        if c is None:
            return imp.layer(gate, a, weight=weight)
        return imp.layer(gate, a, weight=weight, bias=np.broadcast_to(c * c.dtype.type(beta), weight.shape[:1]))
    a = imp.apply(lf.Transpose((1, 0)), a) if turned_a else a
    b = imp.apply(lf.Transpose((1, 0)), b) if turned_b else b
    y = imp.scaled(imp.apply(lf.MatMul(), a, b), alpha)
    return y if c is None else imp.apply(lf.Add(), y, imp.scaled(c, beta))


def matmul(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    a, b = inputs
    if isinstance(b, np.ndarray) and b.ndim == 2 and b.dtype.kind == "f" and not isinstance(a, np.ndarray):
        return imp.layer(lf.Linear(b.shape[1], bias=False), a, weight=b.T)
    if len(imp.shape(a, node)) == 1 or len(imp.shape(b, node)) == 1:
        raise imp.refused(node, "a vector as a factor")
    return imp.apply(lf.MatMul(), a, b)


def softmax(make: Callable[..., Gate]) -> Callable[..., Any]:
    def entry(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
        axis = attributes.get("axis", -1 if imp.opset >= 13 else 1)
        rank = len(imp.shape(inputs[0], node))
        if imp.opset < 13 and axis % rank != rank - 1:
            raise imp.refused(node, "the softmax over several axes of opset 12 and before")
        return imp.apply(make(axis=axis), inputs[0])

    return entry


def gather(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, index = inputs
    is_table = isinstance(x, np.ndarray) and x.ndim == 2 and x.dtype.kind == "f" and not isinstance(index, np.ndarray)
    if is_table and attributes.get("axis", 0) == 0:
        return imp.layer(lf.Embedding(*x.shape), index, weight=x)
    return imp.moved(node, inputs, (0,))


def clip(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, low, high = (*inputs, None, None)[:3]
    low, high = attributes.get("min", low), attributes.get("max", high)
    if all(isinstance(value, np.ndarray | float | None) for value in (low, high)):
        bounds = [None if value is None else float(np.asarray(value).item()) for value in (low, high)]
        if bounds == [None, None]:
            return imp.node(x)
        if bounds[0] is None or bounds[1] is None or bounds[0] <= bounds[1]:
            return imp.apply(lf.Clip(*bounds), x)
    x = x if low is None else imp.apply(lf.Maximum(), x, low)
    return imp.node(x if high is None else imp.apply(lf.Minimum(), x, high))


def hard_sigmoid(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    line = imp.shifted(imp.scaled(inputs[0], attributes.get("alpha", 0.2)), attributes.get("beta", 0.5))
    return imp.apply(lf.Clip(0.0, 1.0), line)


def prelu(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, slope = inputs
    negative = imp.apply(lf.Multiply(), imp.apply(lf.Minimum(), x, np.zeros((), np.float32)), slope)
    return imp.apply(lf.Add(), imp.apply(lf.ReLU(), x), negative)


def threshold(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    return imp.apply(lf.Threshold(attributes.get("alpha", 1.0), 0.0), inputs[0])


def swish(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x = inputs[0]
    return imp.apply(lf.Multiply(), x, imp.apply(lf.Sigmoid(), imp.scaled(x, attributes.get("alpha", 1.0))))


def mean(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    return imp.scaled(folded(lf.Add)(imp, node, inputs, attributes), 1 / len(inputs))


def power(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, exponent = inputs
    if imp.kind(node.input[0]) != "f":
        raise imp.refused(node, "powers of whole numbers")
    if isinstance(exponent, np.ndarray):
        if exponent.size == 1:
            return imp.apply(lf.Power(float(exponent.item())), x)
        exponent = exponent.astype(imp.dtype(node.input[0]))
    elif imp.kind(node.input[1]) != "f":
        kind = str(imp.dtype(node.input[0]))
        exponent = imp.referred(Operator(lambda e: [e.astype(kind)], "Cast", 1), [exponent])
    return imp.apply(lf.Power(), x, exponent)


def modulo(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    if imp.kind(node.input[0]) != "f":
        return imp.operator(node, inputs)
    return imp.apply(Remainder(bool(attributes.get("fmod", 0))), *inputs)


def cumsum(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, axis = inputs
    if not isinstance(axis, np.ndarray) or attributes.get("exclusive") or attributes.get("reverse"):
        raise imp.refused(node, "exclusive=1, reverse=1, or an axis that is computed")
    return imp.apply(lf.CumSum(int(axis)), x)


def cast(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    kind = (
        imp.onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]) if "to" in attributes else imp.dtype(node.output[0])
    )
    if kind in (np.float32, np.float64) and imp.kind(node.input[0]) == "f":
        return imp.apply(Cast(str(kind)), inputs[0])
    if kind.kind not in "fiub" or imp.kind(node.input[0]) not in ("f", "i", "u", "b") or kind == np.float16:
        raise imp.refused(node, f"a cast to {kind}")
    return imp.operator(node, inputs)


def dropout(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    training = inputs[2] if len(inputs) > 2 else None
    if any(isinstance(value, Node) for value in inputs[1:]):
        raise imp.refused(node, "a rate that is computed")
    if len([name for name in node.output if name]) > 1 or (training is not None and np.any(training)):
        raise imp.refused(node, "the mask as an output, or training_mode")
    given = inputs[1] if len(inputs) > 1 else None
    ratio = attributes.get("ratio", 0.5) if given is None else float(given.item())
    return imp.apply(lf.Dropout(ratio), inputs[0]) if 0 <= ratio < 1 else imp.node(inputs[0])


def flatten(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    return imp.apply(lf.Flatten(), inputs[0]) if attributes.get("axis", 1) == 1 else imp.moved(node, inputs, (0,))


def reshape(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, shape = inputs
    if isinstance(shape, np.ndarray) and len(shape) and (shape != 0).all():
        return imp.apply(lf.Reshape(tuple(shape.tolist())), x)
    return imp.moved(node, inputs, (0,))


def transpose(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    return imp.apply(lf.Transpose(attributes.get("perm")), inputs[0])


def concat(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    if imp.kind(node.output[0]) != "f":
        return imp.operator(node, inputs)
    return imp.apply(lf.Concatenate(attributes["axis"]), *inputs) if len(inputs) > 1 else imp.node(inputs[0])


def einsum(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    return imp.apply(lf.Einsum(attributes["equation"]), *inputs)


def pad(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, *rest = inputs
    value = rest[1] if len(rest) > 1 and rest[1] is not None else attributes.get("value", 0.0)
    if not isinstance(value, np.ndarray | float):
        raise imp.refused(node, "a filling that is computed")
    without = [x, *[r if i != 1 else None for i, r in enumerate(rest)]]
    return imp.moved(node, without, (0,), float(np.asarray(value).item()))


def where(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    if imp.kind(node.output[0]) != "f":
        return imp.operator(node, inputs)
    return imp.apply(lf.Where(), *inputs)


def shrink(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    bias, limit = attributes.get("bias", 0.0), attributes.get("lambd", 0.5)
    x = inputs[0]
    above = imp.apply(lf.Threshold(limit, 0.0), x)
    below = imp.apply(lf.Threshold(limit, 0.0), imp.apply(lf.Negate(), x))
    if bias:
        raise imp.refused(node, "a bias")
    return imp.apply(lf.Subtract(), above, below)


def moving(*moved: int) -> Callable[..., Any]:
    return lambda imp, node, inputs, attributes: imp.moved(node, inputs, moved)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": simple(lf.Abs), "Add": simple(lf.Add), "AveragePool": pooled("Avg"), "BatchNormalization": batch_norm,
    "Cast": cast, "CastLike": cast, "Celu": simple(lf.CELU, alpha=("alpha", 1.0)), "Clip": clip, "Concat": concat,
    "Conv": conv, "ConvTranspose": conv_transpose, "Cos": simple(lf.Cos), "CumSum": cumsum, "Div": simple(lf.Divide),
    "Dropout": dropout, "Einsum": einsum, "Elu": simple(lf.ELU, alpha=("alpha", 1.0)), "Erf": simple(lf.Erf),
    "Exp": simple(lf.Exp), "Flatten": flatten, "GRU": recurrent("GRU"), "Gather": gather,
    "Gelu": simple(lf.GELU, approximate=("approximate", "none")), "Gemm": gemm, "GlobalAveragePool": global_mean,
    "GlobalMaxPool": global_max, "HardSigmoid": hard_sigmoid, "HardSwish": simple(lf.Hardswish),
    "InstanceNormalization": instance_norm, "LSTM": recurrent("LSTM"), "LayerNormalization": layer_norm,
    "LeakyRelu": simple(lf.LeakyReLU, negative_slope=("alpha", 0.01)), "Log": simple(lf.Log),
    "LogSoftmax": softmax(lf.LogSoftmax), "MatMul": matmul, "Max": folded(lf.Maximum), "MaxPool": pooled("Max"),
    "Mean": mean, "Min": folded(lf.Minimum), "Mish": simple(lf.Mish), "Mod": modulo, "Mul": simple(lf.Multiply),
    "Neg": simple(lf.Negate), "PRelu": prelu, "Pad": pad, "Pow": power, "RNN": recurrent("RNN"),
    "ReduceL1": reduced(lf.Sum, lambda imp, x: imp.apply(lf.Abs(), x)),
    "ReduceL2": reduced(lf.Sum, squared, lambda imp, y: imp.apply(lf.Sqrt(), y)),
    "ReduceLogSum": reduced(lf.Sum, None, lambda imp, y: imp.apply(lf.Log(), y)),
    "ReduceLogSumExp": reduced(lf.LogSumExp), "ReduceMax": reduced(lf.Max), "ReduceMean": reduced(lf.Mean),
    "ReduceMin": reduced(lf.Min), "ReduceProd": reduced(lf.Prod), "ReduceSum": reduced(lf.Sum),
    "ReduceSumSquare": reduced(lf.Sum, squared), "Relu": simple(lf.ReLU), "Reshape": reshape, "Shrink": shrink,
    "Sigmoid": simple(lf.Sigmoid), "Sin": simple(lf.Sin), "Softmax": softmax(lf.Softmax),
    "Softplus": simple(lf.Softplus), "Softsign": simple(lf.Softsign), "Sqrt": simple(lf.Sqrt),
    "Sub": simple(lf.Subtract), "Sum": folded(lf.Add), "Swish": swish, "Tanh": simple(lf.Tanh),
    "ThresholdedRelu": threshold, "Transpose": transpose, "Where": where,
    "DepthToSpace": moving(0), "Expand": moving(0), "GatherElements": moving(0), "GatherND": moving(0),
    "ReverseSequence": moving(0), "ScatterElements": scattered, "ScatterND": scattered, "Slice": moving(0),
    "SpaceToDepth": moving(0), "Split": moving(0), "Squeeze": moving(0), "Tile": moving(0), "Trilu": moving(0),
    "Unsqueeze": moving(0), "Compress": moving(0), "CenterCropPad": moving(0), "Resize": resize,
    "LpPool": lp_pool, "Hardmax": lambda imp, node, inputs, attributes: imp.operator(node, inputs), "TopK": top_k,
    **{name: (lambda imp, node, inputs, attributes: imp.apply(Function(node.op_type), *inputs)) for name in SLOPES},
}  # fmt: skip
"""What real numbers go through; operators on whole numbers and truth values need no entry."""
