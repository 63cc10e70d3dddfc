"""CSV files: their lines, and the reader that makes samples and targets of them."""

import csv
import io
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset
from layerflow.data.labels import Task, as_number, encode_labels, guess_task, listed
from layerflow.data.paths import DataPath, checksum, open_data, set_name
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import Reader
from layerflow.data.table import Table, describe_missing, is_missing_number
from layerflow.errors import ConfigError, DataError, did_you_mean

Record = tuple[int, list[str]]
"""The number of the line on which a record starts, counted from 1, and its cells."""


class CSV(Reader):
    """A table with a header line: `.csv` or `.csv.gz`, UTF-8.

    Args:
        path: The file.
        target: The column to predict; needed for everything but prediction. Classes are the texts in this column:
            `1`, `01` and `1.0` are three classes.
        features: The columns to predict from, in this order; all but the target if left out.
        categorical: The features that are categories: each becomes one 0/1 column per category.
        task: classification or regression. Left out, text means classification, and so do whole numbers with at most
            20 different values that occur twice or more on average; other numbers mean regression.
        missing: What to do about empty cells, NaN and infinity. error: refuse them; drop: leave out such rows (not
            possible when predicting); mean: fill in the mean of the training part (for categories: their frequencies).
        delimiter: The character between cells.
    """

    def __init__(
        self,
        path: DataPath,
        target: str | None = None,
        features: list[str] | None = None,
        categorical: list[str] | None = None,
        task: Task | None = None,
        missing: Literal["error", "drop", "mean"] = "error",
        delimiter: str = ",",
    ) -> None:
        if len(delimiter) != 1 or delimiter in '"\r\n ':
            raise ConfigError(f"CSV: 'delimiter' must be one character such as ',' or ';', got {delimiter!r}")
        if features is not None:
            if not features or len(set(features)) < len(features):
                raise ConfigError(f"CSV: 'features' must name at least one column, each once, got {features}")
            if target in features:
                raise ConfigError(f"CSV: the target {target!r} cannot be one of the features")
            for name in categorical or []:
                if name not in features:
                    raise ConfigError(f"CSV: {name!r} is categorical but no feature{did_you_mean(name, features)}")
        if target is not None and target in (categorical or []):
            raise ConfigError(f"CSV: the target {target!r} cannot be categorical; write `task: classification`")
        self.path = path
        self.target = target
        self.features = features
        self.categorical = categorical or []
        self.task = task
        self.missing = missing
        self.delimiter = delimiter

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Read the table; see `Reader.read`."""
        if need_target and self.target is None:
            raise ConfigError("CSV: 'target' is missing: name the column to predict")
        table, note = self._without_missing(self._table(need_target, like), need_target)
        x, encoding = table.encoded(like.encoding if like else None)
        y, classes = (None, like.classes if like else None)
        if need_target:
            y, classes = self._encode_target(table, like)
        name = set_name(self.path)
        return Dataset(x, y, encoding.features, classes, name, checksum(self.path), encoding, note, table.lines)

    def _table(self, need_target: bool, like: Preprocessing | None) -> Table:
        """Read the columns that are needed."""
        rows = records(self.path, self.delimiter)
        _, header = next(rows)
        known = like.encoding if like else None
        categorical = list(known.categories) if known else self.categorical
        target_at = find_column(str(self.target), header, self.path) if need_target else None
        columns = (known.columns if known else self.features) or [name for name in header if name != self.target]
        if not columns:
            raise DataError(f"{self.path}: no column is left to predict from; columns: {listed(header)}")
        at = {name: find_column(name, header, self.path) for name in [*columns, *categorical]}
        texts: dict[str, list[str]] = {name: [] for name in columns if name in categorical}
        numeric = [name for name in columns if name not in texts]
        numbers, lines, target = array("d"), array("q"), []
        for line, cells in rows:
            lines.append(line)
            numbers.extend(self._numbers([cells[at[name]] for name in numeric], numeric, line))
            for name, text in texts.items():
                text.append(cells[at[name]].strip())
            if target_at is not None:
                target.append(cells[target_at].strip())
        if not lines:
            raise DataError(f"{self.path}: no rows below the header")
        values = np.frombuffer(numbers).reshape(len(lines), len(numeric)).T
        return Table(
            self.path, columns, dict(zip(numeric, values, strict=True)), texts, np.array(lines, np.int64), target
        )

    def _numbers(self, cells: list[str], names: list[str], line: int) -> list[float]:
        try:
            numbers = [*map(float, cells)]
        except ValueError:
            numbers = []
        if len(numbers) == len(cells) and "_" not in "".join(cells):
            return numbers
        return [self._number(cell, name, line) for cell, name in zip(cells, names, strict=True)]

    def _number(self, cell: str, name: str, line: int) -> float:
        if is_missing_number(cell.strip()):
            return float("nan")
        value = as_number(cell)
        if value is None:
            raise DataError(
                f"{self.path}:{line}: column {name!r}: {cell!r} is not a number; correct it, "
                f"or list the column under `categorical`, or leave it out of `features`"
            )
        return value

    def _without_missing(self, table: Table, need_target: bool) -> tuple[Table, tuple[str, ...]]:
        """Deal with missing values as `missing` says; return the table and a note on what was done."""
        missing, names = table.missing(), list(table.columns)
        if need_target:
            missing, names = np.column_stack([missing, table.missing_targets()]), [*names, str(self.target)]
        if not missing.any():
            return table, ()
        found = describe_missing(table, missing, names)
        if self.missing == "drop" and need_target:
            rows: NDArray[np.bool_] = np.asarray(missing.any(axis=1))
            if rows.all():
                raise DataError(f"{self.path}: no rows are left after dropping those with {found}")
            note = f"{self.path}: dropped {rows.sum():,} of {len(rows):,} rows with {found}"
            return table.take(np.flatnonzero(~rows)), (note,)
        is_fillable = not (need_target and missing[:, -1].any())
        if self.missing == "mean" and is_fillable:
            count, places = int(missing.sum()), found.partition(": ")[2]
            values = "value" if count == 1 else "values"
            return table, (f"{self.path}: filled {count:,} missing {values} with the training mean: {places}",)
        if self.missing == "error":
            remedy = "fill them in, or write `missing: drop` or `missing: mean`"
        else:
            remedy = "fill them in" if self.missing == "drop" else "targets cannot be filled in: write `missing: drop`"
        raise DataError(f"{self.path}: {found}; {remedy}")

    def _encode_target(
        self, table: Table, like: Preprocessing | None
    ) -> tuple[NDArray[np.int64] | NDArray[np.float64], tuple[str, ...] | None]:
        cells, target = table.target, str(self.target)
        task = like.task if like else self.task or guess_task(cells)
        if task == "classification":
            return encode_labels(cells, lambda row: table.place(row, target), like.classes if like else None)
        values = np.array([np.nan if (value := as_number(cell)) is None else value for cell in cells])
        if (text := np.flatnonzero(np.isnan(values))).size:
            row = int(text[0])
            raise DataError(
                f"{table.place(row, target)}: {cells[row]!r} is not a finite number; regression needs numbers"
            )
        return values, None


def records(path: str, delimiter: str) -> Iterator[Record]:
    """Yield the records of a CSV file (RFC 4180, UTF-8 with or without BOM, .gz too), the header first.

    Blank lines are skipped; every record must have as many cells as the header.

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


def _check_header(header: list[str], where: str) -> None:
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
