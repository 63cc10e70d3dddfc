"""Tallies: what metrics are computed from, gathered batch by batch.

A tally holds counts and sums only, so what is computed from it does not depend on how a set was cut into batches.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from layerflow.errors import DataError
from layerflow.parameter import Array

IntArray = NDArray[np.int64]


def predicted_labels(scores: ArrayLike) -> IntArray:
    """Return the class that `scores` speak for, shape (batch,): the first of the highest in (batch, classes).

    Scores of shape (batch,) or (batch, 1) are those of a logistic regression: class 1 where they are > 0, else class 0.
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
        raise DataError(f"labels must be whole numbers from 0 on, got {t.dtype} such as {labels[:3].tolist()}")
    return labels.astype(np.int64, copy=False)


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> IntArray:
    """Return how many samples of class i (row) were predicted as class j (column), shape (classes, classes)."""
    columns = target_labels(predictions)
    _check_range(columns, classes)
    return _count(target_labels(labels), columns, classes)


class Tally(ABC):
    """What metrics are computed from, gathered batch by batch."""

    task: ClassVar[str]
    samples: int = 0

    @abstractmethod
    def update(self, scores: ArrayLike, targets: ArrayLike) -> Self:
        """Take in one batch and return the tally. Raises `DataError` when scores and targets don't fit together."""


class ClassificationTally(Tally):
    """Counts of a classifier's results.

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
            raise DataError(f"this batch has scores for {classes} classes, those before had {len(self.confusion)}")
        confusion = _count(labels, _highest(s), classes)
        self.confusion = self.confusion + confusion if self.samples else confusion
        if self.ranked:
            ranks = np.bincount(_ranks(s, labels), minlength=classes)
            self.ranks = self.ranks + ranks if self.samples else ranks
        self.samples += len(labels)
        return self


class RegressionTally(Tally):
    """Sums over a regression's errors, in float64, one per column of the targets.

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
            raise DataError(f"scores have shape {np.shape(scores)}, but targets {np.shape(targets)}")
        if self.samples and t.shape[1] != len(self.squared_error):
            raise DataError(f"this batch has {t.shape[1]} columns, those before had {len(self.squared_error)}")
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
    """Return the confusion matrix of labels, still to be checked, and valid predictions."""
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
