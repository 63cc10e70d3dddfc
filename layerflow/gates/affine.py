"""Affine gates."""

from typing import Any

import numpy as np

from functools import partial

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
        init: draws the first weights (b starts at zero).

    Raises:
        GateError: the last axis of x is not in_features.
    """

    def __init__(self, out_features: int, in_features: int | None = None, bias: bool = True, init: Initializer | str = "he") -> None:
        self.out_features = out_features
        self.in_features = in_features
        self.init = init
        self.weight = Parameter()
        self.bias = Parameter(decay=False) if bias else None

    def build(self, rng: np.random.Generator, shape: Shape) -> Shape:
        in_features = self.in_features or (shape[-1] if shape else None)
        if in_features is None or shape[-1:] != (in_features,):
            raise GateError(f"{self!r}: input of shape {shape}, expected (..., {in_features or 'in_features'})")
        self.weight.create((self.out_features, in_features), partial(named_initializer(self.init), rng))
        if self.bias is not None:
            self.bias.create((self.out_features,), np.zeros)
        return (*shape[:-1], self.out_features)

    def forward(self, x: Any) -> Any:
        self.save(x)
        s = x @ self.weight.value.T
        return s if self.bias is None else s + self.bias.value

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        rows = grad.reshape(-1, grad.shape[-1])
        grads = {"weight": rows.T @ x.reshape(-1, x.shape[-1])}
        if self.bias is not None:
            grads["bias"] = rows.sum(axis=0)
        return (grad @ self.weight.value if self.needs_grad[0] else None,), grads
