"""What a reader returns: samples, targets, and what they mean."""

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
    """How the columns of a table became the columns of `x`.

    Attributes:
        columns: The feature columns as the file names them, in order.
        categories: For each categorical column its categories, sorted. It became one 0/1 column per category.
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
        features: The names of the columns of x, where they have names.
        classes: The name of each class, by index; None for regression.
        name: What the set is called in reports.
        checksum: 'sha256:...' of the files it was read from, or of the arrays when it was generated.
        encoding: How a table's columns became those of x; None where there is no table.
        notes: What the reader did that its user should see: '3 rows dropped ...'.
        lines: (samples,): the line of the file on which each sample stands, counted from 1; None where there are none.
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


def check_finite(x: NDArray[Any], where: str) -> None:
    """Raise DataError that counts NaN and infinity in `x` and names the first, when there are any."""
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
    """Return 'sha256:...' over dtype, shape and values of arrays in memory."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"sha256:{digest.hexdigest()}"
