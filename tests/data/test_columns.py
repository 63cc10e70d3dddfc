"""Dates, texts in buckets, and numbers as people write them."""

import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.cli import main
from layerflow.data import CSV
from layerflow.data.columns import date_columns, hashed_columns, plain_number
from layerflow.data.inspection import read_columns
from layerflow.errors import ConfigError, DataError


def place(row: int) -> str:
    return f"t.csv:{row + 2}"


def test_a_date_becomes_year_month_weekday_and_days() -> None:
    found = date_columns("day", ["1970-01-01", "", "2026-11-27", "2026-11-27T12:00:00"], "iso", place)
    assert list(found) == ["day.year", "day.month", "day.weekday", "day.days"]
    assert found["day.year"].tolist()[2:] == [2026, 2026]
    assert found["day.weekday"][2] == 4  # a Friday
    assert math.isnan(found["day.month"][1])
    assert found["day.days"][0] == 0
    assert found["day.days"][3] - found["day.days"][2] == 0.5


def test_a_date_of_another_form_is_named_with_its_place() -> None:
    assert date_columns("day", ["27.11.2026"], "%d.%m.%Y", place)["day.month"][0] == 11
    with pytest.raises(DataError, match=r"t\.csv:3: '2026-11-31' is not a date such as 2026-11-27"):
        date_columns("day", ["2026-11-30", "2026-11-31"], "iso", place)


def test_a_text_falls_into_the_same_bucket_wherever_it_stands() -> None:
    one, other = hashed_columns("city", ["Rome", "", "Oslo"], 8), hashed_columns("city", ["Oslo", "Rome"], 8)
    first, second = np.column_stack([*one.values()]), np.column_stack([*other.values()])
    assert first.sum(axis=1).tolist() == [1, 0, 1]
    np.testing.assert_array_equal(first[[2, 0]], second)


@pytest.mark.parametrize(
    ("cell", "marks", "plain"),
    [
        ("$1,234.50", (".", ","), "1234.50"), ("-€ 12", (".", ""), "-12"), ("1.234,5", (",", "."), "1234.5"),
        ("3,5", (",", ""), "3.5"), ("12%", (".", ""), "12"), ("1,23", (".", ","), "1,23"), ("", (".", ""), ""),
        ("12 345,6 €", (",", " "), "12345.6"), ("1'000", (".", "'"), "1000"),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(cell: str, marks: tuple[str, str], plain: str) -> None:
    assert plain_number(cell, *marks) == plain


def written(folder: Path, text: str) -> str:
    (folder / "t.csv").write_text(text)
    return str(folder / "t.csv")


def test_a_reader_makes_the_columns_and_prediction_makes_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, 'when,city,price,y\n2020-01-31,Rome,"$1,000",0\n2021-02-01,Oslo,$5,1\n,Rome,$7,1\n')
    reader = CSV(
        path, "y", task="classification", dates={"when": "iso"}, hashed={"city": 4}, thousands=",", missing="mean"
    )
    data = reader.read()
    assert data.features is not None
    assert data.features[:5] == ("when.year", "when.month", "when.weekday", "when.days", "city#0")
    assert data.features[-1] == "price"
    assert data.x[:, -1].tolist() == [1000, 5, 7]
    assert np.isnan(data.x[2, :4]).all()
    from layerflow.data import Preprocessing

    again = reader.read(need_target=False, like=Preprocessing.fit(data))
    np.testing.assert_array_equal(again.x, data.x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dates": {"a": "iso"}, "categorical": ["a"]}, "'a' is listed twice"),
        ({"hashed": {"a": 1}}, "'hashed' needs 2 to"),
        ({"decimal": ",", "thousands": ","}, "are both ','"),
        ({"features": ["a"], "dates": {"b": "iso"}}, "'b' is listed but no feature"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CSV("t.csv", "y", **settings)


def test_a_comma_in_a_number_is_explained(tmp_path: Path) -> None:
    path = written(tmp_path, 'a,y\n"1,234",0\n2,1\n')
    with pytest.raises(DataError, match=r"'1,234' is not a number; set `decimal` and `thousands`, correct it"):
        CSV(path, "y", task="classification").read()


def test_what_columns_hold_is_recognised(tmp_path: Path) -> None:
    rows = [
        f"{i},2020-{i % 12 + 1:02d}-{i % 28 + 1:02d},{i % 28 + 1}.{i % 12 + 1}.2020,{i % 12 + 1}/{i % 12 + 1}/2020,"
        f'City{i % 60},"{i * 7 % 50},5",C{i}x{i * i}'
        for i in range(300)
    ]
    path = written(tmp_path, "\n".join(["n,iso,dotted,slashes,city,comma,code", *rows]))
    columns, marks = read_columns(path, ",")
    assert {column.name: column.role for column in columns} == {
        "n": "identifier", "iso": "date", "dotted": "date", "slashes": "category", "city": "hashed", "comma": "number",
        "code": "identifier",
    }  # fmt: skip
    assert marks == (",", "")
    assert [column.form for column in columns[1:4]] == ["iso", "%d.%m.%Y", ""]  # month and day cannot be told apart


def test_a_messy_table_is_learned_from_what_init_writes(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(1200):
        year, charge, calls = int(rng.integers(2015, 2025)), 20 + 60 * rng.random(), int(rng.poisson(1.5))
        z = -5.0 + 0.9 * calls + 0.03 * charge + 0.25 * (2020 - year)
        yes = rng.random() < 1 / (1 + np.exp(-z))
        date = f"{year}-{int(rng.integers(1, 13)):02d}-{int(rng.integers(1, 29)):02d}"
        rows.append(f"C{i},{date},${charge:.2f},Town{int(rng.integers(0, 200))},{calls},{'yes' if yes else 'no'}")
    written(tmp_path, "\n".join(["customer_id,signup,charges,town,calls,churn", *rows]))
    monkeypatch.chdir(tmp_path)
    assert main(["init", "t.csv", "-o", "c.yaml"]) == 0
    text = (tmp_path / "c.yaml").read_text()
    assert "dates: {signup: iso}" in text
    assert "hashed: {town: 32}" in text
    assert "class_weight: balanced" in text
    assert "customer_id: identifier" in text
    assert main(["train", "c.yaml", "-q"]) == 0
    assert main(["eval", "runs/c"]) == 0
    yes = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("yes"))
    assert float(yes.split()[3]) > 0.5
    (tmp_path / "new.csv").write_text(
        "signup,charges,town,calls\n2016-01-02,$70.00,Nowhere,6\n2024-05-06,$21.00,Town1,0\n"
    )
    assert main(["predict", "runs/c", "new.csv"]) == 0
    assert [line.split(",")[1] for line in capsys.readouterr().out.splitlines()[1:]] == ["yes", "no"]
    saved = lf.load_model("runs/c")
    assert saved.preprocessing.features[0] == "signup.year"
    frame = {
        "signup": ["2016-01-02", "2024-05-06"],
        "charges": [70.0, 21.0],
        "town": ["Nowhere", "Town1"],
        "calls": [6, 0],
    }
    assert saved.predict(frame).tolist() == ["yes", "no"]
    frame["signup"] = [datetime.date(2016, 1, 2), datetime.datetime(2024, 5, 6)]
    assert saved.predict(frame).tolist() == ["yes", "no"]
    with pytest.raises(DataError, match="data: row 1: column 'signup': 'soon' is not a date"):
        saved.predict(frame | {"signup": ["2016-01-02", "soon"]})
