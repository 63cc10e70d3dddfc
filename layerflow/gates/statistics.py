"""Reductions beyond sums: products, variances, norms, smooth maxima, and running sums."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.reduction import Axes, as_axes, check_axes, with_axes
from layerflow.gates.windows import as_sizes


def axes_of(axis: Axes, rank: int) -> tuple[int, ...]:
    """Return the axes as numbers from 0 to rank - 1."""
    if axis is None:
        return tuple(range(rank))
    return tuple(item % rank for item in ((axis,) if isinstance(axis, int) else axis))


class Reduction(Gate):
    """What reductions share: the axes."""

    def __init__(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> None:
        self.axis = as_axes(self, axis)
        self.keepdims = keepdims

    def _count(self, shape: Shape) -> int:
        return math.prod(shape[axis] for axis in axes_of(self.axis, len(shape)))

    def _check(self, x: Any) -> None:
        check_axes(self, x, self.axis)
        if self._count(x.shape) == 0:
            raise GateError(f"{self!r}: there are no elements along the axis; the input has shape {x.shape}")

    def _spread(self, y: Any, shape: Shape) -> Any:
        return with_axes(y, shape, self.axis)


class Min(Reduction):
    """y = the smallest element of x, of all or along some axes: the router.

    Shapes: x of any shape -> y without the searched axes, or with size 1 there if keepdims.
    Local gradient: dy/dx = 1 / k at each of the k elements that equal the minimum (k is 1 without ties), else 0.

    Args:
        axis: the axis or axes to search; None searches all elements.
        keepdims: True keeps the searched axes with size 1.

    Raises:
        GateError: there is nothing to search; axis is not an integer, a list of integers, or None.
    """

    def forward(self, x: Any) -> Any:
        self._check(x)
        y = x.min(axis=self.axis, keepdims=self.keepdims)
        self.save(x, y)
        return y

    def backward(self, grad: Any) -> Gradients:
        x, y = self.saved
        winners = x == self._spread(y, x.shape)
        ties = winners.sum(axis=self.axis, keepdims=True, dtype=grad.dtype)
        return (winners * (self._spread(grad, x.shape) / ties),), {}


class Prod(Reduction):
    """y = the product of x, of all elements or along some axes.

    Shapes: x of any shape -> y without the multiplied axes, or with size 1 there if keepdims.
    Local gradient: dy/dx = the product of the others, taken from the left and from the right, so that zeros are right.

    Args:
        axis: the axis or axes to multiply over; None takes all elements.
        keepdims: True keeps these axes with size 1.

    Raises:
        GateError: there are no elements; axis is not an integer, a list of integers, or None.
    """

    def forward(self, x: Any) -> Any:
        self._check(x)
        self.save(x)
        return x.prod(axis=self.axis, keepdims=self.keepdims)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        axes = axes_of(self.axis, x.ndim)
        order = [axis for axis in range(x.ndim) if axis not in axes] + list(axes)
        turned = x.transpose(order)
        rows = turned.reshape(*turned.shape[: x.ndim - len(axes)], -1)
        ones = np.ones_like(rows[..., :1])
        left = np.cumprod(np.concatenate([ones, rows[..., :-1]], axis=-1), axis=-1)
        right = np.cumprod(np.concatenate([ones, rows[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
        others = (left * right).reshape(turned.shape).transpose(np.argsort(order))
        return (others * self._spread(grad, x.shape),), {}


class Var(Reduction):
    """y = the sum of (x - mean)^2 / (n - correction) over the n elements along some axes, or all.

    Shapes: x of any shape -> y without these axes, or with size 1 there if keepdims.
    Local gradient: dy/dx = 2 (x - mean) / (n - correction).

    Args:
        axis: the axis or axes; None takes all elements.
        keepdims: True keeps these axes with size 1.
        correction: 1 for the estimate from a sample, 0 for the mean square.

    Raises:
        GateError: there are not more elements than `correction`; axis is not an integer, a list of integers, or None.
    """

    def __init__(self, axis: int | Sequence[int] | None = None, keepdims: bool = False, correction: int = 1) -> None:
        super().__init__(axis, keepdims)
        as_sizes(self, "correction", correction, 1, least=0)
        self.correction = correction

    def forward(self, x: Any) -> Any:
        self._check(x)
        count = self._count(x.shape) - self.correction
        if count < 1:
            raise GateError(
                f"{self!r}: an input of shape {x.shape} has {count + self.correction} element(s) along the axis, and "
                f"correction={self.correction} needs more"
            )
        centred = x - x.mean(axis=self.axis, keepdims=True)
        self.save(centred, count)
        return (centred * centred).sum(axis=self.axis, keepdims=self.keepdims) / count

    def backward(self, grad: Any) -> Gradients:
        centred, count = self.saved
        return (self._spread(grad, centred.shape) * centred * (2 / count),), {}


class Std(Var):
    """y = sqrt(the sum of (x - mean)^2 / (n - correction)) over the n elements along some axes, or all.

    Shapes: x of any shape -> y without these axes, or with size 1 there if keepdims.
    Local gradient: dy/dx = (x - mean) / ((n - correction) y); 0 where all elements are equal, the least of what holds.

    Args: those of Var.

    Raises:
        GateError: as Var.
    """

    def forward(self, x: Any) -> Any:
        y = np.sqrt(super().forward(x))
        self.save(*self.saved, y)
        return y

    def backward(self, grad: Any) -> Gradients:
        centred, count, y = self.saved
        spread = self._spread(np.where(y > 0, grad / np.where(y > 0, y, 1), 0), centred.shape)
        return (spread * centred * (1 / count),), {}


class LogSumExp(Reduction):
    """y = ln(the sum of e^x), of all elements or along some axes: a smooth maximum.

    Shapes: x of any shape -> y without these axes, or with size 1 there if keepdims.
    Local gradient: dy/dx = e^(x - y), the softmax of x.

    Args:
        axis: the axis or axes; None takes all elements.
        keepdims: True keeps these axes with size 1.

    Raises:
        GateError: there are no elements; axis is not an integer, a list of integers, or None.
    """

    def forward(self, x: Any) -> Any:
        self._check(x)
        top = x.max(axis=self.axis, keepdims=True)
        total = np.log(np.exp(x - top).sum(axis=self.axis, keepdims=True)) + top
        self.save(x, total)
        return total if self.keepdims else total.reshape(x.sum(axis=self.axis).shape)

    def backward(self, grad: Any) -> Gradients:
        x, total = self.saved
        return (self._spread(grad, x.shape) * np.exp(x - total),), {}


class Norm(Reduction):
    """y = sqrt(the sum of x^2), the Euclidean norm of all elements or along some axes.

    Shapes: x of any shape -> y without these axes, or with size 1 there if keepdims.
    Local gradient: dy/dx = x / y; 0 where y is 0, the least of what holds there.

    Args:
        axis: the axis or axes; None takes all elements.
        keepdims: True keeps these axes with size 1.

    Raises:
        GateError: there are no elements; axis is not an integer, a list of integers, or None.
    """

    def forward(self, x: Any) -> Any:
        self._check(x)
        y = np.sqrt((x * x).sum(axis=self.axis, keepdims=self.keepdims))
        self.save(x, y)
        return y

    def backward(self, grad: Any) -> Gradients:
        x, y = self.saved
        return (x * self._spread(np.where(y > 0, grad / np.where(y > 0, y, 1), 0), x.shape),), {}


class CumSum(Gate):
    """y[t] = x[0] + ... + x[t] along an axis.

    Shapes: any x -> y of the same shape.
    Local gradient: dL/dx[t] = the sum of the upstream gradient from t on.

    Args:
        axis: the axis along which the sum runs.

    Raises:
        GateError: x has no such axis.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        check_axes(self, x, self.axis)
        self.save()
        return np.cumsum(x, axis=self.axis)

    def backward(self, grad: Any) -> Gradients:
        return (np.flip(np.cumsum(np.flip(grad, self.axis), axis=self.axis), self.axis),), {}
