"""The data: duplicates, targets, constant features, the scale of the features, and features that leak the target."""

import math
from typing import Any

import numpy as np

from layerflow.data import Dataset
from layerflow.data.batches import blocks
from layerflow.parameter import Array
from layerflow.preflight.context import Context, Finding, drawn, judge, listed, rms
from layerflow.training.evaluation import counted_labels
from layerflow.training.metrics import baseline

MOST_BYTES = 1 << 27  # of both parts together that are compared; larger parts are sampled
MOST_FEATURES = 512  # checked one by one; if there are more, evenly spaced ones
MOST_BINS = 64
ENOUGH = 50  # samples below which no feature is judged


def duplicates(context: Context) -> Finding | None:
    """No sample of the test part is in the training part."""
    train, test = context.parts.train, context.parts.test
    if test is None:
        return None
    dtype = np.result_type(train.x.dtype, test.x.dtype)
    is_large = (len(train) + len(test)) * math.prod(train.x.shape[1:]) * dtype.itemsize > MOST_BYTES
    if is_large:
        train, test = drawn(train, context.config.seed), drawn(test, context.config.seed)
    known, asked = _fingerprints(train, dtype), _fingerprints(test, dtype)
    seen = set(known)
    again = [row for row, fingerprint in enumerate(asked) if fingerprint in seen]
    share = len(again) / len(asked)
    is_discrete = len(seen) < len(known) / 2
    of_both = " (of random samples of both)" if is_large else ""
    evidence = f"{len(again)} of {len(asked)} test samples are also in the training part{of_both}"
    if test.lines is not None and again:
        evidence += f": lines {listed([str(line) for line in test.lines[again]])}"
    if is_discrete:
        evidence += f"; its {len(known)} samples have only {len(seen)} different inputs"
    remedy = "remove repeated rows from the file before splitting it: the model is tested on samples it was trained on"
    return judge("duplicates", share, evidence, remedy, warn=share > 0, error=share > 0.2 and not is_discrete)


def targets(context: Context) -> Finding:
    """Every class has enough samples; also the result of the best constant guess, which the model must beat."""
    y, test = context.parts.train.y, context.parts.test or context.parts.validation
    assert y is not None
    held = y if test is None or test.y is None else test.y
    y, held = (counted_labels(context.trainer.loss, each) for each in (y, held))
    if context.classes is None:
        spread = float(np.std(y))
        guess = baseline("regression", y, held, ["rmse"])["rmse"]
        evidence = f"mean {y.mean():.4g}, standard deviation {spread:.3g}; always guessing the mean: rmse {guess:.4g}"
        remedy = "all targets are equal, so there is nothing to learn"
        return judge("targets", spread, evidence, remedy, error=spread == 0)
    counts = np.bincount(y, minlength=len(context.classes))
    guess = baseline("classification", y, held, ["accuracy"])["accuracy"]
    low, high = int(counts.min()), int(counts.max())
    sizes = f"{low:,} to {high:,} samples" if low < high else f"{low:,} samples each"
    evidence = f"{len(counts)} classes of {sizes}; "
    evidence += f"always guessing {context.classes[int(counts.argmax())]!r}: accuracy {guess:.3f}"
    missing = [repr(name) for name, count in zip(context.classes, counts, strict=True) if count == 0]
    if missing and context.parts.preprocessing.vocabulary is None:
        evidence += f"; no samples of {listed(missing)}"
    remedy = "use `class_weight` in the loss, add f1 to train.metrics, or collect more samples of the rare classes"
    is_uneven = (high > 10 * low or low < 5) and context.parts.preprocessing.vocabulary is None
    return judge("classes", guess, evidence, remedy, warn=is_uneven, error=int((counts > 0).sum()) == 1)


def constant_features(context: Context) -> Finding | None:
    """No feature is constant; blank ones, such as pixels at the edge of images, are only counted."""
    if context.parts.preprocessing.vocabulary is not None:
        return None
    table = context.table
    low, high = table.min(axis=0), table.max(axis=0)
    constant = np.flatnonzero(low == high)
    count, total = len(constant), table.shape[1]
    is_blank = bool((low[constant] == table.min()).all()) and 0 < count < total / 2 and total >= 16
    evidence = f"{count} of {total} features are constant"
    if is_blank:
        evidence += f" with the smallest value of all, {low[constant[0]]:g}, like blank pixels"
    elif count:
        is_whole = len(context.sample) == len(context.parts.train)
        where = "in the training part" if is_whole else f"in {len(context.sample)} of its samples"
        evidence += f" ({where}): {listed([context.feature(int(i)) for i in constant])}"
    is_suspect, remedy = count > 0 and not is_blank, "remove them: they carry no signal"
    return judge("constant features", float(count), evidence, remedy, warn=is_suspect, error=count == total)


def feature_scale(context: Context) -> Finding | None:
    """After scaling, features are of the order of 1, and none is much larger than another."""
    if context.parts.preprocessing.vocabulary is not None:
        return None
    x = context.x.reshape(len(context.x), -1)
    size = rms(x)
    widths = np.ptp(x, axis=0)
    widths = widths[widths > 0]
    spread = float(widths.max() / widths.min()) if widths.size else 1.0
    evidence = f"rms {size:.3g} after preprocessing; the widest range of a feature is {spread:.3g} times the narrowest"
    remedy = "set" if context.config.data.scaler is None else "use another scaler:"
    remedy += " data.scale: Standard"
    return judge("feature scale", size, evidence, remedy, warn=not 0.01 < size < 5 or spread > 1000)


def leaking_features(context: Context) -> Finding | None:
    """No feature alone predicts the target almost perfectly."""
    if context.y.ndim > 1 or context.parts.preprocessing.vocabulary is not None:
        return None
    y, columns = context.y, _columns(context)
    if len(y) < ENOUGH or np.ptp(y) == 0 or len(columns) < 2:
        return None
    is_class = context.classes is not None
    best, name, is_copy = 0.0, "", False
    for label, column in columns:
        score = _skill(column, y, is_class)
        if score > best:
            best, name = score, label
            is_copy = score > 0.995 and _determines(column, y) if is_class else score > 1 - 1e-9
    what = "accuracy" if is_class else "a squared correlation of"
    evidence = f"{name} alone reaches {what} {best:.3f}" if name else "the features carry no signal on their own"
    if is_copy:
        evidence += "; each of its values belongs to one target, so it is a copy of the target"
    remedy = "remove it, unless it is known at prediction time"
    return judge("leaking features", best, evidence, remedy, warn=best > 0.985, error=is_copy)


def _fingerprints(part: Dataset, dtype: np.dtype[Any]) -> list[int]:
    """Return a hash of each sample."""
    found = []
    for _, rows in blocks(part.x):
        block = np.ascontiguousarray(rows, dtype) + dtype.type(0)  # -0.0 becomes 0.0
        found += [hash(row.tobytes()) for row in block]
    return found


def _columns(context: Context) -> list[tuple[str, Array]]:
    """Return the features to check; a categorical column of the file is one feature."""
    table = context.table
    encoding = context.parts.preprocessing.encoding
    chosen = np.unique(np.linspace(0, table.shape[1] - 1, min(table.shape[1], MOST_FEATURES)).astype(int))
    columns = [(f"feature {context.feature(int(i))}", table[:, i]) for i in chosen]
    position = 0
    for name in encoding.columns if encoding else ():
        categories = encoding.categories.get(name) if encoding else None
        width = 1 if categories is None else len(categories)
        if categories is not None:
            one_hot = table[:, position : position + width]
            columns.append((f"column {name!r}", one_hot.argmax(axis=1).astype(np.float64)))
        position += width
    return columns


def _skill(column: Array, y: Array, is_class: bool) -> float:
    """Return the accuracy of the majority class per interval of values, fitted and tested on one half each; or r2."""
    bins = min(MOST_BINS, len(y) // 10)
    edges = np.unique(np.sort(column)[np.arange(1, bins) * len(y) // bins])
    interval = np.searchsorted(edges, column, side="right")
    learn = np.arange(len(y)) % 2 == 0
    count = len(edges) + 1
    if is_class:
        classes = int(y.max()) + 1
        table = np.bincount(interval[learn] * classes + y[learn], minlength=count * classes).reshape(count, classes)
        return float((table.argmax(axis=1)[interval[~learn]] == y[~learn]).mean())
    return max(_r2(column, y), _r2(np.argsort(np.argsort(column)), np.argsort(np.argsort(y))))


def _r2(column: Array, y: Array) -> float:
    """Return the squared correlation."""
    a, b = column - column.mean(), y - y.mean()
    norm = float(a @ a) * float(b @ b)
    return float(a @ b) ** 2 / norm if norm else 0.0


def _determines(column: Array, y: Array) -> bool:
    """Return whether a feature has as many values as there are classes, each belonging to one class."""
    values, groups = np.unique(column, return_inverse=True)
    pairs = np.unique(np.stack([groups.astype(np.float64), y.astype(np.float64)]), axis=1).shape[1]
    return bool(pairs == len(values) == len(np.unique(y)))
