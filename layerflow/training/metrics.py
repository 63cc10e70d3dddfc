"""Metrics of classification and regression, and models in evaluation mode.

    evaluate("classification", scores, labels, ["accuracy", "f1"])          # {"accuracy": 0.97, "f1": 0.96}

A metric is computed from the scores of all samples, so that it is not a mean of batch means. `precision`, `recall` and
`f1` are means over the classes; `precision_0`, `recall_3`, `f1_12` are those of one class, by its number. Where
scikit-learn has the same metric, the values agree (0 / 0 and missing classes included).
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerflow.errors import ConfigError, DataError, did_you_mean
from layerflow.gate import Gate
from layerflow.parameter import Array

EVALUATION_BATCH = 1024
IntArray = NDArray[np.int64]


def predicted_labels(scores: ArrayLike) -> IntArray:
    """Return the predicted class of each sample, shape (batch,): the highest score, the first of several equal ones.

    Scores have shape (batch, classes). Shape (batch,) or (batch, 1) is a logistic regression: class 1 for scores > 0.
    Any other shape is a `DataError`.
    """
    return _highest(_score_rows(scores))


def target_labels(targets: ArrayLike) -> IntArray:
    """Return the labels in `targets`, shape (batch,): integers of shape (batch,) or (batch, 1), or probabilities.

    Probabilities are rows (batch, classes) that sum to 1; their label is the most probable class. Anything else is a
    `DataError`: a label that is not an integer >= 0, a row with several classes at once.
    """
    t = np.asarray(targets)
    if t.ndim == 2 and t.shape[1] > 1:
        if not np.allclose(t.sum(axis=1), 1, atol=1e-3):
            raise DataError("targets of shape (batch, classes) must be probabilities: each row sums to 1")
        most_probable: IntArray = t.argmax(axis=1)
        return most_probable
    if t.ndim not in (1, 2):
        raise DataError(f"targets have shape {t.shape}, expected labels of shape (batch,)")
    labels = t.reshape(-1)
    whole = labels.dtype.kind in "biu" or (
        labels.dtype.kind == "f" and np.all(np.isfinite(labels) & (labels == np.floor(labels)))
    )
    if not whole or labels.min(initial=0) < 0:
        raise DataError(f"labels must be integers >= 0, got {t.dtype} such as {labels[:3].tolist()}")
    return labels.astype(np.int64, copy=False)


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> IntArray:
    """Return how many samples of class i (row) were predicted as class j (column), shape (classes, classes)."""
    columns = target_labels(predictions)
    _check_range(columns, classes)
    return _count(target_labels(labels), columns, classes)


class Classified:
    """Classified samples, and the counts that metrics are computed from.

    Attributes: `confusion` (see `confusion_matrix`); `ranks[r]`, how many samples had r classes scored above their own.
    """

    def __init__(self, scores: ArrayLike, targets: ArrayLike) -> None:
        self.scores, self.labels = _score_rows(scores), target_labels(targets)
        self.samples, classes = len(self.labels), max(self.scores.shape[1], 2)
        self.confusion = _count(self.labels, _highest(self.scores), classes)

    @cached_property
    def ranks(self) -> IntArray:
        """Computed when it is asked for, as it costs a comparison of all scores."""
        return np.bincount(_ranks(self.scores, self.labels), minlength=len(self.confusion))


class Regressed:
    """Predicted numbers: errors and targets as float64 of shape (batch, columns); (batch,) is one column."""

    def __init__(self, scores: ArrayLike, targets: ArrayLike) -> None:
        s, self.targets = _columns(scores), _columns(targets)
        if s.shape != self.targets.shape:
            raise DataError(f"scores have shape {np.shape(scores)}, but targets have shape {np.shape(targets)}")
        self.errors, self.samples = s - self.targets, len(s)

    @property
    def squared_error(self) -> Array:
        """The sum of the squared errors of each column."""
        squares: Array = (self.errors**2).sum(axis=0)
        return squares


def _score_rows(scores: ArrayLike) -> Array:
    """Return scores as rows, shape (batch, classes), or (batch, 1) for a logistic regression."""
    s = np.asarray(scores)
    if s.ndim == 1:
        s = s[:, None]
    if s.ndim != 2 or s.shape[1] == 0:
        raise DataError(f"scores have shape {s.shape}, expected (batch, classes), (batch,) or (batch, 1)")
    return s


def _highest(scores: Array) -> IntArray:
    """Return the predicted label of each row of scores."""
    labels: IntArray = (scores[:, 0] > 0).astype(np.int64) if scores.shape[1] == 1 else scores.argmax(axis=1)
    return labels


def _check_range(labels: IntArray, classes: int) -> None:
    highest = labels.max(initial=0)
    if highest >= classes:
        raise DataError(f"label {highest} is out of range: {classes} classes are labelled 0 to {classes - 1}")


def _count(labels: IntArray, predictions: IntArray, classes: int) -> IntArray:
    """Return the confusion matrix; the labels are checked, the predictions are valid."""
    if labels.shape != predictions.shape:
        raise DataError(f"there are {labels.size} labels, but {predictions.size} predictions")
    _check_range(labels, classes)
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def _ranks(scores: Array, labels: IntArray) -> IntArray:
    """Return how many classes come before each sample's own: NaN, higher scores, equal scores of a lower index."""
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    own = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    others = np.arange(scores.shape[1]) != labels[:, None]
    ahead: IntArray = np.sum(others & ~(scores < own) & (earlier | (scores != own)), axis=1)
    return ahead


def _columns(values: ArrayLike) -> NDArray[np.float64]:
    """Return values as float64 columns, shape (batch, all else)."""
    v = np.asarray(values, np.float64)
    if v.ndim == 0:
        raise DataError("expected an array of shape (batch, ...), got a single number")
    return v.reshape(len(v), math.prod(v.shape[1:]))


def precision_recall_f1(confusion: Array) -> tuple[Array, Array, Array]:
    """Return precision, recall and F1 of each class, three vectors of shape (classes,).

    With the true positives TP, false positives FP and false negatives FN of a class:

        precision = TP / (TP + FP)        recall = TP / (TP + FN)        F1 = 2 TP / (2 TP + FP + FN)

    0 / 0 is 0: the precision of a class that was never predicted, the recall of a class that never occurs.
    """
    hits, predicted, actual = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = _ratio(hits, predicted), _ratio(hits, actual)
    return precision, recall, _ratio(2 * hits, predicted + actual)


@dataclass(frozen=True)
class Metric:
    """A metric: its task, its value as a function of `Classified` or `Regressed`, and whether higher is better."""

    task: str
    of: Callable[[Any], float]
    higher_is_better: bool


def _by_class(index: int, label: int | None = None) -> Callable[[Classified], float]:
    """Return precision (0), recall (1) or F1 (2) of one class; or its mean over those that occur or were predicted."""

    def value(found: Classified) -> float:
        values, classes = precision_recall_f1(found.confusion)[index], len(found.confusion)
        if label is None:
            return float(values[(found.confusion.sum(axis=0) + found.confusion.sum(axis=1)) > 0].mean())
        if label >= classes:
            raise ConfigError(f"no metric of class {label}: {classes} classes are numbered 0 to {classes - 1}")
        return float(values[label])

    return value


def _top(k: int) -> Callable[[Classified], float]:
    """Return the fraction of samples whose class is among the k highest scores.

    Of equal scores the first class comes first, as in `accuracy`, and NaN comes before all numbers: a model that gives
    every class the same score gets no credit for it.
    """

    def share(found: Classified) -> float:
        if k > len(found.confusion):
            raise ConfigError(f"top_{k} needs at least {k} classes, but there are {len(found.confusion)}")
        return float(found.ranks[:k].sum() / found.samples)

    return share


def _accuracy(found: Classified) -> float:
    return float(np.trace(found.confusion) / found.samples)


def _rmse(found: Regressed) -> float:
    return float(np.sqrt(found.squared_error / found.samples).mean())


def _mae(found: Regressed) -> float:
    return float((np.abs(found.errors).sum(axis=0) / found.samples).mean())


def _r2(found: Regressed) -> float:
    if found.samples < 2:
        return float("nan")
    moved = found.targets - found.targets[0]  # a large mean costs no precision, and constant targets deviate by 0
    deviation = ((moved - moved.mean(axis=0)) ** 2).sum(axis=0)
    constant = deviation == 0
    explained = 1 - found.squared_error / np.where(constant, 1, deviation)
    return float(np.where(constant, found.squared_error == 0, explained).mean())


BY_CLASS = ("precision", "recall", "f1")
METRICS: dict[str, Metric] = {
    "accuracy": Metric("classification", _accuracy, True),
    **{name: Metric("classification", _by_class(index), True) for index, name in enumerate(BY_CLASS)},
    **{f"top_{k}": Metric("classification", _top(k), True) for k in range(2, 11)},
    "rmse": Metric("regression", _rmse, False),
    "mae": Metric("regression", _mae, False),
    "r2": Metric("regression", _r2, True),
}

DEFAULT_METRICS: dict[str, list[str]] = {"classification": ["accuracy"], "regression": ["rmse", "mae", "r2"]}

OF_ONE_CLASS = rf"({'|'.join(BY_CLASS)})_(0|[1-9][0-9]{{0,5}})"


def find_metric(name: str) -> Metric | None:
    """Return the metric `name`, of all classes or of one, or `None` when there is none."""
    if of_class := re.fullmatch(OF_ONE_CLASS, name):
        return Metric("classification", _by_class(BY_CLASS.index(of_class[1]), int(of_class[2])), True)
    return METRICS.get(name)


def metric_named(name: str, task: str) -> Metric:
    """Return the metric `name`; `ConfigError` if there is none or it belongs to another task."""
    metric = find_metric(name)
    if metric is None or metric.task != task:
        known = [key for key, metric in METRICS.items() if metric.task == task]
        raise ConfigError(f"no metric {name!r} for {task} (only {', '.join(known)}){did_you_mean(name, known)}")
    return metric


def higher_is_better(name: str) -> bool:
    """Whether higher values of a metric are better, given its name with or without `val_`; for losses, lower is."""
    metric = find_metric(name) or find_metric(name.partition("_")[2])
    return metric is not None and metric.higher_is_better


def evaluate(task: str, scores: ArrayLike, targets: ArrayLike, names: Iterable[str]) -> dict[str, float]:
    """Return the metrics `names`.

    Raises:
        DataError: there are no samples, or the shapes of scores and targets do not match.
        ConfigError: one of the names is not a metric of the task.
    """
    metrics = {name: metric_named(name, task) for name in names}
    found = Classified(scores, targets) if task == "classification" else Regressed(scores, targets)
    if metrics and not found.samples:
        raise DataError("metrics need at least one sample")
    return {name: metric.of(found) for name, metric in metrics.items()}


def baseline(task: str, train_targets: ArrayLike, targets: ArrayLike, names: Sequence[str]) -> dict[str, float]:
    """Return the metrics `names` on `targets` of a constant prediction made from the training targets.

    It is the most frequent class (with `top_3`: the three most frequent), or the mean. A useful model is better.
    """
    if task == "regression":
        guess = np.mean(np.asarray(train_targets, np.float64), axis=0)
        scores = np.broadcast_to(guess, np.shape(targets))
    else:
        highest = target_labels(targets).max(initial=1)
        counts = np.bincount(target_labels(train_targets), minlength=highest + 1)
        scores = np.broadcast_to(counts, (len(np.asarray(targets)), len(counts)))
    return evaluate(task, scores, targets, names)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator != 0)


# Models in evaluation mode -------------------------------------------------------------------------------------------


@np.errstate(all="ignore")  # NaN and infinity are reported with the result
def predict_scores(model: Gate, x: Any, dtype: Any = None) -> Array:
    """Run the model over x in evaluation mode, 1024 samples at a time, and return its outputs."""
    was_training, model.training = model.training, False
    try:
        parts = []
        for start in range(0, len(x), EVALUATION_BATCH):
            rows = np.arange(start, min(start + EVALUATION_BATCH, len(x)))
            parts.append(model.forward(np.asarray(x.take(rows, axis=0), dtype)))
        return np.concatenate(parts)
    finally:
        model.training = was_training


@np.errstate(all="ignore")
def evaluate_scores(scores: Array, y: Array, loss: Gate, task: str, metrics: Sequence[str]) -> dict[str, float]:
    """Return the loss and the metrics of given scores."""
    return {"loss": float(loss.forward(scores, y))} | evaluate(task, scores, y, metrics)


def class_probabilities(loss: Gate, scores: Array) -> Array | None:
    """Return the probability of each class, shape (batch, classes); None if the loss defines none.

    A loss defines them by a method `probabilities(scores)`, which returns one column per class, or with
    two classes the probability of the second one, shape (batch,) or (batch, 1).
    """
    defined = getattr(loss, "probabilities", None)
    if defined is None:
        return None
    found = np.asarray(defined(scores))
    columns = found.reshape(len(found), -1)
    return np.hstack([1 - columns, columns]) if columns.shape[1] == 1 else columns
