"""`layerflow check` with its preflight, and the short form of it before a training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]

UNSCALED = "data.scale={type: Divide, by: 0.001}"


def test_check_shows_number_verdict_evidence_and_remedy_of_each_finding(
    folder: Path, layerflow_command: Command
) -> None:
    before = sorted(folder.rglob("*"))
    done = layerflow_command(
        "check", "iris.yaml", "optimizer.weight_decay=0.01", "regularizer={type: L2Regularizer, strength: 0.1}"
    )
    assert done.code == 0
    lines = done.out.splitlines()
    (row,) = [index for index, line in enumerate(lines) if "weight decay" in line]
    assert lines[row].split()[:4] == ["look", "weight", "decay", "0.21"]
    assert "L2Regularizer 0.1 (gradient 0.2 W) and weight_decay 0.01 in SGD" in lines[row]
    assert lines[row + 1].strip() == "-> the weights are drawn to zero twice; keep one of them"
    assert any(line.split()[:3] == ["ok", "gradient", "check"] for line in lines)
    assert lines[0].endswith(" warnings")
    assert sorted(folder.rglob("*")) == before


def test_check_fails_when_something_is_bad(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("check", "iris.yaml", UNSCALED, "--json")
    assert done.code == 3
    (facts,) = json.loads(done.out)
    found = {finding["check"]: finding for finding in facts["findings"]}
    assert found["feature scale"]["verdict"] == "look"
    assert found["initial loss"]["verdict"] == "bad"
    assert found["initial loss"]["number"] > 4 * np.log(3)
    assert found["initial loss"]["remedy"]


def test_quick_leaves_the_preflight_out(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("check", "iris.yaml", UNSCALED, "--quick", "--json")
    assert done.code == 0
    assert "findings" not in json.loads(done.out)[0]


def test_the_worst_of_several_configurations_decides(folder: Path, layerflow_command: Command) -> None:
    text = (folder / "iris.yaml").read_text()
    (folder / "far.yaml").write_text(text.replace("scale: Standard", "scale: {type: Divide, by: 0.001}"))
    done = layerflow_command("check", "far.yaml", "iris.yaml")
    assert done.code == 3
    assert "\n\niris.yaml:" in done.out


def test_train_says_what_is_not_as_it_should_be_on_one_line_each(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("train", "iris.yaml", UNSCALED)
    assert done.code == 0
    warnings = [line for line in done.err.splitlines() if line.startswith(("iris: look: ", "iris: bad: "))]
    assert any(
        line.startswith("iris: look: feature scale: rms ") and line.endswith("data.scale: Standard")
        for line in warnings
    )
    assert not [line for line in done.err.splitlines() if line.startswith("iris: ok")]


@pytest.mark.parametrize("word", ["--no-preflight", "--quiet"])
def test_train_can_go_without_it(folder: Path, layerflow_command: Command, word: str) -> None:
    err = layerflow_command("train", "iris.yaml", UNSCALED, word).err
    assert "look: " not in err
    assert "bad: " not in err


def test_the_preflight_changes_no_bit_of_the_training(
    folder: Path, own_types: Path, layerflow_command: Command
) -> None:
    """With dropout, an optimizer with memory, a gate that learns, and one that draws from NumPy's global generator."""
    (folder / "noise.py").write_text(GLOBAL_NOISE)
    model = "model=[{type: Linear, out_features: 16}, LearnedSwish, GlobalNoise, {type: Dropout, rate: 0.3}, Linear]"
    words = ["iris.yaml", model, "optimizer={type: Adam, lr: 0.01}", "--import", own_types, "--import", "noise.py"]
    runs = {}
    for name, more in (("with", []), ("without", ["--no-preflight"])):
        np.random.seed(3)
        assert layerflow_command("train", *words, "--name", name, *more).code == 0
        run = folder / "runs" / name / "001"
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        with np.load(run / "model.npz") as arrays:
            values = {key: arrays[key] for key in arrays.files if arrays[key].dtype.kind == "f"}
        runs[name] = [{key: value for key, value in record.items() if key != "seconds"} for record in records], values
    (records, values), (other_records, other_values) = runs["with"], runs["without"]
    assert records == other_records
    assert len(values) >= 4
    assert values.keys() == other_values.keys()
    assert all(np.array_equal(values[key], other_values[key]) for key in values)


def test_the_first_batches_can_be_learned_by_heart(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command("train", "iris.yaml", "--overfit-batches", "2", "train.epochs=150", "train.batch_size=8")
    assert done.code == 0
    assert "can fit 2 batch(es), 16 samples: after 150 epochs the loss went from " in done.err
    assert "fitted" in done.out
    assert not (folder / "runs").exists()


def test_batches_that_are_not_learned_are_a_failed_check(folder: Path, layerflow_command: Command) -> None:
    done = layerflow_command(
        "train", "iris.yaml", "--overfit-batches", "1", "train.epochs=1", "optimizer.lr=1e-6", "--json", "-q"
    )
    assert done.code == 3
    (result,) = json.loads(done.out)
    assert (result["outcome"], result["folder"], result["epochs"]) == ("not fitted", None, 1)
    assert "does not fit 1 batch(es), 32 samples" in done.err
    assert "`layerflow check`" in done.err


def test_overfitting_watches_no_validation_part_and_stops_at_the_last_epoch(
    folder: Path, layerflow_command: Command
) -> None:
    stopping = "train.early_stopping={metric: val_accuracy, patience: 1}"
    done = layerflow_command(
        "train", "iris.yaml", "--overfit-batches", "100", stopping, "train.epochs=7", "train.best=val_loss"
    )
    assert done.code in (0, 3)
    assert "4 batch(es), 108 samples: after 7 epochs" in done.err
    assert "validation_" not in done.err


GLOBAL_NOISE = '''\
import numpy as np

import layerflow as lf


class GlobalNoise(lf.Gate):
    """x plus noise in training."""

    def forward(self, x):
        return x + np.random.standard_normal(x.shape).astype(x.dtype) if self.training else x

    def backward(self, grad):
        return (grad,), {}
'''
