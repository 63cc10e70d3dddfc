"""Losses of classifiers, and what all losses share: scores and targets in, the weighted mean over the batch out."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.shared import as_number
from layerflow.parameter import Array

ClassWeight = Sequence[float] | Literal["balanced"] | None


def as_class_weight(gate: Gate, class_weight: ClassWeight) -> Array | None:
    """Return one weight per class as an array, or `None` if there are none, or they are still to be balanced."""
    if class_weight is None or (isinstance(class_weight, str) and class_weight == "balanced"):
        return None
    try:
        array = np.asarray(class_weight, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(())
    if array.ndim != 1 or not array.any() or not np.all((array >= 0) & (array < math.inf)):
        raise GateError(
            f"{gate!r}: class_weight must be 'balanced' or a list with one number, 0 or more, per class, not "
            f"{class_weight!r}"
        )
    return array


def balance(gate: Gate, labels: Any) -> None:
    """Give a loss with `class_weight="balanced"` the weights samples / (classes * samples of the class).

    As in scikit-learn. A trainer does it with the labels of its training data; other losses stay as they are.
    """
    if getattr(gate, "is_balanced", False):
        whole = np.ravel(labels).astype(np.int64)
        counts = np.bincount(whole[(whole >= 0) & (whole != getattr(gate, "ignore_index", None))], minlength=2)
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1.0))
        gate.class_weight = np.where(counts > 0, weights, 1.0)  # type: ignore[attr-defined]


def known_weights(gate: Any) -> Array | None:
    """Return the weight of each class; `GateError` if they are still to be balanced."""
    if gate.class_weight is None and gate.is_balanced:
        raise GateError(
            f"{gate!r}: class_weight='balanced' follows from the labels of the training data: a Trainer takes them; by "
            "hand, give the weights as a list"
        )
    weights: Array | None = gate.class_weight
    return weights


class Loss(Gate):
    """A loss of two inputs, scores and targets, and an optional third, one weight per sample.

    It is the weighted mean over the batch, sum_i w_i loss_i / sum_i w_i, with w_i = 1 unless weights are given.

    Attributes:
        task: "classification" or "regression": what the targets mean, and so which metrics apply.
        is_binary: whether two classes take one score, rather than one per class.
    """

    task: ClassVar[str] = "classification"
    is_binary: ClassVar[bool] = False

    def build(self, rng: "np.random.Generator", scores: Shape, targets: Shape, weights: Shape | None = None) -> Shape:
        self.expect(scores, targets)
        if weights is not None and weights not in self.weight_shapes(scores):
            raise GateError(_wrong_weights(self, weights, self.weight_shapes(scores)))
        return ()

    def weight_shapes(self, scores: Shape) -> list[Shape]:
        """The shapes that weights may have."""
        return [scores[:1]]

    def prediction(self, scores: Array) -> Array:
        """Return what metrics compare with the targets: the scores, unless they say more than one number each."""
        return scores

    def expect(self, scores: Shape, targets: Shape) -> None:
        """Raise `GateError` unless scores and targets of these shapes fit."""
        raise NotImplementedError

    def shares(self, scores: Array, weights: Array | None, factor: Array | None = None) -> Array:
        """The share of each sample in the mean, w_i / sum_j w_j; a `factor` per sample multiplies its weight."""
        rows = len(scores)
        if rows == 0:
            raise GateError(f"{self!r}: the batch is empty, scores of shape {scores.shape}; a mean needs a sample")
        if weights is None and factor is None:
            return np.full(rows, 1 / rows, scores.dtype)
        if weights is None:
            weights = np.ones(rows)
        elif weights.shape != (rows,):
            raise GateError(_wrong_weights(self, weights.shape, self.weight_shapes(scores.shape)))
        elif not (weights.min() >= 0 and weights.max() < math.inf):
            row = int(np.argmin((weights >= 0) & (weights < math.inf)))
            raise GateError(f"{self!r}: the weight in row {row} is {weights[row]}; weights are finite and 0 or more")
        return self.normalised(weights if factor is None else weights * factor).astype(scores.dtype)

    def normalised(self, weights: Array, counted: Array | None = None) -> Array:
        """The weights, divided by their sum, or by that of others."""
        total = (weights if counted is None else counted).sum()
        if total == 0:
            raise GateError(f"{self!r}: all weights of this batch are 0, so there is nothing to average")
        share: Array = weights / total
        return share

    def gradient(self, grad_scores: Array) -> Gradients:
        """What backward returns: targets and weights have no gradient."""
        return (grad_scores, *(None,) * (len(self.needs_grad) - 1)), {}


class ClassLoss(Loss):
    """A loss of one score per class, on the last axis, against labels; of several per sample, each counts by itself."""

    class_weight: Array | None
    ignore_index: int | None = None

    def expect(self, scores: Shape, targets: Shape) -> None:
        if len(scores) < 2:
            raise GateError(f"{self!r}: scores of shape {scores}, expected (batch, classes) or (batch, ..., classes)")
        if targets != scores[:-1]:
            raise GateError(
                f"{self!r}: labels of shape {targets}, expected {scores[:-1]}, one integer per row of the scores of "
                f"shape {scores}{flatten_hint('labels', scores, targets)}"
            )

    def weight_shapes(self, scores: Shape) -> list[Shape]:
        return [scores[:1]] if len(scores) == 2 else [scores[:1], scores[:-1]]

    def _in_rows(self, scores: Array, weights: Array | None) -> tuple[Array, Array | None]:
        """The scores as (labels, classes), and a weight for each of these rows."""
        rows = scores.reshape(-1, scores.shape[-1])
        if weights is None or weights.size == len(rows):
            return rows, None if weights is None else weights.reshape(-1)
        if weights.shape not in self.weight_shapes(scores.shape):
            raise GateError(_wrong_weights(self, weights.shape, self.weight_shapes(scores.shape)))
        return rows, np.repeat(weights, len(rows) // len(weights))

    def labels(self, scores: Array, targets: Array) -> tuple[Array, Array | None]:
        """Return the labels in one row, and 0 for every one to ignore, else 1, or `None` where none is.

        Raises:
            GateError: they are not integers from 0 to classes - 1.
        """
        ClassLoss.expect(self, scores.shape, targets.shape)
        classes, labels, counts = scores.shape[-1], targets.reshape(-1), None
        if targets.dtype.kind not in "iu":
            raise GateError(
                f"{self!r}: labels are {targets.dtype}, first label {targets.flat[0] if targets.size else 'none'}; "
                f"expected integers from 0 to {classes - 1}; convert them with labels.astype(int)"
            )
        if self.ignore_index is not None:
            is_ignored = labels == self.ignore_index
            labels, counts = np.where(is_ignored, 0, labels), 1.0 - is_ignored
            if is_ignored.all():
                raise GateError(f"{self!r}: all labels of this batch are {self.ignore_index}, the one to ignore")
        # As unsigned numbers, negative labels are huge: one comparison finds both kinds.
        if labels.size and labels.astype(np.uint64).max() >= classes:
            first = int(np.argmax((labels < 0) | (labels >= classes)))
            place = [int(i) for i in np.unravel_index(first, targets.shape)]
            raise GateError(
                f"{self!r}: label {labels[first]} in row {place[0]}{f', position {place[1:]}' if place[1:] else ''}; "
                f"the scores have {classes} columns, so labels go from 0 to {classes - 1}"
            )
        return labels, counts

    def weight_per_class(self, scores: Array) -> Array | None:
        """Return `class_weight` after checking that it has one entry per column of the scores."""
        weights = known_weights(self)
        if weights is not None and len(weights) != scores.shape[-1]:
            raise GateError(
                f"{self!r}: class_weight has {len(weights)} entries; "
                f"the scores have {scores.shape[-1]} columns, and each needs one"
            )
        return weights

    def label_shares(self, rows: Array, weights: Array | None, labels: Array, counts: Array | None) -> Array:
        """The share of each label in the mean: its sample's weight times its class's."""
        class_weight = self.weight_per_class(rows)
        factor = counts if class_weight is None else class_weight[labels] * (1.0 if counts is None else counts)
        return self.shares(rows, weights, factor)

    def _labelled(self, scores: Array, targets: Array, weights: Array | None) -> tuple[Array, Array, Array]:
        """The scores as (labels, classes), the labels, checked, and their shares in the mean."""
        labels, counts = self.labels(scores, targets)
        rows, weights = self._in_rows(scores, weights)
        return rows, labels, self.label_shares(rows, weights, labels, counts)


class SoftmaxCE(ClassLoss):
    """L = mean of -ln p[label], p = softmax(s): the negative log likelihood of the labels (cross entropy).

    Shapes: scores (batch, classes), or (batch, ..., classes) with a label for each position, which all count alike;
    targets (batch, ...), integers, or (batch, ..., classes), probabilities t, whose loss is -sum_c t_c ln p_c; weights
    (batch,), or one per label -> L ().
    A label's weight is its sample's times class_weight[label], or sum_c t_c class_weight[c]; its share is that over the
    sum of weights. With smoothing e, t becomes (1 - e) t + e / classes, the one-hot t of a label too.
    Local gradient: dL/ds = share * (p - t), t being the one-hot label, or the probabilities times class_weight,
    rescaled to sum to 1.
    Source: Bishop 2006, Pattern Recognition and Machine Learning, section 4.3.4; for the smoothing,
    Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision.

    Args:
        class_weight: one number per class, 0 or more; or "balanced", by which all classes count alike in training.
        label_smoothing: the part of the target that is spread evenly over all classes, from 0 to 1.
        ignore_index: labels with this number do not count, such as those of padding.

    Raises:
        GateError: scores, targets or weights of the wrong shape; labels that are not integers or out of range;
            probabilities that are negative or do not sum to 1; an empty batch, or one whose labels are all ignored.
    """

    def __init__(
        self,
        class_weight: ClassWeight = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
    ) -> None:
        self.class_weight, self.is_balanced = as_class_weight(self, class_weight), class_weight == "balanced"
        self.label_smoothing = as_number(
            self, "label_smoothing", label_smoothing, "a number from 0 to 1", lambda value: 0 <= value <= 1
        )
        if ignore_index is not None and (not isinstance(ignore_index, int) or isinstance(ignore_index, bool)):
            raise GateError(f"{self!r}: ignore_index must be an integer, such as -100, not {ignore_index!r}")
        self.ignore_index = ignore_index

    def expect(self, scores: Shape, targets: Shape) -> None:
        if len(scores) < 2 or targets != scores:
            super().expect(scores, targets)

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        self.expect(scores.shape, targets.shape)
        rows, weights = self._in_rows(scores, weights)
        shifted = rows - rows.max(axis=1, keepdims=True)  # the largest exponent is 0
        exps = np.exp(shifted)
        sums = exps.sum(axis=1, keepdims=True)
        if targets.ndim == scores.ndim or self.label_smoothing:
            desired = self._desired(scores, targets, weights)
            self.save(exps, sums, desired, desired.sum(axis=1), scores.shape)
            return (desired * (np.log(sums) - shifted)).sum()
        labels, counts = self.labels(scores, targets)
        share = self.label_shares(rows, weights, labels, counts)
        self.save(exps, sums, labels, share, scores.shape)
        return (share * (np.log(sums[:, 0]) - shifted[np.arange(len(labels)), labels])).sum()

    def backward(self, grad: Any) -> Gradients:
        exps, sums, targets, share, shape = self.saved
        grad_share = grad * share
        grad_scores = exps * (grad_share[:, np.newaxis] / sums)
        if targets.ndim == 2:
            grad_scores -= grad * targets
        else:
            grad_scores[np.arange(len(targets)), targets] -= grad_share
        return self.gradient(grad_scores.reshape(shape))

    def probabilities(self, scores: Array) -> Array:
        """Return the probability of each class, softmax(s), in the shape of the scores."""
        exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares: Array = exps / exps.sum(axis=-1, keepdims=True)
        return shares

    def _desired(self, scores: Array, targets: Array, weights: Array | None) -> Array:
        """The target probabilities, smoothed, times each row's share in the mean, class weights included."""
        classes, class_weight = scores.shape[-1], self.weight_per_class(scores)
        labels, counts = None, None
        if targets.ndim == scores.ndim:
            wanted = self._probabilities(scores, targets).reshape(-1, classes)
        else:
            labels, counts = self.labels(scores, targets)
            wanted = np.eye(classes, dtype=scores.dtype)[labels]
        share = self.shares(wanted, weights, counts)[:, np.newaxis]
        desired = ((1 - self.label_smoothing) * wanted + self.label_smoothing / classes) * share
        if class_weight is not None:
            desired = desired * class_weight.astype(scores.dtype)
            desired = self.normalised(desired, None if labels is None else share[:, 0] * class_weight[labels])
        in_dtype: Array = desired.astype(scores.dtype, copy=False)
        return in_dtype

    def _probabilities(self, scores: Array, targets: Array) -> Array:
        probabilities = targets.astype(scores.dtype, copy=False)
        is_right = (np.abs(probabilities.sum(axis=-1) - 1) < 1e-4) & (probabilities >= 0).all(axis=-1)
        if not is_right.all():
            place = tuple(int(i) for i in np.unravel_index(int(np.argmin(is_right)), is_right.shape))
            row = str(place[0]) if len(place) == 1 else f"at {place}"
            raise GateError(
                f"{self!r}: the targets' row {row} is {targets[place]}; probabilities are >= 0 and sum to 1"
            )
        return probabilities


class FocalCE(ClassLoss):
    """L = mean of -(1 - p)^gamma ln p, p = softmax(s)[label]: cross entropy that counts what is already right less.

    Shapes: scores (batch, classes), or (batch, ..., classes) with a label for each position; targets (batch, ...),
    integers; weights (batch,), or one per label -> L (). A label's weight is its sample's times class_weight[label].
    Local gradient: dL/ds_c = share * ((1 - p)^gamma - gamma p (1 - p)^(gamma - 1) ln p) * (p_c - [c = label]), share
    being the weight over the sum of weights.
    Source: Lin et al. 2017, Focal Loss for Dense Object Detection.

    Args:
        gamma: 0 for cross entropy; the higher, the less do labels count that are predicted with confidence.
        class_weight: one number per class, 0 or more; or "balanced", by which all classes count alike in training.

    Raises:
        GateError: gamma is not a finite number, 0 or more; scores, targets or weights of the wrong shape;
            labels that are not integers or out of range; an empty batch.
    """

    def __init__(self, gamma: float = 2.0, class_weight: ClassWeight = None) -> None:
        self.gamma = as_number(self, "gamma", gamma, "a finite number, 0 or more", lambda value: value >= 0)
        self.class_weight, self.is_balanced = as_class_weight(self, class_weight), class_weight == "balanced"

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        rows, labels, share = self._labelled(scores, targets, weights)
        each = np.arange(len(labels))
        exps = np.exp(rows - rows.max(axis=1, keepdims=True))
        p = exps / exps.sum(axis=1, keepdims=True)
        shifted = rows - rows[each, labels][:, np.newaxis]  # -ln p = ln(1 + the sum of the others' exponentials)
        shifted[each, labels] = -np.inf
        highest = np.maximum(shifted.max(axis=1), 0)
        others = np.exp(shifted - highest[:, np.newaxis]).sum(axis=1)
        nll = np.where(highest > 0, highest + np.log(np.exp(-highest) + others), np.log1p(others))
        wrong = p.sum(axis=1, where=shifted > -np.inf)  # 1 - p[label] without cancellation
        self.save(p, wrong, nll, labels, share, scores.shape)
        return (share * wrong**self.gamma * nll).sum()

    def backward(self, grad: Any) -> Gradients:
        p, wrong, nll, labels, share, shape = self.saved
        each = np.arange(len(labels))
        ratio = np.divide(nll, wrong, out=np.ones_like(nll), where=wrong > 0)  # -ln p / (1 - p) -> 1 as p -> 1
        slope = wrong**self.gamma * (1 + self.gamma * p[each, labels] * ratio)
        grad_scores = p.copy()
        grad_scores[each, labels] = -wrong
        return self.gradient((grad_scores * (grad * share * slope)[:, np.newaxis]).reshape(shape))

    def probabilities(self, scores: Array) -> Array:
        """Return the probability of each class, softmax(s), in the shape of the scores."""
        return SoftmaxCE().probabilities(scores)


class MulticlassSVM(ClassLoss):
    """L = mean of sum over j != y of max(0, s_j - s_y + margin), y being the label: the multiclass hinge loss.

    Shapes: scores (batch, classes), or (batch, ..., classes) with a label for each position; targets (batch, ...),
    integers; weights (batch,), or one per label -> L (). A label's weight is its sample's times class_weight[label].
    Local gradient: dL/ds_j = share for every class j != y within the margin (0 at its very edge), share being the
    weight over the sum of weights; dL/ds_y = -share times the number of those classes.
    Source: Weston and Watkins 1999, Support Vector Machines for Multi-Class Pattern Recognition.

    Args:
        margin: by how much the label's score must exceed every other.
        class_weight: one number per class, 0 or more; or "balanced", by which all classes count alike in training.

    Raises:
        GateError: margin is not a finite number, 0 or more; scores, targets or weights of the wrong shape;
            labels that are not integers or out of range; an empty batch.
    """

    def __init__(self, margin: float = 1.0, class_weight: ClassWeight = None) -> None:
        self.margin = as_number(self, "margin", margin, "a finite number, 0 or more", lambda value: value >= 0)
        self.class_weight, self.is_balanced = as_class_weight(self, class_weight), class_weight == "balanced"

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        rows, labels, share = self._labelled(scores, targets, weights)
        each = np.arange(len(labels))
        excess = np.maximum(rows - rows[each, labels][:, np.newaxis] + self.margin, 0)
        excess[each, labels] = 0
        self.save(excess, labels, share, scores.shape)
        return (excess.sum(axis=1) * share).sum()

    def backward(self, grad: Any) -> Gradients:
        excess, labels, share, shape = self.saved
        grad_scores = (excess > 0) * (grad * share)[:, np.newaxis]
        grad_scores[np.arange(len(labels)), labels] = -grad_scores.sum(axis=1)
        return self.gradient(grad_scores.reshape(shape))


def _wrong_weights(gate: Gate, weights: Shape, expected: list[Shape]) -> str:
    wanted = f"{expected[0]}, one per row of the scores"
    wanted += "".join(f", or {shape}, one per label" for shape in expected[1:])
    return f"{gate!r}: sample weights of shape {weights}, expected {wanted}"


def flatten_hint(name: str, scores: Shape, targets: Shape) -> str:
    if len(targets) == 2 and targets == (*scores[:1], 1):
        return f"; write {name}[:, 0]"
    if targets[:1] != scores[:1]:
        return f": the batch has {scores[0]} rows of scores"
    return ""
