"""Tables: named columns of numbers and categories, from a CSV file or from memory, on their way to the array x."""

import csv
import io
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from layerflow.data.columns import Columns, date_columns, hashed_columns, plain_number
from layerflow.data.dataset import Dataset, Encoding, Task, as_number, encode_labels, guess_task, listed
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import DataPath, Reader, checksum, open_data, set_name
from layerflow.errors import ConfigError, DataError, did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
"""Cells that mean a missing number, in any case; in text columns only an empty cell is missing."""

MOST_CATEGORIES = 1000
"""A column with more categories is refused: it is an identifier, and each category costs a column of x."""


@dataclass(frozen=True)
class Table:
    """The feature columns of a data set, and its targets.

    Attributes:
        source: The name of the file or object for messages.
        columns: (rows,) each: numbers, not finite where missing; or the texts of a categorical column as objects,
            empty where missing.
        lines: (rows,): the line of each row in the file; None for tables in memory.
        target: (rows,): the targets as texts; None if they were not read.
    """

    source: str
    columns: dict[str, NDArray[Any]]
    lines: NDArray[np.int64] | None = None
    target: NDArray[Any] | None = None

    def place(self, row: int, column: str) -> str:
        """Return the location of a cell for messages."""
        at = f": row {row}" if self.lines is None else f":{self.lines[row]}"
        return f"{self.source}{at}: column {column!r}"

    def missing(self) -> NDArray[np.bool_]:
        """Return for each cell, (rows, columns), whether it is missing."""
        return np.column_stack([
            np.asarray(cells == "", bool) if cells.dtype == object else ~np.isfinite(cells)
            for cells in self.columns.values()
        ])  # fmt: skip

    def describe(self, missing: NDArray[np.bool_], target: str = "") -> str:
        """Return how many cells are missing, and the first few of them; `target` names the column after the others."""
        names, row_name = [*self.columns, target], "row" if self.lines is None else "line"
        rows = np.arange(len(missing)) if self.lines is None else self.lines
        places = [f"{row_name} {rows[row]} column {names[column]!r}" for row, column in np.argwhere(missing)[:3]]
        more = ", ..." if missing.sum() > len(places) else ""
        return f"{missing.sum():,} missing or infinite value(s): {', '.join(places)}{more}"

    def encoded(self, known: Encoding | None) -> tuple[NDArray[np.float64], Encoding]:
        """Return x, with NaN for missing values, and its encoding; `known` gives the categories."""
        texts = {name: cells for name, cells in self.columns.items() if cells.dtype == object}
        categories = known.categories if known else {n: tuple(sorted(set(t) - {""})) for n, t in texts.items()}
        parts = [
            self._one_hot(name, categories[name]) if name in texts else np.where(np.isfinite(cells), cells, np.nan)
            for name, cells in self.columns.items()
        ]
        return np.column_stack(parts), Encoding(tuple(self.columns), categories)

    def _one_hot(self, name: str, categories: tuple[str, ...]) -> NDArray[np.float64]:
        if not 0 < len(categories) <= MOST_CATEGORIES:
            raise DataError(
                f"{self.source}: column {name!r} has {len(categories)} categories, 1 to {MOST_CATEGORIES} are "
                "possible; leave it out of `features`"
            )
        cells = self.columns[name].tolist()
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


@dataclass
class CSV(Reader):
    """A table with a header line: `.csv` or `.csv.gz`, UTF-8.

    Args:
        path: The file.
        target: The column to predict; needed for everything but prediction. Classes are the texts in this column:
            `1`, `01` and `1.0` are three classes.
        features: The columns to predict from, in this order; all but the target if left out.
        categorical: The features that are categories: each becomes one 0/1 column per category.
        task: classification or regression. Left out, text means classification, and so do integers with at most
            20 different values that occur twice or more on average; other numbers mean regression.
        missing: What to do about empty cells, NaN and infinity. error: refuse them; drop: leave out such rows (not
            possible when predicting); mean: fill in the mean of the training part (for categories: their frequencies).
        delimiter: The character between cells.
        dates: The features that are dates, with their form, "iso" or one of Python's `strptime` such as "%d.%m.%Y":
            each becomes year, month, weekday and days since 1970.
        hashed: The features that are texts with many different values, with a number of buckets: each becomes one 0/1
            column per bucket, into which texts fall by a checksum. Texts that training has not seen have a bucket too.
        decimal: The decimal mark in numbers, "." or ",". Signs of currency and % around a number are passed over.
        thousands: The mark between groups of three digits; none if empty.
    """

    path: DataPath
    target: str | None = None
    features: list[str] | None = None
    categorical: list[str] | None = None
    task: Task | None = None
    missing: Literal["error", "drop", "mean"] = "error"
    delimiter: str = ","
    dates: dict[str, str] | None = None
    hashed: dict[str, int] | None = None
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'"] = ""

    def __post_init__(self) -> None:
        categorical = self.categorical or []
        derived = [*(self.dates or {}), *(self.hashed or {})]
        if self.thousands == self.decimal:
            raise ConfigError(f"CSV: 'decimal' and 'thousands' are both {self.decimal!r}")
        if small := [name for name, buckets in (self.hashed or {}).items() if not 1 < buckets <= MOST_CATEGORIES]:
            raise ConfigError(f"CSV: 'hashed' needs 2 to {MOST_CATEGORIES} buckets for {small[0]!r}")
        if twice := [name for name, count in Counter([*categorical, *derived]).items() if count > 1]:
            raise ConfigError(f"CSV: {twice[0]!r} is listed twice among `categorical`, `dates` and `hashed`")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n ':
            raise ConfigError(f"CSV: 'delimiter' must be one character such as ',' or ';', got {self.delimiter!r}")
        if (names := self.features) is not None:
            if not names or len(set(names)) < len(names):
                raise ConfigError(f"CSV: 'features' must name at least one column, each once, got {names}")
            if self.target in names:
                raise ConfigError(f"CSV: the target {self.target!r} cannot be one of the features")
            for name in (*categorical, *derived):
                if name not in names:
                    kind = "categorical" if name in categorical else "listed"
                    raise ConfigError(f"CSV: {name!r} is {kind} but no feature{did_you_mean(name, names)}")
        if self.target in categorical:
            raise ConfigError(f"CSV: the target {self.target!r} cannot be categorical; write `task: classification`")

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Read the table; see `Reader.read`."""
        if need_target and self.target is None:
            raise ConfigError("CSV: 'target' is missing: name the column to predict")
        table, notes = self._without_missing(self._table(need_target, like))
        x, encoding = table.encoded(like.encoding if like else None)
        y, classes = self._encode_target(table, like)
        return Dataset(x, y, encoding, classes, set_name(self.path), checksum(self.path), notes, table.lines)

    def _table(self, need_target: bool, like: Preprocessing | None) -> Table:
        """Read the columns that are needed."""
        rows = records(self.path, self.delimiter)
        _, header = next(rows)
        known = like.encoding if like else None
        categorical = list(known.categories) if known else self.categorical or []
        target_at = find_column(str(self.target), header, self.path) if need_target else 0
        names = self._sources(known.columns) if known else self.features
        names = names or [name for name in header if name != self.target]
        if not names:
            raise DataError(f"{self.path}: no column is left to predict from; columns: {listed(header)}")
        derived = {**(self.dates or {}), **(self.hashed or {})}
        at = {name: find_column(name, header, self.path) for name in [*names, *categorical, *derived]}
        texts: dict[str, list[str]] = {name: [] for name in names if name in categorical or name in derived}
        numeric = [name for name in names if name not in texts]
        numbers, lines, target = array("d"), array("q"), []
        for line, cells in rows:
            lines.append(line)
            numbers.extend(self._numbers([cells[at[name]] for name in numeric], numeric, line))
            for name, text in texts.items():
                text.append(cells[at[name]].strip())
            target.append(cells[target_at].strip())
        if not lines:
            raise DataError(f"{self.path}: no rows below the header")
        values = np.frombuffer(numbers).reshape(len(lines), len(numeric)).T
        columns = dict(zip(numeric, values, strict=True)) | {n: np.array(text, object) for n, text in texts.items()}
        targets = np.array(target, object) if need_target else None
        found: dict[str, NDArray[Any]] = {}
        for name in names:
            found |= self._derived(name, texts[name], list(lines)) if name in derived else {name: columns[name]}
        return Table(self.path, found, np.array(lines, np.int64), targets)

    def _sources(self, columns: Sequence[str]) -> list[str]:
        """The columns of the file that columns of x are made of, in order."""
        found = []
        for column in columns:
            date, bucket = column.rpartition(".")[0], column.rpartition("#")[0]
            found.append(date if date in (self.dates or {}) else bucket if bucket in (self.hashed or {}) else column)
        return list(dict.fromkeys(found))

    def _derived(self, name: str, cells: list[str], lines: list[int]) -> Columns:
        if name in (self.hashed or {}):
            return hashed_columns(name, cells, (self.hashed or {})[name])
        return date_columns(
            name, cells, (self.dates or {})[name], lambda row: f"{self.path}:{lines[row]}: column {name!r}"
        )

    def _numbers(self, cells: list[str], names: list[str], line: int) -> list[float]:
        is_plain = self.decimal == "." and not self.thousands
        try:
            numbers = [*map(float, cells)] if is_plain else []
        except ValueError:
            numbers = []
        if len(numbers) == len(cells) and "_" not in "".join(cells):
            return numbers
        numbers = []
        for cell, name in zip(cells, names, strict=True):
            if (value := number_or_nan(plain_number(cell, self.decimal, self.thousands))) is None:
                hint = "set `decimal` and `thousands`, " if "," in cell and is_plain else ""
                raise DataError(
                    f"{self.path}:{line}: column {name!r}: {cell!r} is not a number; {hint}correct it, "
                    f"or list the column under `categorical`, `dates` or `hashed`, or leave it out of `features`"
                )
            numbers.append(value)
        return numbers

    def _without_missing(self, table: Table) -> tuple[Table, tuple[str, ...]]:
        """Deal with missing values as `missing` says; return the table and a note on what was done."""
        missing = table.missing()
        if table.target is not None:
            absent = missing_texts(table.target)
            missing = np.column_stack([missing, [cell in absent for cell in table.target]])
        if not missing.any():
            return table, ()
        found = table.describe(missing, str(self.target))
        if self.missing == "drop" and table.target is not None:
            assert table.lines is not None
            kept: NDArray[np.bool_] = np.asarray(~missing.any(axis=1))
            if not kept.any():
                raise DataError(f"{self.path}: no rows are left after dropping those with {found}")
            note = f"{self.path}: dropped {(~kept).sum():,} of {len(kept):,} rows with {found}"
            columns = {name: cells[kept] for name, cells in table.columns.items()}
            return Table(self.path, columns, table.lines[kept], table.target[kept]), (note,)
        if self.missing == "mean" and (table.target is None or not missing[:, -1].any()):
            count, places = int(missing.sum()), found.partition(": ")[2]
            values = "value" if count == 1 else "values"
            return table, (f"{self.path}: filled {count:,} missing {values} with the training mean: {places}",)
        remedy = {
            "error": "fill them in, or write `missing: drop` or `missing: mean`",
            "drop": "fill them in",
            "mean": "targets cannot be filled in: write `missing: drop`",
        }[self.missing]
        raise DataError(f"{self.path}: {found}; {remedy}")

    def _encode_target(
        self, table: Table, like: Preprocessing | None
    ) -> tuple[NDArray[np.int64] | NDArray[np.float64] | None, tuple[str, ...] | None]:
        known = like.classes if like else None
        if table.target is None:
            return None, known
        cells, target = table.target.tolist(), str(self.target)
        if (like.task if like else self.task or guess_task(cells)) == "classification":
            return encode_labels(cells, lambda row: table.place(row, target), known)
        values = np.array([as_number(cell) for cell in cells], np.float64)
        if (text := np.flatnonzero(np.isnan(values))).size:
            row = int(text[0])
            raise DataError(
                f"{table.place(row, target)}: {cells[row]!r} is not a finite number; regression needs numbers"
            )
        return values, None


def records(path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of the records of a CSV file, the header first; lines are counted from 1.

    RFC 4180, UTF-8 with or without BOM, .gz too. Blank lines are skipped; every record must have as many cells as the
    header.

    Raises:
        DataError: The file is missing, damaged, empty or not UTF-8; a row is ragged; a column has no name or the
            name of another one.
    """
    with open_data(path) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        header: list[str] = []
        line = 1
        try:
            for cells in reader:
                if not cells or (len(cells) == 1 and len(header) != 1 and not cells[0].strip()):
                    pass
                elif not header:
                    header = [cell.strip() for cell in cells]
                    _check_header(header, f"{path}:{line}")
                    yield line, header
                elif len(cells) != len(header):
                    raise DataError(
                        f"{path}:{line}: {len(cells)} cells, but the header has {len(header)} columns; "
                        "give every row one cell per column"
                    )
                else:
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not valid CSV: {error}; check the quotes") from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{_undecodable_line(path)}: not UTF-8 ({error.reason}); save it as UTF-8"
            ) from error
    if not header:
        raise DataError(f"{path}: holds blank lines only; give a header line and rows")


def find_column(name: str, header: list[str], path: str) -> int:
    """Return the position of the column `name`; raises DataError with the closest name, or the likely reason."""
    if name in header:
        return header.index(name)
    hint = ""
    if len(header) == 1:
        hint = next((f"; write `delimiter: {mark!r}`?" for mark in (";", "\t", "|", ",") if mark in header[0]), "")
    if not hint and all(as_number(cell) is not None for cell in header):
        hint = "; the first line holds numbers only: add a header line"
    raise DataError(f"{path}: no column {name!r}{did_you_mean(name, header) or hint}; columns: {listed(header)}")


def number_or_nan(cell: str) -> float | None:
    """Return the number in a cell, NaN if it is missing or infinite, and None if the cell is no number."""
    text = cell.strip().lower()
    is_missing = text in MISSING or text.lstrip("+-") in ("nan", "inf", "infinity")
    return float("nan") if is_missing else as_number(cell)


def missing_texts(cells: Collection[str]) -> set[str]:
    """Return the texts in a column that mean a missing value: only the empty one, unless the others are numbers."""
    numbers = {text: number_or_nan(text) for text in set(cells)}
    is_text = None in numbers.values()
    return {text for text, number in numbers.items() if (not text if is_text else number != number)}


def _check_header(header: Sequence[str], where: str) -> None:
    if "" in header:
        raise DataError(f"{where}: column {header.index('') + 1} has no name; name every column in the header")
    if duplicates := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{where}: duplicate column name {listed(duplicates)}; give every column its own name")


def _undecodable_line(path: str) -> int:
    with open_data(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
