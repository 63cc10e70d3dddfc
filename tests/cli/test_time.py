"""`layerflow time`: what it measures adds up; no test asserts how long anything takes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerflow.cli.time import Timing, in_bytes, in_seconds, measure
from layerflow.config import load_config
from layerflow.config.experiment import Experiment

Command = Callable[..., Any]
BATCH, FLOAT = 32, 4


@pytest.fixture
def timing(folder: Path) -> Timing:
    """A quick look at the iris training with momentum, dropout and a regularizer."""
    overrides = [
        "model=[{type: Linear, out_features: 16}, ReLU, {type: Dropout, rate: 0.5}, {type: Linear, out_features: 3}]",
        "regularizer={type: L2Regularizer, strength: 0.01}",
    ]
    return measure(Experiment(load_config("iris.yaml", overrides)), seconds=0.0)


def test_every_gate_of_the_objective_is_measured(timing: Timing) -> None:
    assert {gate.name for gate in timing.gates} == {
        "l2regularizer",
        "model.0",
        "model.1",
        "model.2",
        "model.3",
        "loss",
        "add",
    }
    assert all(gate.forward > 0 for gate in timing.gates)
    assert all(gate.backward > 0 for gate in timing.gates)
    assert all(gate.share > 0 for gate in timing.gates)
    assert timing.rounds >= 5


def test_a_run_takes_its_epochs_times_its_steps(timing: Timing) -> None:
    assert (timing.steps, timing.epochs, timing.batch_size) == (4, 5, BATCH)
    assert timing.run_seconds == pytest.approx(5 * (4 * timing.mean + timing.validation) / 1000)
    assert timing.validation > 0


def test_memory_is_counted_once_and_by_the_gate_that_makes_it(timing: Timing) -> None:
    parameters = 4 * 16 + 16 + 16 * 3 + 3
    memory = {gate.name: gate.memory for gate in timing.gates}
    rows = {BATCH, 108 % BATCH}  # the last batch of an epoch is smaller
    assert memory["model.0"] in {n * 16 * FLOAT for n in rows}
    assert memory["model.1"] == memory["model.0"]  # the output; the input is the output of the gate before
    assert memory["model.2"] == 2 * memory["model.0"]  # the output and the mask
    assert timing.parameter_bytes == 2 * parameters * FLOAT
    assert timing.optimizer_bytes == parameters * FLOAT  # the velocity
    assert timing.activation_bytes == sum(memory.values())
    assert sum(gate.parameters for gate in timing.gates) == parameters


def test_the_table_is_for_people_and_json_for_machines(folder: Path, layerflow_command: Command) -> None:
    before = sorted(folder.rglob("*"))
    text = layerflow_command("time", "iris.yaml").out
    for word in (
        "forward ms",
        "backward ms",
        "share",
        "model.0  Linear(out_features=16)",
        "optimizer  SGD",
        "5 epochs of 4 step(s) of 32 samples",
    ):
        assert word in text
    (facts,) = json.loads(layerflow_command("time", "iris.yaml", "--json").out)
    assert [gate["name"] for gate in facts["gates"]] == ["model.0", "model.1", "model.2", "loss"]
    assert facts["run_seconds"] > 0
    assert np.isclose(facts["epoch_seconds"] * facts["epochs"], facts["run_seconds"])
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (407_000, "407 kB"), (2.5e12, "2.5e+03 GB")]
)
def test_sizes_have_units(size: float, text: str) -> None:
    assert in_bytes(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.234, "0.23 s"), (42.4, "42 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_have_units(seconds: float, text: str) -> None:
    assert in_seconds(seconds) == text
