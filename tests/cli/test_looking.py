"""`check`, `summary`, `gates` and `schema`: commands that look and change nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import layerflow as lf
from layerflow.cli import COMMANDS
from layerflow.gates import GATES

Command = Callable[..., Any]


def test_check_says_what_it_found_and_writes_nothing(folder: Path, layerflow_command: Command) -> None:
    before = sorted(folder.rglob("*"))
    done = layerflow_command("check", "iris.yaml", "--quick")
    assert done.code == 0
    assert done.out.startswith("iris.yaml: no problems found\n")
    for found in (
        "iris: samples of shape (4,): 108 train, 12 validation, 30 test",
        "setosa (36), versicolor (36), virginica (36)",
        "Linear(out_features=16) -> ReLU -> Linear(out_features=3)",
        "131 parameters",
        "5 epochs of 4 step(s), batches of 32; SGD, lr 0.1",
    ):
        assert found in done.out
    assert sorted(folder.rglob("*")) == before


def test_check_tells_facts_to_a_machine(folder: Path, layerflow_command: Command) -> None:
    (facts,) = json.loads(layerflow_command("check", "iris.yaml", "--json", "--quick", "model.0.out_features=8").out)
    assert facts["samples"] == {"train": 108, "validation": 12, "test": 30}
    assert facts["parameters"] == 5 * 8 + 9 * 3
    assert facts["classes"] == {"setosa": 36, "versicolor": 36, "virginica": 36}
    assert 0.5 < facts["loss_at_start"] < 3


def test_check_goes_on_after_a_configuration_that_fails(folder: Path, layerflow_command: Command) -> None:
    text = (folder / "iris.yaml").read_text()
    (folder / "wide.yaml").write_text(text.replace("ReLU, Linear", "ReLU, {type: Linear, in_features: 17}"))
    done = layerflow_command("check", "wide.yaml", "iris.yaml", "--quick")
    assert done.code == 2
    assert "wide.yaml: Linear(out_features=3, in_features=17): input of shape" in done.err.replace(
        "in_features=17, out_features=3", "out_features=3, in_features=17"
    )
    assert "in gate '2' (Linear)" in done.err
    assert "iris.yaml: no problems found" in done.out


def test_summary_lists_gates_shapes_and_parameters(folder: Path, layerflow_command: Command) -> None:
    lines = layerflow_command("summary", "iris.yaml").out.splitlines()
    assert lines[0] == "iris.yaml"
    assert lines[1].split() == ["name", "gate", "output", "shape", "parameters"]
    assert lines[2].split() == ["0", "Linear(out_features=16)", "(32,", "16)", "80"]
    assert lines[-1].split() == ["total", "131"]
    (facts,) = json.loads(layerflow_command("summary", "iris.yaml", "--json").out)
    assert facts["gates"][2]["parameters"] == {"weight": [3, 16], "bias": [3]}


def test_gates_lists_every_gate_once_with_its_formula(layerflow_command: Command) -> None:
    entries = json.loads(layerflow_command("gates", "--json").out)
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names))
    assert set(GATES) <= set(names)
    assert all(entry["formula"] for entry in entries)
    text = layerflow_command("gates").out
    assert "  Linear(out_features, in_features=None, bias=True, init='he')(x)\n      s = x W^T + b" in text
    assert "  Multiply()(a, b)\n" in text
    assert "\n\nloss\n  SoftmaxCE(" in text


def test_gates_explains_one_in_full(layerflow_command: Command) -> None:
    done = layerflow_command("gates", "ReLU")
    assert done.out.startswith("ReLU()(x)\n\ny = max(0, x).")
    assert "Local gradient" in done.out
    missing = layerflow_command("gates", "Relu")
    assert missing.code == 2
    assert missing.err == "unknown gate 'Relu', did you mean 'ReLU'?\n"


def test_gates_of_your_own_come_last(layerflow_command: Command, own_types: Path) -> None:
    text = layerflow_command("gates", "--import", own_types).out
    assert text.rpartition("\n\n")[2].startswith(
        "your own\n  LearnedSwish(beta=1.0)(x)\n      y = x * sigmoid(beta x), beta learned.\n"
    )
    assert "beta learned" in layerflow_command("gates", "LearnedSwish", "--import", own_types).out


def test_the_schema_names_every_type(layerflow_command: Command, own_types: Path) -> None:
    schema = json.loads(layerflow_command("schema", "--import", own_types).out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"gate.Linear", "optimizer.Adam", "reader.CSV", "gate.LearnedSwish", "loss.Brier"} <= set(schema["$defs"])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_and_shows_examples(layerflow_command: Command, command: str) -> None:
    done = layerflow_command(command, "--help")
    assert done.code == 0
    assert done.out.split("\n\n")[1][0].isupper()  # a sentence that says what it does, before any argument
    assert "examples:\n" in done.out
    assert f"  layerflow {command}" in done.out.partition("examples:\n")[2]


def test_the_version_is_the_package_s(layerflow_command: Command) -> None:
    assert layerflow_command("--version").out == f"layerflow {lf.__version__}\n"


def test_help_lists_every_command_and_exit_code(layerflow_command: Command) -> None:
    text = layerflow_command("--help").out
    for word in (*COMMANDS, "5 diverged", "130 interrupted"):
        assert word in text


@pytest.mark.parametrize(
    "words", [[], ["trian"], ["train"], ["check", "iris.yaml", "--qick"], ["gates", "ReLU", "Tanh"], ["eval"]]
)
def test_words_that_no_command_takes_are_usage_errors(
    folder: Path, layerflow_command: Command, words: list[str]
) -> None:
    done = layerflow_command(*words)
    assert done.code == 2
    assert done.err.startswith("usage: layerflow")


def test_debug_lets_the_traceback_through(folder: Path, layerflow_command: Command) -> None:
    with pytest.raises(lf.DataError, match="no such file"):
        layerflow_command("check", "iris.yaml", "data.source.path=missing.csv", "--debug")


def test_an_unexpected_error_is_exit_code_1_and_points_to_debug(
    folder: Path, layerflow_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerflow.cli.schema.json_schema", lambda registry: 1 / 0)
    done = layerflow_command("schema")
    assert done.code == 1
    assert "ZeroDivisionError" in done.err
    assert "--debug" in done.err
    assert "Traceback" not in done.err
