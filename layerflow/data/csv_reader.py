"""The CSV reader: numbers, categories and labels of a table."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerflow.data.cells import Cells
from layerflow.data.dataset import Dataset
from layerflow.data.labels import Task, as_number, encode_labels, guess_task
from layerflow.data.paths import DataPath, checksum, set_name
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import Reader
from layerflow.data.table import check_delimiter
from layerflow.errors import ConfigError, DataError, did_you_mean


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
        target = self.target if need_target else None
        known = like.encoding if like else None
        columns = known.columns if known else self.features
        categorical = list(known.categories) if known else self.categorical
        table = Cells(self.path, self.delimiter, target, columns, self.target, categorical)
        notes = self._treat_missing(table, need_target)
        if not table.lines:
            raise DataError(f"{self.path}: no rows" + (" are left after dropping" if notes else " below the header"))
        x, encoding = table.encoded(known)
        y, classes = (None, like.classes if like else None)
        if need_target:
            y, classes = self._encode_target(table, like)
        name, features = set_name(self.path), encoding.features
        lines = np.array(table.lines, dtype=np.int64)
        return Dataset(x, y, features, classes, name, checksum(self.path), encoding, notes, lines)

    def _treat_missing(self, table: Cells, need_target: bool) -> tuple[str, ...]:
        bad_target = table.missing_targets()
        bad = np.column_stack([table.missing(), bad_target]) if need_target else table.missing()
        if not bad.any():
            return ()
        names = [*table.columns, self.target]
        places = [f"line {table.lines[row]} column {names[column]!r}" for row, column in np.argwhere(bad)[:3]]
        places += ["..."] if bad.sum() > len(places) else []
        found = f"{int(bad.sum())} missing or infinite value(s): {', '.join(places)}"
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
        self, table: Cells, like: Preprocessing | None
    ) -> tuple[NDArray[np.int64] | NDArray[np.float64], tuple[str, ...] | None]:
        cells = table.target
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
