"""The CSV reader: numbers, categories and labels of a table."""

from array import array
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset, Encoding
from layerflow.data.labels import Task, as_number, encode_labels, guess_task, listed
from layerflow.data.paths import DataPath, checksum, set_name
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import Reader
from layerflow.data.table import check_delimiter, find_column, records
from layerflow.errors import ConfigError, DataError, did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
"""What stands for a missing number, in any case; in text columns only an empty cell is missing."""


class CSV(Reader):
    """A table with a header line: `.csv` or `.csv.gz`, UTF-8.

    Args:
        path: The file.
        target: The column to predict; needed for everything but prediction.
        features: The columns to predict from, in this order; all but the target when left out.
        categorical: Those features that are categories: each becomes one 0/1 column per category.
        task: classification or regression. Left out, text means classification, and so do whole numbers with at most
            20 different values that occur twice or more on average; other numbers mean regression.
        missing: What to do about empty cells, NaN and infinity. error: refuse them; drop: leave such rows out (never
            when predicting); mean: fill in the mean of the training part (of categories: their frequencies).
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
        check_delimiter(delimiter)
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
        table = _Cells(self, need_target, like.encoding if like else None)
        notes = self._treat_missing(table, need_target)
        if not table.lines:
            raise DataError(f"{self.path}: no rows" + (" are left after dropping" if notes else " below the header"))
        x, encoding = table.encoded()
        y, classes = (None, like.classes if like else None)
        if need_target:
            y, classes = self._encode_target(table, like)
        name, features = set_name(self.path), encoding.features
        return Dataset(x, y, features, classes, name, checksum(self.path), encoding, notes)

    def _treat_missing(self, table: "_Cells", need_target: bool) -> tuple[str, ...]:
        bad_target = table.missing_targets()
        bad = np.column_stack([table.missing(), bad_target]) if need_target else table.missing()
        if not bad.any():
            return ()
        names = [*table.columns, self.target]
        places = [f"line {table.lines[row]} column {names[column]!r}" for row, column in np.argwhere(bad)[:3]]
        found = f"{int(bad.sum())} missing or infinite value(s): {', '.join(places)}" + (
            ", ..." if bad.sum() > 3 else ""
        )
        if self.missing == "drop" and need_target:
            rows: NDArray[np.bool_] = np.asarray(bad.any(axis=1))
            table.keep(~rows)
            return (f"{self.path}: {int(rows.sum())} of {len(rows)} rows dropped for {found}",)
        if self.missing == "mean" and not bad_target.any():
            return (f"{self.path}: the training mean stands in for {found}",)
        if self.missing == "error":
            remedy = "fill them in, or write `missing: drop` or `missing: mean`"
        else:
            remedy = "fill them in" if self.missing == "drop" else "targets cannot be filled in: write `missing: drop`"
        raise DataError(f"{self.path}: {found}; {remedy}")

    def _encode_target(
        self, table: "_Cells", like: Preprocessing | None
    ) -> tuple[NDArray[np.int64] | NDArray[np.float64], tuple[str, ...] | None]:
        cells = [cell.strip() for cell in table.target]
        task = like.task if like else self.task or guess_task(cells)
        if task == "classification":
            return encode_labels(cells, lambda row: table.place(row, str(self.target)), like.classes if like else None)
        values = np.array([np.nan if (value := as_number(cell)) is None else value for cell in cells])
        if (text := np.flatnonzero(np.isnan(values))).size:
            row = int(text[0])
            raise DataError(
                f"{table.place(row, str(self.target))}: {cells[row]!r} is not a finite number to regress on"
            )
        return values, None


def _is_missing_number(cell: str) -> bool:
    return cell.lower() in MISSING or cell.lower().lstrip("+-") in ("nan", "inf", "infinity")


class _Cells:
    """The cells of a CSV file as they were read: numbers, texts and targets, with the lines they stand on."""

    def __init__(self, reader: CSV, need_target: bool, encoding: Encoding | None) -> None:
        self.path = reader.path
        rows = records(reader.path, reader.delimiter)
        _, header = next(rows)
        target = find_column(reader.target, header, reader.path) if need_target and reader.target else None
        self.columns = self._choose_columns(reader, header, encoding)
        wanted = encoding.categories if encoding else reader.categorical
        for name in wanted:
            find_column(name, header, reader.path)
        self.categorical = [name for name in self.columns if name in wanted]
        self.numeric = [name for name in self.columns if name not in wanted]
        self.known = dict(encoding.categories) if encoding else {}
        numeric = [find_column(name, header, reader.path) for name in self.numeric]
        categorical = [find_column(name, header, reader.path) for name in self.categorical]

        self.lines = array("q")
        self.target: list[str] = []
        numbers = array("d")
        texts: list[list[str]] = [[] for _ in categorical]
        for line, cells in rows:
            self.lines.append(line)
            numbers.extend(self._numbers([cells[at] for at in numeric], line))
            for text, at in zip(texts, categorical, strict=True):
                text.append(cells[at].strip())
            if target is not None:
                self.target.append(cells[target])
        self.numbers = np.frombuffer(numbers).reshape(len(self.lines), len(numeric))
        self.texts = [np.array(text, dtype=str) for text in texts]

    def _choose_columns(self, reader: CSV, header: list[str], encoding: Encoding | None) -> Sequence[str]:
        if encoding is not None:
            return encoding.columns
        columns = reader.features or [name for name in header if name != reader.target]
        if not columns:
            raise DataError(f"{reader.path}: no column is left to predict from; columns: {listed(header)}")
        return columns

    def _numbers(self, cells: list[str], line: int) -> list[float]:
        try:
            numbers = [*map(float, cells)]
        except ValueError:
            numbers = []
        if len(numbers) < len(cells) or "_" in "".join(cells):
            return [self._number(cell, name, line) for cell, name in zip(cells, self.numeric, strict=True)]
        return numbers

    def _number(self, cell: str, name: str, line: int) -> float:
        if cell.strip().lower() in MISSING:
            return float("nan")
        try:
            if "_" not in cell:
                return float(cell)
        except ValueError:
            pass
        raise DataError(
            f"{self.path}:{line}: column {name!r}: {cell!r} is not a number; correct it, "
            f"or list the column under `categorical`, or leave it out of `features`"
        )

    def place(self, row: int, column: str) -> str:
        """Say where a cell stands."""
        return f"{self.path}:{self.lines[row]}: column {column!r}"

    def missing(self) -> NDArray[np.bool_]:
        """Say of each cell, (rows, columns), whether it is empty, NaN or infinite."""
        missing = {name: ~np.isfinite(self.numbers[:, at]) for at, name in enumerate(self.numeric)}
        missing |= {name: text == "" for name, text in zip(self.categorical, self.texts, strict=True)}
        return np.column_stack([missing[name] for name in self.columns])

    def missing_targets(self) -> NDArray[np.bool_]:
        """Say of each target whether it is missing: empty, or among numbers whatever stands for no number."""
        cells = [cell.strip() for cell in self.target]
        absent = {cell for cell in set(cells) if _is_missing_number(cell)}
        if any(as_number(cell) is None for cell in set(cells) - absent):
            absent = {""}
        return np.array([cell in absent for cell in cells], dtype=bool)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Leave out all other rows."""
        chosen = np.flatnonzero(rows).tolist()
        self.lines = array("q", [self.lines[row] for row in chosen])
        self.target = [self.target[row] for row in chosen]
        self.numbers = self.numbers[rows]
        self.texts = [text[rows] for text in self.texts]

    def encoded(self) -> tuple[NDArray[np.float64], Encoding]:
        """Return x, with NaN where something is missing, and how it was made."""
        numbers = np.where(np.isfinite(self.numbers), self.numbers, np.nan)
        parts: dict[str, NDArray[np.float64]] = {name: numbers[:, [at]] for at, name in enumerate(self.numeric)}
        categories: dict[str, tuple[str, ...]] = {}
        for name, text in zip(self.categorical, self.texts, strict=True):
            categories[name] = self.known.get(name) or tuple(np.unique(text[text != ""]).tolist())
            parts[name] = self._one_hot(text, name, categories[name])
        encoding = Encoding(tuple(self.columns), categories)
        return np.hstack([parts[name] for name in self.columns]), encoding

    def _one_hot(self, text: NDArray[np.str_], name: str, categories: tuple[str, ...]) -> NDArray[np.float64]:
        if not categories:
            raise DataError(f"{self.path}: column {name!r} is empty; leave it out of `features`")
        code = {category: at for at, category in enumerate(categories)} | {"": -1}
        for row, category in enumerate(text.tolist()):
            if category not in code:
                raise DataError(
                    f"{self.place(row, name)}: unknown category {category!r}{did_you_mean(category, categories)}; "
                    f"the training data has {listed(categories)}"
                )
        codes = np.array([code[category] for category in text.tolist()])
        hot: NDArray[np.float64] = np.eye(len(categories))[codes]
        hot[codes < 0] = np.nan
        return hot
