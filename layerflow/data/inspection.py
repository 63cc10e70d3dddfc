"""Inspecting a data file: what there is to predict, from what, and how to read it."""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from layerflow.data.arrays import NPY, NPZ, shapes
from layerflow.data.dataset import Dataset, Task, as_number, guess_task
from layerflow.data.images import CIFAR10, IDX
from layerflow.data.reader import SUPPORTED, kind_by_name, open_data
from layerflow.data.table import find_column, missing_texts, records
from layerflow.errors import ConfigError, DataError, did_you_mean

Setting = tuple[str, Any, str]
"""A key of the configuration, its value, and a comment on it."""

TARGET_NAMES = ("target", "label", "class", "y", "outcome", "output")
UNUSABLE = {
    "identifier": "identifier of the rows",
    "text": "free text",
    "constant": "always the same",
    "empty": "has no values",
}

MOST_CATEGORIES = 50
"""A text column with more different values is free text, and so is one whose values rarely repeat."""

IDENTIFIERS = frozenset({"id", "index", "idx", "no", "nr", "row", "uid", "uuid", "key"})

Role = Literal["number", "category", "identifier", "text", "constant", "empty"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its name in the header.
        cells: its cells, as text.
        missing: the number of cells that are empty, or in a numeric column not a number.
        role: what it can be used for: numbers and categories are features; identifiers of the rows, free text,
            constant text and empty columns carry no signal.
    """

    name: str
    cells: list[str]
    missing: int
    role: Role

    @property
    def distinct(self) -> set[str]:
        """The different cells that are not empty."""
        return set(self.cells) - {""}


@dataclass(frozen=True)
class Inspection:
    """What was found in a data file: all that a first configuration follows from.

    Attributes:
        source: the reader's type and settings, each with a comment on it.
        target: the name of the targets.
        samples: the number of samples.
        shape: the shape of one sample.
        classes: the number of samples of each class; None for regression.
        spread: mean and standard deviation of the targets of a regression.
        scale: the scaler, and the reason for it.
    """

    source: list[Setting]
    target: str
    samples: int
    shape: tuple[int, ...]
    classes: dict[str, int] | None
    spread: tuple[float, float]
    scale: tuple[Any, str]


def inspect(data: str, target: str | None, folder: Path) -> Inspection:
    """Inspect a data file.

    Args:
        data: the file with the samples.
        target: the column, array or file with the targets; guessed for tables if left out.
        folder: the folder that the paths in the result are relative to.

    Raises:
        ConfigError: the type of the file is not supported, or the targets are not named.
        DataError: the data cannot be read, or there is nothing to learn from them.
    """
    kind = kind_by_name(data)
    if kind is None:
        raise ConfigError(f"{data}: unsupported file type; {SUPPORTED}")
    return _inspect_table(data, target, folder) if kind == "CSV" else _inspect_arrays(kind, data, target, folder)


# Tables ------------------------------------------------------------------------------------------------------------


def _inspect_table(data: str, target: str | None, folder: Path) -> Inspection:
    delimiter = guess_delimiter(data)
    columns = read_columns(data, delimiter)
    names = [column.name for column in columns]
    chosen, why = _choose_target(columns, target, data)
    others = [column for column in columns if column is not chosen]
    features = [column for column in others if column.role in ("number", "category")]
    if not features:
        raise DataError(f"{data}: no column is left to predict {chosen.name!r} from; columns: {', '.join(names)}")
    cells = [cell for cell in chosen.cells if cell]
    task: Task = guess_task(cells) if chosen.role != "category" else "classification"
    classes = Counter(cells) if task == "classification" else None
    _check_target(chosen, task, classes, data)
    source: list[Setting] = [("type", "CSV", ""), ("path", _relative(data, folder), ""), ("target", chosen.name, why)]
    if len(features) < len(others):
        left_out = "; ".join(f"{column.name}: {UNUSABLE[column.role]}" for column in others if column not in features)
        source.append(("features", [column.name for column in features], f"left out: {left_out}"))
    if categories := [column.name for column in features if column.role == "category"]:
        source.append(("categorical", categories, "text: each becomes one 0/1 column per category"))
    gaps = [f"{column.missing} in {column.name}" for column in features if column.missing]
    if chosen.missing:
        source.append(("missing", "drop", f"leave out rows without a target ({chosen.missing} of {len(chosen.cells)})"))
    elif gaps:
        source.append(("missing", "mean", f"fill missing values with the training mean: {', '.join(gaps)}"))
    if delimiter != ",":
        source.append(("delimiter", delimiter, ""))
    width = sum(len(column.distinct) if column.role == "category" else 1 for column in features)
    values = np.array([as_number(cell) for cell in cells], float) if task == "regression" else np.zeros(1)
    scale = ("Standard", "mean 0 and standard deviation 1 in each column")
    return Inspection(source, chosen.name, len(cells), (width,), classes, _spread(values), scale)


def _choose_target(columns: Sequence[Column], target: str | None, data: str) -> tuple[Column, str]:
    """Return the column to predict, and how it was found."""
    if target is not None:
        return columns[find_column(target, [column.name for column in columns], data)], ""
    for column in columns:
        if column.name.lower() in TARGET_NAMES:
            return column, "chosen by its name; change it with --target"
    return columns[-1], "the last column; change it with --target"


def _check_target(column: Column, task: Task, classes: dict[str, int] | None, data: str) -> None:
    if len(column.distinct) < 2:
        held = f"is always {column.cells[0]!r}" if column.distinct else "has no values"
        raise DataError(
            f"{data}: column {column.name!r} {held}, so there is nothing to predict; choose another one with --target"
        )
    if classes is not None and 2 * len(classes) > sum(classes.values()):
        raise DataError(
            f"{data}: column {column.name!r} has {len(classes)} different texts in {sum(classes.values())} rows, "
            "too many for classes; choose another one with --target"
        )


# Arrays ------------------------------------------------------------------------------------------------------------


def _inspect_arrays(kind: str, data: str, target: str | None, folder: Path) -> Inspection:
    path = _relative(data, folder)
    if kind == "CIFAR10":
        return _of_dataset("CIFAR10", CIFAR10([data]).read(), [("paths", [path], "")], "label")
    if kind == "NPZ":
        return _inspect_archive(data, target, path)
    if target is None:
        raise ConfigError(f"{data}: the targets are missing; name their file with --target")
    source = [
        ("x" if kind == "NPY" else "images", path, ""),
        ("y" if kind == "NPY" else "labels", _relative(target, folder), ""),
    ]
    if kind == "IDX":
        return _of_dataset("IDX", IDX(data, target).read(), source, "label")
    read = NPY(data, target).read()
    if _are_labels(read.y):
        return _of_dataset("NPY", NPY(data, target, "classification").read(), [*source, _TASK], "y")
    return _of_dataset(kind, read, source, "y")


_TASK = ("task", "classification", "the targets are floats, but all of them are whole numbers")


def _inspect_archive(data: str, target: str | None, path: str) -> Inspection:
    found = shapes(data)
    y = target or next((name for name in ("y", "labels", "label", "targets", "target") if name in found), None)
    y = y or next((name for name, shape in found.items() if len(shape) == 1), "y")
    if y not in found:
        raise DataError(
            f"{data}: no array {y!r}{did_you_mean(y, found)}; it holds {', '.join(found)}; "
            "name the targets with --target"
        )
    x = next(
        (name for name, shape in found.items() if len(shape) > 1 and name != y and shape[:1] == found[y][:1]), None
    )
    if x is None:
        raise DataError(
            f"{data}: no array of features is as long as the targets in {y!r}, of shape {found[y]}; "
            f"it holds {', '.join(found)}"
        )
    source = [("path", path, ""), ("x", x, f"shape {found[x]}"), ("y", y, "")]
    read = NPZ(data, x, y).read()
    if _are_labels(read.y):
        return _of_dataset("NPZ", NPZ(data, x, y, "classification").read(), [*source, _TASK], y)
    return _of_dataset("NPZ", read, source, y)


def _are_labels(y: Any) -> bool:
    """Return whether floating-point targets are class labels nevertheless."""
    return (
        y is not None and y.dtype.kind == "f" and guess_task([str(value) for value in y.tolist()]) == "classification"
    )


def _of_dataset(kind: str, data: Dataset, source: list[Setting], target: str) -> Inspection:
    assert data.y is not None
    classes = None
    if data.classes is not None:
        classes = dict(zip(data.classes, np.bincount(data.y, minlength=len(data.classes)).tolist(), strict=True))
    scale: tuple[Any, str] = (
        "Standard",
        f"mean 0 and standard deviation 1 in each {'channel' if data.x.ndim == 4 else 'column'}",
    )
    if data.x.dtype == np.uint8:
        scale = ({"type": "Divide", "by": 255}, "scales bytes to the range 0 to 1")
    return Inspection(
        [("type", kind, ""), *source], target, len(data), tuple(data.x.shape[1:]), classes, _spread(data.y), scale
    )


def _spread(values: Any) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values))


def _relative(data: str, folder: Path) -> str:
    return os.path.relpath(os.path.realpath(data), os.path.realpath(folder))


# The columns of a table ----------------------------------------------------------------------------------------------


def read_columns(path: str, delimiter: str) -> list[Column]:
    """Read a whole CSV file column by column; raises DataError as `records` does."""
    rows = records(path, delimiter)
    _, header = next(rows)
    columns: list[list[str]] = [[] for _ in header]
    for _, cells in rows:
        for column, cell in zip(columns, cells, strict=True):
            column.append(cell.strip())
    if not columns[0]:
        raise DataError(f"{path}: no rows below the header")
    return [_column(name, cells) for name, cells in zip(header, columns, strict=True)]


def guess_delimiter(path: str) -> str:
    """Return the delimiter that splits the first line into most cells; a comma if none does."""
    with open_data(path) as file:
        start = file.readline(1 << 20).decode("utf-8-sig", "replace")
    first = next(iter(start.splitlines()), "")
    return max(",;\t|", key=lambda mark: _width(first, mark))


def _width(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _column(name: str, cells: list[str]) -> Column:
    absent = missing_texts(cells)
    present = set(cells) - absent
    are_numbers = all(as_number(cell) is not None for cell in present)
    return Column(name, cells, sum(cell in absent for cell in cells), _role(name, cells, present, are_numbers))


def _role(name: str, cells: list[str], present: set[str], are_numbers: bool) -> Role:
    if not present:
        return "empty"
    is_key = len(present) == len(cells)
    if are_numbers:
        return (
            "identifier"
            if is_key and len(cells) > 1 and (name.lower() in IDENTIFIERS or _counts_up(cells))
            else "number"
        )
    if is_key:
        return "identifier" if name.lower() in IDENTIFIERS or all(" " not in cell for cell in cells) else "text"
    if len(present) == 1:
        return "constant"
    return "category" if len(present) <= min(MOST_CATEGORIES, max(2, len(cells) // 2)) else "text"


def _counts_up(cells: list[str]) -> bool:
    """Return whether the cells number the rows: n, n + 1, n + 2, ..., in more rows than chance explains."""
    values = [float(cell) for cell in cells]
    return len(values) >= 10 and all(after - before == 1 for before, after in pairwise(values))
