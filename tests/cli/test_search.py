"""`layerflow search`: every combination once, mean and spread over the seeds, and going on after an end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

Command = Callable[..., Any]
OUT = Path("runs/iris-search")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Keep matplotlib from the processes that this one starts, as `environment` keeps it from others."""
    monkeypatch.syspath_prepend(environment["PYTHONPATH"].split(os.pathsep)[0])


def result(name: str) -> float:
    """Return the validation loss that a combination ended with."""
    (folder,) = (OUT / name).iterdir()
    return float(json.loads((folder / "run.json").read_text())["best"]["value"])


def test_every_combination_is_trained_once_and_averaged_over_seeds(folder: Path, layerflow_command: Command) -> None:
    words = ["search", "iris.yaml", "optimizer.lr=0.0001,0.1", "seed=0..1", "train.epochs=3", "--quiet"]
    done = layerflow_command(*words, "--jobs", "2")
    assert done.code == 0
    names = sorted(entry.name for entry in OUT.iterdir() if entry.is_dir())
    assert names == [f"optimizer.lr={lr},seed={seed}" for lr in ("0.0001", "0.1") for seed in (0, 1)]
    values = [result(f"optimizer.lr=0.1,seed={seed}") for seed in (0, 1)]
    header, best, other = (line.split() for line in done.out.strip().splitlines())
    assert header == ["optimizer.lr", "val_loss", "test_loss", "test_accuracy", "runs"]
    assert best[:4] == ["0.1", f"{mean(values):.4f}", "±", f"{stdev(values):.4f}"]
    assert (other[0], best[-1], other[-1]) == ("0.0001", "2", "2")

    again = layerflow_command(*words, "--json", "optimizer.momentum=0.9")  # what the file says already
    assert "4 of 4 runs were there already" in again.err
    plain = json.loads(again.out)
    assert [group["settings"] for group in plain["groups"]] == [{"optimizer.lr": 0.1}, {"optimizer.lr": 0.0001}]
    assert plain["groups"][0]["spread"]["val_loss"] == pytest.approx(stdev(values))
    assert len(list(OUT.glob("*/*/run.json"))) == 4


def test_other_settings_are_trained_anew_beside_the_old_ones(folder: Path, layerflow_command: Command) -> None:
    for epochs in (1, 2, 2):
        done = layerflow_command("search", "iris.yaml", "seed=0", f"train.epochs={epochs}", "--quiet", "--random", "1")
        assert done.code == 0
    assert sorted(entry.name for entry in (OUT / "all").iterdir()) == ["001", "002"]
    assert "1 of 1 runs were there already" in done.err


def test_one_that_diverges_is_said_and_not_tried_again(folder: Path, layerflow_command: Command) -> None:
    words = ["search", "iris.yaml", "optimizer.lr=0.1,1e38", "train.epochs=2", "--quiet", "--json"]
    first, second = layerflow_command(*words), layerflow_command(*words)
    assert first.code == second.code == 5
    good, bad = json.loads(second.out)["groups"]
    assert good["settings"] == {"optimizer.lr": 0.1}
    assert bad["runs"] == [None]
    assert bad["mean"]["val_loss"] is None
    assert "2 of 2 runs were there already" in second.err


def test_nothing_starts_when_a_setting_is_wrong(folder: Path, layerflow_command: Command) -> None:
    for words in (["optimiser.lr=0.1,0.2"], ["optimizer.lr=0.1,fast"], ["seed=0..1", "--random", "0"]):
        assert layerflow_command("search", "iris.yaml", *words).code == 2
    assert not Path("runs").exists()


def test_a_metric_that_does_not_exist_is_named_before_the_training(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("search", "iris.yaml", "seed=0,1", "--by", "test_acuracy")
    assert done.code == 2
    assert "did you mean 'test_accuracy'?" in done.err
    assert not Path("runs").exists()


def test_a_metric_that_these_runs_lack_is_named(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("search", "iris.yaml", "seed=0", "train.epochs=1", "--quiet", "--by", "test_f1")
    assert done.code == 2
    assert "--by test_f1: not recorded in these runs" in done.err


def test_an_interrupted_search_goes_on_where_it_was(
    folder: Path, layerflow_command: Command, environment: dict[str, str]
) -> None:
    words = ["search", "iris.yaml", "seed=0,1", "train.epochs=600", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "layerflow", *words],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    metrics = OUT / "seed=0/001/metrics.jsonl"
    end = time.monotonic() + 180
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "skipped: seed=1" in err
    assert "run the same command again" in err
    begun = len(metrics.read_text().splitlines())
    assert begun < 600
    assert layerflow_command(*words).code == 0
    assert [entry.name for entry in (OUT / "seed=0").iterdir()] == ["001"]
    epochs = [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()]
    assert epochs == list(range(1, 601))
    assert json.loads((OUT / "seed=0/001/run.json").read_text())["resumed"][0]["epoch"] >= begun - 1
    assert json.loads((OUT / "seed=1/001/run.json").read_text())["outcome"] == "finished"


def test_own_types_are_handed_on(folder: Path, layerflow_command: Command, own_types: Path) -> None:
    (folder / "own.yaml").write_text((folder / "iris.yaml").read_text().replace("ReLU", "LearnedSwish"))
    done = layerflow_command("search", "own.yaml", "seed=0", "train.epochs=1", "--quiet", "--import", own_types)
    assert done.code == 0
    assert done.out.split()[-1] == "1"


def test_a_picture_is_drawn_of_numbers_and_of_names(
    folder: Path, layerflow_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "search",
        "iris.yaml",
        "optimizer.lr=0.01,0.1",
        "model.1=ReLU,Tanh",
        "train.epochs=1",
        "--quiet",
        "-j",
        "2",
    ]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "hidden" not in place])
    done = layerflow_command(*words)
    assert f"picture: {OUT}/search.png" in done.err
    assert (OUT / "search.png").read_bytes().startswith(b"\x89PNG")
    (OUT / "search.png").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "layerflow.report.comparison_plots")
    done = layerflow_command(*words)
    assert done.code == 0
    assert "no picture: pictures need matplotlib: pip install 'layerflow[plot]'" in done.err
    assert not (OUT / "search.png").exists()
