"""Metrics of classification and regression.

    evaluate("classification", scores, labels, ["accuracy", "f1"])          # {"accuracy": 0.97, "f1": 0.96}

A metric is computed from the scores of all samples, so that it is not a mean of batch means. `precision`, `recall` and
`f1` are means over the classes; `precision_0`, `recall_3`, `f1_12` are those of one class, by its number. Where
scikit-learn has the same metric, the values agree (0 / 0 and missing classes included).

There are three tasks: "classification", one label per sample; "multilabel", a yes or no to each of several questions;
and "regression". `layerflow.training.evaluation.counted` brings the scores and targets of a loss into these forms.
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
from layerflow.parameter import Array
from layerflow.training.probabilities import calibration_error, log_loss, perplexity
from layerflow.training.ranking import average_precision, one_against_rest, roc_auc

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


class Labelled:
    """Answers to several yes-or-no questions: `confusions`, (questions, 2, 2), has a confusion matrix for each."""

    def __init__(self, scores: ArrayLike, targets: ArrayLike) -> None:
        self.scores, t = np.asarray(scores), np.asarray(targets)
        if self.scores.ndim != 2 or t.shape != self.scores.shape:
            raise DataError(f"scores have shape {self.scores.shape}, targets {t.shape}; expected (batch, questions)")
        if not np.isin(t, (0, 1)).all():
            raise DataError(f"the targets of yes-or-no questions are 0 or 1; the first ones are {t.flat[:3].tolist()}")
        self.samples, self.is_yes, self.says_yes = len(t), t != 0, self.scores > 0

    @cached_property
    def confusions(self) -> IntArray:
        pairs = zip(self.is_yes.T.astype(np.int64), self.says_yes.T.astype(np.int64), strict=True)
        return np.array([_count(actual, predicted, 2) for actual, predicted in pairs])


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


def _balanced_accuracy(found: Classified) -> float:
    """The mean of the recalls of the classes that occur."""
    occurs = found.confusion.sum(axis=1) > 0
    return float(precision_recall_f1(found.confusion)[1][occurs].mean())


def _mcc(found: Classified) -> float:
    """Matthews' correlation coefficient, for any number of classes (Gorodkin 2004); 0 where it is 0 / 0."""
    confusion = found.confusion.astype(np.float64)
    actual, predicted, samples = confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum()
    covariance = np.trace(confusion) * samples - actual @ predicted
    sizes = (samples**2 - actual @ actual) * (samples**2 - predicted @ predicted)
    return float(covariance / np.sqrt(sizes)) if sizes else 0.0


def _by_question(index: int, question: int | None = None) -> Callable[[Labelled], float]:
    """Return precision (0), recall (1) or F1 (2) of "yes" to one question, or its mean over the questions."""

    def value(found: Labelled) -> float:
        if question is not None and question >= len(found.confusions):
            raise ConfigError(f"no question {question}: {len(found.confusions)} are numbered from 0")
        chosen = found.confusions if question is None else found.confusions[[question]]
        return float(np.mean([precision_recall_f1(confusion)[index][1] for confusion in chosen]))

    return value


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
RANKED = {"roc_auc": one_against_rest(roc_auc), "average_precision": one_against_rest(average_precision)}
METRICS: dict[str, Metric] = {
    "accuracy": Metric("classification", _accuracy, True),
    **{name: Metric("classification", _by_class(index), True) for index, name in enumerate(BY_CLASS)},
    **{f"top_{k}": Metric("classification", _top(k), True) for k in range(2, 11)},
    "balanced_accuracy": Metric("classification", _balanced_accuracy, True),
    "mcc": Metric("classification", _mcc, True),
    "log_loss": Metric("classification", log_loss, False),
    "perplexity": Metric("classification", perplexity, False),
    "calibration_error": Metric("classification", calibration_error, False),
    **{name: Metric("classification", of, True) for name, of in RANKED.items()},
    "rmse": Metric("regression", _rmse, False),
    "mae": Metric("regression", _mae, False),
    "r2": Metric("regression", _r2, True),
}

MULTILABEL: dict[str, Metric] = {
    "accuracy": Metric("multilabel", lambda found: float(np.mean(found.is_yes == found.says_yes)), True),
    "exact_match": Metric("multilabel", lambda found: float((found.is_yes == found.says_yes).all(axis=1).mean()), True),
    **{name: Metric("multilabel", _by_question(index), True) for index, name in enumerate(BY_CLASS)},
    **{name: Metric("multilabel", of, True) for name, of in RANKED.items()},
}
"""Those of yes-or-no questions: the means over the questions, unless `precision_0`, ... name one of them."""

DEFAULT_METRICS: dict[str, list[str]] = {
    "classification": ["accuracy"],
    "multilabel": ["accuracy", "f1"],
    "regression": ["rmse", "mae", "r2"],
}
FOUND: dict[str, Callable[[Any, Any], Any]] = {
    "classification": Classified,
    "multilabel": Labelled,
    "regression": Regressed,
}

OF_ONE_CLASS = rf"({'|'.join(BY_CLASS)})_(0|[1-9][0-9]{{0,5}})"


def find_metric(name: str, task: str | None = None) -> Metric | None:
    """Return the metric `name`, of all classes or of one, or `None` when there is none."""
    if of_class := re.fullmatch(OF_ONE_CLASS, name):
        index, number = BY_CLASS.index(of_class[1]), int(of_class[2])
        if task == "multilabel":
            return Metric(task, _by_question(index, number), True)
        return Metric("classification", _by_class(index, number), True)
    return MULTILABEL.get(name) if task == "multilabel" else METRICS.get(name) or MULTILABEL.get(name)


def metric_named(name: str, task: str) -> Metric:
    """Return the metric `name`; `ConfigError` if there is none or it belongs to another task."""
    metric = find_metric(name, task)
    if metric is None or metric.task != task:
        known = [*MULTILABEL] if task == "multilabel" else [key for key, each in METRICS.items() if each.task == task]
        raise ConfigError(f"no metric {name!r} for {task} (only {', '.join(known)}){did_you_mean(name, known)}")
    return metric


def higher_is_better(name: str) -> bool:
    """Whether higher values of a metric are better, given its name with or without `val_`; for losses, lower is."""
    words = name.split("_")
    return any((metric := find_metric("_".join(words[i:]))) and metric.higher_is_better for i in range(len(words)))


OwnMetric = Callable[[Array, Array], float]
"""A metric of your own: a function of scores and targets, recorded under its name. Higher is better, unless it has an
attribute `higher_is_better` that is False."""


def name_of(metric: "str | OwnMetric") -> str:
    """Return the name that a metric is recorded under."""
    return metric if isinstance(metric, str) else str(getattr(metric, "__name__", type(metric).__name__))


def evaluate(
    task: str, scores: ArrayLike, targets: ArrayLike, metrics: "Iterable[str | OwnMetric]"
) -> dict[str, float]:
    """Return the metrics, by name.

    Raises:
        DataError: there are no samples, or the shapes of scores and targets do not match.
        ConfigError: one of the names is not a metric of the task.
    """
    values: dict[str, float] = {}
    found = None
    for each in metrics:
        if isinstance(each, str):
            metric = metric_named(each, task)
            found = FOUND[task](scores, targets) if found is None else found
            if not found.samples:
                raise DataError("metrics need at least one sample")
            values[each] = metric.of(found)
        else:
            values[name_of(each)] = float(each(np.asarray(scores), np.asarray(targets)))
    return values


def baseline(
    task: str, train_targets: ArrayLike, targets: ArrayLike, metrics: "Sequence[str | OwnMetric]"
) -> dict[str, float]:
    """Return the metrics on `targets` of a constant prediction made from the training targets.

    It is the most frequent class (with `top_3`: the three most frequent; for perplexity the frequencies), to each
    question the more frequent answer, or the mean. A useful model is better.
    """
    names = [each for each in metrics if isinstance(each, str)]
    if task == "multilabel":
        answers = np.mean(np.asarray(train_targets, np.float64), axis=0) - 0.5
        scores: Any = np.broadcast_to(answers, np.shape(targets))
    elif task == "regression":
        guess = np.mean(np.asarray(train_targets, np.float64), axis=0)
        scores = np.broadcast_to(guess, np.shape(targets))
    else:
        highest = target_labels(targets).max(initial=1)
        counts = np.bincount(target_labels(train_targets), minlength=highest + 1)
        with np.errstate(divide="ignore"):
            counts = np.log(np.maximum(counts, 0.5) / counts.sum())  # whose softmax are the frequencies
        scores = np.broadcast_to(counts, (len(np.asarray(targets)), len(counts)))
    return evaluate(task, scores, targets, names)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator != 0)
