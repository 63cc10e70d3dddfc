"""Losses of regression: scores and targets in, the weighted mean over the batch out."""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gradients, Shape
from layerflow.gates.loss import Loss, flatten_hint
from layerflow.gates.shared import as_number
from layerflow.parameter import Array


class ElementLoss(Loss):
    """A loss of every score against a target of its own; a batch's row counts the sum over its elements."""

    task = "regression"

    def expect(self, scores: Shape, targets: Shape) -> None:
        if not scores:
            raise GateError(f"{self!r}: scores of shape (), expected (batch,) or (batch, outputs)")
        if targets != scores and not (len(targets) == 1 and scores == (*targets, 1)):
            raise GateError(
                f"{self!r}: targets of shape {targets}, expected {scores}, the shape of the scores"
                f"{flatten_hint('targets', scores, targets)}"
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


class SquaredError(ElementLoss):
    """L = mean of |s - t|^2: squared differences, summed over the outputs and averaged over the batch.

    Shapes: scores (batch, ...); targets of the same shape, where (batch,) also fits scores (batch, 1); weights (batch,)
    -> L ().
    Local gradient: dL/ds = 2 share (s - t), share being the sample's weight over the sum of weights.
    Source: Bishop 2006, Pattern Recognition and Machine Learning, section 3.1.

    Raises:
        GateError: scores, targets or weights of the wrong shape; an empty batch.
    """

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        residual = scores - self.fitted(scores, targets)
        share = self.column(scores, weights)
        self.save(residual, share)
        return (share * residual * residual).sum()

    def backward(self, grad: Any) -> Gradients:
        residual, share = self.saved
        return self.gradient(2 * grad * share * residual)


class AbsoluteError(ElementLoss):
    """L = mean of |s - t|: absolute differences, summed over the outputs and averaged over the batch.

    Shapes: scores (batch, ...); targets of the same shape, where (batch,) also fits scores (batch, 1); weights (batch,)
    -> L ().
    Local gradient: dL/ds = share * sign(s - t), 0 where s = t, share being the sample's weight over the sum of weights.
    Source: Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, section 10.6.

    Raises:
        GateError: scores, targets or weights of the wrong shape; an empty batch.
    """

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        residual = scores - self.fitted(scores, targets)
        share = self.column(scores, weights)
        self.save(residual, share)
        return (share * np.abs(residual)).sum()

    def backward(self, grad: Any) -> Gradients:
        residual, share = self.saved
        return self.gradient(grad * share * np.sign(residual))


class Huber(ElementLoss):
    """L = mean of r^2 / 2 where |r| <= delta, else delta (|r| - delta / 2), for r = s - t, summed over the outputs.

    Shapes: scores (batch, ...); targets of the same shape, where (batch,) also fits scores (batch, 1); weights (batch,)
    -> L ().
    Local gradient: dL/ds = share * (r clipped to [-delta, delta]), share being the sample's weight over their sum.
    Source: Huber 1964, Robust Estimation of a Location Parameter.

    Args:
        delta: where the parabola becomes a straight line, more than 0.

    Raises:
        GateError: delta is not a finite number above 0; scores, targets or weights of the wrong shape; an empty batch.
    """

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = as_number(self, "delta", delta, "a finite number above 0", lambda value: value > 0)

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        residual = scores - self.fitted(scores, targets)
        clipped = np.clip(residual, -self.delta, self.delta)
        share = self.column(scores, weights)
        self.save(clipped, share)
        return (share * clipped * (residual - 0.5 * clipped)).sum()

    def backward(self, grad: Any) -> Gradients:
        clipped, share = self.saved
        return self.gradient(grad * share * clipped)


class Quantile(ElementLoss):
    """L = mean of q max(t - s, 0) + (1 - q) max(s - t, 0): smallest where s is the quantile q of the targets.

    Shapes: scores (batch, ...); targets of the same shape, where (batch,) also fits scores (batch, 1); weights (batch,)
    -> L (). It is summed over the outputs and averaged over the batch.
    Local gradient: dL/ds = -share q where s < t, share (1 - q) where s > t, 0 where they are equal, share being the
    sample's weight over the sum of weights.
    Source: Koenker and Bassett 1978, Regression Quantiles.

    Args:
        quantile: the part of the targets that should lie below the scores, between 0 and 1; 0.5 gives the median.

    Raises:
        GateError: quantile is not between 0 and 1; scores, targets or weights of the wrong shape; an empty batch.
    """

    def __init__(self, quantile: float = 0.5) -> None:
        self.quantile = as_number(self, "quantile", quantile, "a number between 0 and 1", lambda value: 0 < value < 1)

    def forward(self, scores: Any, targets: Any, weights: Any = None) -> Any:
        missing = self.fitted(scores, targets) - scores
        share = self.column(scores, weights)
        slope = np.where(missing > 0, self.quantile, np.where(missing < 0, self.quantile - 1, 0))
        slope = slope.astype(scores.dtype)
        self.save(slope, share)
        return (share * slope * missing).sum()

    def backward(self, grad: Any) -> Gradients:
        slope, share = self.saved
        return self.gradient(-grad * share * slope)
