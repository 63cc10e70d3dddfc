"""Rows of an array that may exceed memory, selected and transformed when they are read."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_VALUES = 1 << 21
"""The number of values that a pass over an array holds at once (16 MiB as float64)."""


class Rows:
    """`transform(source[rows])`, computed only for the rows that are requested.

    Args:
        source: An array, usually memory-mapped, of shape (samples, ...).
        rows: The selected row numbers, in this order; None means all.
        transform: A function of the rows, applied after reading, which keeps the sample shape; None means none.
    """

    def __init__(
        self,
        source: NDArray[Any],
        rows: NDArray[np.int64] | None = None,
        transform: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> None:
        self.source = source
        self.rows = np.arange(len(source)) if rows is None else rows
        self.transform = transform

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array: (samples, ...)."""
        return (len(self.rows), *self.source.shape[1:])

    @property
    def ndim(self) -> int:
        """As of an array."""
        return self.source.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of an array, after the transform."""
        return self[:0].dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        values = np.asarray(self.source.take(self.rows[index], axis=0))
        return values if self.transform is None else self.transform(values)

    def take(self, indices: NDArray[np.int64], axis: int = 0) -> NDArray[Any]:
        """Return the rows `indices`, as `numpy.ndarray.take` does along axis 0."""
        return self[indices]

    def chosen(self, indices: NDArray[np.int64]) -> "Rows":
        """Return the rows `indices` of these rows, without reading them."""
        return Rows(self.source, self.rows[indices], self.transform)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


def blocks(x: "NDArray[Any] | Rows") -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (number of the first row, rows) over all of `x`, a bounded number of values at a time."""
    step = max(1, BLOCK_VALUES // max(1, int(np.prod(x.shape[1:]))))
    for start in range(0, len(x), step):
        yield start, x[start : start + step]
