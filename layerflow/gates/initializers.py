"""Initializers draw the first weights: callables `(rng, shape) -> array` for the shape (fan_out, fan_in)."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from layerflow.errors import GateError, did_you_mean
from layerflow.parameter import Array

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


@dataclass(frozen=True)
class LeCun:
    """Normal with standard deviation sqrt(1 / fan_in), for SELU and linear layers (LeCun et al. 1998, section 4.6)."""

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> Array:
        return rng.normal(0.0, max(shape[-1], 1) ** -0.5, shape)


@dataclass(frozen=True)
class TruncatedNormal:
    """Normal with a fixed standard deviation; values beyond two of them are drawn again, as in transformers."""

    std: float = 0.02

    def __post_init__(self) -> None:
        _check("TruncatedNormal: std", self.std)

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> Array:
        drawn = rng.normal(0.0, 1.0, shape)
        while (is_far := np.abs(drawn) > 2.0).any():
            drawn[is_far] = rng.normal(0.0, 1.0, int(is_far.sum()))
        return self.std * drawn


@dataclass(frozen=True)
class Orthogonal:
    """A random orthogonal matrix times a gain, the first axis as rows (Saxe, McClelland and Ganguli 2014).

    For weights of a state, which then neither grows nor shrinks from step to step.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check("Orthogonal: gain", self.gain)

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> Array:
        if len(shape) < 2:
            raise GateError(f"Orthogonal: shape {shape}; only a matrix can be orthogonal")
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(rng.normal(0.0, 1.0, (max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)  # without this the draw is not uniform
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


@dataclass(frozen=True)
class Constant:
    """One value everywhere: for biases; units with equal weights stay equal."""

    value: float = 0.0

    def __call__(self, rng: "np.random.Generator", shape: tuple[int, ...]) -> Array:
        return np.full(shape, self.value, np.float64)


INITIALIZERS: dict[str, type[Any]] = {
    cls.__name__: cls for cls in (He, Xavier, Normal, Uniform, Zeros, LeCun, TruncatedNormal, Orthogonal, Constant)
}


def _check(setting: str, value: float) -> None:
    if not 0 <= value <= LARGEST:
        raise GateError(f"{setting} must be a number from 0 to {LARGEST:g}, not {value!r}")


def named_initializer(init: Initializer | str) -> Initializer:
    """Return the initializer itself, or the one of that name in small letters, such as "he"."""
    if not isinstance(init, str):
        return init
    by_name = {name.lower(): cls for name, cls in INITIALIZERS.items()}
    if init.lower() not in by_name:
        hint = did_you_mean(init, by_name) or f"; there are {', '.join(by_name)}"
        raise GateError(f"init={init!r}: no such initializer{hint}")
    initializer: Initializer = by_name[init.lower()]()
    return initializer
