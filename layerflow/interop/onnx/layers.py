"""Operators with weights or windows: convolution, pooling, normalisation, recurrent layers; see `operators`."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import layerflow.gates as lf
from layerflow.containers.node import Node
from layerflow.interop.onnx.onnx_gates import Patches

Inputs = list[Any]
Attributes = dict[str, Any]


def conv(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, weight, bias = (*inputs, None)[:3]
    rank = len(imp.shape(weight, node)) - 2
    if rank not in (1, 2):
        raise imp.refused(node, f"a convolution of {rank} axes; Conv1d and Conv2d have one and two")
    x, padding = imp.padded(node, x, attributes, rank)
    make = lf.Conv1d if rank == 1 else lf.Conv2d
    shape = imp.shape(weight, node)
    gate = make(
        shape[0], shape[2:], stride=tuple(attributes.get("strides", [1] * rank)), padding=padding,
        dilation=tuple(attributes.get("dilations", [1] * rank)), groups=attributes.get("group", 1),
        bias=bias is not None,
    )  # fmt: skip
    return imp.layer(gate, x, weight=weight, **({} if bias is None else {"bias": bias}))


def conv_transpose(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, weight, bias = (*inputs, None)[:3]
    shape = imp.shape(weight, node)
    given = attributes.get("pads", [0] * 4)
    if len(shape) != 4 or any(attributes.get("output_padding", ())) or attributes.get("output_shape"):
        raise imp.refused(node, "only two axes, without output_padding and output_shape")
    if attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or given[:2] != given[2:]:
        raise imp.refused(node, "padding that differs from side to side")
    gate = lf.ConvTranspose2d(
        shape[1] * attributes.get("group", 1), shape[2:], stride=tuple(attributes.get("strides", (1, 1))),
        padding=tuple(given[:2]), dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=attributes.get("group", 1), bias=bias is not None,
    )  # fmt: skip
    return imp.layer(gate, x, weight=weight, **({} if bias is None else {"bias": bias}))


def _pads(imp: Any, node: Any, attributes: Attributes, rank: int) -> list[int]:
    found: list[int] = imp.pads(node, node.input[0], attributes, rank)
    return found


def windowed(imp: Any, node: Any, x: Any, attributes: Attributes, kind: str) -> Any:
    """Pooling of any rank, with gaps and padding that does not count."""
    kernel = attributes["kernel_shape"]
    rank, ceil = len(kernel), bool(attributes.get("ceil_mode"))
    ones = [1] * rank
    gate = Patches(
        kernel, attributes.get("strides", ones), _pads(imp, node, attributes, rank), attributes.get("dilations", ones),
        ceil, -math.inf if kind == "Max" else 0.0,
    )  # fmt: skip
    y = imp.apply(gate, x)
    if kind == "Max":
        return imp.apply(lf.Max(axis=-1), y)
    if kind == "Lp":
        p = float(attributes.get("p", 2))
        total = imp.apply(lf.Sum(axis=-1), imp.apply(lf.Power(p), imp.apply(lf.Abs(), y)))
        return imp.apply(lf.Power(1 / p), total)
    sizes = imp.shape(x, node)[2:]
    if None in sizes:
        raise imp.refused(node, "padding that does not count, for sizes that are not known")
    counts = (gate.places(sizes, 1 if attributes.get("count_include_pad") else 0) > 0).sum(axis=-1)
    return imp.apply(lf.Divide(), imp.apply(lf.Sum(axis=-1), y), imp.graph.constant(counts.astype(np.float32)))


def lp_pool(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    return windowed(imp, node, inputs[0], attributes, "Lp")


def pooled(kind: str) -> Callable[..., Any]:
    """MaxPool and AveragePool."""

    def entry(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
        kernel = attributes["kernel_shape"]
        rank, is_max = len(kernel), kind == "Max"
        if len(node.output) > 1 and node.output[1]:
            raise imp.refused(node, "Indices as an output")
        pads = _pads(imp, node, attributes, rank)
        is_odd = any(d != 1 for d in attributes.get("dilations", [1])) or attributes.get("ceil_mode")
        is_wide = any(2 * pad > size for pad, size in zip(pads, kernel * 2, strict=True))
        if is_odd or is_wide or rank != 2 or pads[:2] != pads[2:] or (any(pads) and not is_max):
            return windowed(imp, node, inputs[0], attributes, kind)
        make = lf.MaxPool2d if is_max else lf.AvgPool2d
        return imp.apply(make(tuple(kernel), tuple(attributes.get("strides", [1] * rank)), tuple(pads[:2])), inputs[0])

    return entry


def batch_norm(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, scale, bias, mean, var = inputs
    if attributes.get("training_mode") or len([name for name in node.output if name]) > 1:
        raise imp.refused(node, "training_mode=1")
    gate = lf.BatchNorm(momentum=1 - attributes.get("momentum", 0.9), eps=attributes.get("epsilon", 1e-5))
    return imp.layer(gate, x, weight=scale, bias=bias, running_mean=mean, running_var=var)


def layer_norm(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, scale, bias = (*inputs, None)[:3]
    shape = tuple(imp.shape(scale, node))
    rank, axis = len(imp.shape(x, node)), attributes.get("axis", -1)
    if len([name for name in node.output if name]) > 1:
        raise imp.refused(node, "Mean and InvStdDev as outputs")
    if len(shape) != (rank - axis if axis >= 0 else -axis):
        raise imp.refused(node, f"a scale of shape {shape} for axis {axis}")
    gate = lf.LayerNorm(shape, eps=attributes.get("epsilon", 1e-5))
    return imp.layer(gate, x, weight=scale, bias=np.zeros(shape, np.float32) if bias is None else bias)


def instance_norm(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
    x, scale, bias = inputs
    return imp.layer(lf.InstanceNorm(attributes.get("epsilon", 1e-5), affine=True), x, weight=scale, bias=bias)


def recurrent(kind: str) -> Callable[..., Any]:
    """RNN, GRU and LSTM over (time, batch, features), from states of zero."""

    def entry(imp: Any, node: Any, inputs: Inputs, attributes: Attributes) -> Any:
        x, w, r, b, lengths, *states = (*inputs, None, None, None)[: 7 if kind != "LSTM" else 8]
        size, direction = attributes["hidden_size"], attributes.get("direction", "forward")
        wanted = [bool(name) for name in node.output]
        usual = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[kind]
        extras = [state for state in states if isinstance(state, Node) or (state is not None and np.any(state))]
        if lengths is not None or extras or any(k in attributes for k in ("clip", "layout")) or direction == "reverse":
            raise imp.refused(node, "sequence_lens, initial states, clip, layout or direction=reverse")
        if attributes.get("activations", usual * 2)[: len(usual)] != usual or attributes.get("input_forget"):
            raise imp.refused(node, "other activations than the usual ones")
        if kind == "GRU" and not attributes.get("linear_before_reset"):
            raise imp.refused(node, "linear_before_reset=0; the gate GRU multiplies after the product, as torch's")
        if (kind == "LSTM" and wanted[2:] == [True]) or not all(isinstance(a, np.ndarray) for a in (w, r)):
            raise imp.refused(node, "the last cell state as an output, or weights that are computed")
        order = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}[kind]
        two = direction == "bidirectional"
        gate = getattr(lf, kind)(size, bidirectional=two)
        bias = np.zeros((1 + two, 2 * len(order) * size), w.dtype) if b is None else np.asarray(b)
        arrays = {}
        for i, suffix in enumerate(["", "_reverse"][: 1 + two]):
            halves = bias[i].reshape(2, len(order), size)[:, order]
            for name, array in (("weight_ih", w[i]), ("weight_hh", r[i])):
                arrays[name + suffix] = array.reshape(len(order), size, -1)[order].reshape(len(order) * size, -1)
            arrays[f"bias_ih{suffix}"], arrays[f"bias_hh{suffix}"] = halves[0].ravel(), halves[1].ravel()
        y = imp.layer(gate, imp.apply(lf.Transpose((1, 0, 2)), x), **arrays)  # (batch, time, directions * hidden)
        last = imp.apply(lf.Slice((slice(None), -1, slice(None, size))), y)
        if two:
            first = imp.apply(lf.Slice((slice(None), 0, slice(size, None))), y)
            last = imp.apply(lf.Stack(0), last, first)
        else:
            last = imp.apply(lf.Reshape((1, -1, size)), last)
        batch_time = imp.apply(lf.Transpose((1, 0, 2)), y)
        if two:
            parts = [imp.apply(lf.Slice((..., s)), batch_time) for s in (slice(None, size), slice(size, None))]
            whole = imp.apply(lf.Stack(1), *parts)
        else:
            whole = imp.apply(lf.Stack(1), batch_time)
        return whole, last

    return entry
