"""The parts of the data: samples that stand in two of them, and how the targets are spread."""

import math
from typing import Any

import numpy as np

from layerflow.data import Dataset
from layerflow.data.rows import blocks
from layerflow.parameter import Array
from layerflow.preflight.context import Context, drawn
from layerflow.preflight.finding import Finding, judge, listed
from layerflow.training.metrics import baseline

MOST_BYTES = 1 << 27  # of both parts together that are compared; of more, a sample


def duplicates(context: Context) -> Finding | None:
    """No sample of the test part stands in the training part, too."""
    train, test = context.parts.train, context.parts.test
    if test is None:
        return None
    dtype = np.result_type(train.x.dtype, test.x.dtype)
    is_large = (len(train) + len(test)) * math.prod(train.x.shape[1:]) * dtype.itemsize > MOST_BYTES
    if is_large:
        train, test = drawn(train, context.config.seed), drawn(test, context.config.seed)
    known, asked = _fingerprints(train, dtype), _fingerprints(test, dtype)
    seen = set(known)
    again = [fingerprint in seen for fingerprint in asked]
    share = sum(again) / len(asked)
    is_discrete = len(seen) < len(known) / 2
    of_both = " (samples of both)" if is_large else ""
    evidence = f"{sum(again)} of {len(asked)} test samples are also in the training part{of_both}"
    if test.lines is not None and any(again):
        lines = test.lines[np.flatnonzero(again)].tolist()
        evidence += f": lines {listed([str(line) for line in lines])}"
    if is_discrete:
        evidence += f"; its {len(known)} samples have {len(seen)} different inputs"
    remedy = "take repeated rows out of the file before it is split: the model has seen their answers"
    return judge("duplicates", share, evidence, remedy, look=share > 0, bad=share > 0.2 and not is_discrete)


def targets(context: Context) -> Finding:
    """Every class has samples, and the constant guess is known that the model has to beat."""
    y, test = context.parts.train.y, context.parts.test or context.parts.validation
    assert y is not None
    held = y if test is None or test.y is None else test.y
    if context.classes is None:
        spread = float(np.std(y))
        guess = baseline("regression", y, held, ["rmse"])["rmse"]
        evidence = f"{y.mean():.4g} +- {spread:.3g}; always guessing the mean: rmse {guess:.4g}"
        return judge("targets", spread, evidence, "all targets are equal: there is nothing to learn", bad=spread == 0)
    counts = np.bincount(y, minlength=len(context.classes))
    guess = baseline("classification", y, held, ["accuracy"])["accuracy"]
    evidence = f"{_sizes(counts)}; always guessing {context.classes[int(counts.argmax())]!r}: accuracy {guess:.3f}"
    missing = [repr(name) for name, count in zip(context.classes, counts, strict=True) if count == 0]
    if missing:
        evidence += f"; no sample of {listed(missing)}"
    remedy = "`class_weight` in the loss, f1 among train.metrics, or more samples of the rare classes"
    is_uneven = bool(missing) or counts.max() > 10 * counts.min() or counts.min() < 5
    return judge("classes", guess, evidence, remedy, look=is_uneven, bad=int((counts > 0).sum()) == 1)


def _sizes(counts: Array) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{len(counts)} of {low:,} to {high:,} samples" if low < high else f"{len(counts)} of {low:,} samples each"


def _fingerprints(part: Dataset, dtype: np.dtype[Any]) -> list[int]:
    """Return a number for each sample, the same for the same input."""
    found = []
    for _, rows in blocks(part.x):
        block = np.ascontiguousarray(rows, dtype) + dtype.type(0)  # -0.0 becomes 0.0
        found += [hash(row.tobytes()) for row in block]
    return found
