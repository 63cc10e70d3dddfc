"""The cells of a table: numbers and categories, with the lines they stand on."""

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Encoding
from layerflow.data.labels import as_number, listed
from layerflow.data.table import find_column, records
from layerflow.errors import DataError, did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
"""What stands for a missing number, in any case; in text columns only an empty cell is missing."""

LARGEST_CATEGORIES = 1000
"""A column with more categories is refused: it is an identifier, and each category costs a column of x."""


class Cells:
    """The cells of a CSV file.

    Args:
        path: The file.
        delimiter: The character between cells.
        target: The column of the targets, or None to leave them unread.
        columns: The columns of the features, or None for all others than `ignored`.
        ignored: The column that is no feature when `columns` is None.
        categorical: The categorical ones of the columns.

    Attributes:
        columns: The columns of the features, in order.
        lines: The line of each row.
        target: The target of each row, empty when unread.
    """

    def __init__(
        self,
        path: str,
        delimiter: str,
        target: str | None,
        columns: Sequence[str] | None,
        ignored: str | None,
        categorical: Sequence[str],
    ) -> None:
        self.path = path
        rows = records(path, delimiter)
        _, header = next(rows)
        target_at = None if target is None else find_column(target, header, path)
        self.columns = columns or [name for name in header if name != ignored]
        if not self.columns:
            raise DataError(f"{path}: no column is left to predict from; columns: {listed(header)}")
        for name in [*self.columns, *categorical]:
            find_column(name, header, path)
        self.categorical = [name for name in self.columns if name in categorical]
        self.numeric = [name for name in self.columns if name not in categorical]
        at = {name: position for position, name in enumerate(header)}
        numeric_at = [at[name] for name in self.numeric]
        categorical_at = [at[name] for name in self.categorical]

        self.lines = array("q")
        self.target: list[str] = []
        self.texts: list[list[str]] = [[] for _ in self.categorical]
        numbers = array("d")
        for line, cells in rows:
            self.lines.append(line)
            numbers.extend(self._numbers([cells[position] for position in numeric_at], line))
            for text, position in zip(self.texts, categorical_at, strict=True):
                text.append(cells[position].strip())
            if target_at is not None:
                self.target.append(cells[target_at].strip())
        self.numbers = np.frombuffer(numbers).reshape(len(self.lines), len(self.numeric))

    def _numbers(self, cells: list[str], line: int) -> list[float]:
        try:
            numbers = [*map(float, cells)]
        except ValueError:
            numbers = []
        if len(numbers) < len(cells) or "_" in "".join(cells):
            return [self._number(cell, name, line) for cell, name in zip(cells, self.numeric, strict=True)]
        return numbers

    def _number(self, cell: str, name: str, line: int) -> float:
        if _is_missing_number(cell.strip()):
            return float("nan")
        value = as_number(cell)
        if value is None:
            raise DataError(
                f"{self.path}:{line}: column {name!r}: {cell!r} is not a number; correct it, "
                f"or list the column under `categorical`, or leave it out of `features`"
            )
        return value

    def place(self, row: int, column: str) -> str:
        """Say where a cell stands."""
        return f"{self.path}:{self.lines[row]}: column {column!r}"

    def missing(self) -> NDArray[np.bool_]:
        """Say of each cell, (rows, columns), whether it is empty, NaN or infinite."""
        missing = {name: ~np.isfinite(self.numbers[:, at]) for at, name in enumerate(self.numeric)}
        for name, text in zip(self.categorical, self.texts, strict=True):
            missing[name] = np.array([cell == "" for cell in text], dtype=bool)
        return np.column_stack([missing[name] for name in self.columns])

    def missing_targets(self) -> NDArray[np.bool_]:
        """Say of each target whether it is missing: empty, or among numbers whatever stands for no number."""
        cells = set(self.target)
        absent = {cell for cell in cells if _is_missing_number(cell)}
        if any(as_number(cell) is None for cell in cells - absent):
            absent = {""}
        return np.array([cell in absent for cell in self.target], dtype=bool)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Leave out all other rows."""
        chosen = np.flatnonzero(rows).tolist()
        self.lines = array("q", [self.lines[row] for row in chosen])
        self.target = [self.target[row] for row in chosen] if self.target else []
        self.texts = [[text[row] for row in chosen] for text in self.texts]
        self.numbers = self.numbers[rows]

    def encoded(self, known: Encoding | None) -> tuple[NDArray[np.float64], Encoding]:
        """Return x, with NaN where something is missing, and its encoding; `known` gives the categories."""
        numbers = np.where(np.isfinite(self.numbers), self.numbers, np.nan)
        parts: dict[str, NDArray[np.float64]] = {name: numbers[:, [at]] for at, name in enumerate(self.numeric)}
        categories: dict[str, tuple[str, ...]] = {}
        for name, text in zip(self.categorical, self.texts, strict=True):
            categories[name] = known.categories[name] if known else tuple(sorted(set(text) - {""}))
            parts[name] = self._one_hot(text, name, categories[name])
        return np.hstack([parts[name] for name in self.columns]), Encoding(tuple(self.columns), categories)

    def _one_hot(self, text: list[str], name: str, categories: tuple[str, ...]) -> NDArray[np.float64]:
        if not 0 < len(categories) <= LARGEST_CATEGORIES:
            raise DataError(
                f"{self.path}: column {name!r} has {len(categories)} categories, 1 to {LARGEST_CATEGORIES} are "
                "possible; leave it out of `features`"
            )
        code = {category: at for at, category in enumerate(categories)} | {"": -1}
        if unknown := set(text) - set(code):
            row = next(row for row, category in enumerate(text) if category in unknown)
            raise DataError(
                f"{self.place(row, name)}: unknown category {text[row]!r}{did_you_mean(text[row], categories)}; "
                f"the training data has {listed(categories)}"
            )
        codes = np.array([code[category] for category in text])
        hot: NDArray[np.float64] = np.eye(len(categories))[codes]
        hot[codes < 0] = np.nan
        return hot


def _is_missing_number(cell: str) -> bool:
    return cell.lower() in MISSING or cell.lower().lstrip("+-") in ("nan", "inf", "infinity")
