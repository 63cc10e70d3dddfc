"""`layerflow eval`: the numbers of the training again, on any part or any file, from the model file alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]
IRIS = Path(__file__).parents[2] / "data/iris.csv"


def test_the_test_part_gives_what_the_training_reported(trained: Path, layerflow_command: Command) -> None:
    reported = json.loads((trained / "run.json").read_text())
    done = layerflow_command("eval", trained, "--json")
    assert done.code == 0
    measured = json.loads(done.out)
    assert measured["metrics"] == pytest.approx(reported["test"])
    assert measured["baseline"] == pytest.approx(reported["baseline"])
    assert measured["samples"] == 30
    assert measured["part"] == "test"


def test_classes_and_confusion_agree_with_the_accuracy(trained: Path, layerflow_command: Command) -> None:
    measured = json.loads(layerflow_command("eval", trained, "--json", "--part", "train").out)
    confusion = np.array(measured["confusion"])
    assert confusion.sum() == measured["samples"] == 108
    assert np.trace(confusion) / 108 == pytest.approx(measured["metrics"]["accuracy"])
    for index, row in enumerate(measured["classes"]):
        assert row["samples"] == confusion[index].sum()
        assert row["recall"] == pytest.approx(confusion[index, index] / confusion[index].sum())
        assert row["precision"] == pytest.approx(confusion[index, index] / confusion[:, index].sum())


def test_a_person_reads_metrics_beside_the_baseline_classes_and_confusion(
    trained: Path, layerflow_command: Command
) -> None:
    lines = layerflow_command("eval", trained, "--part", "validation").out.splitlines()
    assert lines[0].endswith("on the validation part of iris, 12 samples")
    assert lines[2].split() == ["model", "baseline"]
    assert lines[4].split()[0] == "accuracy"
    assert [line.split()[0] for line in lines[7:10]] == ["setosa", "versicolor", "virginica"]
    assert lines[11].split() == ["true", "\\", "predicted", "setosa", "versicolor", "virginica"]


def test_a_model_file_alone_is_enough_for_other_data(trained: Path, layerflow_command: Command, tmp_path: Path) -> None:
    shutil.copy(trained / "model.npz", tmp_path / "alone.npz")
    done = layerflow_command("eval", tmp_path / "alone.npz", "--data", IRIS, "--json")
    assert done.code == 0
    measured = json.loads(done.out)
    assert measured["samples"] == 150
    assert measured["baseline"]["accuracy"] == pytest.approx(1 / 3)
    without = layerflow_command("eval", tmp_path / "alone.npz")
    assert without.code == 2
    assert "give data with --data" in without.err


def test_data_in_two_files_are_named_one_after_the_other(
    trained: Path, layerflow_command: Command, tmp_path: Path
) -> None:
    rows = [line.split(",") for line in IRIS.read_text().splitlines()[1:]]
    np.save(tmp_path / "x.npy", np.array([row[:4] for row in rows], float))
    np.save(tmp_path / "y.npy", np.array([row[4] for row in rows]))
    in_arrays = layerflow_command("eval", trained, "--json", "--data", tmp_path / "x.npy", tmp_path / "y.npy")
    in_table = layerflow_command("eval", trained, "--json", "--data", IRIS)
    assert in_arrays.code == 0
    assert json.loads(in_arrays.out)["metrics"] == pytest.approx(json.loads(in_table.out)["metrics"])


def test_changed_data_are_warned_about(layerflow_command: Command, folder: Path) -> None:
    shutil.copy(IRIS, "mine.csv")
    layerflow_command("train", "iris.yaml", "-q", "data.source.path=mine.csv")
    assert layerflow_command("eval", "runs/iris/001").err == ""
    Path("mine.csv").write_text(IRIS.read_text() + "5,3,1,0.2,setosa\n")
    done = layerflow_command("eval", "runs/iris/001")
    assert done.code == 0
    assert "the data has changed since the training" in done.err


def test_a_regression_has_no_classes(layerflow_command: Command, folder: Path) -> None:
    layerflow_command(
        "train", "iris.yaml", "-q", f"data.source={{type: CSV, path: {IRIS.parent}/diabetes.csv, target: progression}}",
        "loss=Huber", "optimizer.lr=0.001",
    )  # fmt: skip
    measured = json.loads(layerflow_command("eval", "runs/iris/001", "--json").out)
    assert set(measured["metrics"]) == {"loss", "rmse", "mae", "r2"}
    assert "classes" not in measured
    assert measured["baseline"]["rmse"] == pytest.approx(77.177, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere"], 4, "nowhere: no such file"),
        (["{folder}"], 4, "no model.npz in this folder"),
        (["{trained}/config.yaml"], 4, "not a model file; give a run folder or its model.npz"),
        (["{trained}", "--part", "tset"], 2, "invalid choice: 'tset'"),
        (["{trained}", "--part", "train", "--data", "x.csv"], 2, "give one of them"),
        (["{trained}", "--data", "x.csv"], 4, "x.csv: no such file"),
        (["{trained}", "--data", "{iris}", "{iris}"], 2, "CSV takes 1 file(s), path; 2 were given"),
        (["{trained}", "--data", "{iris}", "delimitr=;"], 2, "did you mean 'delimiter'?"),
    ],
)
def test_what_goes_wrong_is_one_message_and_an_exit_code(
    trained: Path, folder: Path, layerflow_command: Command, words: list[str], code: int, message: str
) -> None:
    done = layerflow_command("eval", *(word.format(trained=trained, folder=folder, iris=IRIS) for word in words))
    assert done.code == code
    assert message in done.err
    assert done.out == ""


def test_a_run_without_a_test_part_says_so(layerflow_command: Command, folder: Path) -> None:
    layerflow_command("train", "iris.yaml", "-q", "data.test=null")
    done = layerflow_command("eval", "runs/iris/001")
    assert done.code == 2
    assert "this run has no test part; choose another one with --part" in done.err
