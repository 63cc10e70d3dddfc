"""Affine gates: scores that are linear in the features, plus a constant."""

from functools import partial
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.initializers import Initializer, named_initializer
from layerflow.parameter import Array, Parameter


class Linear(Gate):
    """s = x W^T + b, every row of W being the template of one output.

    Shapes: x (..., in_features) -> s (..., out_features); W (out_features, in_features); b (out_features,).
    Local gradient: dL/dx = g W, dL/dW = g^T x, dL/db = the sum of g over the samples, for the upstream gradient g.

    Args:
        out_features: the width of the output.
        in_features: the width of the input; inferred from the input by default.
        bias: whether to add b.
        init: draws the initial weights: an initializer, or "he", "xavier", "normal", "uniform", "zeros", "lecun",
            "truncatednormal", "orthogonal"; b starts at 0.

    Raises:
        GateError: a width is not a positive integer; the last axis of x is not in_features.
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
                raise GateError(f"{self!r}: {name} must be an integer, 1 or more, not {width!r}")
        self.out_features = out_features
        self.in_features = in_features
        self.init = named_initializer(init)
        self.weight = Parameter()
        self.bias = Parameter(decay=False) if bias else None

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        in_features = self.in_features or (shape[-1] if shape else None)
        if in_features is None or shape[-1:] != (in_features,):
            swapped = f"; Linear takes (out_features, in_features): write Linear({in_features}, {self.out_features})?"
            hint = swapped if shape[-1:] == (self.out_features,) else ""
            raise GateError(f"{self!r}: input of shape {shape}, expected (..., {in_features or 'in_features'}){hint}")
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


class TiedLinear(Gate):
    """s = x W^T + b, or s = x W + b transposed, W being the weight of another gate of the model.

    Shapes: x (..., in_features) -> s (..., out_features); W is a matrix of (out_features, in_features), or of
    (in_features, out_features) if it is transposed; b (out_features,).
    Local gradient: that of `Linear`; the gradient of W is added to the one that the other gate has for it.
    Source: Press and Wolf 2017, Using the Output Embedding to Improve Language Models.

    Args:
        source: the gate with the weight, such as the `Embedding` that the scores share their rows with; in YAML the
            name of a gate before this one.
        transposed: whether W is applied the other way round, as in the decoder of an autoencoder.
        bias: whether to add b.

    Raises:
        GateError: the source has no weight that is a matrix; the last axis of x does not fit it.
    """

    def __init__(self, source: Gate | str, transposed: bool = False, bias: bool = True) -> None:
        self.transposed = transposed
        self.weight = Parameter()
        self.bias = Parameter(decay=False) if bias else None
        if not isinstance(source, str):
            self.tie(source)

    def tie(self, source: Gate) -> None:
        """Take the weight of another gate."""
        weight = getattr(source, "weight", None)
        if not isinstance(weight, Parameter):
            raise GateError(f"{self!r}: {source!r} has no parameter called weight")
        self.weight = weight

    def _matrix(self, shape: Shape) -> Array:
        """W as (out_features, in_features)."""
        if not self.weight.has_value or self.weight.value.ndim != 2:
            raise GateError(f"{self!r}: the source has no weight yet that is a matrix; it must come before this gate")
        matrix = self.weight.value.T if self.transposed else self.weight.value
        if shape[-1:] != matrix.shape[1:]:
            raise GateError(f"{self!r}: input of shape {shape}, expected (..., {matrix.shape[1]})")
        return matrix

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        out_features = len(self._matrix(shape))
        if self.bias is not None:
            self.bias.create((out_features,), np.zeros)
        return (*shape[:-1], out_features)

    def forward(self, x: Any) -> Any:
        self.save(x)
        s = x @ self._matrix(x.shape).T
        return s if self.bias is None else s + self.bias.value

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        rows, x_rows = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        grads = {"weight": x_rows.T @ rows if self.transposed else rows.T @ x_rows}
        if self.bias is not None:
            grads["bias"] = rows.sum(axis=0)
        return (grad @ self._matrix(x.shape),), grads


class BiasTrick(Gate):
    """y = (x, 1): the constant 1 as last feature, so that the last column of W (classes, features + 1) is the bias.

    Shapes: x (..., features) -> y (..., features + 1).
    Local gradient: dy/dx = 1 for the features; the constant has no gradient.

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
