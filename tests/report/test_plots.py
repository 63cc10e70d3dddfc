"""The pictures of a run: they are drawn for every kind of run, at sizes that can be read, without a warning."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from layerflow.report.plots import draw_confusion, draw_curves
from layerflow.training.history import Best, History


def history(
    epochs: int, validation: bool = True, names: tuple[str, ...] = ("loss", "accuracy"), **columns: Any
) -> History:
    """A history of falling losses and rising metrics."""
    records = []
    for epoch in range(1, epochs + 1):
        record: dict[str, float] = {"epoch": epoch, "lr": 0.1}
        for name in names:
            value = 2.0 / epoch if name == "loss" else 1 - 0.5 / epoch
            record[f"train_{name}"] = value
            if validation:
                record[f"val_{name}"] = value * 1.1
        records.append(record | {"train_objective": 3.0, "seconds": 0.1, "gradient_norm": math.nan})
    best = Best("val_loss", value=0.2, epoch=epochs) if validation else None
    return History(records, best, {name: 0.3 for name in names if name != "loss"})


@pytest.mark.parametrize(
    "recorded",
    [
        history(1),
        history(30, validation=False),
        history(10, names=("loss", "rmse", "mae", "r2")),
        history(10, names=("loss",)),
        history(3000),
    ],
    ids=["one epoch", "no validation", "regression", "loss alone", "long"],
)
def test_curves_have_a_panel_for_the_loss_and_each_metric(recorded: History, tmp_path: Path) -> None:
    draw_curves(recorded, "digits", tmp_path / "curves.png")
    height, width, _ = imread(tmp_path / "curves.png").shape
    panels = sum(name.startswith("training_") and name != "train_objective" for name in recorded.records[0])
    assert width > height * panels
    assert ink(tmp_path / "curves.png") > 0.01


def test_values_that_are_not_finite_leave_gaps(tmp_path: Path) -> None:
    recorded = history(10, names=("loss", "r2"))
    recorded.records[4]["val_r2"] = math.nan
    recorded.records[5]["train_loss"] = math.inf
    draw_curves(recorded, "gaps", tmp_path / "curves.png")
    assert ink(tmp_path / "curves.png") > 0.01


@pytest.mark.parametrize(
    "classes",
    [
        ["no", "yes"],
        [str(digit) for digit in range(10)],
        [f"a rather long name of class {number}" for number in range(5)],
        [str(number) for number in range(100)],
        ["größer", "$a_b$", "中文", "ascii"],
    ],
    ids=["two", "digits", "long names", "a hundred", "any script"],
)
def test_confusion_is_drawn_for_any_classes(classes: list[str], tmp_path: Path) -> None:
    confusion = np.random.default_rng(0).integers(0, 5, (len(classes), len(classes))) + 20 * np.eye(
        len(classes), dtype=int
    )
    confusion[0] = 0
    draw_confusion(confusion, classes, "digits: 9 of 10 test samples right", tmp_path / "confusion.png")
    assert ink(tmp_path / "confusion.png") > 0.005


def test_the_same_run_gives_the_same_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_curves(history(20), "digits", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def ink(file: Path) -> float:
    """The share of a picture that is not white."""
    picture = imread(file)[..., :3]
    return float(np.mean(picture.min(axis=2) < 0.9))
