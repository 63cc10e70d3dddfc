"""Inspecting a data file: what there is to predict, from what, and how to read it."""

import csv
import os
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from layerflow.data import READERS
from layerflow.data.arrays import shapes
from layerflow.data.dataset import Dataset, as_number, guess_task
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
IDENTIFIERS = frozenset({"id", "index", "idx", "no", "nr", "row", "uid", "uuid", "key"})

MOST_CATEGORIES = 50
"""A text column with more different values is free text, and so is one whose values rarely repeat."""

Role = Literal["number", "category", "identifier", "text", "constant", "empty"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name in the header.
        present: How often each text occurs, without those that mean a missing value.
        missing: The number of missing values.
        role: What it can be used for: numbers and categories are features; identifiers of the rows, free text,
            constant text and empty columns carry no signal.
    """

    name: str
    present: Counter[str]
    missing: int
    role: Role


@dataclass(frozen=True)
class Inspection:
    """What was found in a data file: all that a first configuration follows from.

    Attributes:
        source: The reader's type and settings, each with a comment on it.
        target: The name of the targets.
        data: The samples, read with these settings.
    """

    source: list[Setting]
    target: str
    data: Dataset

    @property
    def y(self) -> NDArray[Any]:
        """The targets."""
        assert self.data.y is not None
        return self.data.y


def inspect(data: str, target: str | None, folder: Path) -> Inspection:
    """Inspect a data file.

    Args:
        data: The file with the samples.
        target: The column, array or file with the targets; guessed for tables if left out.
        folder: The folder that the paths in the result are relative to.

    Raises:
        ConfigError: The type of the file is not supported, or the targets are not named.
        DataError: The data cannot be read, or there is nothing to learn from them.
    """
    kind = kind_by_name(data)
    if kind is None:
        raise ConfigError(f"{data}: unsupported file type; {SUPPORTED}")
    if kind == "CSV":
        settings, target = _table_settings(data, target)
    elif kind == "NPZ":
        settings, target = _archive_settings(data, target)
    elif kind == "CIFAR10":
        settings, target = [("paths", [Path(data)], "")], "label"
    elif target is None:
        raise ConfigError(f"{data}: the targets are missing; name their file with --target")
    elif kind == "NPY":
        settings, target = [("x", Path(data), ""), ("y", Path(target), "")], "y"
    else:
        settings, target = [("images", Path(data), ""), ("labels", Path(target), "")], "label"
    arguments = {key: _with_paths(value) for key, value, _ in settings}
    shown = [("type", kind, ""), *((key, _with_paths(value, folder), comment) for key, value, comment in settings)]
    found = Inspection(shown, target, READERS[kind](**arguments).read())
    if kind == "CSV" or found.data.classes or guess_task([*map(str, found.y)]) == "regression":
        return found
    task = ("task", "classification", "the targets are floats, but all of them are whole numbers")
    return Inspection([*shown, task], target, READERS[kind](**arguments | {"task": "classification"}).read())


def _with_paths(value: Any, folder: Path | None = None) -> Any:
    """Return a setting with its paths as text, relative to `folder` if there is one."""
    if isinstance(value, list):
        return [_with_paths(item, folder) for item in value]
    if isinstance(value, Path):
        return str(value) if folder is None else os.path.relpath(os.path.realpath(value), os.path.realpath(folder))
    return value


def _table_settings(data: str, target: str | None) -> tuple[list[Setting], str]:
    delimiter = guess_delimiter(data)
    columns = read_columns(data, delimiter)
    names = [column.name for column in columns]
    if target is not None:
        chosen, why = columns[find_column(target, names, data)], ""
    else:
        named = [column for column in columns if column.name.lower() in TARGET_NAMES]
        chosen = named[0] if named else columns[-1]
        why = f"{'chosen by its name' if named else 'the last column'}; change it with --target"
    others = [column for column in columns if column is not chosen]
    features = [column for column in others if column.role in ("number", "category")]
    if not features:
        raise DataError(f"{data}: no column is left to predict {chosen.name!r} from; columns: {', '.join(names)}")
    _check_target(chosen, data)
    settings: list[Setting] = [("path", Path(data), ""), ("target", chosen.name, why)]
    if len(features) < len(others):
        left_out = "; ".join(f"{column.name}: {UNUSABLE[column.role]}" for column in others if column not in features)
        settings.append(("features", [column.name for column in features], f"left out: {left_out}"))
    if categories := [column.name for column in features if column.role == "category"]:
        settings.append(("categorical", categories, "text: each becomes one 0/1 column per category"))
    gaps = [f"{column.missing} in {column.name}" for column in features if column.missing]
    if chosen.missing:
        rows = chosen.missing + chosen.present.total()
        settings.append(("missing", "drop", f"leave out rows without a target ({chosen.missing} of {rows})"))
    elif gaps:
        settings.append(("missing", "mean", f"fill missing values with the training mean: {', '.join(gaps)}"))
    if delimiter != ",":
        settings.append(("delimiter", delimiter, ""))
    return settings, chosen.name


def _check_target(column: Column, data: str) -> None:
    different, rows = len(column.present), column.present.total()
    if different < 2:
        held = f"is always {next(iter(column.present))!r}" if different else "has no values"
        problem = f"{held}, so there is nothing to predict"
    elif 2 * different > rows and guess_task([*column.present.elements()]) == "classification":
        problem = f"has {different} different texts in {rows} rows, too many for classes"
    else:
        return
    raise DataError(f"{data}: column {column.name!r} {problem}; choose another one with --target")


def _archive_settings(data: str, target: str | None) -> tuple[list[Setting], str]:
    found = shapes(data)
    y = target or next((name for name in ("y", "labels", "label", "targets", "target") if name in found), None)
    y = y or next((name for name, shape in found.items() if len(shape) == 1), "y")
    if y not in found:
        raise DataError(
            f"{data}: no array {y!r}{did_you_mean(y, found)}; it holds {', '.join(found)}; "
            "name the targets with --target"
        )
    fits = [name for name, shape in found.items() if len(shape) > 1 and name != y and shape[:1] == found[y][:1]]
    if not fits:
        raise DataError(
            f"{data}: no array of features is as long as the targets in {y!r}, of shape {found[y]}; "
            f"it holds {', '.join(found)}"
        )
    return [("path", Path(data), ""), ("x", fits[0], f"shape {found[fits[0]]}"), ("y", y, "")], y


def read_columns(path: str, delimiter: str) -> list[Column]:
    """Read a whole CSV file column by column; raises DataError as `records` does."""
    rows = records(path, delimiter)
    _, header = next(rows)
    columns = list(zip(*(cells for _, cells in rows), strict=True))
    if not columns:
        raise DataError(f"{path}: no rows below the header")
    return [_column(name, [cell.strip() for cell in cells]) for name, cells in zip(header, columns, strict=True)]


def guess_delimiter(path: str) -> str:
    """Return the delimiter that splits the first line into most cells; a comma if none does."""
    with open_data(path) as file:
        start = file.readline(1 << 20).decode("utf-8-sig", "replace")
    first = next(iter(start.splitlines()), "")

    def width(delimiter: str) -> int:
        try:
            return len(next(csv.reader([first], delimiter=delimiter), []))
        except csv.Error:
            return 0

    return max(",;\t|", key=width)


def _column(name: str, cells: list[str]) -> Column:
    absent = missing_texts(cells)
    present = Counter(cell for cell in cells if cell not in absent)
    return Column(name, present, len(cells) - present.total(), _role(name, cells, present))


def _role(name: str, cells: list[str], present: Counter[str]) -> Role:
    if not present:
        return "empty"
    is_key, is_named_key = len(present) == len(cells), name.lower() in IDENTIFIERS
    if all(as_number(cell) is not None for cell in present):
        return "identifier" if is_key and len(cells) > 1 and (is_named_key or _counts_up(cells)) else "number"
    if is_key:
        return "identifier" if is_named_key or all(" " not in cell for cell in cells) else "text"
    if len(present) == 1:
        return "constant"
    return "category" if len(present) <= min(MOST_CATEGORIES, max(2, len(cells) // 2)) else "text"


def _counts_up(cells: list[str]) -> bool:
    """Return whether the cells number the rows: n, n + 1, n + 2, ..., in more rows than chance explains."""
    values = [float(cell) for cell in cells]
    return len(values) >= 10 and all(after - before == 1 for before, after in pairwise(values))
