"""What all losses share: targets that must fit the scores, and weights that make a mean of the batch."""

import math
from typing import ClassVar

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.parameter import Array


class Loss(Gate):
    """A loss of two inputs, scores and targets, and an optional third, one weight per sample.

    It is the weighted mean over the batch, sum_i w_i loss_i / sum_i w_i, with w_i = 1 unless weights are given.

    Attributes:
        task: "classification" or "regression": what its targets mean, and so which metrics suit it.
        is_binary: whether a question of two classes takes one score, rather than one per class.
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
        """The part that each sample has in the mean, w_i / sum_j w_j; a `factor` per sample multiplies its weight."""
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
            raise GateError(f"{self!r}: all weights of this batch are 0, which leaves nothing to average")
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
                f"{self!r}: labels of shape {targets}, expected {scores[:1]}, one whole number per row of the scores"
                f"{_flatten_hint('labels', scores, targets)}"
            )

    def labels(self, scores: Array, targets: Array) -> Array:
        """Return the targets, having made sure that they are labels: whole numbers from 0 to classes - 1."""
        ClassLoss.expect(self, scores.shape, targets.shape)
        classes = scores.shape[1]
        if targets.dtype.kind not in "iu":
            raise GateError(
                f"{self!r}: labels are {targets.dtype}, first label {targets.flat[0] if targets.size else 'none'}; "
                f"expected whole numbers from 0 to {classes - 1}: labels.astype(int) makes them so"
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
        """Return `class_weight`, having made sure that it has one entry per column of the scores."""
        if self.class_weight is not None and len(self.class_weight) != scores.shape[1]:
            raise GateError(
                f"{self!r}: class_weight has {len(self.class_weight)} entries; "
                f"the scores have {scores.shape[1]} columns, and each needs one"
            )
        return self.class_weight


class ElementLoss(Loss):
    """A loss of every score against a target of its own; a batch's row counts the sum over its elements."""

    task = "regression"

    def expect(self, scores: Shape, targets: Shape) -> None:
        if not scores:
            raise GateError(f"{self!r}: scores of shape (), expected (batch,) or (batch, outputs)")
        if targets != scores and not (len(targets) == 1 and scores == (*targets, 1)):
            raise GateError(
                f"{self!r}: targets of shape {targets}, expected {scores}, the shape of the scores"
                f"{_flatten_hint('targets', scores, targets)}"
            )

    def fitted(self, scores: Array, targets: Array) -> Array:
        """Return the targets in the shape and dtype of the scores; (batch,) fits the single column of (batch, 1)."""
        self.expect(scores.shape, targets.shape)
        if targets.dtype.kind not in "biuf":
            raise GateError(f"{self!r}: targets are {targets.dtype}, expected numbers")
        return targets.reshape(scores.shape).astype(scores.dtype, copy=False)

    def column(self, scores: Array, weights: Array | None, factor: Array | None = None) -> Array:
        """The samples' shares, shaped so that they multiply the scores row by row."""
        return self.shares(scores, weights, factor).reshape(-1, *(1,) * (scores.ndim - 1))


class BinaryLoss(ElementLoss):
    """A loss of every score against a target from 0 (no) to 1 (yes)."""

    task = "classification"
    is_binary = True

    def binary(self, scores: Array, targets: Array) -> Array:
        """Return the targets in the shape and dtype of the scores, having made sure that they lie in [0, 1]."""
        fitted = self.fitted(scores, targets)
        if fitted.size and not (fitted.min() >= 0 and fitted.max() <= 1):
            first = np.unravel_index(np.argmin((fitted >= 0) & (fitted <= 1)), fitted.shape)
            place = f"row {first[0]}" + (f", column {first[1]}" if fitted.ndim > 1 else "")
            raise GateError(
                f"{self!r}: target {fitted[first]} in {place}; targets go from 0 to 1 "
                "(labels -1 and 1 become 0 and 1 by (y + 1) / 2)"
            )
        return fitted

    def signs(self, scores: Array, targets: Array) -> Array:
        """Return 1 where the target is 1 and -1 where it is 0, having made sure that there is nothing in between."""
        targets = self.binary(scores, targets)
        if (targets * (1 - targets)).any():
            raise GateError(f"{self!r}: targets must be 0 or 1, nothing in between; they begin {targets.ravel()[:5]}")
        return 2 * targets - 1


def _wrong_weights(gate: Gate, weights: Shape, rows: int) -> str:
    return f"{gate!r}: sample weights of shape {weights}, expected ({rows},), one per row of the scores"


def _flatten_hint(name: str, scores: Shape, targets: Shape) -> str:
    if len(targets) == 2 and targets == (*scores[:1], 1):
        return f"; write {name}[:, 0]"
    if targets[:1] != scores[:1]:
        return f": the batch has {scores[0]} rows of scores"
    return ""
