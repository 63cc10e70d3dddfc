"""Samples in memory, as people have them: data frames, structured arrays and dicts of columns, or plain arrays.

Columns are matched by name, never by position, and go through the preprocessing that was fitted in training.
"""

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.data.batches import Rows
from layerflow.data.columns import ISO, date_columns, hashed_columns
from layerflow.data.dataset import Dataset, Encoding, check_finite, listed
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.table import Table, number_or_nan
from layerflow.errors import DataError, did_you_mean

SOURCE = "data"
"""What messages call samples that have no file."""


def samples(
    x: Any, like: Preprocessing, fill_missing: bool, derived: Mapping[str, Any] | None = None
) -> NDArray[Any] | Rows:
    """Return samples as the reader of the training data would, shape (samples, ...).

    Args:
        x: One of

            - a pandas, polars or pyarrow table, a structured array or a dict of columns: the columns have the names of
              the training data, in any order, and categorical ones their raw values;
            - an array or a list of samples, whose features are in the order of the training data, with a categorical
              column as its 0/1 columns;
            - a `Dataset` that a reader returned, whose values have been checked.
        like: What was learned from the training data.
        fill_missing: Accept missing values, to be filled in by the preprocessing.
        derived: The settings `dates` and `hashed` of the reader of the training data.

    Raises:
        DataError: A column is missing or unknown, a value is missing or not what the column holds, or the samples are
            not numbers.
    """
    columns = _named_columns(x, like.encoding.categories if like.encoding else ())
    if columns is not None:
        return _encoded(_with_derived(columns, derived or {}), like, fill_missing)
    if isinstance(x, Dataset):
        return x.x
    try:
        array = x if isinstance(x, Rows) else np.asanyarray(x)
    except ValueError as error:
        raise DataError(f"{SOURCE}: the samples differ in length; give each the same features") from error
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{SOURCE}: expected numbers, got an array of dtype {array.dtype}; "
            "give text and categories in a data frame or a dict of columns"
        )
    if not fill_missing and array.ndim:
        check_finite(array, SOURCE)
    return array


def _named_columns(x: Any, categorical: Container[str]) -> dict[Any, Any] | None:
    """Return the columns of a data frame, a structured array or a dict by name; None for anything else.

    Numeric columns of a frame become float64, with NaN where they are empty, unless they are categorical.
    """
    if isinstance(x, Mapping):
        return dict(x)
    if isinstance(x, np.ndarray):
        return None if x.dtype.names is None else {name: x[name] for name in x.dtype.names}
    if not hasattr(type(x), "columns"):
        return None
    import narwhals  # only needed for data frames, which have imported much more than this

    try:
        frame = narwhals.from_native(x, pass_through=True)
    except narwhals.exceptions.NarwhalsError as error:
        raise DataError(f"{SOURCE}: {' '.join(str(error).split())}") from error
    if isinstance(frame, narwhals.LazyFrame):
        raise DataError(f"{SOURCE}: a lazy frame has no values yet; give frame.collect()")
    if not isinstance(frame, narwhals.DataFrame):
        raise DataError(f"{SOURCE}: {type(x).__name__} is not a supported data frame; give a pandas or polars one")
    columns: dict[Any, Any] = {}
    for name, column in zip(frame.columns, frame.iter_columns(), strict=True):
        is_number = name not in categorical and (column.dtype.is_numeric() or column.dtype == narwhals.Boolean)
        columns[name] = column.cast(narwhals.Float64).to_numpy() if is_number else column.to_list()
    return columns


def _with_derived(columns: dict[Any, Any], settings: Mapping[str, Any]) -> dict[Any, Any]:
    """Put the columns that dates and hashed texts become in their places."""
    found: dict[Any, Any] = {}
    dates, hashed = settings.get("dates") or {}, settings.get("hashed") or {}
    for name, column in columns.items():
        if name not in dates and name not in hashed:
            found[name] = column
            continue
        cells = column if isinstance(column, list) else list(np.asarray(column))
        is_written = all(isinstance(cell, str) or _is_missing(cell) for cell in cells)
        texts = ["" if _is_missing(cell) else str(cell).strip() for cell in cells]
        if name in hashed:
            found |= hashed_columns(name, texts, hashed[name])
        else:
            place = f"{SOURCE}: row {{}}: column {name!r}"
            found |= date_columns(name, texts, dates[name] if is_written else ISO, place.format)
    return found


def _encoded(columns: dict[Any, Any], like: Preprocessing, fill_missing: bool) -> NDArray[np.float64]:
    encoding = like.encoding
    if encoding is None:
        raise DataError(
            f"{SOURCE}: the model was trained on arrays, whose features have no names; "
            f"give an array of shape (samples, {', '.join(map(str, like.sample_shape))})"
        )
    _check_names(columns, encoding)
    cells = {name: _column(name, columns[name], encoding.categories.get(name)) for name in encoding.columns}
    if len(lengths := {len(column) for column in cells.values()}) > 1:
        raise DataError(f"{SOURCE}: the columns differ in length ({listed(sorted(lengths))}); give one value per row")
    if lengths == {0}:
        raise DataError(f"{SOURCE}: no rows; give at least one sample")
    table = Table(SOURCE, cells)
    if (missing := table.missing()).any() and not fill_missing:
        raise DataError(f"{SOURCE}: {table.describe(missing)}; fill them in, or train with `missing: mean`")
    return table.encoded(encoding)[0]


def _check_names(columns: dict[Any, Any], encoding: Encoding) -> None:
    expected = encoding.columns
    missing = [name for name in expected if name not in columns]
    unknown = [name for name in columns if name not in expected]
    if missing:
        encoded = any(f"{name}".startswith(f"{missing[0]}=") for name in unknown)
        hint = "; give its raw values in one column" if encoded else did_you_mean(missing[0], [*map(str, unknown)])
        raise DataError(f"{SOURCE}: no column {missing[0]!r}{hint}; the model was trained on {listed(expected)}")
    if unknown:
        raise DataError(
            f"{SOURCE}: unknown column {listed(unknown)}{did_you_mean(unknown[0], expected)}; "
            f"leave it out: the model was trained on {listed(expected)}"
        )


def _column(name: str, column: Any, categories: Container[str] | None) -> NDArray[Any]:
    """Return a column as `Table` takes it: numbers, or texts if it is categorical."""
    cells = column if isinstance(column, list) else np.asarray(column)
    if isinstance(cells, np.ndarray):
        if cells.ndim != 1:
            raise DataError(f"{SOURCE}: column {name!r} has shape {cells.shape}; give one value per row")
        if categories is None and cells.dtype.kind in "biuf":
            return cells.astype(np.float64)
        cells = cells.tolist()
    if categories is not None:
        return np.array([_text(cell, categories) for cell in cells], object)
    return np.array([_number(cell, name, row) for row, cell in enumerate(cells)], np.float64)


def _number(cell: Any, name: str, row: int) -> float:
    if _is_missing(cell):
        return float("nan")
    value = None
    if isinstance(cell, bool | np.bool_):
        value = float(cell)
    elif isinstance(cell, str | int | float | np.number):
        value = number_or_nan(str(cell))
    if value is None:
        raise DataError(f"{SOURCE}: row {row}: column {name!r}: {cell!r:.60} is not a number")
    return value


def _text(cell: Any, known: Container[str]) -> str:
    """Return a category as in the training data; pandas turns a column of integers with gaps into floats."""
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    text = "" if _is_missing(cell) else str(cell).strip()
    is_whole = isinstance(cell, float | np.floating) and float(cell).is_integer()
    return str(int(cell)) if is_whole and text not in known else text


def _is_missing(cell: Any) -> bool:
    """Return whether a cell is None, NaN, or pandas' NA or NaT."""
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or bool(cell != cell)
