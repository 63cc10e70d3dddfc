"""Losses of classifiers, and what all losses share: scores and targets in, the weighted mean over the batch out."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.shared import as_number
from layerflow.parameter import Array


def as_class_weight(gate: Gate, class_weight: Sequence[float] | None) -> Array | None:
    """Return one weight per class as an array, or `None` if there are none."""
    if class_weight is None:
        return None
    try:
        array = np.asarray(class_weight, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(())
    if array.ndim != 1 or not array.any() or not np.all((array >= 0) & (array < math.inf)):
        raise GateError(
            f"{gate!r}: class_weight must be a list with one number, 0 or more, per class, not {class_weight!r}"
        )
    return array


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
        if weights is not None and weights != scores[:1]:
            raise GateError(_wrong_weights(self, weights, scores[0]))
        return ()

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
            raise GateError(_wrong_weights(self, weights.shape, rows))
        elif not (weights.min() >= 0 and weights.max() < math.inf):
            row = int(np.argmin((weights >= 0) & (weights < math.inf)))
            raise GateError(f"{self!r}: the weight in row {row} is {weights[row]}; weights are finite and 0 or more")
        return self.normalised(weights if factor is None else weights * factor).astype(scores.dtype)

    def normalised(self, weights: Array) -> Array:
        """The weights, divided by their sum."""
        total = weights.sum()
        if total == 0:
            raise GateError(f"{self!r}: all weights of this batch are 0, so there is nothing to average")
        share: Array = weights / total
        return share

    def gradient(self, grad_scores: Array) -> Gradients:
        """What backward returns: targets and weights have no gradient."""
        return (grad_scores, *(None,) * (len(self.needs_grad) - 1)), {}


class ClassLoss(Loss):
    """A loss of one score per class, against labels."""

    class_weight: Array | None

    def expect(self, scores: Shape, targets: Shape) -> None:
        if len(scores) != 2:
            raise GateError(f"{self!r}: scores of shape {scores}, expected (batch, classes)")
        if targets != scores[:1]:
            raise GateError(
                f"{self!r}: labels of shape {targets}, expected {scores[:1]}, one integer per row of the scores"
                f"{flatten_hint('labels', scores, targets)}"
            )

    def labels(self, scores: Array, targets: Array) -> Array:
        """Return the targets after checking that they are labels: integers from 0 to classes - 1."""
        ClassLoss.expect(self, scores.shape, targets.shape)
        classes = scores.shape[1]
        if targets.dtype.kind not in "iu":
            raise GateError(
                f"{self!r}: labels are {targets.dtype}, first label {targets.flat[0] if targets.size else 'none'}; "
                f"expected integers from 0 to {classes - 1}; convert them with labels.astype(int)"
            )
        # As unsigned numbers, negative labels are huge: one comparison finds both kinds.
        if targets.size and targets.astype(np.uint64).max() >= classes:
            row = int(np.argmax((targets < 0) | (targets >= classes)))
            raise GateError(
                f"{self!r}: label {targets[row]} in row {row}; the scores have {classes} columns, "
                f"so labels go from 0 to {classes - 1}"
            )
        return targets

    def weight_per_class(self, scores: Array) -> Array | None:
        """Return `class_weight` after checking that it has one entry per column of the scores."""
        if self.class_weight is not None and len(self.class_weight) != scores.shape[1]:
            raise GateError(
                f"{self!r}: class_weight has {len(self.class_weight)} entries; "
                f"the scores have {scores.shape[1]} columns, and each needs one"
            )
        return self.class_weight


class SoftmaxCE(ClassLoss):
    """L = mean of -ln p[label], p = softmax(s): the negative log likelihood of the labels (cross entropy).

    Shapes: scores (batch, classes); targets (batch,), integers, or (batch, classes), probabilities t, whose
    loss is -sum_c t_c ln p_c; weights (batch,) -> L ().
    A sample's weight is its own times class_weight[label], or sum_c t_c class_weight[c]; its share is that over the
    sum of weights.
    Local gradient: dL/ds = share * (p - t), t being the one-hot label, or the probabilities times class_weight,
    rescaled to sum to 1.
    Source: Bishop 2006, Pattern Recognition and Machine Learning, section 4.3.4.

    Args:
        class_weight: one number per class, 0 or more.

    Raises:
        GateError: scores, targets or weights of the wrong shape; labels that are not integers or out of range;
            probabilities that are negative or do not sum to 1; an empty batch.
    """

    def __init__(self, class_weight: Sequence[float] | None = None) -> None:
        self.class_weight = as_class_weight(self, class_weight)

    def expect(self, scores: Shape, targets: Shape) -> None:
        if len(targets) != 2 or targets != scores:
            super().expect(scores, targets)

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        self.expect(scores.shape, targets.shape)
        shifted = scores - scores.max(axis=1, keepdims=True)  # the largest exponent is 0
        exps = np.exp(shifted)
        sums = exps.sum(axis=1, keepdims=True)
        if targets.ndim == 2:
            desired, share = self._desired(scores, targets, weights)
            self.save(exps, sums, desired, share)
            return (desired * (np.log(sums) - shifted)).sum()
        labels, class_weight = self.labels(scores, targets), self.weight_per_class(scores)
        share = self.shares(scores, weights, None if class_weight is None else class_weight[labels])
        self.save(exps, sums, labels, share)
        return (share * (np.log(sums[:, 0]) - shifted[np.arange(len(labels)), labels])).sum()

    def backward(self, grad: Any) -> Gradients:
        exps, sums, targets, share = self.saved
        grad_share = grad * share
        if targets.ndim == 2:
            return self.gradient(exps * (grad_share / sums) - grad * targets)
        grad_scores = exps * (grad_share[:, np.newaxis] / sums)
        grad_scores[np.arange(len(targets)), targets] -= grad_share
        return self.gradient(grad_scores)

    def probabilities(self, scores: Array) -> Array:
        """Return the probability of each class, softmax(s), shape (batch, classes)."""
        exps = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Array = exps / exps.sum(axis=1, keepdims=True)
        return shares

    def _desired(self, scores: Array, targets: Array, weights: Array | None) -> tuple[Array, Array]:
        """The target probabilities times each sample's share in the mean, and that share, class weights included."""
        class_weight = self.weight_per_class(scores)
        desired = self._probabilities(scores, targets) * self.shares(scores, weights)[:, np.newaxis]
        if class_weight is not None:
            desired = self.normalised(desired * class_weight.astype(scores.dtype))
        return desired, desired.sum(axis=1, keepdims=True)

    def _probabilities(self, scores: Array, targets: Array) -> Array:
        probabilities = targets.astype(scores.dtype, copy=False)
        is_right = (np.abs(probabilities.sum(axis=1) - 1) < 1e-4) & (probabilities >= 0).all(axis=1)
        if not is_right.all():
            row = int(np.argmin(is_right))
            raise GateError(f"{self!r}: the targets' row {row} is {targets[row]}; probabilities are >= 0 and sum to 1")
        return probabilities


class MulticlassSVM(ClassLoss):
    """L = mean of sum over j != y of max(0, s_j - s_y + margin), y being the label: the multiclass hinge loss.

    Shapes: scores (batch, classes); targets (batch,), integers; weights (batch,) -> L (). A sample's weight is
    class_weight[label] times its own.
    Local gradient: dL/ds_j = share for every class j != y within the margin (0 at its very edge), share being the
    sample's weight over the sum of weights; dL/ds_y = -share times the number of those classes.
    Source: Weston and Watkins 1999, Support Vector Machines for Multi-Class Pattern Recognition.

    Args:
        margin: by how much the label's score must exceed every other.
        class_weight: one number per class, 0 or more.

    Raises:
        GateError: margin is not a finite number, 0 or more; scores, targets or weights of the wrong shape;
            labels that are not integers or out of range; an empty batch.
    """

    def __init__(self, margin: float = 1.0, class_weight: Sequence[float] | None = None) -> None:
        self.margin = as_number(self, "margin", margin, "a finite number, 0 or more", lambda value: value >= 0)
        self.class_weight = as_class_weight(self, class_weight)

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        labels = self.labels(scores, targets)
        class_weight = self.weight_per_class(scores)
        share = self.shares(scores, weights, None if class_weight is None else class_weight[labels])
        rows = np.arange(len(labels))
        excess = np.maximum(scores - scores[rows, labels][:, np.newaxis] + self.margin, 0)
        excess[rows, labels] = 0
        self.save(excess, rows, labels, share)
        return (excess.sum(axis=1) * share).sum()

    def backward(self, grad: Any) -> Gradients:
        excess, rows, labels, share = self.saved
        grad_scores = (excess > 0) * (grad * share)[:, np.newaxis]
        grad_scores[rows, labels] = -grad_scores.sum(axis=1)
        return self.gradient(grad_scores)


def _wrong_weights(gate: Gate, weights: Shape, rows: int) -> str:
    return f"{gate!r}: sample weights of shape {weights}, expected ({rows},), one per row of the scores"


def flatten_hint(name: str, scores: Shape, targets: Shape) -> str:
    if len(targets) == 2 and targets == (*scores[:1], 1):
        return f"; write {name}[:, 0]"
    if targets[:1] != scores[:1]:
        return f": the batch has {scores[0]} rows of scores"
    return ""
