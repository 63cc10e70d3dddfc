"""Tables: named columns of numbers and categories, from a file or from memory, on their way to the array x."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Encoding
from layerflow.data.labels import as_number, listed
from layerflow.errors import DataError, did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
"""Cells that mean a missing number, in any case; in text columns only an empty cell is missing."""

MOST_CATEGORIES = 1000
"""A column with more categories is refused: it is an identifier, and each category costs a column of x."""


@dataclass(frozen=True)
class Table:
    """The feature columns of a data set, and its targets as text.

    Attributes:
        source: The name of the file or object for messages.
        columns: The names of the columns, in order.
        numbers: (rows,) each: the numeric columns; NaN or infinite where a value is missing.
        texts: The categorical columns; an empty text where a value is missing.
        lines: The line of each row in the file; None for tables in memory.
        target: The target of each row; empty if it was not read.
    """

    source: str
    columns: Sequence[str]
    numbers: dict[str, NDArray[np.float64]]
    texts: dict[str, list[str]]
    lines: NDArray[np.int64] | None = None
    target: list[str] = field(default_factory=list)

    def row_name(self, row: int) -> str:
        """Return how messages call a row."""
        return f"row {row}" if self.lines is None else f"line {self.lines[row]}"

    def place(self, row: int, column: str) -> str:
        """Return the location of a cell for messages."""
        at = f": row {row}" if self.lines is None else f":{self.lines[row]}"
        return f"{self.source}{at}: column {column!r}"

    def missing(self) -> NDArray[np.bool_]:
        """Return for each cell, (rows, columns), whether it is empty, NaN or infinite."""
        missing = {name: ~np.isfinite(values) for name, values in self.numbers.items()}
        missing |= {name: np.array([cell == "" for cell in cells], dtype=bool) for name, cells in self.texts.items()}
        return np.column_stack([missing[name] for name in self.columns])

    def missing_targets(self) -> NDArray[np.bool_]:
        """Return for each target whether it is missing: empty, or among numbers not a number."""
        cells = set(self.target)
        absent = {cell for cell in cells if is_missing_number(cell)}
        if any(as_number(cell) is None for cell in cells - absent):
            absent = {""}
        return np.array([cell in absent for cell in self.target], dtype=bool)

    def take(self, rows: NDArray[np.int64]) -> "Table":
        """Return the table of the given rows."""
        return replace(
            self,
            numbers={name: values[rows] for name, values in self.numbers.items()},
            texts={name: [cells[row] for row in rows] for name, cells in self.texts.items()},
            lines=None if self.lines is None else self.lines[rows],
            target=[self.target[row] for row in rows] if self.target else [],
        )

    def encoded(self, known: Encoding | None) -> tuple[NDArray[np.float64], Encoding]:
        """Return x, with NaN for missing values, and its encoding; `known` gives the categories."""
        categories = known.categories if known else {n: tuple(sorted(set(t) - {""})) for n, t in self.texts.items()}
        parts = {name: np.where(np.isfinite(v), v, np.nan)[:, np.newaxis] for name, v in self.numbers.items()}
        parts |= {name: self._one_hot(name, categories[name]) for name in self.texts}
        return np.hstack([parts[name] for name in self.columns]), Encoding(tuple(self.columns), categories)

    def _one_hot(self, name: str, categories: tuple[str, ...]) -> NDArray[np.float64]:
        if not 0 < len(categories) <= MOST_CATEGORIES:
            raise DataError(
                f"{self.source}: column {name!r} has {len(categories)} categories, 1 to {MOST_CATEGORIES} are "
                "possible; leave it out of `features`"
            )
        cells = self.texts[name]
        code = {category: at for at, category in enumerate(categories)} | {"": -1}
        if unknown := set(cells) - set(code):
            row = next(row for row, category in enumerate(cells) if category in unknown)
            raise DataError(
                f"{self.place(row, name)}: unknown category {cells[row]!r}{did_you_mean(cells[row], categories)}; "
                f"the training data has {listed(categories)}"
            )
        codes = np.array([code[category] for category in cells], dtype=np.int64)
        hot: NDArray[np.float64] = np.eye(len(categories))[codes]
        hot[codes < 0] = np.nan
        return hot


def describe_missing(table: Table, missing: NDArray[np.bool_], names: Sequence[str]) -> str:
    """Return how many cells of (rows, names) are missing, and the first few of them."""
    places = [f"{table.row_name(row)} column {names[column]!r}" for row, column in np.argwhere(missing)[:3]]
    more = ", ..." if missing.sum() > len(places) else ""
    return f"{missing.sum():,} missing or infinite value(s): {', '.join(places)}{more}"


def is_missing_number(cell: str) -> bool:
    """Return whether a cell of a numeric column means that there is no number."""
    return cell.lower() in MISSING or cell.lower().lstrip("+-") in ("nan", "inf", "infinity")
