"""`layerflow train`: what it prints, writes and answers."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

import layerflow as lf

Command = Callable[..., Any]


def test_training_writes_a_run_folder_and_prints_the_result_beside_its_baseline(
    folder: Path, layerflow_command: Command
) -> None:
    done = layerflow_command("train", "iris.yaml", "-q")
    assert done.code == 0
    header, row = (line.split() for line in done.out.strip().splitlines())
    assert header == ["config", "test", "result", "baseline", "epochs", "seconds", "run"]
    assert row[0:2] == ["iris", "accuracy"]
    assert float(row[2]) > float(row[3]) == pytest.approx(1 / 3, abs=1e-4)
    run = folder / "runs/iris/001"
    assert row[-1] == "runs/iris/001"
    facts = json.loads((run / "run.json").read_text())
    assert facts["outcome"] == "finished"
    assert facts["test"]["accuracy"] == pytest.approx(float(row[2]), abs=1e-4)
    assert facts["data"]["samples"] == {"train": 108, "validation": 12, "test": 30}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with (run / "metrics.csv").open(newline="") as table:
        assert [float(row["train_loss"]) for row in csv.DictReader(table)] == [
            record["train_loss"] for record in records
        ]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4, 5]


def test_the_resolved_configuration_of_a_run_trains_the_same_model_again(
    folder: Path, layerflow_command: Command
) -> None:
    layerflow_command("train", "iris.yaml", "-q", "optimizer.lr=0.05", "--seed", "3")
    assert layerflow_command("train", "runs/iris/001/config.yaml", "-q", "--out", "again").code == 0
    with np.load("runs/iris/001/model.npz") as first, np.load("again/config/001/model.npz") as second:
        for name in first.files:
            if name != "description":
                np.testing.assert_array_equal(first[name], second[name])
    assert "lr: 0.05" in (folder / "runs/iris/001/config.yaml").read_text()


@pytest.mark.parametrize("command", ["layerflow_command", "process_command"])
def test_a_mistake_in_a_file_names_no_line_of_the_command(
    folder: Path, command: str, request: pytest.FixtureRequest
) -> None:
    done = request.getfixturevalue(command)("train", "iris.yaml", "-q", "model.2=Sum")
    assert done.code == 2
    assert done.err.endswith("in gate 'loss' (SoftmaxCE), build, input shapes (), (32,)\n")


def test_different_seeds_give_different_models(folder: Path, layerflow_command: Command) -> None:
    layerflow_command("train", "iris.yaml", "-q", "--seed", "1")
    layerflow_command("train", "iris.yaml", "-q", "--seed", "2")
    with np.load("runs/iris/001/model.npz") as first, np.load("runs/iris/002/model.npz") as second:
        assert not np.array_equal(first["parameter/0.weight"], second["parameter/0.weight"])


def test_a_dry_run_writes_nothing(folder: Path, layerflow_command: Command) -> None:
    before = sorted(folder.rglob("*"))
    done = layerflow_command("train", "iris.yaml", "--dry-run")
    assert done.code == 0
    assert "one batch of 32 gives loss" in done.err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("words", [["--dry-run"], ["--overfit-batches", "1"]])
def test_the_given_number_of_threads_holds_in_every_kind_of_training(
    folder: Path, layerflow_command: Command, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    limits: list[int] = []
    limit = threadpoolctl.threadpool_limits
    monkeypatch.setattr(threadpoolctl, "threadpool_limits", lambda n, kind: limits.append(n) or limit(n, kind))
    layerflow_command("train", "iris.yaml", *words, "--threads", "3", "train.epochs=2", "-q")
    assert limits == [3]


def test_quiet_training_says_nothing_on_stderr(folder: Path, layerflow_command: Command) -> None:
    assert layerflow_command("train", "iris.yaml", "-q").err == ""


def test_where_no_terminal_is_progress_is_at_most_ten_lines(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("train", "iris.yaml", "train.epochs=40")
    lines = [line for line in done.err.splitlines() if line.startswith("iris: epoch")]
    assert len(lines) == 10
    assert lines[-1].startswith("iris: epoch 40/40 train_loss=")


def test_json_results_can_be_read_by_a_machine(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("train", "iris.yaml", "--json", "-q")
    (result,) = json.loads(done.out)
    assert result["outcome"] == "finished"
    assert result["exit_code"] == 0
    assert set(result["test"]) == {"loss", "accuracy"}
    assert Path(result["folder"]) == Path("runs/iris/001")


def test_one_failing_configuration_keeps_no_other_from_training(folder: Path, layerflow_command: Command) -> None:
    text = (folder / "iris.yaml").read_text()
    (folder / "empty.yaml").write_text(text.replace("scale: Standard", "test: 0.999"))
    done = layerflow_command("train", "empty.yaml", "iris.yaml", "-q")
    assert done.code == 4
    assert "leaves a part empty" in done.err
    assert "empty" in done.out
    assert (folder / "runs/iris/001/model.npz").exists()
    assert not (folder / "runs/empty").exists()


def test_a_batch_larger_than_the_data_is_clipped_and_reported(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("train", "iris.yaml", "train.batch_size=1000", "-q")
    assert done.code == 0
    said = "iris: batch_size is 1000, but there are only 108 training samples; using batches of 108\n"
    assert done.err.count(said) == 1


@pytest.mark.parametrize(("words", "threads"), [([], 1), (["--threads", "2"], 2)])
def test_the_run_records_its_blas_threads(
    folder: Path, layerflow_command: Command, words: list[str], threads: int
) -> None:
    layerflow_command("train", "iris.yaml", "-q", *words)
    assert json.loads((folder / "runs/iris/001/run.json").read_text())["threads"] == threads


def test_a_problem_in_one_file_is_told_before_any_other_is_trained(folder: Path, layerflow_command: Command) -> None:
    text = (folder / "iris.yaml").read_text()
    (folder / "bad.yaml").write_text(
        text.replace("momentum", "momentm").replace("out_features", "units").replace("ReLU", "ReLu")
    )
    done = layerflow_command("train", "iris.yaml", "bad.yaml", "missing.yaml")
    assert done.code == 2
    for problem in (
        "did you mean 'momentum'?",
        "layerflow calls it 'out_features'",
        "did you mean 'ReLU'?",
        "missing.yaml: no such file",
    ):
        assert problem in done.err
    assert not (folder / "runs").exists()
    assert done.out == ""


@pytest.mark.parametrize(
    ("settings", "code", "message"),
    [
        (["model.2.in_features=17"], 2, "in gate '2' (Linear), build, input shapes (32, 16)"),
        (["model.2={type: Linear, out_features: 2}"], 2, "2 scores per sample, but there are 3 classes"),
        (["loss=SquaredError"], 2, "SquaredError is for numbers, but the targets are 3 classes"),
        (["loss=SigmoidCE"], 2, "SigmoidCE is for two classes, but the targets have 3"),
        (["train.best=val_f1"], 2, "'val_f1' is not recorded in this run"),
        (["schedule={type: ReduceOnPlateau, metric: val_f1}"], 2, "'val_f1' is not among those measured"),
        (["train.metrics=[rmse]"], 2, "no metric 'rmse' for classification"),
        (["data.test=0.999"], 4, "leaves a part empty"),
        (["data.source.target=specis"], 4, "did you mean 'species'?"),
        (["data.source.path=iris.csv"], 4, "iris.csv: no such file"),
        (["optimizer.lr=1e6"], 5, "learning rate 1e+06"),
        (["--seed", "-1"], 2, "seed: must be greater than or equal to 0"),
        (["optimizr.lr=1"], 2, "did you mean 'optimizer'?"),
        (["-o", "iris.yaml"], 2, "the run folder cannot be created (Not a directory); choose another place with --out"),
        (["--import", "nope.py"], 2, "--import nope.py: no such file"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_message_and_an_exit_code(
    folder: Path, layerflow_command: Command, settings: list[str], code: int, message: str
) -> None:
    done = layerflow_command("train", "iris.yaml", "-q", *settings)
    assert done.code == code
    assert message in done.err
    assert "Traceback" not in done.err
    assert "Warning" not in done.err


def test_a_diverging_run_says_where_and_keeps_what_was_written(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("train", "iris.yaml", "optimizer.lr=1e6", "-q")
    assert done.code == 5
    assert done.err.startswith("iris: ")
    assert "epoch" in done.err and "learning rate" in done.err
    run = folder / "runs/iris/001"
    assert json.loads((run / "run.json").read_text())["outcome"] == "diverged"
    assert (run / "config.yaml").exists()
    assert "diverged" in done.out


def test_types_of_your_own_train_and_come_back_from_the_model_file(
    folder: Path, layerflow_command: Command, own_types: Path
) -> None:
    x = np.random.default_rng(0).normal(size=(100, 2))
    np.savetxt("points.txt", np.column_stack([x, x[:, 0] * x[:, 1] > 0]))
    Path("own.yaml").write_text(
        "data: {source: {type: Blanks, path: points.txt}}\n"
        "model: [{type: Linear, out_features: 16}, {type: LearnedSwish, beta: 1.5}, Linear]\n"
        "loss: Brier\n"
        "optimizer: {type: SignSGD, lr: 0.01}\n"
        "train: {epochs: 20}\n"
    )
    assert layerflow_command("train", "own.yaml", "-q", "--import", own_types).code == 0
    measured = json.loads(layerflow_command("eval", "runs/own/001", "--json", "--import", own_types).out)
    assert measured["metrics"]["accuracy"] > 0.8
    assert layerflow_command("predict", "runs/own/001", "points.txt", "--import", own_types).out.count("\n") == 101
    without = layerflow_command("eval", "runs/own/001")
    assert without.code == 2
    assert "unknown gate 'LearnedSwish'" in without.err
    assert "--import" in without.err
    model = lf.load_model("runs/own/001", imports=[str(own_types)])
    assert model.probabilities(x).sum(axis=1) == pytest.approx(1)


def test_what_the_reader_left_out_is_said(folder: Path, layerflow_command: Command) -> None:
    lines = Path(__file__).parents[2].joinpath("data/iris.csv").read_text().splitlines()
    lines[7] = ",3,1.4,0.2,setosa"
    Path("gap.csv").write_text("\n".join(lines))
    done = layerflow_command("train", "iris.yaml", "-q", "data.source.path=gap.csv", "data.source.missing=drop")
    assert done.code == 0
    assert "gap.csv: dropped 1 of 150 rows with 1 missing" in done.err
    refused = layerflow_command("train", "iris.yaml", "-q", "data.source.path=gap.csv")
    assert refused.code == 4
    assert "line 8 column 'sepal_length_cm'" in refused.err
