"""How the first weights are drawn: each initializer is a callable `(rng, shape) -> array`, shape (fan_out, fan_in)."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from layerflow.errors import GateError, did_you_mean
from layerflow.parameter import Array

LARGEST = 1e30
"""The largest weights that a float32 holds with room for what a forward computes from them."""


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
