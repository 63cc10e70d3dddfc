"""Checks of what constructors are given."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate
from layerflow.parameter import Array

Axes = int | tuple[int, ...] | None


def as_number(gate: Gate, name: str, value: Any, expected: str, is_right: Callable[[float], bool]) -> float:
    """Return a setting as a Python number, which leaves the dtype of the arrays it meets alone.

    Raises:
        GateError: it is not a finite number for which `is_right` holds.
    """
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not is_right(value):
        raise GateError(f"{gate!r}: {name} must be {expected}, not {value!r}")
    return float(value)


def as_axes(gate: Gate, axis: int | Sequence[int] | None) -> Axes:
    """Return an axis, several as a tuple, or `None` for all of them; a YAML list comes in as a list."""
    try:
        if axis is None or isinstance(axis, int):
            return axis
        return tuple(map(operator.index, axis))
    except TypeError:
        raise GateError(
            f"{gate!r}: axis must be a whole number, a list of them, or None for all axes, not {axis!r}"
        ) from None


def as_class_weight(gate: Gate, class_weight: Sequence[float] | None) -> Array | None:
    """Return one weight per class as an array, or `None` where there are none."""
    if class_weight is None:
        return None
    try:
        array = np.asarray(class_weight, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(())
    if array.ndim != 1 or not array.any() or not np.all((array >= 0) & (array < math.inf)):
        raise GateError(
            f"{gate!r}: class_weight must be a list with one number, 0 or more, per class, not {class_weight!r}"
        )
    return array
