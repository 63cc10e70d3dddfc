"""Models in evaluation mode: their scores, and the loss and metrics of these."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.data.batches import parts_of
from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.training.metrics import OwnMetric, baseline, evaluate

EVALUATION_BATCH = 1024


@np.errstate(all="ignore")  # NaN and infinity are reported with the result
def predict_scores(model: Gate, x: Any, dtype: Any = None) -> Any:
    """Run the model over x in evaluation mode, 1024 samples at a time; return its output, or a tuple of them."""
    was_training, model.training = model.training, False
    try:
        parts = []
        for start in range(0, len(x), EVALUATION_BATCH):
            rows = np.arange(start, min(start + EVALUATION_BATCH, len(x)))
            parts.append(model.forward(*[np.asarray(part, dtype) for part in parts_of(x.take(rows, axis=0))]))
        if isinstance(parts[0], tuple):
            return tuple([np.concatenate(column) for column in zip(*parts, strict=True)])
        return np.concatenate(parts)
    finally:
        model.training = was_training


@np.errstate(all="ignore")
def evaluate_scores(
    scores: Array, y: Array, loss: Gate, task: str, metrics: Sequence[str | OwnMetric], weights: Array | None = None
) -> dict[str, float]:
    """Return the loss, weighted where weights are given, and the metrics of given scores."""
    value = loss.forward(scores, y) if weights is None else loss.forward(scores, y, weights)
    return {"loss": float(value)} | evaluate(task, *counted(loss, scores, y), metrics)


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


def counted(loss: Any, scores: Array, targets: Array) -> tuple[Array, Array]:
    """Return what metrics are computed from: the loss's predictions, and one label per sample.

    Several labels per sample become as many samples, and those to ignore are left out.
    """
    scores, targets = loss.prediction(scores) if hasattr(loss, "prediction") else scores, np.asarray(targets)
    if getattr(loss, "is_binary", False):
        return (scores if scores.ndim <= 2 else scores.reshape(-1, scores.shape[-1])), counted_labels(loss, targets)
    if getattr(loss, "task", "") != "classification" or scores.ndim < 2:
        return scores, targets
    is_soft = targets.shape == scores.shape
    rows = scores.reshape(-1, scores.shape[-1]) if scores.ndim > 2 else scores
    labels = targets.reshape(rows.shape if is_soft else -1) if scores.ndim > 2 else targets
    ignored = getattr(loss, "ignore_index", None)
    if ignored is None or is_soft or not (is_kept := labels != ignored).any():
        return rows, labels
    return rows[is_kept], labels[is_kept]


def counted_labels(loss: Any, targets: Array) -> Array:
    """Return the targets alone as `counted` does, class probabilities as they are."""
    labels = np.asarray(targets)
    if getattr(loss, "is_binary", False):
        return labels.reshape(-1, labels.shape[-1]) if labels.ndim > 2 else labels
    if labels.dtype.kind == "f" or getattr(loss, "task", "") != "classification":
        return labels
    ignored = getattr(loss, "ignore_index", None)
    return labels.reshape(-1) if ignored is None else labels[labels != ignored]


def guessed(
    loss: Any, task: str, train_targets: Array, targets: Array, metrics: Sequence[str | OwnMetric]
) -> dict[str, float]:
    """Return the metrics of the constant guess, as `baseline` does, of targets in the form that the loss takes."""
    return baseline(task, counted_labels(loss, train_targets), counted_labels(loss, targets), metrics)


def task_of(loss: Any, targets: Array) -> str:
    """Return the task that a loss and its targets make."""
    task: str = getattr(loss, "task", None) or (
        "classification" if np.issubdtype(targets.dtype, np.integer) else "regression"
    )
    is_several = targets.ndim > 1 and math.prod(targets.shape[1:]) > 1
    return "multilabel" if getattr(loss, "is_binary", False) and is_several else task
