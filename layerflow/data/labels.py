"""Targets: class names become indexes, numbers stay numbers."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import check_finite
from layerflow.errors import DataError, did_you_mean

Task = Literal["classification", "regression"]

Place = Callable[[int], str]
"""Says where sample `i` stands, for messages: "iris.csv:17: column 'species'" or 'train.npz: y[16]'."""

SHOWN = 8
"""How many names a message lists at most."""


def encode_labels(
    labels: Sequence[str], place: Place, known: tuple[str, ...] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class index of every label, and the class names by index.

    Without `known` the names are those that occur, sorted: by value where all of them are numbers ('2' before '10',
    and '1.0' is the same class as '1'), alphabetically otherwise. With `known` (the classes of the training data)
    every label must be one of them.

    Raises:
        DataError: There is only one class, or a label is not in `known` (it is named with its place).
    """
    names = set(labels)
    classes = known or _sorted_classes(names)
    if len(classes) < 2:
        raise DataError(f"{place(0)}: all {len(labels)} samples are of the one class {classes[0]!r}; give at least two")
    index = {name: number for number, name in enumerate(classes)}
    codes = {name: index.get(name, index.get(_canonical(name), -1)) for name in names}
    y = np.fromiter((codes[label] for label in labels), dtype=np.int64, count=len(labels))
    if (unknown := np.flatnonzero(y < 0)).size:
        row = int(unknown[0])
        raise DataError(
            f"{place(row)}: class {labels[row]!r} is not one of {listed(classes)}{did_you_mean(labels[row], classes)}"
        )
    return y, classes


def encode_target(
    target: NDArray[Any], where: str, task: Task | None = None, known: tuple[str, ...] | None = None
) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return (y, classes) for a target array of shape (samples,).

    Whole numbers, booleans and strings are classes and floating-point numbers are values to regress on, unless `task`
    says otherwise.

    Raises:
        DataError: The array has another shape or dtype, holds NaN or infinity, or does not fit `task` or `known`.
    """
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if target.ndim != 1:
        raise DataError(f"{where}: expected one target per sample, shape (samples,), got shape {target.shape}")
    if target.dtype.kind not in "biufUS":
        raise DataError(f"{where}: expected numbers or text as targets, got dtype {target.dtype}")
    check_finite(target, where)
    if task is None:
        task = "regression" if target.dtype.kind == "f" else "classification"
    if task == "regression":
        if target.dtype.kind in "US":
            raise DataError(f"{where}: holds text, but the task is regression; give numbers, or classification as task")
        return target.astype(np.float64), None
    if target.dtype.kind == "S":
        target = np.char.decode(target, "utf-8", "replace")
    if target.dtype.kind == "b":
        target = target.astype(np.int64)
    if target.dtype.kind == "f":
        if (fractions := np.flatnonzero(target != np.round(target))).size:
            row = int(fractions[0])
            raise DataError(
                f"{where}[{row}]: {target[row]} is no class label; give whole numbers, or regression as task"
            )
        target = target.astype(np.int64)
    return encode_labels(target.astype(str).tolist(), lambda row: f"{where}[{row}]", known)


def guess_task(cells: Sequence[str]) -> Task:
    """Say what the target cells of a table ask for.

    Text is classification. Numbers are regression, except whole numbers with at most 20 different values that occur
    at least twice on average.
    """
    values = {cell: as_number(cell) for cell in set(cells)}
    if any(value is None for value in values.values()):
        return "classification"
    distinct = {value for value in values.values() if value is not None}
    few = len(distinct) <= 20 and 2 * len(distinct) <= len(cells)
    return "classification" if few and all(value.is_integer() for value in distinct) else "regression"


def as_number(text: str) -> float | None:
    """Return the finite number that `text` spells, or None; '1_000', which Python accepts, is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) and "_" not in text else None


def listed(names: Sequence[object]) -> str:
    """Return the names for a message, shortened when there are many."""
    shown = ", ".join(f"{name!r:.60}" if len(repr(name)) <= 60 else f"{name!r:.57}..." for name in names[:SHOWN])
    return shown + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")


def _sorted_classes(names: set[str]) -> tuple[str, ...]:
    if all(as_number(name) is not None for name in names):
        return tuple(sorted({_canonical(name) for name in names}, key=float))
    return tuple(sorted(names))


def _canonical(label: str) -> str:
    value = as_number(label)
    if value is None:
        return label
    return str(int(value)) if value.is_integer() else str(value)
