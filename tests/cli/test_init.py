"""`layerflow init`: whatever it writes loads, checks and trains as it is."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerflow.config import load_config
from layerflow.data.inspection import guess_delimiter, read_columns

Command = Callable[..., Any]
DATA = Path(__file__).parents[2] / "data"


def write_messy(file: Path) -> None:
    """A table as people have it: an identifier, gaps, quotes, text, words that YAML could take for something else."""
    rng = np.random.default_rng(0)
    lines = ['id;size;"colour: or ""so""";remark;no;version;label']
    for row in range(60):
        size = "" if row == 5 else f"{rng.normal():.3f}"
        colour, answer, label = (
            rng.choice(["red", "no", "12:30"]),
            rng.choice(["yes", "no"]),
            rng.choice(["true", "false", "null"]),
        )
        lines.append(f"{7 * row + 3};{size};{colour};remark number {row};{answer};v1;{label}")
    file.write_text("\n".join(lines))


def write_images(file: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(file, images=rng.integers(0, 255, (60, 1, 4, 4), dtype=np.uint8), labels=rng.integers(0, 3, 60))


def write_large_targets(file: Path) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    y = 2e5 + 5e4 * x[:, 0]
    rows = [",".join(map(str, row)) for row in np.column_stack([x, y])]
    file.write_text("\n".join(["a,b,c,price", *rows]))


def write_few(file: Path) -> None:
    file.write_text("x,y\n" + "".join(f"{row},{'ab'[row % 2]}\n" for row in range(8)))


def write_yes_and_no(file: Path) -> None:
    x = np.random.default_rng(0).normal(size=200)
    file.write_text("x\tbought\n" + "".join(f"{value}\t{int(value > 1.2)}\n" for value in x))


CASES = {
    "messy.csv": write_messy,
    "images.npz": write_images,
    "prices.csv": write_large_targets,
    "few.csv": write_few,
    "sales.tsv": write_yes_and_no,
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_trains_unedited(name: str, folder: Path, layerflow_command: Command) -> None:
    CASES[name](Path(name))
    assert layerflow_command("init", name, "-o", "start.yaml").code == 0
    done = layerflow_command("train", "start.yaml", "-q", "train.epochs=2")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("name", "loss", "least"),
    [("iris.csv", "SoftmaxCE", 0.9), ("wine.csv", "SoftmaxCE", 0.9), ("breast_cancer.csv", "SigmoidCE", 0.94)],
)
def test_shipped_sets_are_learned(name: str, loss: str, least: float, folder: Path, layerflow_command: Command) -> None:
    layerflow_command("init", DATA / name, "-o", "start.yaml")
    assert load_config("start.yaml").loss.type == loss
    result = layerflow_command("train", "start.yaml", "-q").out.splitlines()[1].split()
    assert result[1] == "accuracy"
    assert float(result[2]) >= least


def test_a_regression_of_large_numbers_is_brought_to_their_size(folder: Path, layerflow_command: Command) -> None:
    write_large_targets(Path("prices.csv"))
    layerflow_command("init", "prices.csv", "-o", "start.yaml")
    config = load_config("start.yaml")
    assert config.model.constants["mean"] == pytest.approx(2e5, rel=0.1)
    result = layerflow_command("train", "start.yaml", "-q").out.splitlines()[1].split()
    assert result[1] == "rmse"
    assert float(result[2]) < 0.3 * float(result[3])


def test_every_decision_stands_in_the_file_with_its_reason(folder: Path, layerflow_command: Command) -> None:
    write_messy(Path("messy.csv"))
    text = layerflow_command("init", "messy.csv").out
    for line in (
        "target: label  # chosen by its name; change it with --target",
        "left out: id: identifier of the rows; remark: free text; version: always the same",
        "# text: each becomes one 0/1 column per category",
        "missing: mean  # fill missing values with the training mean: 1 in size",
        "delimiter: ;",
    ):
        assert line in text
    Path("start.yaml").write_text(text)
    source = load_config("start.yaml").data.source.arguments
    assert source["features"] == ["size", 'colour: or "so"', "no"]
    assert source["categorical"] == ['colour: or "so"', "no"]


def test_rows_without_a_target_are_dropped(folder: Path, layerflow_command: Command) -> None:
    text = (DATA / "iris.csv").read_text().replace("1.4,0.2,setosa", "1.4,0.2,", 2)
    Path("gaps.csv").write_text(text)
    text = layerflow_command("init", "gaps.csv").out
    assert "missing: drop  # leave out rows without a target (2 of 150)" in text


def test_the_target_may_be_named(folder: Path, layerflow_command: Command) -> None:
    layerflow_command("init", DATA / "iris.csv", "--target", "petal_width_cm", "-o", "start.yaml")
    config = load_config("start.yaml")
    assert config.data.source.arguments["categorical"] == ["species"]
    assert config.loss.type == "SquaredError"


def test_arrays_in_files_of_their_own(folder: Path, layerflow_command: Command) -> None:
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.normal(size=(60, 4)))
    np.save("y.npy", rng.integers(0, 2, 60).astype(float))
    assert layerflow_command("init", "x.npy", "--target", "y.npy", "-o", "start.yaml").code == 0
    assert load_config("start.yaml").data.source.arguments["task"] == "classification"
    with gzip.open("images-idx3-ubyte.gz", "wb") as file:
        file.write(
            bytes([0, 0, 8, 3, 0, 0, 0, 60, 0, 0, 0, 3, 0, 0, 0, 3])
            + rng.integers(0, 256, 540, dtype=np.uint8).tobytes()
        )
    Path("labels-idx1-ubyte").write_bytes(
        bytes([0, 0, 8, 1, 0, 0, 0, 60]) + rng.integers(0, 2, 60, dtype=np.uint8).tobytes()
    )
    assert (
        layerflow_command("init", "images-idx3-ubyte.gz", "--target", "labels-idx1-ubyte", "-o", "images.yaml").code
        == 0
    )
    assert layerflow_command("check", "start.yaml", "images.yaml", "--quick").code == 0


def test_paths_start_where_the_file_is_written(folder: Path, layerflow_command: Command) -> None:
    Path("deep/er").mkdir(parents=True)
    write_few(Path("few.csv"))
    layerflow_command("init", "few.csv", "-o", "deep/er/start.yaml")
    assert "path: ../../few.csv" in Path("deep/er/start.yaml").read_text()
    assert layerflow_command("check", "deep/er/start.yaml", "--quick").code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["missing.csv"], 4, "missing.csv: no such file"),
        (["notes.txt"], 2, "unsupported file type; supported: .csv"),
        (["iris.csv", "--target", "specis"], 4, "no column 'specis', did you mean 'species'?"),
        (
            ["iris.csv", "-o", "iris.yaml"],
            2,
            "iris.yaml: already exists; choose another file with -o, or overwrite it with --force",
        ),
        (["iris.csv", "-o", "no/where.yaml"], 2, "choose another place with -o"),
        (["x.npy"], 2, "name their file with --target"),
        (["names.csv"], 4, "has 30 different texts in 30 rows, too many for classes"),
        (["same.csv"], 4, "column 'y' is always 'a', so there is nothing to predict"),
        (["one.csv"], 4, "no column is left to predict 'y' from"),
        (["headeronly.csv"], 4, "no rows below the header"),
        (["ragged.csv"], 4, "ragged.csv:3: 1 cells"),
    ],
)
def test_what_goes_wrong_is_one_message_and_an_exit_code(
    folder: Path, layerflow_command: Command, words: list[str], code: int, message: str
) -> None:
    Path("iris.csv").write_text((DATA / "iris.csv").read_text())
    Path("names.csv").write_text("x,y\n" + "".join(f"{row * row},name {row}\n" for row in range(30)))
    Path("same.csv").write_text("x,y\n1,a\n2,a\n")
    Path("one.csv").write_text("y\n1\n2\n")
    Path("headeronly.csv").write_text("x,y\n")
    Path("ragged.csv").write_text("x,y\n1,2\n3\n")
    np.save("x.npy", np.zeros((3, 2)))
    done = layerflow_command("init", *words)
    assert done.code == code
    assert message in done.err
    assert done.out == ""
    assert (folder / "iris.yaml").read_text().startswith("data:")


NAMES = [f"name{row}" for row in range(40)]


@pytest.mark.parametrize(
    ("name", "cells", "role", "missing"),
    [
        ("size", ["1", "2.5", "-3e4"] * 10, "number", 0),
        ("size", ["1", "", "NA", "?"] * 10, "number", 30),
        ("size", ["1", "inf", "-Infinity", "nan"] * 10, "number", 30),
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
    (column, _), _ = read_columns(str(file), ",")
    assert (column.name, column.role, column.missing) == (name, role, missing)


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("a,b,c", ","), ("a;b;c", ";"), ("a\tb", "\t"), ("a|b|c,d", "|"), ('"a,b";c;d', ";"), ("a", ",")],
)
def test_delimiters(header: str, delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n1\n", encoding="utf-8-sig")
    assert guess_delimiter(str(tmp_path / "t.csv")) == delimiter
