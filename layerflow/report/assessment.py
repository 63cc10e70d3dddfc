"""How a trained model does on held-out data: results, confusion matrix, and its worst predictions."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layerflow.config.experiment import Experiment
from layerflow.data import Dataset
from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.training.metrics import baseline, confusion_matrix, evaluate_scores, predict_scores, predicted_labels

MOST_SAMPLES = 10_000
SHOWN = 24


@dataclass(frozen=True)
class Sample:
    """A sample: its index in the part, target and prediction as text, its loss, and its features."""

    index: int
    target: str
    prediction: str
    loss: float
    values: Array


@dataclass(frozen=True)
class Assessment:
    """What was measured on one part of the data.

    Attributes:
        part, size: name of the part ("test" or "validation") and number of samples.
        results, baseline: loss and metrics of the model, and those of the constant guess.
        confusion, classes: for classification: samples of class i (row) predicted as class j (column), and their names.
        predictions: for regression with one target: (samples, 2), target and prediction.
        worst: the samples with the largest loss, only misclassified ones if there are any.
        has_errors: whether `worst` are misclassified.
    """

    part: str = "test"
    size: int = 0
    results: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    confusion: Array | None = None
    classes: tuple[str, ...] = ()
    predictions: Array | None = None
    worst: list[Sample] = field(default_factory=list)
    has_errors: bool = False


def assess(experiment: Experiment) -> Assessment | None:
    """Measure a trained model on the test part, or on the validation part if there is no test part."""
    parts, trainer = experiment.parts, experiment.trainer
    part, name = (parts.test, "test") if parts.test is not None else (parts.validation, "validation")
    if part is None or part.y is None:
        return None
    x, y = parts.arrays(part, experiment.config.dtype)
    y = y.astype(trainer.dtype) if np.issubdtype(y.dtype, np.floating) else y
    scores = predict_scores(experiment.model, x, trainer.dtype)
    results = evaluate_scores(scores, y, experiment.loss, trainer.state.task, trainer.state.metric_names)
    guess = baseline(trainer.state.task, parts.train.y, part.y, trainer.state.metric_names)  # type: ignore[arg-type]
    losses = sample_losses(experiment.loss, scores[:MOST_SAMPLES], y[:MOST_SAMPLES])
    classes = parts.preprocessing.classes
    if classes is None:
        pairs = np.column_stack([y.reshape(-1), scores.reshape(-1)]) if scores.size == y.size == len(y) else None
        worst = [_sample(part, i, losses, _text(y[i]), _text(scores[i])) for i in _largest(losses)]
        return Assessment(name, len(part), results, guess, predictions=pairs, worst=worst)
    labels = predicted_labels(scores)
    wrong = np.flatnonzero(labels[:MOST_SAMPLES] != y[:MOST_SAMPLES])
    chosen = _largest(losses, wrong if len(wrong) else None)
    worst = [_sample(part, i, losses, classes[y[i]], classes[labels[i]]) for i in chosen]
    confusion = confusion_matrix(y, labels, len(classes))
    return Assessment(name, len(part), results, guess, confusion, classes, None, worst, len(wrong) > 0)


def sample_losses(loss: Gate, scores: Array, y: Array) -> Array:
    """Return the loss of each sample on its own."""
    return np.array([float(loss.forward(scores[i : i + 1], y[i : i + 1])) for i in range(len(scores))])


def _largest(losses: Array, among: Array | None = None) -> list[int]:
    among = np.arange(len(losses)) if among is None else among
    order = np.argsort(-np.nan_to_num(losses[among], nan=np.inf), kind="stable")[:SHOWN]
    return [int(index) for index in among[order]]


def _sample(part: Dataset, index: int, losses: Array, target: str, prediction: str) -> Sample:
    values = np.asarray(part.x.take(np.array([index]), axis=0))[0]
    return Sample(index, target, prediction, float(losses[index]), values)


def _text(value: Any) -> str:
    return ", ".join(f"{number:.4g}" for number in np.atleast_1d(value).reshape(-1)[:4])
