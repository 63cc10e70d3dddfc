"""What a table's columns are taken for."""

from pathlib import Path

import pytest

from layerflow.data.inspection import guess_delimiter, read_columns

NAMES = [f"name{row}" for row in range(40)]


@pytest.mark.parametrize(
    ("name", "cells", "role", "missing"),
    [
        ("size", ["1", "2.5", "-3e4"] * 10, "number", 0),
        ("size", ["1", "", "NA", "?"] * 10, "number", 30),
        ("size", ["7"] * 30, "number", 0),
        ("colour", ["red", "green", ""] * 10, "category", 10),
        ("answer", ["yes", "no"], "identifier", 0),
        ("answer", ["yes", "no"] * 2, "category", 0),
        ("word", ["NA", "Namibia"] * 10, "category", 0),
        ("id", ["31", "7", "12"], "identifier", 0),
        ("n", [str(row) for row in range(5, 40)], "identifier", 0),
        ("year", [str(row) for row in range(2000, 2005)], "number", 0),
        ("code", NAMES, "identifier", 0),
        ("remark", [f"some {name}" for name in NAMES], "text", 0),
        ("town", [*NAMES, *NAMES[:15]], "text", 0),
        ("version", ["v1"] * 30, "constant", 0),
        ("nothing", [""] * 30, "empty", 30),
    ],
)
def test_roles(name: str, cells: list[str], role: str, missing: int, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(f"{name},other\n" + "".join(f"{cell},1\n" for cell in cells))
    column, _ = read_columns(str(file), ",")
    assert (column.name, column.role, column.missing) == (name, role, missing)


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("a,b,c", ","), ("a;b;c", ";"), ("a\tb", "\t"), ("a|b|c,d", "|"), ('"a,b";c;d', ";"), ("a", ",")],
)
def test_delimiters(header: str, delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n1\n", encoding="utf-8-sig")
    assert guess_delimiter(str(tmp_path / "t.csv")) == delimiter
