"""Scores, loss and metrics of a model in evaluation mode."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.training.metrics import evaluate, make_tally

EVALUATION_BATCH = 1024


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
