"""What a trained model does on data held back from it: results, confusion, and the samples it gets most wrong."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layerflow.config.experiment import Experiment
from layerflow.data import Dataset
from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.training.evaluation import evaluate_scores, predict_scores
from layerflow.training.metrics import baseline, confusion_matrix, predicted_labels

MOST_SAMPLES = 10_000
SHOWN = 24


@dataclass(frozen=True)
class Sample:
    """A sample of the part: its number there, target and answer as texts, its own loss, and its values."""

    number: int
    target: str
    answer: str
    loss: float
    values: Array


@dataclass(frozen=True)
class Findings:
    """What was measured on a part.

    Attributes:
        part, size: its name and number of samples.
        results, baseline: loss and metrics, and those of the constant guess.
        confusion, classes: of a classifier.
        predictions: (samples, 2) of a regression with one target: target and prediction.
        worst: the samples with the largest loss, wrong ones only if there are any.
        are_wrong: whether they are.
    """

    part: str
    size: int
    results: dict[str, float]
    baseline: dict[str, float]
    confusion: Array | None = None
    classes: tuple[str, ...] = ()
    predictions: Array | None = None
    worst: list[Sample] = field(default_factory=list)
    are_wrong: bool = False


def find(experiment: Experiment) -> Findings | None:
    """Look at the test part, or at the validation part where there is no test part."""
    parts, trainer = experiment.parts, experiment.trainer
    part, word = (parts.test, "test") if parts.test is not None else (parts.validation, "validation")
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
        return Findings(word, len(part), results, guess, predictions=pairs, worst=worst)
    answers = predicted_labels(scores)
    wrong = np.flatnonzero(answers[:MOST_SAMPLES] != y[:MOST_SAMPLES])
    chosen = _largest(losses, wrong if len(wrong) else None)
    worst = [_sample(part, i, losses, classes[y[i]], classes[answers[i]]) for i in chosen]
    return Findings(
        word,
        len(part),
        results,
        guess,
        confusion_matrix(y, answers, len(classes)),
        classes,
        None,
        worst,
        len(wrong) > 0,
    )


def sample_losses(loss: Gate, scores: Array, y: Array) -> Array:
    """Return the loss of each sample by itself."""
    return np.array([float(loss.forward(scores[i : i + 1], y[i : i + 1])) for i in range(len(scores))])


def _largest(losses: Array, among: Array | None = None) -> list[int]:
    among = np.arange(len(losses)) if among is None else among
    order = np.argsort(-np.nan_to_num(losses[among], nan=np.inf), kind="stable")[:SHOWN]
    return [int(index) for index in among[order]]


def _sample(part: Dataset, index: int, losses: Array, target: str, answer: str) -> Sample:
    values = np.asarray(part.x.take(np.array([index]), axis=0))[0]
    return Sample(index, target, answer, float(losses[index]), values)


def _text(value: Any) -> str:
    return ", ".join(f"{number:.4g}" for number in np.atleast_1d(value).reshape(-1)[:4])
