"""`layerflow compare`: what it prints of many runs, of two, and of damaged ones."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture
def three_runs(folder: Path, layerflow_command: Command) -> Path:
    """A folder with three runs: lr 0.1 twice, and lr 0.0001."""
    for lr in ("0.1", "0.1", "0.0001"):
        assert layerflow_command("train", "iris.yaml", "--quiet", f"optimizer.lr={lr}", "train.epochs=3").code == 0
    return folder / "runs"


def test_the_best_run_comes_first_with_the_settings_that_vary(three_runs: Path, layerflow_command: Command) -> None:
    done = layerflow_command("compare", "runs")
    header, *rows = (line.split() for line in done.out.strip().splitlines())
    assert header == ["run", "val_loss", "test_loss", "test_accuracy", "epochs", "outcome", "optimizer.lr"]
    assert [row[0] for row in rows] == ["runs/iris/001", "runs/iris/002", "runs/iris/003"]
    assert [row[-1] for row in rows] == ["0.1", "0.1", "0.0001"]
    assert float(rows[0][1]) < float(rows[2][1])


def test_by_sorts_and_a_wrong_metric_is_named(three_runs: Path, layerflow_command: Command) -> None:
    accuracies = [
        run["figures"]["test_accuracy"]
        for run in json.loads(layerflow_command("compare", "runs", "--by", "test_accuracy", "--json").out)["runs"]
    ]
    assert accuracies == sorted(accuracies, reverse=True)
    done = layerflow_command("compare", "runs", "--by", "test_acuracy")
    assert done.code == 2
    assert "did you mean 'test_accuracy'?" in done.err


def test_two_equal_runs_are_the_same_bit_for_bit(three_runs: Path, layerflow_command: Command) -> None:
    done = layerflow_command("compare", "runs/iris/001", "runs/iris/002")
    for words in ("configuration: the same", "data: the same", "environment: the same", "in all 3 common epochs"):
        assert words in done.out


def test_of_two_runs_everything_that_differs_is_shown(three_runs: Path, layerflow_command: Command) -> None:
    done = layerflow_command("compare", "runs/iris/001", "runs/iris/003")
    assert "optimizer.lr  0.1  ->  0.0001" in done.out
    assert "losses: first difference in step 2, epoch 1" in done.out  # the first step starts from the same weights
    difference = json.loads(layerflow_command("compare", "runs/iris/001", "runs/iris/003", "--json").out)["difference"]
    assert difference["settings"] == {"optimizer.lr": [0.1, 0.0001]}
    assert (difference["parting_step"], difference["parting_epoch"]) == (2, 1)
    assert difference["is_unexplained"] is False


def test_damaged_and_empty_runs_are_said_and_skipped(three_runs: Path, layerflow_command: Command) -> None:
    (three_runs / "iris/002/run.json").write_text('{"outcome": "fini')
    (three_runs / "iris/003/metrics.jsonl").write_text("")
    done = layerflow_command("compare", "runs")
    assert done.code == 0
    assert "skipped: runs/iris/002: damaged files: runs/iris/002/run.json: 17 bytes, expected" in done.err
    assert "runs/iris/003/metrics.jsonl: 0 bytes, expected" in done.err
    assert "restored from a checkpoint" in done.err
    assert "iris/002" not in done.out
    assert "runs/iris/001" in done.out
    assert "runs/iris/003" in done.out


def test_runs_without_an_epoch_are_said_and_skipped(three_runs: Path, layerflow_command: Command) -> None:
    (three_runs / "iris/003/manifest.json").unlink()
    (three_runs / "iris/003/metrics.jsonl").write_text("")
    done = layerflow_command("compare", "runs")
    assert "skipped: runs/iris/003: no epoch has finished" in done.err


def test_what_is_not_finite_is_null_in_json(three_runs: Path, layerflow_command: Command) -> None:
    file = three_runs / "iris/003/run.json"
    facts = json.loads(file.read_text())
    (file.parent / "manifest.json").unlink()
    file.write_text(json.dumps(facts | {"test": {"loss": float("nan"), "accuracy": 1.0}}))
    rows = json.loads(layerflow_command("compare", "runs", "--json").out, parse_constant=pytest.fail)["runs"]
    assert [row["figures"]["test_loss"] for row in rows].count(None) == 1


@pytest.mark.parametrize("place", ["missing", "."])
def test_where_no_runs_are_it_is_said(folder: Path, layerflow_command: Command, place: str) -> None:
    done = layerflow_command("compare", place)
    assert done.code == 2
    assert f"{place}: {'no such folder' if place == 'missing' else 'not a run folder'}" in done.err


def test_all_runs_damaged_is_an_error(three_runs: Path, layerflow_command: Command) -> None:
    for file in three_runs.rglob("run.json"):
        file.write_bytes(b"\x00")
    done = layerflow_command("compare", "runs")
    assert done.code == 2
    assert "none of these run folders can be compared" in done.err


def test_the_curves_become_one_picture(three_runs: Path, layerflow_command: Command, tmp_path: Path) -> None:
    for file in ("curves.png", "curves.svg"):
        assert layerflow_command("compare", "runs", "--by", "val_accuracy", "-o", file).code == 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "curves.svg").read_text()
    assert "<svg" in svg
    done = layerflow_command("compare", "runs", "-o", "missing/curves.png")
    assert done.code == 2
    assert "missing/curves.png: cannot be written" in done.err


def test_without_matplotlib_the_extra_is_named(
    three_runs: Path, layerflow_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "layerflow.report.comparison_plots", raising=False)
    done = layerflow_command("compare", "runs", "-o", "curves.png")
    assert done.code == 2
    assert "pip install 'layerflow[plot]'" in done.err
