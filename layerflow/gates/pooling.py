"""Pooling: each window, or each channel, becomes one number; and its opposite, upsampling."""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.windows import Sizes, Windows, as_sizes
from layerflow.parameter import Array


def pooling_windows(gate: Gate, rank: int, kernel_size: Any, stride: Any, padding: Any) -> Windows:
    """Return the windows of a pooling gate; by default they lie side by side."""
    kernel = as_sizes(gate, "kernel_size", kernel_size, rank)
    steps = kernel if stride is None else as_sizes(gate, "stride", stride, rank)
    paddings = as_sizes(gate, "padding", padding, rank, least=0)
    if any(2 * pad > size for pad, size in zip(paddings, kernel, strict=True)):
        raise GateError(f"{gate!r}: padding must be at most half of kernel_size {kernel_size!r}, not {padding!r}")
    return Windows(kernel, steps, tuple((pad, pad) for pad in paddings), (1,) * rank)


class MaxPool(Gate):
    """The largest element of each window of the last `rank` axes; see MaxPool2d."""

    rank = 2

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        self.windows = pooling_windows(self, self.rank, kernel_size, stride, padding)

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        return (*shape[:2], *self.windows.output(self, shape))

    def forward(self, x: Any) -> Any:
        output = self.windows.output(self, x.shape)
        columns = self.windows.columns(x, output, fill=-np.inf)
        columns = columns.reshape(x.shape[1], -1, x.shape[0], *output)
        winner = columns.argmax(axis=1)[:, None]
        self.save(winner, x.shape)
        return np.swapaxes(np.take_along_axis(columns, winner, axis=1)[:, 0], 0, 1)

    def backward(self, grad: Any) -> Gradients:
        winner, shape = self.saved
        columns = np.zeros((shape[1], np.prod(self.windows.kernel), *winner.shape[2:]), grad.dtype)
        np.put_along_axis(columns, winner, np.swapaxes(grad, 0, 1)[:, None], axis=1)
        layout = (shape[1], *self.windows.kernel, *winner.shape[2:])
        return (self.windows.add_columns(columns.reshape(layout), shape),), {}


class MaxPool1d(MaxPool):
    """y[n, c, t] = the maximum over i < kernel_size of x[n, c, stride * t + i - padding].

    Shapes: x (batch, channels, length) -> y (batch, channels, windows).
    Local gradient: as of MaxPool2d.

    Args: those of MaxPool2d, each size being one integer.

    Raises:
        GateError: as MaxPool2d.
    """

    rank = 1


class MaxPool2d(MaxPool):
    """y[n, c, r, s] = the maximum of x[n, c, stride r + i - padding, stride s + j - padding] over i, j < kernel_size.

    Shapes: x (batch, channels, height, width) -> y (batch, channels, rows, columns), with
    rows = (height + 2 padding - kernel_size) // stride + 1.
    Local gradient: the upstream gradient goes to the element that won its window, the first of several equal ones; an
    element that won several windows gets their sum. Padding never wins.

    Args:
        kernel_size: the height and width of a window: an integer, or one per axis. So for the other two.
        stride: the distance between neighbouring windows; kernel_size by default.
        padding: how far the windows reach beyond each border, at most half of kernel_size.

    Raises:
        GateError: a setting is no such integer; the input has another rank, or is smaller than a window.
    """


class AvgPool2d(Gate):
    """y[n, c, r, s] = the mean of x[n, c, stride r + i - padding, stride s + j - padding] over i, j < kernel_size.

    Shapes: x (batch, channels, height, width) -> y (batch, channels, rows, columns), as MaxPool2d.
    Local gradient: dy/dx = 1 / kernel_size^2 for each element of the window; where windows overlap they add up.

    Args:
        kernel_size: the height and width of a window: an integer, or one per axis. So for the other two.
        stride: the distance between neighbouring windows; kernel_size by default.
        padding: the zeros added on each side, at most half of kernel_size; they count in the mean.

    Raises:
        GateError: as MaxPool2d.
    """

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        self.windows = pooling_windows(self, 2, kernel_size, stride, padding)

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        return (*shape[:2], *self.windows.output(self, shape))

    def forward(self, x: Any) -> Any:
        self.save(x.shape)
        columns = self.windows.columns(x, self.windows.output(self, x.shape))
        return np.swapaxes(columns.mean(axis=(1, 2)), 0, 1)

    def backward(self, grad: Any) -> Gradients:
        (shape,) = self.saved
        height, width = self.windows.kernel
        each = np.swapaxes(grad, 0, 1)[:, None, None] / (height * width)
        columns = np.broadcast_to(each, (shape[1], height, width, *each.shape[3:]))
        return (self.windows.add_columns(columns, shape),), {}


class GlobalAvgPool(Gate):
    """y[n, c] = the mean of x[n, c] over all positions.

    Shapes: x (batch, channels, axes...) -> y (batch, channels).
    Local gradient: dy/dx = 1 / positions.
    Source: Lin, Chen and Yan 2014, Network in Network, arXiv:1312.4400.

    Raises:
        GateError: x has no position.
    """

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._check(shape)
        return shape[:2]

    def _check(self, shape: Shape) -> None:
        if len(shape) < 3 or 0 in shape[2:]:
            raise GateError(f"{self!r}: input of shape {shape}, expected (batch, channels, axes...) with a position")

    def forward(self, x: Any) -> Any:
        self._check(x.shape)
        self.save(x.shape)
        return x.mean(axis=tuple(range(2, x.ndim)))

    def backward(self, grad: Any) -> Gradients:
        (shape,) = self.saved
        each = grad.reshape(*shape[:2], *(1,) * (len(shape) - 2)) / np.prod(shape[2:])
        return (np.broadcast_to(each.astype(grad.dtype), shape).copy(),), {}


class AdaptiveAvgPool2d(Gate):
    """y = A x B^T, the rows of A and B being means over bins, so many that the output has the size asked for.

    Bin i of k in a row of size n goes from floor(i n / k) to ceil((i + 1) n / k).

    Shapes: x (batch, channels, height, width) -> y (batch, channels, *output_size).
    Local gradient: dL/dx = A^T g B for the upstream gradient g.

    Args:
        output_size: the height and width of the output: an integer, or one per axis.

    Raises:
        GateError: output_size is no such integer; the input has another rank, or no position.
    """

    def __init__(self, output_size: Sizes) -> None:
        self.output_size = as_sizes(self, "output_size", output_size, 2)

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._check(shape)
        return (*shape[:2], *self.output_size)

    def _check(self, shape: Shape) -> None:
        if len(shape) != 4 or 0 in shape[2:]:
            raise GateError(f"{self!r}: input of shape {shape}, expected (batch, channels, height, width)")

    def forward(self, x: Any) -> Any:
        self._check(x.shape)
        down, across = (_bins(*sizes, x.dtype) for sizes in zip(x.shape[2:], self.output_size, strict=True))
        self.save(down, across)
        return down @ x @ across.T

    def backward(self, grad: Any) -> Gradients:
        down, across = self.saved
        return (down.T @ grad @ across,), {}


def _bins(size: int, count: int, dtype: Any) -> Array:
    """Return the matrix (count, size) whose rows take the means of the bins."""
    place, bins = np.arange(size), np.arange(count)[:, None]
    start, end = bins * size // count, -(-(bins + 1) * size // count)
    return (((start <= place) & (place < end)) / (end - start)).astype(dtype)


class Upsample(Gate):
    """y = A x B^T, the rows of A and B interpolating between the positions of x.

    Shapes: x (batch, channels, height, width) -> y (batch, channels, scale_factor height, scale_factor width).
    Local gradient: dL/dx = A^T g B for the upstream gradient g.

    Args:
        scale_factor: how many times larger the output is, an integer.
        mode: "nearest" repeats each element; "bilinear" interpolates between the centres of the pixels.

    Raises:
        GateError: a setting is not one of these; the input has another rank, or no position.
    """

    def __init__(self, scale_factor: int, mode: str = "nearest") -> None:
        as_sizes(self, "scale_factor", scale_factor, 1)
        if mode not in ("nearest", "bilinear"):
            raise GateError(f"{self!r}: mode must be 'nearest' or 'bilinear', not {mode!r}")
        self.scale_factor, self.mode = scale_factor, mode

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._check(shape)
        return (*shape[:2], *(self.scale_factor * size for size in shape[2:]))

    def _check(self, shape: Shape) -> None:
        if len(shape) != 4 or 0 in shape[2:]:
            raise GateError(f"{self!r}: input of shape {shape}, expected (batch, channels, height, width)")

    def forward(self, x: Any) -> Any:
        self._check(x.shape)
        weights = _nearest if self.mode == "nearest" else _linear
        down, across = (weights(size, self.scale_factor, x.dtype) for size in x.shape[2:])
        self.save(down, across)
        return down @ x @ across.T

    def backward(self, grad: Any) -> Gradients:
        down, across = self.saved
        return (down.T @ grad @ across,), {}


def _nearest(size: int, factor: int, dtype: Any) -> Array:
    return np.repeat(np.eye(size, dtype=dtype), factor, axis=0)


def _linear(size: int, factor: int, dtype: Any) -> Any:
    """Return hat functions around the centres of the pixels; beyond the outer centres the border's value holds."""
    centres = np.clip((np.arange(size * factor) + 0.5) / factor - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(size))).astype(dtype)
