"""The norm of a gradient, and clipping."""

import math

import numpy as np

from layerflow.parameter import Array
from layerflow.training.schedules import number


def global_norm(grads: Array) -> float:
    """Return sqrt(sum(g^2)) over all gradients, in an array of any shape; not finite when one of them is not.

    The squares of float32 numbers overflow from 1.8e19 on and vanish below 1e-23: where the plain sum comes near to
    either end, it is taken of g / max |g| instead (compare Blue, "A portable Fortran program to find the Euclidean norm
    of a vector", 1978).
    """
    grads = grads.ravel()
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        square = float(grads @ grads)
        limits = np.finfo(grads.dtype)
        if float(limits.tiny) / float(limits.eps) ** 2 < square < math.inf:
            return math.sqrt(square)
        peak = float(np.max(np.abs(grads), initial=0))
        if peak == 0 or not math.isfinite(peak):
            return peak
        scaled = grads / grads.dtype.type(peak)
        return peak * math.sqrt(float(scaled @ scaled))


def clip_by_norm(grads: Array, max_norm: float) -> float:
    """Scale `grads` in place so that their norm is at most `max_norm`: g = g * min(1, max_norm / norm).

    Returns the norm before. If it is not finite, `grads` stay as they are. Raises `ConfigError` unless `max_norm` > 0.
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    max_norm = number("clip_by_norm", "max_norm", max_norm, "(0, inf)")
    norm = global_norm(grads)
    if max_norm < norm < math.inf:
        root = math.sqrt(max_norm / norm)  # in two factors, since the quotient itself may be too small for float32
        grads *= root
        grads *= root
    return norm


def clip_by_value(grads: Array, max_value: float) -> float:
    """Cut each element of `grads` to [-max_value, max_value] in place; NaN stays NaN.

    Returns the norm before. Raises `ConfigError` unless `max_value` > 0.
    """
    max_value = number("clip_by_value", "max_value", max_value, "(0, inf)")
    norm = global_norm(grads)
    np.clip(grads, -max_value, max_value, out=grads)
    return norm


def clip(grads: Array, max_value: float | None, max_norm: float | None) -> None:
    """Cut elements, then scale, in place, where a limit is given."""
    if max_value is not None:
        clip_by_value(grads, max_value)
    if max_norm is not None:
        clip_by_norm(grads, max_norm)
