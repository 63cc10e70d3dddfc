"""What the columns of a table are: numbers, categories, or nothing to learn from."""

import csv
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from layerflow.data.cells import MISSING
from layerflow.data.labels import as_number
from layerflow.data.paths import open_data
from layerflow.data.table import records
from layerflow.errors import DataError

MOST_CATEGORIES = 50
"""A text column with more different values than this is free text, as is one whose values hardly ever repeat."""

IDENTIFIERS = frozenset({"id", "index", "idx", "no", "nr", "row", "uid", "uuid", "key"})

Role = Literal["number", "category", "identifier", "text", "constant", "empty"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: what the header calls it.
        cells: its cells, as text.
        missing: how many of them are empty, or stand for no number among numbers.
        role: what it can be used for: numbers and categories are features; identifiers (of the rows), free text,
            constant text and empty columns tell a model nothing.
    """

    name: str
    cells: list[str]
    missing: int
    role: Role

    @property
    def distinct(self) -> set[str]:
        """The different cells that are not empty."""
        return set(self.cells) - {""}


def read_columns(path: str, delimiter: str) -> list[Column]:
    """Read a whole CSV file column by column; raises DataError as `layerflow.data.table.records` does."""
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
    """Return the character that stands most often in the first line, outside quotes; a comma when there is none."""
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
    values = set(cells)
    absent = {cell for cell in values if cell.lower() in MISSING}
    present = values - absent
    numbers = {as_number(cell) for cell in present}
    if None in numbers:
        absent &= {""}
        present = values - absent
    missing = sum(cell in absent for cell in cells)
    return Column(name, cells, missing, _role(name, cells, present, None not in numbers))


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
    """Whether the cells number the rows: n, n + 1, n + 2, ..., too many for that to be chance."""
    values = [float(cell) for cell in cells]
    return len(values) >= 10 and all(after - before == 1 for before, after in pairwise(values))
