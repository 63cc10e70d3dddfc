"""Sums, means and maxima over some axes or all of them."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients
from layerflow.parameter import Array

Axes = int | tuple[int, ...] | None


def as_axes(gate: Gate, axis: int | Sequence[int] | None) -> Axes:
    """Return an axis, several as a tuple, or `None` for all of them."""
    try:
        if axis is None or isinstance(axis, int):
            return axis
        return tuple(map(operator.index, axis))
    except TypeError:
        raise GateError(
            f"{gate!r}: axis must be an integer, a list of integers, or None for all axes, not {axis!r}"
        ) from None


def with_axes(grad: Array, shape: tuple[int, ...], axis: Axes) -> Array:
    """Restore the reduced axes of a gradient, as axes of size 1, so that it broadcasts against `shape`."""
    if axis is None:
        return grad.reshape((1,) * len(shape))
    axes = {item % len(shape) for item in ((axis,) if isinstance(axis, int) else axis)}
    return grad.reshape([1 if i in axes else size for i, size in enumerate(shape)])


def check_axes(gate: Gate, x: Array, axis: Axes) -> None:
    """Raise `GateError` unless x has the axes; NumPy itself accepts `axis=0` for a single number."""
    for item in () if axis is None else (axis,) if isinstance(axis, int) else axis:
        if not -x.ndim <= item < x.ndim:
            raise GateError(
                f"{gate!r}: an input of shape {x.shape} has no axis {item}; write axis=None for all elements"
            )


class Sum(Gate):
    """y = the sum of x, over all elements or along some axes.

    Shapes: x of any shape -> y without the summed axes, or with size 1 there if keepdims.
    Local gradient: dy/dx = 1: every element gets the upstream gradient.

    Args:
        axis: the axis or axes to sum over; None sums all elements.
        keepdims: True keeps the summed axes with size 1.

    Raises:
        GateError: x has no such axis; axis is not an integer, a list of integers, or None.
    """

    def __init__(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> None:
        self.axis = as_axes(self, axis)
        self.keepdims = keepdims

    def forward(self, x: Any) -> Any:
        check_axes(self, x, self.axis)
        self.save(x.shape)
        return x.sum(axis=self.axis, keepdims=self.keepdims)

    def backward(self, grad: Any) -> Gradients:
        (shape,) = self.saved
        return (np.broadcast_to(with_axes(grad, shape, self.axis), shape).copy(),), {}


class Mean(Gate):
    """y = the mean of x, over all elements or along some axes.

    Shapes: x of any shape -> y without the averaged axes, or with size 1 there if keepdims.
    Local gradient: dy/dx = 1 / n, n being the number of elements averaged.

    Args:
        axis: the axis or axes to average over; None averages all elements.
        keepdims: True keeps the averaged axes with size 1.

    Raises:
        GateError: there is nothing to average; axis is not an integer, a list of integers, or None.
    """

    def __init__(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> None:
        self.axis = as_axes(self, axis)
        self.keepdims = keepdims

    def forward(self, x: Any) -> Any:
        check_axes(self, x, self.axis)
        if x.size == 0:
            raise GateError(f"{self!r}: the mean of no elements is undefined; the input has shape {x.shape}")
        self.save(x.shape)
        return x.mean(axis=self.axis, keepdims=self.keepdims)

    def backward(self, grad: Any) -> Gradients:
        (shape,) = self.saved
        count = math.prod(shape) // max(grad.size, 1)
        return (np.broadcast_to(with_axes(grad / count, shape, self.axis), shape).copy(),), {}


class Max(Gate):
    """y = the largest element of x, of all or along some axes: the router.

    Shapes: x of any shape -> y without the searched axes, or with size 1 there if keepdims.
    Local gradient: dy/dx = 1 / k at each of the k elements that equal the maximum (k is 1 without ties), else 0.

    Args:
        axis: the axis or axes to search; None searches all elements.
        keepdims: True keeps the searched axes with size 1.

    Raises:
        GateError: there is nothing to search; axis is not an integer, a list of integers, or None.
    """

    def __init__(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> None:
        self.axis = as_axes(self, axis)
        self.keepdims = keepdims

    def forward(self, x: Any) -> Any:
        check_axes(self, x, self.axis)
        if x.size == 0:
            raise GateError(f"{self!r}: the maximum of no elements is undefined; the input has shape {x.shape}")
        y = x.max(axis=self.axis, keepdims=self.keepdims)
        self.save(x, y)
        return y

    def backward(self, grad: Any) -> Gradients:
        x, y = self.saved
        winners = x == with_axes(y, x.shape, self.axis)
        ties = winners.sum(axis=self.axis, keepdims=True, dtype=grad.dtype)
        return (winners * (with_axes(grad, x.shape, self.axis) / ties),), {}
