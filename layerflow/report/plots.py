"""The pictures of a run: `curves.png` and, for a classifier, `confusion.png`. Needs the `plot` extra (matplotlib)."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from layerflow.config.experiment import Experiment
from layerflow.parameter import Array
from layerflow.training.evaluation import predict_scores
from layerflow.training.history import History
from layerflow.training.metrics import confusion_matrix, predicted_labels

TRAINING, VALIDATION, INK, FAINT = "#2a6f97", "#e07a1f", "#2b2d33", "#d9dce1"
STYLE: dict[str, Any] = {"fontsize": 9, "color": INK}
NUMBERS_UP_TO = 20
LONGEST_NAME = 24


def draw_curves(history: History, title: str, path: Path) -> None:
    """Draw each loss and metric over the epochs, training and validation in one panel, the best epoch marked."""
    names = [name.removeprefix("train_") for name in history.records[0] if name.startswith("train_")]
    names = [name for name in names if name != "objective"]
    figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
    epochs = history["epoch"]
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        _frame(axes)
        axes.plot(epochs, history[f"train_{name}"], color=TRAINING, linewidth=1.8, label="training")
        if f"val_{name}" in history.records[0]:
            axes.plot(epochs, history[f"val_{name}"], color=VALIDATION, linewidth=1.8, label="validation")
        if name in history.baseline:
            axes.axhline(history.baseline[name], color=INK, linewidth=0.9, linestyle=":", label="constant guess")
        if history.best and len(epochs) > 1:
            best = history.best.epoch
            axes.axvline(best, color=INK, linewidth=0.9, linestyle="--", label=f"best epoch {best}")
        axes.set_title(name.replace("_", " "), loc="left", fontweight="bold", fontsize=10, color=INK)
        axes.set_xlabel("epoch", **STYLE)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _logarithmic_if_wide(axes, name, history)
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    figure.suptitle(title.replace("$", r"\$"), fontsize=11, color=INK)
    _save(figure, path)


def draw_confusion(confusion: Array, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw how many samples of each class (row) were taken for which (column); the shade is the share of the row."""
    count = len(classes)
    names = [_plain(name) for name in classes]
    size = min(3.0 + 0.42 * count, 14.0)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if count <= NUMBERS_UP_TO:
        for row, column in np.argwhere(confusion):
            shade = "white" if shares[row, column] > 0.5 else INK
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=8, color=shade)
        axes.set_xticks(range(count), names, rotation=45 if max(map(len, names)) > 3 else 0, fontsize=8, color=INK)
        axes.set_yticks(range(count), names, fontsize=8, color=INK)
    axes.set_xlabel("predicted", **STYLE)
    axes.set_ylabel("true", **STYLE)
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize=10, color=INK)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    _save(figure, path)


def _frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8, length=0)


def _logarithmic_if_wide(axes: Axes, name: str, history: History) -> None:
    """Losses that fall by more than a factor of 50 are readable on a logarithmic axis only."""
    keys = (f"train_{name}", f"val_{name}")
    values = [record[key] for record in history.records for key in keys if key in record]
    if name == "loss" and min(values) > 0 and max(values) / min(values) > 50:
        axes.set_yscale("log")


def _plain(text: str) -> str:
    """Return text that matplotlib takes for no formula, and that leaves room for the picture."""
    return (text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…").replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        # A script that the font lacks becomes boxes; the tables of `layerflow eval` have the names.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, metadata={"Software": None})


def draw_run(experiment: Experiment, history: History, folder: Path) -> None:
    """Draw the pictures of a finished run into its folder."""
    name, parts = experiment.config.name, experiment.parts
    draw_curves(history, name, folder / "curves.png")
    classes = parts.preprocessing.classes
    word, part = ("test", parts.test) if parts.test is not None else ("validation", parts.validation)
    if classes is None or part is None:
        return
    x, y = parts.arrays(part, experiment.config.dtype)
    predicted = predicted_labels(predict_scores(experiment.model, x, experiment.trainer.dtype))
    confusion = confusion_matrix(y, predicted, len(classes))
    right = np.trace(confusion)
    draw_confusion(confusion, classes, f"{name}: {right} of {len(y)} {word} samples right", folder / "confusion.png")
