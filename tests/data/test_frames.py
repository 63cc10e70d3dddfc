"""Samples in memory: columns are matched by name, whatever holds them, and nothing is guessed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from layerflow.data import CSV, Blobs, Dataset, Preprocessing, Standard
from layerflow.data.frames import samples
from layerflow.errors import DataError

HOUSES = "area,town,rooms,price\n50.5,Bonn,2,low\n75,Köln,3,low\n120,Bonn,5,high\n200,Ulm,,high\n"
COLUMNS: dict[str, list[Any]] = {"town": ["Ulm", "Bonn"], "rooms": [4, 1], "area": [99.5, 30.25]}
X = [[99.5, 0, 0, 1, 4], [30.25, 1, 0, 0, 1]]


def structured(columns: dict[str, list[Any]], text: str) -> np.ndarray:
    types = {"town": text, "rooms": "i4", "area": "f8"}
    return np.array(list(zip(*columns.values(), strict=True)), [(name, types[name]) for name in columns])


FRAMES: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "pandas": pd.DataFrame,
    "pandas with extension types": lambda columns: pd.DataFrame(columns).convert_dtypes(),
    "pandas with categories": lambda columns: pd.DataFrame(columns).astype({"town": "category"}),
    "pandas of objects": lambda columns: pd.DataFrame(columns, dtype=object),
    "pandas with another index": lambda columns: pd.DataFrame(columns, index=[7, 3]),
    "polars": pl.DataFrame,
    "polars with categories": lambda columns: pl.DataFrame(columns).cast({"town": pl.Categorical}),
    "pyarrow": pa.table,
    "dict of lists": dict,
    "dict of arrays": lambda columns: {name: np.array(column) for name, column in columns.items()},
    "structured array": lambda columns: structured(columns, "U9"),
    "structured array of bytes": lambda columns: structured(columns, "S9"),
}


@pytest.fixture
def houses(tmp_path: Path) -> Preprocessing:
    """What was learned from the houses."""
    (tmp_path / "houses.csv").write_text(HOUSES, encoding="utf-8")
    reader = CSV(str(tmp_path / "houses.csv"), target="price", categorical=["town"], missing="mean")
    return Preprocessing.fit(reader.read())


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES.keys())
def test_columns_are_matched_by_name_and_categories_are_encoded(houses: Preprocessing, make: Any) -> None:
    np.testing.assert_array_equal(samples(make(COLUMNS), houses, fill_missing=False), X)
    turned = dict(reversed(COLUMNS.items()))
    np.testing.assert_array_equal(samples(make(turned), houses, fill_missing=False), X)


@pytest.mark.parametrize(
    "make", [pd.DataFrame, pl.DataFrame, pa.table, dict], ids=["pandas", "polars", "arrow", "dict"]
)
def test_missing_values_are_an_error_unless_the_training_filled_them(houses: Preprocessing, make: Any) -> None:
    gaps = make(COLUMNS | {"rooms": [None, 1], "town": ["Bonn", None]})
    x = np.asarray(samples(gaps, houses, fill_missing=True))
    np.testing.assert_array_equal(np.isnan(x), [[0, 0, 0, 0, 1], [0, 1, 1, 1, 0]])
    message = (
        r"2 missing or infinite value\(s\): row 0 column 'rooms', row 1 column 'town'; fill them in, or train with"
    )
    with pytest.raises(DataError, match=message):
        samples(gaps, houses, fill_missing=False)


def without(name: str) -> dict[str, list[Any]]:
    return {column: cells for column, cells in COLUMNS.items() if column != name}


BAD: dict[str, tuple[Any, str]] = {
    "a missing column": (without("area"), "no column 'area'; the model was trained on 'area', 'town', 'rooms'"),
    "a misspelt column": (
        pd.DataFrame(without("area") | {"aera": [1, 2]}),
        "no column 'area', did you mean 'aera'?; the model",
    ),
    "an unknown column": (
        pl.DataFrame(COLUMNS | {"price": ["low", "low"]}),
        "unknown column 'price'; leave it out: the model was trained on",
    ),
    "0/1 columns": (
        pd.DataFrame(without("town") | {"town=Bonn": [0, 1], "town=Ulm": [1, 0]}),
        "no column 'town'; give its raw values in one column",
    ),
    "an unknown category": (
        pd.DataFrame(COLUMNS | {"town": ["Ulm", "Bon"]}),
        "data: row 1: column 'town': unknown category 'Bon', did you mean 'Bonn'?",
    ),
    "text for numbers": (pl.DataFrame(COLUMNS | {"area": ["1.5", "big"]}), "row 1: column 'area': 'big' is not a numb"),
    "dates for numbers": (
        pd.DataFrame(COLUMNS | {"area": pd.to_datetime(["2020-01-01", "2020-01-02"])}),
        "row 0: column 'area': ",
    ),
    "infinity": (pd.DataFrame(COLUMNS | {"area": [np.inf, 1]}), "1 missing or infinite value(s): row 0 column 'area'"),
    "two columns of a name": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "unique column names"),
    "columns without names": (pd.DataFrame(np.zeros((2, 3))), "no column 'area'; the model was trained on"),
    "a lazy frame": (pl.LazyFrame(COLUMNS), "a lazy frame has no values yet; give frame.collect()"),
    "columns of unequal length": (COLUMNS | {"area": [1.0]}, "the columns differ in length (1, 2)"),
    "a column of rows": (
        COLUMNS | {"area": np.zeros((2, 2))},
        "column 'area' has shape (2, 2); give one value per row",
    ),
    "no rows": (pd.DataFrame(COLUMNS)[:0], "no rows; give at least one sample"),
    "text in an array": (
        [["50", "Bonn", "2"]],
        "expected numbers, got an array of dtype <U4; give text and categories",
    ),
    "objects in an array": (pd.DataFrame(COLUMNS).to_numpy(), "expected numbers, got an array of dtype object"),
    "NaN in an array": (np.array([*X, [np.nan, 0, 0, 1, 4]]), "1 NaN or infinite value(s), the first at [2, 0]"),
    "samples of unequal length": ([[1.0, 2.0], [1.0]], "the samples differ in length"),
}


@pytest.mark.parametrize(("x", "message"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_the_training_data_is_refused_in_one_line(
    houses: Preprocessing, x: Any, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        samples(x, houses, fill_missing=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_array_is_taken_by_position(houses: Preprocessing) -> None:
    np.testing.assert_array_equal(samples(X, houses, fill_missing=False), X)
    array = np.array(X)
    assert samples(array, houses, fill_missing=False) is array


def test_columns_of_generated_data_have_their_names() -> None:
    learned = Preprocessing.fit(Blobs(samples=20).read(), Standard())
    x = samples(pl.DataFrame({"x1": [1.0], "x0": [2.0]}), learned, fill_missing=False)
    np.testing.assert_array_equal(x, [[2, 1]])


def test_a_model_of_nameless_features_asks_for_an_array() -> None:
    learned = Preprocessing.fit(Dataset(np.eye(3), np.arange(3), None, ("a", "b", "c"), "set", ""))
    with pytest.raises(DataError, match=r"features have no names; give an array of shape \(samples, 3\)"):
        samples(pd.DataFrame(np.eye(3)), learned, fill_missing=False)


def test_large_integers_stay_different_categories(tmp_path: Path) -> None:
    first, second = 2**53, 2**53 + 1
    file = tmp_path / "ids.csv"
    file.write_text(f"code,y\n{first},a\n{second},b\n")
    learned = Preprocessing.fit(CSV(str(file), target="y", categorical=["code"]).read())
    for frame in (pd.DataFrame({"code": [second, first]}), pl.DataFrame({"code": [second, first]})):
        np.testing.assert_array_equal(samples(frame, learned, fill_missing=False), [[0, 1], [1, 0]])


@pytest.mark.parametrize("cells", [["1", "2"], ["1.0", "2.5"]])
@pytest.mark.parametrize("missing", [[], [None]])
def test_categories_that_are_numbers_are_recognized(tmp_path: Path, cells: list[str], missing: list[None]) -> None:
    """As pandas reads them: integers, or floats where the column has floats or gaps."""
    file = tmp_path / "codes.csv"
    file.write_text(f"code,y\n{cells[0]},a\n{cells[1]},b\n")
    learned = Preprocessing.fit(CSV(str(file), target="y", categorical=["code"]).read())
    frame = pd.DataFrame({"code": [*pd.read_csv(file)["code"], *missing]})
    x = np.asarray(samples(frame, learned, fill_missing=True))
    np.testing.assert_array_equal(x[:2], np.eye(2))
