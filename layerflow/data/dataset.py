"""What readers return: samples, and targets as class indexes or numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerflow.data.batches import Rows, blocks
from layerflow.errors import DataError, did_you_mean

Task = Literal["classification", "regression"]

SHOWN = 8
"""The largest number of names that a message lists."""


@dataclass(frozen=True)
class Encoding:
    """How named columns are encoded as the columns of `x`.

    Attributes:
        columns: The names of the feature columns in the data, in order.
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
        x: (samples, features), (samples, channels, height, width), (samples, time, features) or tokens (samples, time),
            of any real dtype; may be memory-mapped.
        y: (samples, ...): int64 class indexes, or float64 values for regression; None when read for prediction.
        encoding: How named columns are encoded in x; None if the features have no names.
        classes: The name of each class, by index; None for regression.
        name: The name of the data set in reports.
        checksum: 'sha256:...' of the files it was read from, or of the arrays if it was generated.
        notes: What the reader did that users should know: 'dropped 3 of 50 rows ...'.
        lines: (samples,): the line of each sample in its file, counted from 1; None if the file has no lines.
        vocabulary: what each token stands for; None if x are no tokens.
        gap: None for samples in any order. Samples in the order of time are split in time, and so many are left out
            between two parts, since they reach into the next one.
    """

    x: NDArray[Any] | Rows
    y: NDArray[Any] | None
    encoding: Encoding | None
    classes: tuple[str, ...] | None
    name: str
    checksum: str
    notes: tuple[str, ...] = ()
    lines: NDArray[np.int64] | None = None
    vocabulary: tuple[str, ...] | None = None
    gap: int | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def features(self) -> tuple[str, ...] | None:
        """The names of the columns of x, if they have names."""
        return None if self.encoding is None else self.encoding.features

    def take(self, indices: ArrayLike) -> "Dataset":
        """Return the samples `indices`, in this order; a memory-mapped x stays on disk."""
        rows = np.asarray(indices, dtype=np.int64)
        x = Rows(self.x, rows) if isinstance(self.x, Rows | np.memmap) else self.x.take(rows, axis=0)
        y, lines = (None if array is None else array.take(rows, axis=0) for array in (self.y, self.lines))
        return replace(self, x=x, y=y, lines=lines)


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


def encode_labels(
    labels: Sequence[str], place: Callable[[int], str], known: tuple[str, ...] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class index of every label, and the class names by index.

    A class is the text of its label, so '1', '01' and '1.0' are three classes. Without `known` the classes are the
    different labels, sorted by value if all of them are numbers ('2' before '10'), alphabetically otherwise. With
    `known`, the classes of the training data, every label must be one of them. `place` returns the location of a
    label for messages: "iris.csv:17: column 'species'" or 'train.npz: y[16]'.

    Raises:
        DataError: There is only one class, or a label is not in `known` (the message gives its location).
    """
    names = set(labels)
    classes = known or _sorted_classes(names)
    if len(classes) < 2:
        raise DataError(f"{place(0)}: all {len(labels)} samples are of the one class {classes[0]!r}; give at least two")
    index = {name: number for number, name in enumerate(classes)}
    if unknown := names - set(index):
        row = next(row for row, label in enumerate(labels) if label in unknown)
        value = as_number(labels[row])
        equal = [name for name in classes if value is not None and as_number(name) == value]
        hint = f", did you mean {equal[0]!r}?" if equal else did_you_mean(labels[row], classes)
        raise DataError(f"{place(row)}: class {labels[row]!r} is not one of {listed(classes)}{hint}")
    return np.fromiter((index[label] for label in labels), dtype=np.int64, count=len(labels)), classes


def _sorted_classes(names: set[str]) -> tuple[str, ...]:
    if any(as_number(name) is None for name in names):
        return tuple(sorted(names))

    def value(name: str) -> float:
        try:
            return int(name)  # keeps all digits, which a float does not
        except ValueError:
            return float(name)

    return tuple(sorted(names, key=lambda name: (value(name), name)))


def encode_target(
    target: NDArray[Any], where: str, task: Task | None = None, known: tuple[str, ...] | None = None
) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return (y, classes) for a target array of shape (samples,).

    Integers, booleans and strings are class labels and floating-point numbers are values for regression, unless `task`
    says otherwise. Strings are class names as they are. An array of numbers has no spelling, so its labels are the
    integers it holds: True is '1', and the floats of a classification must be integers, 1.0 being '1'.

    Raises:
        DataError: The array has another shape or dtype, holds NaN or infinity, or does not fit `task` or `known`.
    """
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if target.ndim != 1:
        raise DataError(f"{where}: expected one target per sample, shape (samples,), got shape {target.shape}")
    kind = target.dtype.kind
    if kind not in "biufUS":
        raise DataError(f"{where}: expected numbers or text as targets, got dtype {target.dtype}")
    check_finite(target, where)
    if (task or ("regression" if kind == "f" else "classification")) == "regression":
        if kind in "US":
            raise DataError(f"{where}: holds text, but the task is regression; give numbers, or classification as task")
        return target.astype(np.float64), None
    if kind == "S":
        try:
            target = np.char.decode(target, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: the labels are not UTF-8 ({error.reason}); save them as text") from error
    if kind == "f" and (fractions := np.flatnonzero(target != np.round(target))).size:
        row = int(fractions[0])
        raise DataError(f"{where}[{row}]: {target[row]} is no class label; give integers, or regression as task")
    labels = [label if isinstance(label, str) else str(int(label)) for label in target.tolist()]
    return encode_labels(labels, lambda row: f"{where}[{row}]", known)


def guess_task(cells: Sequence[str]) -> Task:
    """Return the task that the target cells of a table suggest.

    Text is classification. Numbers are regression, except integers with at most 20 different texts that occur at
    least twice on average.
    """
    labels = set(cells)
    numbers = [as_number(label) for label in labels]
    if any(number is None for number in numbers):
        return "classification"
    few = len(labels) <= 20 and 2 * len(labels) <= len(cells)
    return "classification" if few and all(float(number or 0).is_integer() for number in numbers) else "regression"


def as_number(text: str) -> float | None:
    """Return the finite number that `text` spells, or None; '1_000', which Python accepts, is not a number here."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in text else None


def listed(names: Sequence[object]) -> str:
    """Return the names for a message, shortened when there are many."""
    shown = ", ".join(f"{name!r:.60}" if len(repr(name)) <= 60 else f"{name!r:.57}..." for name in names[:SHOWN])
    return shown + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")
