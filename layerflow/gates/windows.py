"""Windows that slide over the last axes of an array: their sizes, and the copies between images and columns.

Columns have the layout (channels, kernel..., batch, output...), so that a convolution of the whole batch is one matrix
product. Reading windows repeats elements that several windows share; the gradient adds over them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Shape
from layerflow.parameter import Array

Sizes = int | Sequence[int]


def as_sizes(gate: Gate, name: str, value: Any, rank: int, least: int = 1) -> tuple[int, ...]:
    """Return one integer per axis; a single integer holds for all of them.

    Raises:
        GateError: it is neither an integer nor `rank` of them, or one is below `least`.
    """
    values = (value,) * rank if isinstance(value, int | np.integer) else value
    is_right = isinstance(values, tuple | list) and len(values) == rank
    if not is_right or not all(type(item) is int and item >= least for item in values):
        several = f", or a list of {rank} such integers, one per axis" if rank > 1 else ""
        raise GateError(f"{gate!r}: {name} must be an integer, {least} or more{several}, not {value!r}")
    return tuple(values)


@dataclass(frozen=True)
class Windows:
    """Windows of one kernel size; each field has one entry per axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    def output(self, gate: Gate, shape: Shape) -> tuple[int, ...]:
        """Return the number of windows per axis for an image of `shape` (batch, channels, axes...).

        Raises:
            GateError: the image has another rank, or is smaller than the kernel.
        """
        axes = ("length",) if len(self.kernel) == 1 else ("height", "width")
        if len(shape) != len(axes) + 2:
            raise GateError(f"{gate!r}: input of shape {shape}, expected (batch, channels, {', '.join(axes)})")
        counts = []
        for axis, size, kernel, stride, (before, after), dilation in zip(
            axes, shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True
        ):
            reach, padded = dilation * (kernel - 1) + 1, before + size + after
            if reach > padded:
                raise GateError(
                    f"{gate!r}: input of shape {shape} has {axis} {padded} with its padding, less than the {reach} "
                    "that the kernel covers; use a smaller kernel or more padding"
                )
            counts.append((padded - reach) // stride + 1)
        return tuple(counts)

    def columns(self, x: Array, output: tuple[int, ...], fill: float = 0.0) -> Any:
        """Copy the windows of x (batch, channels, axes...) into columns (channels, kernel..., batch, output...)."""
        padded = self._padded(x.shape, x.dtype, fill)
        padded[self._inside(x.shape)] = np.swapaxes(x, 0, 1)
        columns: Any = np.empty((x.shape[1], *self.kernel, x.shape[0], *output), x.dtype)
        for offset, window in self._places(output):
            columns[:, *offset] = padded[window]
        return columns

    def add_columns(self, columns: Any, shape: Shape) -> Array:
        """Add columns into an image of `shape`, where windows overlap too: the gradient of `columns`."""
        padded = self._padded(shape, columns.dtype, 0.0)
        for offset, window in self._places(columns.shape[-len(self.kernel) :]):
            padded[window] += columns[:, *offset]
        return np.swapaxes(padded[self._inside(shape)], 0, 1)

    def _padded(self, shape: Shape, dtype: Any, fill: float) -> Array:
        sizes = [size + sum(padding) for size, padding in zip(shape[2:], self.padding, strict=True)]
        return np.full((shape[1], shape[0], *sizes), fill, dtype)

    def _inside(self, shape: Shape) -> tuple[slice, ...]:
        axes = zip(shape[2:], self.padding, strict=True)
        return (slice(None), slice(None), *[slice(before, before + size) for size, (before, _) in axes])

    def _places(self, output: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yield each offset in the kernel, with the elements of the padded image that stand there in all windows."""
        for offset in product(*map(range, self.kernel)):
            starts = [place * dilation for place, dilation in zip(offset, self.dilation, strict=True)]
            axes = zip(starts, self.stride, output, strict=True)
            slices = [slice(start, start + stride * (count - 1) + 1, stride) for start, stride, count in axes]
            yield offset, (slice(None), slice(None), *slices)
