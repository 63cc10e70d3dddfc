"""What several gates share: the check of a setting, and functions that are accurate to rounding and never overflow."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate


def as_number(gate: Gate, name: str, value: Any, expected: str, is_right: Callable[[float], bool]) -> float:
    """Return a setting as a Python float, which does not change the dtype of the arrays it is combined with.

    Raises:
        GateError: it is not a finite number for which `is_right` holds.
    """
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not is_right(value):
        raise GateError(f"{gate!r}: {name} must be {expected}, not {value!r}")
    return float(value)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), from e^-|x|, which cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def normal_cdf(x: Any) -> Any:
    """The standard normal distribution function Phi(x) = erfc(-x / sqrt 2) / 2."""
    return 0.5 * erfc(x * -math.sqrt(0.5))


def erfc(x: Any) -> Any:
    """1 - erf(x), accurate to a few roundings; in the far tail, near 1e-300, to a relative error of 1e-13.

    Source: W. J. Cody, Rational Chebyshev approximations for the error function, Mathematics of Computation 23 (1969),
    with the coefficients of his program CALERF: one rational function each for |x| up to 0.46875, up to 4, and beyond.
    """
    size = np.abs(x)
    near = _near_zero(np.minimum(size, 0.46875))
    scaled = np.where(size <= 4, _between(np.minimum(size, 4)), _far(np.maximum(size, 4)))
    tail = np.where(size <= 0.46875, near, np.exp(-size * size) * scaled)
    return np.where(x >= 0, tail, 2 - tail)


def erf(x: Any) -> Any:
    """2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x, accurate to a few roundings, near 0 too."""
    small = np.minimum(np.maximum(x, -0.46875), 0.46875)
    square = small * small
    near = small * _polynomial(square, _NEAR_TOP) / _polynomial(square, _NEAR_BOTTOM)
    return np.where(np.abs(x) <= 0.46875, near, np.sign(x) * (1 - erfc(np.abs(x))))


def _near_zero(x: Any) -> Any:
    square = x * x
    return 1 - x * _polynomial(square, _NEAR_TOP) / _polynomial(square, _NEAR_BOTTOM)


def _between(x: Any) -> Any:
    return _polynomial(x, _MIDDLE_TOP) / _polynomial(x, _MIDDLE_BOTTOM)


def _far(x: Any) -> Any:
    inverse = 1 / (x * x)
    correction = inverse * _polynomial(inverse, _FAR_TOP) / _polynomial(inverse, _FAR_BOTTOM)
    return (1 / math.sqrt(math.pi) - correction) / x


def _polynomial(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Horner's rule; the coefficients begin with that of the highest power."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total


_NEAR_TOP = (
    1.85777706184603153e-1,
    3.16112374387056560,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_NEAR_BOTTOM = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
_MIDDLE_TOP = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_MIDDLE_BOTTOM = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_FAR_TOP = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_FAR_BOTTOM = (
    1.0,
    2.56852019228982242,
    1.87295284992346725,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)
