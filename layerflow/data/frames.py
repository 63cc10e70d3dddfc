"""Samples in memory, as people have them: data frames, structured arrays and dicts of columns, or plain arrays.

Columns are matched by name, never by position, and go through the preprocessing that was fitted in training.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset, Encoding, check_finite
from layerflow.data.labels import as_number, listed
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.rows import Rows
from layerflow.data.table import Table, describe_missing, is_missing_number
from layerflow.errors import DataError, did_you_mean

SOURCE = "data"
"""What messages call samples that have no file."""


def samples(x: Any, like: Preprocessing, fill_missing: bool) -> NDArray[Any] | Rows:
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

    Raises:
        DataError: A column is missing or unknown, a value is missing or not what the column holds, or the samples are
            not numbers.
    """
    columns = named_columns(x, like.encoding.categories if like.encoding else ())
    if columns is not None:
        return _encoded(columns, like, fill_missing)
    if isinstance(x, Dataset):
        return x.x
    try:
        array = x if isinstance(x, Rows | np.ndarray) else np.asarray(x)
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


def named_columns(x: Any, categorical: Container[str]) -> dict[Any, Any] | None:
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


def _encoded(columns: dict[Any, Any], like: Preprocessing, fill_missing: bool) -> NDArray[np.float64]:
    encoding = like.encoding or (None if like.features is None else Encoding(like.features))
    if encoding is None:
        raise DataError(
            f"{SOURCE}: the model was trained on arrays, whose features have no names; "
            f"give an array of shape (samples, {', '.join(map(str, like.sample_shape))})"
        )
    _check_names(columns, encoding)
    cells = {name: _cells(name, columns[name]) for name in encoding.columns}
    if len(lengths := {len(column) for column in cells.values()}) > 1:
        raise DataError(f"{SOURCE}: the columns differ in length ({listed(sorted(lengths))}); give one value per row")
    if lengths == {0}:
        raise DataError(f"{SOURCE}: no rows; give at least one sample")
    numbers = {name: _numbers(name, column) for name, column in cells.items() if name not in encoding.categories}
    texts = {name: [_text(cell, known) for cell in cells[name]] for name, known in encoding.categories.items()}
    table = Table(SOURCE, encoding.columns, numbers, texts)
    if (missing := table.missing()).any() and not fill_missing:
        found = describe_missing(table, missing, encoding.columns)
        raise DataError(f"{SOURCE}: {found}; fill them in, or train with `missing: mean`")
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


def _cells(name: str, column: Any) -> Sequence[Any]:
    array = column if isinstance(column, list) else np.asarray(column)
    if isinstance(array, np.ndarray):
        if array.ndim != 1:
            raise DataError(f"{SOURCE}: column {name!r} has shape {array.shape}; give one value per row")
        return array if array.dtype.kind in "biuf" else array.tolist()  # type: ignore[return-value]
    return array


def _numbers(name: str, column: Sequence[Any]) -> NDArray[np.float64]:
    if isinstance(column, np.ndarray):
        return column.astype(np.float64)
    return np.array([_number(cell, name, row) for row, cell in enumerate(column)], np.float64)


def _number(cell: Any, name: str, row: int) -> float:
    if _is_missing(cell) or (isinstance(cell, str) and is_missing_number(cell.strip())):
        return float("nan")
    value = as_number(str(cell)) if isinstance(cell, str | int | float | np.number) else None
    if value is None and isinstance(cell, bool | np.bool_):
        return float(cell)
    if value is None and not isinstance(cell, float | np.floating):
        raise DataError(f"{SOURCE}: row {row}: column {name!r}: {cell!r:.60} is not a number")
    return float("nan") if value is None else value


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
