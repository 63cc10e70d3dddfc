"""What readers return: samples, targets and their meaning."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerflow.data.rows import Rows, blocks
from layerflow.errors import DataError


@dataclass(frozen=True)
class Encoding:
    """How the columns of a table are encoded as the columns of `x`.

    Attributes:
        columns: The names of the feature columns in the file, in order.
        categories: The sorted categories of each categorical column, which becomes one 0/1 column per category.
    """

    columns: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns of `x`: 'age', 'colour=green', 'colour=red'."""
        names: list[str] = []
        for column in self.columns:
            categories = self.categories.get(column)
            names += [column] if categories is None else [f"{column}={category}" for category in categories]
        return tuple(names)


@dataclass(frozen=True)
class Dataset:
    """Samples and their targets.

    Attributes:
        x: (samples, features) or (samples, channels, height, width), of any real dtype; may be memory-mapped.
        y: (samples,): int64 class indexes, or float64 values for regression; None when read for prediction.
        features: The names of the columns of x, if they have names.
        classes: The name of each class, by index; None for regression.
        name: The name of the data set in reports.
        checksum: 'sha256:...' of the files it was read from, or of the arrays if it was generated.
        encoding: How the columns of a table are encoded in x; None if the data is not a table.
        notes: What the reader did that users should know: 'dropped 3 of 50 rows ...'.
        lines: (samples,): the line of each sample in its file, counted from 1; None if the file has no lines.
    """

    x: NDArray[Any] | Rows
    y: NDArray[Any] | None
    features: tuple[str, ...] | None
    classes: tuple[str, ...] | None
    name: str
    checksum: str
    encoding: Encoding | None = None
    notes: tuple[str, ...] = ()
    lines: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: ArrayLike) -> "Dataset":
        """Return the samples `indices`, in this order; a memory-mapped x stays on disk."""
        rows = np.asarray(indices, dtype=np.int64)
        if isinstance(self.x, Rows):
            x: NDArray[Any] | Rows = self.x.chosen(rows)
        elif isinstance(self.x, np.memmap):
            x = Rows(self.x, rows)
        else:
            x = self.x.take(rows, axis=0)
        y = None if self.y is None else self.y.take(rows, axis=0)
        return replace(self, x=x, y=y, lines=None if self.lines is None else self.lines.take(rows))


def check_finite(x: NDArray[Any] | Rows, where: str) -> None:
    """Raise DataError if `x` contains NaN or infinity, with their number and the position of the first."""
    if not np.issubdtype(x.dtype, np.inexact):
        return
    count, first = 0, ""
    for start, block in blocks(x):
        bad = ~np.isfinite(block)
        if bad.any():
            row, *rest = np.argwhere(bad)[0].tolist() if not count else [0]
            first = first or str([start + row, *rest])
            count += int(bad.sum())
    if count:
        raise DataError(f"{where}: {count} NaN or infinite value(s), the first at {first}; replace or remove them")


def array_checksum(*arrays: NDArray[Any]) -> str:
    """Return 'sha256:...' of the dtypes, shapes and values of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"sha256:{digest.hexdigest()}"
