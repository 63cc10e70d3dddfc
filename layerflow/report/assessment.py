"""How a trained model does on held-out data: results, confusion matrix, and its worst predictions, as images or not."""

import base64
import math
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layerflow.config.experiment import Experiment
from layerflow.data import Dataset
from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.training.evaluation import counted, evaluate_scores, guessed, predict_scores
from layerflow.training.metrics import confusion_matrix, predicted_labels

MOST_SAMPLES = 10_000
SHOWN = 24
PIXEL_NAME = re.compile(r"(p|px|pix|pixel)?[ _-]?\d+([ _x-]\d+)?", re.IGNORECASE)
SMALLEST, SMALLEST_UNNAMED = 16, 64


@dataclass(frozen=True)
class Sample:
    """A sample: its index in the part, target and prediction as text, its loss, and its features."""

    index: int
    target: str
    prediction: str
    loss: float
    values: Array


@dataclass(frozen=True)
class Assessment:
    """What was measured on one part of the data.

    Attributes:
        part, size: name of the part ("test" or "validation") and number of samples.
        results, baseline: loss and metrics of the model, and those of the constant guess.
        confusion, classes: for classification: samples of class i (row) predicted as class j (column), and their names.
        predictions: for regression with one target: (samples, 2), target and prediction.
        worst: the samples with the largest loss, only misclassified ones if there are any.
        has_errors: whether `worst` are misclassified.
    """

    part: str = "test"
    size: int = 0
    results: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    confusion: Array | None = None
    classes: tuple[str, ...] = ()
    predictions: Array | None = None
    worst: list[Sample] = field(default_factory=list)
    has_errors: bool = False


def assess(experiment: Experiment) -> Assessment | None:
    """Measure a trained model on the test part, or on the validation part if there is no test part."""
    parts, trainer = experiment.parts, experiment.trainer
    part, name = (parts.test, "test") if parts.test is not None else (parts.validation, "validation")
    if part is None or part.y is None:
        return None
    x, y = parts.arrays(part, experiment.config.dtype)
    y = y.astype(trainer.dtype) if np.issubdtype(y.dtype, np.floating) else y
    scores = predict_scores(experiment.model, x, trainer.dtype)
    results = evaluate_scores(scores, y, experiment.loss, trainer.state.task, trainer.state.metric_names)
    assert parts.train.y is not None
    guess = guessed(experiment.loss, trainer.state.task, parts.train.y, part.y, trainer.state.metric_names)
    losses = sample_losses(experiment.loss, scores[:MOST_SAMPLES], y[:MOST_SAMPLES])
    classes = parts.preprocessing.classes
    if classes is None:
        pairs = np.column_stack([y.reshape(-1), scores.reshape(-1)]) if scores.size == y.size == len(y) else None
        worst = [_sample(part, i, losses, _text(y[i]), _text(scores[i])) for i in _largest(losses)]
        return Assessment(name, len(part), results, guess, predictions=pairs, worst=worst)
    if y.ndim > 1:  # labels at each time: the worst sequences, as their most probable symbols
        found, held = counted(experiment.loss, scores, y)
        is_counted = y != getattr(experiment.loss, "ignore_index", None)
        worst = []
        for i in _largest(losses):
            pair = y[i], scores[i].argmax(axis=-1)
            target, best = (_symbols(labels[is_counted[i]], classes) for labels in pair)
            worst.append(_sample(part, i, losses, target, best))
        confusion = confusion_matrix(held, predicted_labels(found), len(classes))
        return Assessment(name, len(part), results, guess, confusion, classes, None, worst, True)
    labels = predicted_labels(scores)
    is_wrong = labels[:MOST_SAMPLES] != y[:MOST_SAMPLES]
    chosen = _largest(np.where(is_wrong, losses, -np.inf))[: is_wrong.sum()] if is_wrong.any() else _largest(losses)
    worst = [_sample(part, i, losses, classes[y[i]], classes[labels[i]]) for i in chosen]
    confusion = confusion_matrix(y, labels, len(classes))
    return Assessment(name, len(part), results, guess, confusion, classes, None, worst, bool(is_wrong.any()))


def sample_losses(loss: Gate, scores: Array, y: Array) -> Array:
    """Return the loss of each sample on its own."""
    return np.array([float(loss.forward(scores[i : i + 1], y[i : i + 1])) for i in range(len(scores))])


def _largest(losses: Array) -> list[int]:
    order: list[int] = np.argsort(-np.nan_to_num(losses, nan=np.inf), kind="stable")[:SHOWN].tolist()
    return order


def _sample(part: Dataset, index: int, losses: Array, target: str, prediction: str) -> Sample:
    values = np.asarray(part.x.take(np.array([index]), axis=0))[0]
    return Sample(index, target, prediction, float(losses[index]), values)


def _symbols(labels: Array, classes: tuple[str, ...]) -> str:
    return "".join(classes[label] if len(classes[label]) == 1 else " " for label in labels[:40])


def _text(value: Any) -> str:
    return ", ".join(f"{number:.4g}" for number in np.atleast_1d(value).reshape(-1)[:4])


def as_images(x: Array, features: Sequence[str] | None) -> Array | None:
    """Return samples as (n, height, width) or (n, height, width, 3) in 0 ... 255, or `None` if they are not images.

    Images are samples of shape (channels, height, width), or a square number of columns that are named like pixels
    (p00, pixel12, 3x7) or, from 8 x 8 on, not named at all. Black and white are the lowest and highest values among the
    samples.
    """
    if x.ndim == 4:
        images = np.moveaxis(x, 1, -1) if x.shape[1] == 3 else x.mean(axis=1)
    elif x.ndim == 3:
        images = x
    elif x.ndim == 2 and _are_pixels(x.shape[1], features):
        side = math.isqrt(x.shape[1])
        images = x.reshape(len(x), side, side)
    else:
        return None
    images = np.asarray(images, np.float64)
    low, high = images.min(initial=np.inf), images.max(initial=-np.inf)
    scaled: Array = np.round(255 * (images - low) / ((high - low) or 1.0)).astype(np.uint8)
    return scaled


def _are_pixels(count: int, features: Sequence[str] | None) -> bool:
    if features is None:
        return math.isqrt(count) ** 2 == count >= SMALLEST_UNNAMED
    return math.isqrt(count) ** 2 == count >= SMALLEST and all(map(PIXEL_NAME.fullmatch, features))


def png_url(image: Array) -> str:
    """Return (height, width) or (height, width, 3) bytes as a PNG file in a data: URL.

    PNG specification (W3C, third edition): signature, IHDR, IDAT, IEND; no filter.
    """
    height, width = image.shape[:2]
    rows = image.reshape(height, -1)
    raw = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    color = 2 if image.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(raw, 9)), _chunk(b"IEND", b"")]
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
