"""Losses of classifiers: scores and labels in, one number out, the mean over the batch; a third one weighs samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gradients, Shape
from layerflow.gates.settings import as_class_weight, as_number
from layerflow.gates.special import sigmoid
from layerflow.gates.targets import BinaryLoss, ClassLoss
from layerflow.parameter import Array


class SoftmaxCE(ClassLoss):
    """L = mean of -ln p[label], p = softmax(s): the negative log likelihood of the labels, cross entropy.

    Shapes: scores (batch, classes); targets (batch,), whole numbers, or (batch, classes), probabilities t, whose
    loss is -sum_c t_c ln p_c; weights (batch,) -> L ().
    A sample's weight is its own times class_weight[label], or sum_c t_c class_weight[c]; its share is that over the
    sum of weights.
    Local gradient: dL/ds = share * (p - t), t being the one-hot label, or the probabilities times class_weight,
    rescaled to sum to 1.
    Source: Bishop 2006, Pattern Recognition and Machine Learning, section 4.3.4.

    Args:
        class_weight: one number per class, 0 or more.

    Raises:
        GateError: scores, targets or weights of the wrong shape; labels that are no whole numbers or out of range;
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

    Shapes: scores (batch, classes); targets (batch,), whole numbers; weights (batch,) -> L (). A sample's weight is
    class_weight[label] times its own.
    Local gradient: dL/ds_j = share for every class j != y within the margin (0 at its very edge), share being the
    sample's weight over the sum of weights; dL/ds_y = -share times the number of those classes.
    Source: Weston and Watkins 1999, Support Vector Machines for Multi-Class Pattern Recognition.

    Args:
        margin: by how much the label's score must exceed every other.
        class_weight: one number per class, 0 or more.

    Raises:
        GateError: a margin that is not a finite number, 0 or more; scores, targets or weights of the wrong shape;
            labels that are no whole numbers or out of range; an empty batch.
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


class SigmoidCE(BinaryLoss):
    """L = mean of -(t ln p + (1 - t) ln(1 - p)), p = sigmoid(s): the logistic negative log likelihood, on scores.

    Shapes: scores (batch,) or (batch, k), k independent yes-or-no questions whose losses are summed; targets of the
    same shape, 0 or 1 (or in between); targets (batch,) also fit scores (batch, 1); weights (batch,) -> L ().
    Local gradient: dL/ds = share * (p - t), share being the sample's weight over the sum of weights.
    Source: Bishop 2006, Pattern Recognition and Machine Learning, section 4.3.2.

    Args:
        class_weight: two numbers, 0 or more, for samples with the targets 0 and 1; only where each sample has one
            score, and a target that is not in between.

    Raises:
        GateError: scores, targets or weights of the wrong shape; targets outside [0, 1]; an empty batch; a class_weight
            that does not fit.
    """

    def __init__(self, class_weight: Sequence[float] | None = None) -> None:
        self.class_weight = as_class_weight(self, class_weight)
        if self.class_weight is not None and len(self.class_weight) != 2:
            raise GateError(f"{self!r}: class_weight must be two numbers, for targets 0 and 1, not {class_weight!r}")

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        desired = self.binary(scores, targets)
        share = self.column(scores, weights, self._factor(scores, desired))
        self.save(scores, desired, share)
        return (share * (np.maximum(scores, 0) - scores * desired + np.log1p(np.exp(-np.abs(scores))))).sum()

    def backward(self, grad: Any) -> Gradients:
        scores, desired, share = self.saved
        return self.gradient(grad * share * (sigmoid(scores) - desired))

    def probabilities(self, scores: Array) -> Array:
        """Return the probability of yes, sigmoid(s), in the shape of the scores."""
        yes: Array = sigmoid(scores)
        return yes

    def _factor(self, scores: Array, targets: Array) -> Array | None:
        """The class weight of each sample's target."""
        if self.class_weight is None:
            return None
        if scores.size != len(scores):
            raise GateError(f"{self!r}: class_weight needs one score per sample; the scores have shape {scores.shape}")
        is_yes = self.signs(scores, targets).ravel() > 0
        return np.asarray(self.class_weight[is_yes.astype(int)])


class ClippedNLL(BinaryLoss):
    """L = mean of -ln p, p = (1 + m) / 2 clipped to [floor, 1], m = s for the target 1 and -s for the target 0.

    A base for the negative log likelihood to compare `SigmoidCE` with: the score is squashed into a probability by
    clipping. Where the classifier is confidently wrong, m < -1, it gives no gradient, and so no way back.

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

    A base to compare `SigmoidCE` with: where the classifier is confidently wrong, the sigmoid is flat, and the gradient
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
