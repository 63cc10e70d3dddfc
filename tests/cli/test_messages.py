"""What people type at first, and what they are told to write instead."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.cli import main

CONFIG = """\
seed: 0
data: {source: Moons, test: 0.2}
model: [{type: Linear, out_features: 8}, ReLU, Linear]
loss: SoftmaxCE
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 1}
"""

TYPED = {
    "train moons.yaml --lr 0.1": "--lr 0.1; a setting of the configuration is written optimizer.lr=0.1",
    "train moons.yaml --batch-size=8": "is written train.batch_size=8",
    "tain moons.yaml": "no command 'tain', did you mean 'train'?",
    "fit moons.yaml": "no command 'fit'; the commands are train, eval,",
    "train moons.yaml optimizer.lr = 0.1": "a setting is written without spaces: optimizer.lr=0.1",
    "train moons.yaml model[0].out_features=3": "items are numbered after a dot: write model.0.out_features=3",
    "search moons.yaml optimizer.lr=[0.1,0.2]": "values to try are written without brackets: optimizer.lr=0.1,0.2",
    "train mons.yaml": "mons.yaml: no such file, did you mean 'moons.yaml'?",
    "train moons.yaml data.scale=StandardScaler": "not the text 'StandardScaler', did you mean 'Standard'?",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Any) -> Path:
    (tmp_path / "moons.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("typed", TYPED)
def test_a_first_attempt_is_answered_with_what_to_write(typed: str, folder: Path, capsys: Any) -> None:
    try:
        code = main(typed.split())
    except SystemExit as left:
        code = int(left.code or 0)
    assert code == 2
    assert TYPED[typed] in capsys.readouterr().err
    assert not (folder / "runs").exists()


def test_a_line_that_is_indented_too_far_is_pointed_at(folder: Path, capsys: Any) -> None:
    (folder / "moons.yaml").write_text(
        CONFIG.replace("data: {source: Moons, test: 0.2}", "data:\n  source: Moons\n   test: 0.2")
    )
    assert main(["check", "moons.yaml"]) == 2
    assert (
        "moons.yaml:4:8: not valid YAML: a key inside a value: give the line the indentation" in capsys.readouterr().err
    )


def test_a_folder_with_one_run_is_that_run(folder: Path, capsys: Any) -> None:
    assert main(["train", "moons.yaml", "-q"]) == 0
    assert main(["eval", "runs/moons"]) == 0
    assert main(["train", "moons.yaml", "-q"]) == 0
    capsys.readouterr()
    assert main(["eval", "runs/moons"]) == 4
    assert "runs/moons: contains 2 runs; name one of them, such as runs/moons/002" in capsys.readouterr().err


def test_linear_with_its_widths_in_the_order_of_torch_is_recognised() -> None:
    with pytest.raises(lf.GateError, match=r"Linear takes \(out_features, in_features\): write Linear\(16, 13\)\?"):
        lf.Sequential(lf.Linear(13, 16)).forward(np.ones((2, 13)))
