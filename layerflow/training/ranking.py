"""How well scores rank the samples of yes-or-no questions, whatever the threshold."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.parameter import Array


def roc_auc(scores: Array, is_yes: Array) -> float:
    """The chance that a random yes has a higher score than a random no; equal scores count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    yes = int(is_yes.sum())
    return float((rank[is_yes].sum() - yes * (yes + 1) / 2) / (yes * (len(is_yes) - yes)))


def average_precision(scores: Array, is_yes: Array) -> float:
    """The sum of precision times gained recall over all thresholds, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(is_yes[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # the last of equal scores
    precision = hits[last] / (last + 1)
    return float(precision @ np.diff(hits[last], prepend=0) / hits[-1])


def one_against_rest(of: Callable[[Array, Array], float]) -> Callable[[Any], float]:
    """Return the mean over the classes, or over the questions, of a metric of scores and yes-or-no targets.

    For three classes or more the scores are the probabilities, softmax(scores); classes without a sample, or with all
    of them, are left out.
    """

    def value(found: Any) -> float:
        if hasattr(found, "is_yes"):
            pairs = list(zip(found.scores.T, found.is_yes.T, strict=True))
        elif found.scores.shape[1] <= 2:
            s = found.scores[:, -1] - (found.scores[:, 0] if found.scores.shape[1] == 2 else 0)
            pairs = [(s, found.labels == 1)]
        else:
            s = np.exp(found.scores - found.scores.max(axis=1, keepdims=True))
            s = s / s.sum(axis=1, keepdims=True)
            pairs = [(s[:, label], found.labels == label) for label in range(s.shape[1])]
        values = [of(scores, is_yes) for scores, is_yes in pairs if 0 < is_yes.sum() < len(is_yes)]
        return float(np.mean(values)) if values else math.nan

    return value
