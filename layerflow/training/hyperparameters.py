"""Checks of the numbers given to optimizers, schedules, clipping and trainers."""

import math
from functools import cache
from numbers import Real
from typing import TypeGuard

from layerflow.errors import ConfigError


def number(owner: object, name: str, value: object, interval: str = "[0, inf)") -> float:
    """Return `value` as a Python float when it is a number in `interval`, written like `"[0, 1)"`.

    Otherwise raises a `ConfigError` with the owner, the name, the given value and the interval. NaN and
    infinity are in no interval.
    """
    low, high = _ends(interval)
    if _is_number(value):
        x = float(value)
        above = low <= x if interval[0] == "[" else low < x
        below = x <= high if interval[-1] == "]" else x < high
        if above and below and math.isfinite(x):
            return x
    raise ConfigError(f"{_title(owner)}: {name} is {value!r}, expected a number in {interval}")


def count(owner: object, name: str, value: object, minimum: int = 1) -> int:
    """Return `value` as an int when it is a whole number of at least `minimum`; raises `ConfigError` otherwise."""
    if _is_number(value) and float(value).is_integer() and float(value) >= minimum:
        return int(float(value))
    raise ConfigError(f"{_title(owner)}: {name} is {value!r}, expected a whole number of at least {minimum}")


@cache
def _ends(interval: str) -> tuple[float, float]:
    low, high = interval[1:-1].split(",")
    return float(low), float(high)


def _is_number(value: object) -> TypeGuard[Real]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _title(owner: object) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__
