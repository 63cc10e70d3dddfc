"""`layerflow graph`: pictures and text of a configuration's whole objective."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def regularized(folder: Path) -> None:
    """Add a penalty to the configuration, so that the weights are read twice."""
    with (folder / "iris.yaml").open("a") as file:
        file.write("regularizer: {type: L2Regularizer, strength: 0.01}\n")


def test_without_a_file_the_table_of_the_whole_objective_is_printed(layerflow_command: Command) -> None:
    done = layerflow_command("graph", "iris.yaml")
    assert done.code == 0
    gates = re.findall(r"^(\S+): (\w+)\(", done.out, re.MULTILINE)
    assert sorted(gates) == [
        ("add", "Add"),
        ("l2regularizer", "L2Regularizer"),
        ("loss", "SoftmaxCE"),
        ("model.0", "Linear"),
        ("model.1", "ReLU"),
        ("model.2", "Linear"),
    ]
    assert done.out.count("<- model.0.weight (parameter)") == 2
    assert "32 × 4" in done.out
    assert "gradient" not in done.out


def test_with_values_one_batch_is_run_and_its_gradients_are_shown(layerflow_command: Command) -> None:
    done = layerflow_command("graph", "iris.yaml", "--values")
    assert done.out.split()[:2] == ["value", "gradient"]
    assert re.search(r"weight <- model.0.weight \(parameter\) +16 × 4 · .* ± .*16 × 4 · .* ± ", done.out)
    assert re.search(r"\(output\)\s+<- add\s+\d\.\d+\s+1$", done.out, re.MULTILINE)


@pytest.mark.parametrize("ending", ["dot", "mmd", "txt"])
def test_a_file_is_written_and_named(layerflow_command: Command, folder: Path, ending: str) -> None:
    done = layerflow_command("graph", "iris.yaml", "-o", f"iris.{ending}", "--values")
    assert (done.code, done.out) == (0, f"iris.{ending}\n")
    text = (folder / f"iris.{ending}").read_text("utf-8")
    assert all(word in text for word in ("SoftmaxCE", "L2Regularizer", "±"))


def test_one_gate_is_explained_in_the_numbers_of_a_batch(layerflow_command: Command) -> None:
    done = layerflow_command("graph", "iris.yaml", "--gate", "loss")
    assert done.code == 0
    assert done.out.startswith("loss: SoftmaxCE()\n")
    assert re.search(r"scores\[\d+, \d\]  1 × (-?[\d.e-]+) = \1\n", done.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--gate", "lss"), "there is no gate 'lss'; the gates are"),
        (("--gate", "loss", "-o", "g.svg"), "--gate prints text and cannot be combined with -o"),
        (("-o", "g.jpg"), "unsupported file type '.jpg'"),
        (("-o", "none/g.txt"), "cannot be written"),
    ],
)
def test_what_cannot_be_drawn_is_said(layerflow_command: Command, words: tuple[str, ...], message: str) -> None:
    done = layerflow_command("graph", "iris.yaml", *words)
    assert done.code == 2
    assert message in done.err


def test_one_configuration_at_a_time(layerflow_command: Command, folder: Path) -> None:
    (folder / "second.yaml").write_text((folder / "iris.yaml").read_text())
    done = layerflow_command("graph", "iris.yaml", "second.yaml")
    assert done.code == 2
    assert "one configuration at a time" in done.err
