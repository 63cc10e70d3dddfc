"""Metrics of classification and regression, exact over batches.

A metric is a function of a tally: counts and sums that are updated batch by batch. So the metric of a data set is not a
mean of batch means, and does not depend on how the data were split into batches:

    tally = make_tally("classification", ["accuracy", "f1"])
    for scores, labels in batches:
        tally.update(scores, labels)
    evaluate(tally, ["accuracy", "f1"])                 # {"accuracy": 0.97, "f1": 0.96}

`precision`, `recall` and `f1` are means over the classes; `precision_0`, `recall_3`, `f1_12` are those of one class, by
its number.

Where scikit-learn has the same metric, the values agree (0 / 0 and missing classes included).
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerflow.errors import ConfigError, DataError, did_you_mean
from layerflow.gate import Gate
from layerflow.parameter import Array

EVALUATION_BATCH = 1024
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def predicted_labels(scores: ArrayLike) -> IntArray:
    """Return the predicted class of each sample, shape (batch,): the highest score, the first of several equal ones.

    Scores have shape (batch, classes). Shape (batch,) or (batch, 1) is a logistic regression: class 1 for scores > 0.
    Any other shape is a `DataError`.
    """
    return _highest(_score_rows(scores))


def target_labels(targets: ArrayLike) -> IntArray:
    """Return the labels in `targets`, shape (batch,): whole numbers of shape (batch,) or (batch, 1), or probabilities.

    Probabilities are rows (batch, classes) that sum to 1; their label is the most probable class. Anything else is a
    `DataError`: a label that is not a whole number >= 0, a row with several classes at once.
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
        raise DataError(f"labels must be whole numbers >= 0, got {t.dtype} such as {labels[:3].tolist()}")
    return labels.astype(np.int64, copy=False)


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> IntArray:
    """Return how many samples of class i (row) were predicted as class j (column), shape (classes, classes)."""
    columns = target_labels(predictions)
    _check_range(columns, classes)
    return _count(target_labels(labels), columns, classes)


class Tally(ABC):
    """Counts or sums that metrics are computed from, updated batch by batch."""

    task: ClassVar[str]
    samples: int = 0

    @abstractmethod
    def update(self, scores: ArrayLike, targets: ArrayLike) -> Self:
        """Add one batch and return the tally. Raises `DataError` if the shapes of scores and targets do not match."""


class ClassificationTally(Tally):
    """Counts for the metrics of a classifier.

    Attributes: `confusion` (see `confusion_matrix`); `ranks[r]`, how many samples had r classes scored above their own.
    `ranks` costs a comparison of all scores, so it is kept only with `ranked=True`; the `top_...` metrics need it.
    """

    task = "classification"

    def __init__(self, ranked: bool = False) -> None:
        self.ranked = ranked
        self.confusion = np.zeros((0, 0), np.int64)
        self.ranks = np.zeros(0, np.int64)

    def update(self, scores: ArrayLike, targets: ArrayLike) -> Self:
        """Count a batch of scores (batch, classes), or (batch,) or (batch, 1) for two classes, and their labels."""
        s, labels = _score_rows(scores), target_labels(targets)
        classes = max(s.shape[1], 2)
        if self.samples and len(self.confusion) != classes:
            raise DataError(f"this batch has scores for {classes} classes, earlier ones had {len(self.confusion)}")
        confusion = _count(labels, _highest(s), classes)
        self.confusion = self.confusion + confusion if self.samples else confusion
        if self.ranked:
            ranks = np.bincount(_ranks(s, labels), minlength=classes)
            self.ranks = self.ranks + ranks if self.samples else ranks
        self.samples += len(labels)
        return self


class RegressionTally(Tally):
    """Sums for the metrics of a regression, in float64, one per column of the targets.

    The squared deviations of the targets are merged batch by batch (Chan, Golub and LeVeque, "Algorithms for computing
    the sample variance", 1983) and measured from the first sample, so that a large mean costs no precision and constant
    targets deviate by exactly 0.
    """

    task = "regression"

    def __init__(self) -> None:
        self.squared_error = self.absolute_error = self.target_mean = self.target_deviation = np.zeros(1)

    def update(self, scores: ArrayLike, targets: ArrayLike) -> Self:
        """Add a batch: scores and targets of one shape (batch, ...); (batch,) and (batch, 1) are the same."""
        s, t = _columns(scores), _columns(targets)
        if s.shape != t.shape:
            raise DataError(f"scores have shape {np.shape(scores)}, but targets have shape {np.shape(targets)}")
        if self.samples and t.shape[1] != len(self.squared_error):
            raise DataError(f"this batch has {t.shape[1]} columns, earlier ones had {len(self.squared_error)}")
        if not len(t):
            return self
        if not self.samples:
            self.origin = t[0].copy()
        error = s - t
        t = t - self.origin
        mean = t.mean(axis=0)
        total, shift = self.samples + len(t), mean - self.target_mean
        self.squared_error = self.squared_error + (error**2).sum(axis=0)
        self.absolute_error = self.absolute_error + np.abs(error).sum(axis=0)
        between = shift**2 * (self.samples * len(t) / total)
        self.target_deviation = self.target_deviation + ((t - mean) ** 2).sum(axis=0) + between
        self.target_mean = self.target_mean + shift * (len(t) / total)
        self.samples = total
        return self


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


def precision_recall_f1(confusion: Array) -> tuple[FloatArray, FloatArray, FloatArray]:
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
    """A metric: its task, its value as a function of the task's tally, and whether higher is better."""

    task: str
    of: Callable[[Any], float]
    higher_is_better: bool


def _macro(index: int) -> Callable[[ClassificationTally], float]:
    """Return the mean of precision (0), recall (1) or F1 (2) over the classes that occur or were predicted."""

    def mean(tally: ClassificationTally) -> float:
        seen = (tally.confusion.sum(axis=0) + tally.confusion.sum(axis=1)) > 0
        return float(precision_recall_f1(tally.confusion)[index][seen].mean())

    return mean


def _of_class(index: int, label: int) -> Callable[[ClassificationTally], float]:
    """Return precision (0), recall (1) or F1 (2) of one class."""

    def value(tally: ClassificationTally) -> float:
        classes = len(tally.confusion)
        if label >= classes:
            raise ConfigError(f"no metric of class {label}: {classes} classes are numbered 0 to {classes - 1}")
        return float(precision_recall_f1(tally.confusion)[index][label])

    return value


def _top(k: int) -> Callable[[ClassificationTally], float]:
    def share(tally: ClassificationTally) -> float:
        if not tally.ranked:
            raise ConfigError("top_k needs a tally that keeps ranks: ClassificationTally(ranked=True)")
        if not 1 <= k <= len(tally.confusion):
            raise ConfigError(f"top_k needs 1 <= k <= classes, got k = {k} for {len(tally.confusion)} classes")
        return float(tally.ranks[:k].sum() / tally.samples)

    return share


def _accuracy(tally: ClassificationTally) -> float:
    return float(np.trace(tally.confusion) / tally.samples)


def _rmse(tally: RegressionTally) -> float:
    return float(np.sqrt(tally.squared_error / tally.samples).mean())


def _mae(tally: RegressionTally) -> float:
    return float((tally.absolute_error / tally.samples).mean())


def _r2(tally: RegressionTally) -> float:
    if tally.samples < 2:
        return float("nan")
    constant = tally.target_deviation == 0
    explained = 1 - tally.squared_error / np.where(constant, 1, tally.target_deviation)
    return float(np.where(constant, tally.squared_error == 0, explained).mean())


METRICS: dict[str, Metric] = {
    "accuracy": Metric("classification", _accuracy, True),
    "precision": Metric("classification", _macro(0), True),
    "recall": Metric("classification", _macro(1), True),
    "f1": Metric("classification", _macro(2), True),
    **{f"top_{k}": Metric("classification", _top(k), True) for k in range(2, 11)},
    "rmse": Metric("regression", _rmse, False),
    "mae": Metric("regression", _mae, False),
    "r2": Metric("regression", _r2, True),
}

DEFAULT_METRICS: dict[str, list[str]] = {"classification": ["accuracy"], "regression": ["rmse", "mae", "r2"]}

OF_ONE_CLASS = r"(precision|recall|f1)_(0|[1-9][0-9]{0,5})"


def find_metric(name: str) -> Metric | None:
    """Return the metric `name`, of all classes or of one, or `None` when there is none."""
    if of_class := re.fullmatch(OF_ONE_CLASS, name):
        index = ("precision", "recall", "f1").index(of_class[1])
        return Metric("classification", _of_class(index, int(of_class[2])), True)
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


def make_tally(task: str, names: Sequence[str]) -> Tally:
    """Return an empty tally for the metrics `names`; `ConfigError` when one of them is not a metric of `task`."""
    for name in names:
        metric_named(name, task)
    if task == RegressionTally.task:
        return RegressionTally()
    return ClassificationTally(ranked=any(name.startswith("top_") for name in names))


def evaluate(tally: Tally, names: Iterable[str]) -> dict[str, float]:
    """Return the metrics `names` of all samples in `tally`; `DataError` when there are none."""
    return {name: _of(tally, metric_named(name, tally.task).of) for name in names}


def accuracy(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the fraction of samples whose predicted label is correct."""
    return _of(ClassificationTally().update(scores, labels), _accuracy)


def top_k(scores: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Return the fraction of samples whose class is among the k highest scores.

    Of equal scores the first class comes first, as in `accuracy` (which is k = 1), and NaN comes before all numbers: a
    model that gives every class the same score gets no credit for it. `ConfigError` unless 1 <= k <= classes.
    """
    return _of(ClassificationTally(ranked=True).update(scores, labels), _top(k))


def rmse(scores: ArrayLike, targets: ArrayLike) -> float:
    """Return sqrt(mean((s - t)^2)), averaged over the columns if there are several."""
    return _of(RegressionTally().update(scores, targets), _rmse)


def mae(scores: ArrayLike, targets: ArrayLike) -> float:
    """Return mean(|s - t|), averaged over the columns if there are several."""
    return _of(RegressionTally().update(scores, targets), _mae)


def r2(scores: ArrayLike, targets: ArrayLike) -> float:
    """Return 1 - sum((s - t)^2) / sum((t - mean(t))^2), averaged over the columns if there are several.

    Of constant targets it is 1 when all are met and 0 otherwise; of fewer than two samples it is NaN.
    """
    return _of(RegressionTally().update(scores, targets), _r2)


def baseline(task: str, train_targets: ArrayLike, targets: ArrayLike, names: Sequence[str]) -> dict[str, float]:
    """Return the metrics `names` on `targets` of a constant prediction made from the training targets.

    It is the most frequent class (with `top_3`: the three most frequent), or the mean. A useful model is better.
    """
    if task == RegressionTally.task:
        guess = np.mean(np.asarray(train_targets, np.float64), axis=0)
        scores = np.broadcast_to(guess, np.shape(targets))
    else:
        highest = target_labels(targets).max(initial=1)
        counts = np.bincount(target_labels(train_targets), minlength=highest + 1)
        scores = np.broadcast_to(counts, (len(np.asarray(targets)), len(counts)))
    return evaluate(make_tally(task, names).update(scores, targets), names)


def _of(tally: Tally, metric: Callable[[Any], float]) -> float:
    if not tally.samples:
        raise DataError("metrics need at least one sample")
    return metric(tally)


def _ratio(numerator: Array, denominator: Array) -> FloatArray:
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
    return {"loss": float(loss.forward(scores, y))} | evaluate(make_tally(task, metrics).update(scores, y), metrics)


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
