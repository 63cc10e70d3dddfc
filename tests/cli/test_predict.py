"""`layerflow predict`: new files, told line by line."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import layerflow as lf

Command = Callable[..., Any]

NEW = """\
petal_width_cm,petal_length_cm,note,sepal_length_cm,sepal_width_cm
0.2,1.4,a,5.1,3.5

2.5,6.0,"two
lines",6.3,3.3
1.3,4.5,c,5.7,2.8
"""


@pytest.fixture
def new_file(tmp_path: Path) -> Path:
    """Three flowers without species, columns in another order, one column too many, a blank and a broken line."""
    file = tmp_path / "new.csv"
    file.write_text(NEW)
    return file


def test_every_sample_is_named_by_its_line(trained: Path, new_file: Path, layerflow_command: Command) -> None:
    done = layerflow_command("predict", trained, new_file)
    assert done.code == 0
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [(row["line"], row["prediction"]) for row in rows] == [
        ("2", "setosa"),
        ("4", "virginica"),
        ("6", "versicolor"),
    ]
    assert all(1 / 3 < float(row["probability"]) <= 1 for row in rows)


def test_what_is_predicted_is_what_python_predicts(trained: Path, new_file: Path, layerflow_command: Command) -> None:
    done = layerflow_command("predict", trained / "model.npz", new_file, "--format", "jsonl", "--probabilities")
    rows = [json.loads(line) for line in done.out.splitlines()]
    model = lf.load_model(trained)
    x = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5], [5.7, 2.8, 4.5, 1.3]]
    assert [row["prediction"] for row in rows] == model.predict(x).tolist()
    probabilities = [[row[f"probability_{name}"] for name in ("setosa", "versicolor", "virginica")] for row in rows]
    np.testing.assert_allclose(probabilities, model.probabilities(x), rtol=1e-6)
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1, rtol=1e-6)
    assert [row["probability"] for row in rows] == [max(row) for row in probabilities]


@pytest.mark.parametrize(("name", "is_json"), [("out.jsonl", True), ("out.csv", False), ("out.txt", False)])
def test_the_file_name_decides_the_format(
    trained: Path, new_file: Path, layerflow_command: Command, tmp_path: Path, name: str, is_json: bool
) -> None:
    done = layerflow_command("predict", trained, new_file, "-o", tmp_path / name)
    assert done.code == 0
    assert done.out == ""
    assert "3 predictions" in done.err
    assert (tmp_path / name).read_text().startswith("{" if is_json else "line,prediction,probability\n")


def test_arrays_are_numbered_by_row(trained: Path, layerflow_command: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]))
    np.savez(tmp_path / "x.npz", flowers=np.load(tmp_path / "x.npy"))
    done = layerflow_command("predict", trained, tmp_path / "x.npy")
    assert [line.split(",")[:2] for line in done.out.splitlines()[1:]] == [["0", "setosa"], ["1", "virginica"]]
    assert layerflow_command("predict", trained, tmp_path / "x.npz", "x=flowers").out == done.out


def test_settings_of_the_reader_may_differ_from_those_of_the_training(
    trained: Path, new_file: Path, layerflow_command: Command
) -> None:
    expected = layerflow_command("predict", trained, new_file).out
    text = new_file.read_text()
    new_file.write_text(text.replace(",", ";"))
    assert layerflow_command("predict", trained, new_file, "delimiter=;").out == expected
    new_file.with_suffix(".tsv").write_text(text.replace(",", "\t"))
    assert layerflow_command("predict", trained, new_file.with_suffix(".tsv")).out == expected


def test_a_regression_predicts_values(layerflow_command: Command, folder: Path) -> None:
    data = Path(__file__).parents[2] / "data/diabetes.csv"
    layerflow_command(
        "train", "iris.yaml", "-q", f"data.source={{type: CSV, path: {data}, target: progression}}",
        "loss=Huber", "optimizer.lr=0.001",
    )  # fmt: skip
    rows = layerflow_command("predict", "runs/iris/001", data).out.splitlines()
    assert rows[0] == "line,prediction"
    assert len(rows) == 443
    line, value = rows[1].split(",")
    features = np.array([data.read_text().splitlines()[1].split(",")[:-1]], float)
    assert line == "2"
    assert float(value) == pytest.approx(float(lf.load_model("runs/iris/001").predict(features)[0]), rel=1e-6)


def test_a_loss_without_probabilities_predicts_without_them(
    layerflow_command: Command, folder: Path, new_file: Path
) -> None:
    layerflow_command("train", "iris.yaml", "-q", "loss=MulticlassSVM")
    assert layerflow_command("predict", "runs/iris/001", new_file).out.startswith("line,prediction\n")
    refused = layerflow_command("predict", "runs/iris/001", new_file, "--probabilities", "-o", "out.csv")
    assert refused.code == 2
    assert "MulticlassSVM" in refused.err
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (
            lambda text: text.replace("sepal_width_cm", "sepal_width"),
            4,
            "no column 'sepal_width_cm', did you mean 'sepal_width'?",
        ),
        (lambda text: text.replace("1.4,", "long,"), 4, "new.csv:2: column 'petal_length_cm': 'long' is not a number"),
        (lambda text: text.replace("1.4,", ","), 4, "line 2 column 'petal_length_cm'"),
        (lambda text: text.splitlines()[0], 4, "no rows below the header"),
        (lambda text: "", 4, "the file is empty"),
        (lambda text: text + "1,2\n", 4, "new.csv:7: 2 cells, but the header has 5 columns"),
    ],
)
def test_broken_new_data_are_named_with_their_place(
    trained: Path, new_file: Path, layerflow_command: Command, change: Callable[[str], str], code: int, message: str
) -> None:
    new_file.write_text(change(NEW))
    done = layerflow_command("predict", trained, new_file)
    assert done.code == code
    assert message in done.err
    assert done.out == ""


def test_data_of_another_width_are_refused(trained: Path, layerflow_command: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    done = layerflow_command("predict", trained, tmp_path / "x.npy")
    assert done.code == 4
    assert "samples have shape (3,), but the model was trained on (4,)" in done.err


def test_a_file_that_says_nothing_about_itself_is_asked_about(layerflow_command: Command, folder: Path) -> None:
    layerflow_command("train", "iris.yaml", "-q", "data.source={type: Moons, samples: 100}")
    Path("new.dat").write_text("1,2\n")
    done = layerflow_command("predict", "runs/iris/001", "new.dat")
    assert done.code == 2
    assert "new.dat: unsupported file type; supported: .csv" in done.err
    Path("new.csv").write_text("x,y\n1,2\n")
    assert "new.csv: no column 'x0'" in layerflow_command("predict", "runs/iris/001", "new.csv").err
    Path("new.csv").write_text("x1,x0\n2,1\n")
    assert layerflow_command("predict", "runs/iris/001", "new.csv").code == 0


def test_an_output_that_cannot_be_written_is_said(trained: Path, new_file: Path, layerflow_command: Command) -> None:
    done = layerflow_command("predict", trained, new_file, "-o", new_file / "x.csv")
    assert done.code == 2
    assert "choose another place with -o" in done.err


def test_a_frame_is_predicted_by_its_names_in_any_order(trained: Path) -> None:
    data = pd.read_csv(Path(__file__).parents[2] / "data/iris.csv")
    model = lf.load_model(trained)
    x, expected = data.drop(columns="species"), model.predict(data.drop(columns="species").to_numpy())
    turned = x[x.columns[::-1]]
    for frame in (
        x,
        turned,
        pl.DataFrame(turned.to_dict("list")),
        turned.to_dict("list"),
        turned.to_records(index=False),
    ):
        np.testing.assert_array_equal(model.predict(frame), expected)
    np.testing.assert_array_equal(model.probabilities(turned), model.probabilities(x))
    with pytest.raises(lf.DataError, match="unknown column 'species'"):
        model.predict(data)


def test_raw_categories_are_predicted_in_python_as_in_a_file(layerflow_command: Command, folder: Path) -> None:
    rows = [f"{row % 10},{'no' if row % 3 else 'yes'},{row % 2}" for row in range(60)]
    Path("train.csv").write_text("\n".join(["size,answer,y", *rows, ",no,1"]))
    source = "data.source={type: CSV, path: train.csv, target: y, categorical: [answer], missing: mean}"
    assert layerflow_command("train", "iris.yaml", "-q", source).code == 0
    Path("new.csv").write_text("answer,size\nyes,3\nno,\n,4\n")
    in_file = layerflow_command("predict", "runs/iris/001", "new.csv").out.splitlines()[1:]
    frame = pd.read_csv("new.csv")
    assert [row.split(",")[1] for row in in_file] == lf.load_model("runs/iris/001").predict(frame).tolist()
