"""Losses of yes-or-no questions: one score each, and a target from 0 (no) to 1 (yes)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gradients
from layerflow.gates.loss import ClassWeight, as_class_weight, known_weights
from layerflow.gates.regression import ElementLoss
from layerflow.gates.shared import as_number, sigmoid
from layerflow.parameter import Array


class BinaryLoss(ElementLoss):
    """A loss of every score against a target from 0 (no) to 1 (yes)."""

    task = "classification"
    is_binary = True

    def binary(self, scores: Array, targets: Array) -> Array:
        """Return the targets in the shape and dtype of the scores after checking that they lie in [0, 1]."""
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
        """Return 1 where the target is 1 and -1 where it is 0, after checking that no target lies in between."""
        targets = self.binary(scores, targets)
        if (targets * (1 - targets)).any():
            raise GateError(f"{self!r}: targets must be exactly 0 or 1; the first ones are {targets.ravel()[:5]}")
        return 2 * targets - 1


class SigmoidCE(BinaryLoss):
    """L = mean of -(t ln p + (1 - t) ln(1 - p)), p = sigmoid(s): the logistic negative log likelihood, on scores.

    Shapes: scores (batch,) or (batch, k), k independent yes-or-no questions whose losses are summed; targets of the
    same shape, 0 or 1 (or in between); targets (batch,) also fit scores (batch, 1); weights (batch,) -> L ().
    With pos_weight c, the first term is c t ln p.
    Local gradient: dL/ds = share * ((1 - t) p - c t (1 - p)), which is share * (p - t) for c = 1, share being the
    sample's weight over the sum of weights.
    Source: Bishop 2006, Pattern Recognition and Machine Learning, section 4.3.2.

    Args:
        class_weight: two numbers, 0 or more, for samples with targets 0 and 1, or "balanced", by which both count alike
            in training; only if each sample has one score and a target of exactly 0 or 1. It is part of the sample's
            weight, so that the mean is divided by it.
        pos_weight: how much more a yes counts than a no, one number or one per question; the mean is not divided by it.

    Raises:
        GateError: scores, targets or weights of the wrong shape; targets outside [0, 1]; an empty batch; a class_weight
            or pos_weight that does not fit.
    """

    def __init__(self, class_weight: ClassWeight = None, pos_weight: float | Sequence[float] | None = None) -> None:
        self.class_weight, self.is_balanced = as_class_weight(self, class_weight), class_weight == "balanced"
        if self.class_weight is not None and len(self.class_weight) != 2:
            raise GateError(f"{self!r}: class_weight must be two numbers, for targets 0 and 1, not {class_weight!r}")
        self.pos_weight = None if pos_weight is None else self._as_pos_weight(pos_weight)

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        no, yes = self._asked(scores, self.binary(scores, targets))
        share = self.column(scores, weights, self._factor(scores, yes if self.pos_weight is None else 1 - no))
        rest = np.log1p(np.exp(-np.abs(scores)))
        self.save(scores, no, yes, share)
        return (share * (no * (np.maximum(scores, 0) + rest) + yes * (np.maximum(-scores, 0) + rest))).sum()

    def backward(self, grad: Any) -> Gradients:
        scores, no, yes, share = self.saved
        return self.gradient(grad * share * (no * sigmoid(scores) - yes * sigmoid(-scores)))

    def probabilities(self, scores: Array) -> Array:
        """Return the probability of yes, sigmoid(s), in the shape of the scores."""
        yes: Array = sigmoid(scores)
        return yes

    def _as_pos_weight(self, pos_weight: Any) -> Array:
        try:
            array = np.asarray(pos_weight, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.empty((0, 0))
        if array.ndim > 1 or not array.size or not np.all((array >= 0) & np.isfinite(array)):
            raise GateError(
                f"{self!r}: pos_weight must be a number, 0 or more, or a list of one per question, not {pos_weight!r}"
            )
        return array

    def _asked(self, scores: Array, targets: Array) -> tuple[Array, Array]:
        """How much no and yes count in each target."""
        if self.pos_weight is None:
            return 1 - targets, targets
        if self.pos_weight.ndim and self.pos_weight.shape != scores.shape[1:]:
            raise GateError(
                f"{self!r}: pos_weight has {len(self.pos_weight)} entries, for scores of shape {scores.shape}; "
                "expected one per question"
            )
        return 1 - targets, targets * self.pos_weight.astype(scores.dtype)

    def _factor(self, scores: Array, targets: Array) -> Array | None:
        """The class weight of each sample's target."""
        class_weight = known_weights(self)
        if class_weight is None:
            return None
        if scores.size != len(scores):
            raise GateError(f"{self!r}: class_weight needs one score per sample; the scores have shape {scores.shape}")
        is_yes = self.signs(scores, targets).ravel() > 0
        return np.asarray(class_weight[is_yes.astype(int)])


class ClippedNLL(BinaryLoss):
    """L = mean of -ln p, p = (1 + m) / 2 clipped to [floor, 1], m = s for the target 1 and -s for the target 0.

    A baseline for `SigmoidCE`: the score is squashed into a probability by
    clipping. Where the classifier is confidently wrong, m < -1, it has no gradient and cannot recover.

    Shapes: scores (batch,) or (batch, k), summed over k; targets of the same shape, 0 or 1; targets (batch,) also fit
    scores (batch, 1); weights (batch,) -> L ().
    Local gradient: dL/dm = -share / (2 p) where floor < p < 1, else 0, share being the sample's weight over their sum.

    Args:
        floor: the smallest probability, so that the logarithm stays finite.

    Raises:
        GateError: floor is not between 0 and 1; scores, targets or weights of the wrong shape; targets other than 0 and
            1; an empty batch.
    """

    def __init__(self, floor: float = 1e-7) -> None:
        self.floor = as_number(self, "floor", floor, "a number between 0 and 1", lambda value: 0 < value < 1)

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        signs = self.signs(scores, targets)
        p = np.clip(0.5 + 0.5 * signs * scores, self.floor, 1)
        share = self.column(scores, weights)
        self.save(p, signs, share)
        return -(share * np.log(p)).sum()

    def backward(self, grad: Any) -> Gradients:
        p, signs, share = self.saved
        is_inside = (p > self.floor) & (p < 1)
        return self.gradient(grad * share * (is_inside * signs * (-0.5 / p)))

    def probabilities(self, scores: Array) -> Array:
        """Return the probability of yes, (1 + s) / 2 clipped to [0, 1], in the shape of the scores."""
        return np.clip(0.5 + 0.5 * scores, 0, 1)


class LogisticLikelihood(BinaryLoss):
    """L = mean of 1 - sigmoid(m), m = s for the target 1 and -s for the target 0: the likelihood without a logarithm.

    A baseline for `SigmoidCE`: where the classifier is confidently wrong, the sigmoid is flat, and the gradient
    vanishes.

    Shapes: scores (batch,) or (batch, k), summed over k; targets of the same shape, 0 or 1; targets (batch,) also fit
    scores (batch, 1); weights (batch,) -> L ().
    Local gradient: dL/dm = -share * sigmoid(m) sigmoid(-m), share being the sample's weight over the sum of weights.

    Raises:
        GateError: scores, targets or weights of the wrong shape; targets other than 0 and 1; an empty batch.
    """

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        signs = self.signs(scores, targets)
        wrong = sigmoid(-signs * scores)
        share = self.column(scores, weights)
        self.save(scores, wrong, signs, share)
        return (share * wrong).sum()

    def backward(self, grad: Any) -> Gradients:
        scores, wrong, signs, share = self.saved
        return self.gradient(grad * share * (-signs * wrong * sigmoid(signs * scores)))

    def probabilities(self, scores: Array) -> Array:
        """Return the probability of yes, sigmoid(s), in the shape of the scores."""
        yes: Array = sigmoid(scores)
        return yes
