"""Affine gates: scores that are linear in the features, plus a constant.

An initializer draws their first weights: a callable `(rng, shape) -> array` for the shape (fan_out, fan_in).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from layerflow.errors import GateError, did_you_mean
from layerflow.gate import Gate, Gradients, Shape
from layerflow.parameter import Array, Parameter

LARGEST = 1e30
"""The largest initial weight: float32 has room for what a forward pass computes from it."""


class Initializer(Protocol):
    """Draws the first weights of a shape."""

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...], /) -> Array:
        """Return an array of the shape."""


@dataclass(frozen=True)
class He:
    """Normal with standard deviation sqrt(2 / fan_in), for ReLU layers (He et al. 2015, arXiv:1502.01852, eq. 10)."""

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> Array:
        return rng.normal(0.0, (2.0 / max(shape[-1], 1)) ** 0.5, shape)


@dataclass(frozen=True)
class Xavier:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), for tanh and sigmoid layers (Glorot and Bengio 2010, eq. 16)."""

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> Array:
        bound = (6.0 / max(shape[0] + shape[-1], 1)) ** 0.5
        return rng.uniform(-bound, bound, shape)


@dataclass(frozen=True)
class Normal:
    """Normal with mean zero and a fixed standard deviation."""

    std: float = 0.01

    def __post_init__(self) -> None:
        _check("Normal: std", self.std)

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> Array:
        return self.std * rng.normal(0.0, 1.0, shape)


@dataclass(frozen=True)
class Uniform:
    """Uniform in [-bound, bound]."""

    bound: float = 0.01

    def __post_init__(self) -> None:
        _check("Uniform: bound", self.bound)

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> Array:
        return rng.uniform(-self.bound, self.bound, shape)


@dataclass(frozen=True)
class Zeros:
    """All zeros: right for linear models, never for hidden layers, whose units would stay equal."""

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> Array:
        return np.zeros(shape)


INITIALIZERS: dict[str, type[Any]] = {cls.__name__: cls for cls in (He, Xavier, Normal, Uniform, Zeros)}


def _check(setting: str, value: float) -> None:
    if not 0 <= value <= LARGEST:
        raise GateError(f"{setting} must be a number from 0 to {LARGEST:g}, not {value!r}")


def named_initializer(init: Initializer | str) -> Initializer:
    """Return the initializer itself, or the one of that name ("he", "xavier", "normal", "uniform", "zeros")."""
    if not isinstance(init, str):
        return init
    by_name = {name.lower(): cls for name, cls in INITIALIZERS.items()}
    if init.lower() not in by_name:
        hint = did_you_mean(init, by_name) or f"; there are {', '.join(by_name)}"
        raise GateError(f"init={init!r}: no such initializer{hint}")
    initializer: Initializer = by_name[init.lower()]()
    return initializer


class Linear(Gate):
    """s = x W^T + b, every row of W being the template of one output.

    Shapes: x (..., in_features) -> s (..., out_features); W (out_features, in_features); b (out_features,).
    Local gradient: dL/dx = g W, dL/dW = g^T x, dL/db = the sum of g over the samples, for the upstream gradient g.

    Args:
        out_features: the width of the output.
        in_features: the width of the input; inferred from the input by default.
        bias: whether to add b.
        init: draws the initial weights: an initializer, or "he", "xavier", "normal", "uniform", "zeros"; b starts at 0.

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
