"""Metrics of classification and regression, exact over batches.

A metric is a function of a tally, which takes in batch after batch; so a metric of a whole set is not a mean of batch
means, and never depends on how the set was cut:

    tally = make_tally("classification", ["accuracy", "f1"])
    for scores, labels in batches:
        tally.update(scores, labels)
    evaluate(tally, ["accuracy", "f1"])                 # {"accuracy": 0.97, "f1": 0.96}

`precision`, `recall` and `f1` are means over the classes; `precision_0`, `recall_3`, `f1_12` are those of one class, by
its number.

Where scikit-learn has the same metric, the values agree (0 / 0 and missing classes included).
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerflow.errors import ConfigError, DataError, did_you_mean
from layerflow.parameter import Array
from layerflow.training.tallies import (
    ClassificationTally,
    RegressionTally,
    Tally,
    confusion_matrix,
    predicted_labels,
    target_labels,
)

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "OF_ONE_CLASS",
    "Metric",
    "accuracy",
    "baseline",
    "confusion_matrix",
    "evaluate",
    "find_metric",
    "higher_is_better",
    "mae",
    "make_tally",
    "metric_named",
    "precision_recall_f1",
    "predicted_labels",
    "r2",
    "rmse",
    "top_k",
]

FloatArray = NDArray[np.float64]


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
    """A metric: the task it belongs to, its value as a function of that task's tally, and which way is better."""

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
    """Return the metric `name`; `ConfigError` when there is none or when it belongs to another task."""
    metric = find_metric(name)
    if metric is None or metric.task != task:
        known = [key for key, metric in METRICS.items() if metric.task == task]
        raise ConfigError(f"no metric {name!r} for {task} (only {', '.join(known)}){did_you_mean(name, known)}")
    return metric


def higher_is_better(name: str) -> bool:
    """Say it for a metric by name, with or without a prefix such as `val_`; of losses, lower is better."""
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
    """Return the share of samples whose predicted label is right."""
    return _of(ClassificationTally().update(scores, labels), _accuracy)


def top_k(scores: ArrayLike, labels: ArrayLike, k: int) -> float:
    """Return the share of samples whose class is among the k highest scores.

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
    """Return the metrics `names` on `targets` of the best constant guess that the training targets suggest.

    The guess is the most frequent class (with `top_3`: the three most frequent), or the mean: what a model has to beat.
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
