"""How good scores are as probabilities, softmax(scores); a single column of scores is that of class 1 against 0."""

from typing import Any

import numpy as np

from layerflow.parameter import Array

BINS = 10


def log_probabilities(scores: Array) -> Array:
    """ln p of each class, (batch, classes)."""
    s = scores.astype(np.float64)
    s = np.hstack([np.zeros_like(s), s]) if s.shape[1] == 1 else s
    s = s - s.max(axis=1, keepdims=True)
    logs: Array = s - np.log(np.exp(s).sum(axis=1, keepdims=True))
    return logs


def log_loss(found: Any) -> float:
    """The mean of -ln p[label]."""
    return float(-log_probabilities(found.scores)[np.arange(found.samples), found.labels].mean())


def perplexity(found: Any) -> float:
    """e to the log loss: the number of equally likely classes that would surprise as much."""
    with np.errstate(over="ignore"):
        return float(np.exp(log_loss(found)))


def calibration_error(found: Any) -> float:
    """How far the probability of the predicted class is from how often it is right: the mean over 10 equal bins.

    Each bin counts by its number of samples. Guo et al. 2017, "On calibration of modern neural networks", equation 3.
    """
    p = np.exp(log_probabilities(found.scores))
    sure, is_right = p.max(axis=1), p.argmax(axis=1) == found.labels
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    apart = np.bincount(bins, weights=is_right - sure, minlength=BINS)
    return float(np.abs(apart).sum() / found.samples)
