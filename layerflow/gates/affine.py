"""Affine gates: scores that are linear in the features, plus a constant."""

from functools import partial
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.initializers import Initializer, named_initializer
from layerflow.parameter import Parameter


class Linear(Gate):
    """s = x W^T + b, every row of W being the template of one output.

    Shapes: x (..., in_features) -> s (..., out_features); W (out_features, in_features); b (out_features,).
    Local gradient: dL/dx = g W, dL/dW = g^T x, dL/db = the sum of g over the samples, for the upstream gradient g.

    Args:
        out_features: the width of the output.
        in_features: the width of the input; taken from the input where it is left out.
        bias: False leaves b out.
        init: draws the first weights: an initializer, or "he", "xavier", "normal", "uniform", "zeros"; b starts at 0.

    Raises:
        GateError: a width that is not a positive whole number; the last axis of x is not in_features.
    """

    def __init__(
        self,
        out_features: int,
        in_features: int | None = None,
        bias: bool = True,
        init: Initializer | str = "he",
    ) -> None:
        for name, width in ("out_features", out_features), ("in_features", in_features):
            if width is not None and (not isinstance(width, int | np.integer) or width < 1):
                raise GateError(f"{self!r}: {name} must be a whole number, 1 or more, not {width!r}")
        self.out_features = out_features
        self.in_features = in_features
        self.init = named_initializer(init)
        self.weight = Parameter()
        self.bias = Parameter(decay=False) if bias else None

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        in_features = self.in_features or (shape[-1] if shape else None)
        if in_features is None or shape[-1:] != (in_features,):
            raise GateError(f"{self!r}: input of shape {shape}, expected (..., {in_features or 'in_features'})")
        self.weight.create((self.out_features, in_features), partial(self.init, rng))
        if self.bias is not None:
            self.bias.create((self.out_features,), np.zeros)
        return (*shape[:-1], self.out_features)

    def forward(self, x: Any) -> Any:
        weight = self.weight.value
        if x.shape[-1:] != weight.shape[1:]:
            raise GateError(f"{self!r}: input of shape {x.shape}, expected (..., {weight.shape[1]})")
        self.save(x)
        s = x @ weight.T
        if self.bias is not None:
            s += self.bias.value
        return s

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        rows, x_rows = (grad, x) if grad.ndim == 2 else (grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1]))
        grads = {"weight": rows.T @ x_rows}
        if self.bias is not None:
            grads["bias"] = rows.sum(axis=0)
        return (grad @ self.weight.value if self.needs_grad[0] else None,), grads


class BiasTrick(Gate):
    """y = (x, 1): the constant 1 as last feature, so that the last column of W (classes, features + 1) is the bias.

    Shapes: x (..., features) -> y (..., features + 1).
    Local gradient: dy/dx = 1 for the features; the constant passes nothing on.

    Raises:
        GateError: x has no feature axis.
    """

    def forward(self, x: Any) -> Any:
        if x.ndim == 0:
            raise GateError(f"{self!r}: input of shape (), expected (..., features)")
        self.save()
        return np.concatenate([x, np.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)

    def backward(self, grad: Any) -> Gradients:
        return (grad[..., :-1],), {}
