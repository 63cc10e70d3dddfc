"""What a data file holds: what there is to predict, from what, and how to read it."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.config.new_data import ENDINGS, kind_by_name
from layerflow.data import CIFAR10, IDX, NPY, NPZ, Dataset
from layerflow.data.arrays import shapes
from layerflow.data.columns import Column, guess_delimiter, read_columns
from layerflow.data.labels import Task, as_number, guess_task
from layerflow.errors import ConfigError, DataError, did_you_mean

Setting = tuple[str, Any, str]
"""A key of the configuration, its value, and a comment on it."""

TARGET_NAMES = ("target", "label", "class", "y", "outcome", "output")
UNUSABLE = {
    "identifier": "tells the rows apart",
    "text": "free text",
    "constant": "always the same",
    "empty": "has no values",
}


@dataclass(frozen=True)
class Findings:
    """What the decisions follow from.

    Attributes:
        source: the reader's type and settings, each with a comment on it.
        target: what the targets are called.
        samples: how many there are.
        shape: of one sample.
        classes: how many samples each class has; None for a regression.
        spread: mean and standard deviation of a regression's targets.
        scale: the scaler, and why.
    """

    source: list[Setting]
    target: str
    samples: int
    shape: tuple[int, ...]
    classes: dict[str, int] | None
    spread: tuple[float, float]
    scale: tuple[Any, str]


def look_at(data: str, target: str | None, folder: Path) -> Findings:
    """Read a data file; paths in what is returned start at `folder`. See `layerflow.config.starter`."""
    kind = kind_by_name(data)
    if kind is None:
        raise ConfigError(f"{data}: its name doesn't say what it is; known endings: {', '.join(ENDINGS)} (.gz too)")
    return _look_at_table(data, target, folder) if kind == "CSV" else _look_at_arrays(kind, data, target, folder)


# Tables ------------------------------------------------------------------------------------------------------------


def _look_at_table(data: str, target: str | None, folder: Path) -> Findings:
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
    classes = Counter(_canonical(cell) for cell in cells) if task == "classification" else None
    _check_target(chosen, task, classes, data)
    source: list[Setting] = [("type", "CSV", ""), ("path", _relative(data, folder), ""), ("target", chosen.name, why)]
    if len(features) < len(others):
        left_out = "; ".join(f"{column.name}: {UNUSABLE[column.role]}" for column in others if column not in features)
        source.append(("features", [column.name for column in features], f"left out: {left_out}"))
    if categories := [column.name for column in features if column.role == "category"]:
        source.append(("categorical", categories, "text: each becomes one 0/1 column per category"))
    gaps = [f"{column.missing} in {column.name}" for column in features if column.missing]
    if chosen.missing:
        source.append(
            ("missing", "drop", f"rows without a target are left out ({chosen.missing} of {len(chosen.cells)})")
        )
    elif gaps:
        source.append(
            ("missing", "mean", f"the mean of the training part stands in for missing values: {', '.join(gaps)}")
        )
    if delimiter != ",":
        source.append(("delimiter", delimiter, ""))
    width = sum(len(column.distinct) if column.role == "category" else 1 for column in features)
    values = np.array([as_number(cell) for cell in cells], float) if task == "regression" else np.zeros(1)
    scale = ("Standard", "mean 0 and standard deviation 1 for each column")
    return Findings(source, chosen.name, len(cells), (width,), classes, _spread(values), scale)


def _choose_target(columns: Sequence[Column], target: str | None, data: str) -> tuple[Column, str]:
    """Return the column to predict, and how it was found."""
    by_name = {column.name: column for column in columns}
    if target is not None:
        if target not in by_name:
            raise DataError(
                f"{data}: no column {target!r}{did_you_mean(target, by_name) or '; columns: ' + ', '.join(by_name)}"
            )
        return by_name[target], ""
    for column in columns:
        if column.name.lower() in TARGET_NAMES:
            return column, "by its name; another one with --target"
    return columns[-1], "the last column; another one with --target"


def _check_target(column: Column, task: Task, classes: dict[str, int] | None, data: str) -> None:
    if len(column.distinct) < 2:
        held = f"holds nothing but {column.cells[0]!r}" if column.distinct else "has no values"
        raise DataError(
            f"{data}: the column {column.name!r} {held}, so there is nothing to predict; "
            "choose another one with --target"
        )
    if classes is not None and 2 * len(classes) > sum(classes.values()):
        raise DataError(
            f"{data}: the column {column.name!r} has {len(classes)} different texts in {sum(classes.values())} rows, "
            "too many for classes; choose another one with --target"
        )


# Arrays ------------------------------------------------------------------------------------------------------------


def _look_at_arrays(kind: str, data: str, target: str | None, folder: Path) -> Findings:
    path = _relative(data, folder)
    if kind == "CIFAR10":
        return _of_dataset("CIFAR10", CIFAR10([data]).read(), [("paths", [path], "")], "label")
    if kind == "NPZ":
        return _look_at_archive(data, target, path)
    if target is None:
        raise ConfigError(f"{data}: where are the targets? Name their file with --target")
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


_TASK = ("task", "classification", "floating-point targets, but all of them are whole numbers")


def _look_at_archive(data: str, target: str | None, path: str) -> Findings:
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
    """Whether floating-point targets are class labels all the same."""
    return (
        y is not None and y.dtype.kind == "f" and guess_task([str(value) for value in y.tolist()]) == "classification"
    )


def _of_dataset(kind: str, data: Dataset, source: list[Setting], target: str) -> Findings:
    assert data.y is not None
    classes = None
    if data.classes is not None:
        classes = dict(zip(data.classes, np.bincount(data.y, minlength=len(data.classes)).tolist(), strict=True))
    scale: tuple[Any, str] = (
        "Standard",
        f"mean 0 and standard deviation 1 for each {'channel' if data.x.ndim == 4 else 'column'}",
    )
    if data.x.dtype == np.uint8:
        scale = ({"type": "Divide", "by": 255}, "bytes become numbers from 0 to 1")
    return Findings(
        [("type", kind, ""), *source], target, len(data), tuple(data.x.shape[1:]), classes, _spread(data.y), scale
    )


def _spread(values: Any) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values))


def _canonical(label: str) -> str:
    value = as_number(label)
    return label if value is None else f"{value:g}"


def _relative(data: str, folder: Path) -> str:
    return os.path.relpath(os.path.realpath(data), os.path.realpath(folder))
