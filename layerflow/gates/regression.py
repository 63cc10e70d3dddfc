"""Losses of regression: scores and targets in, one number out, the mean over the batch; a third one weighs samples."""

from typing import Any

import numpy as np

from layerflow.gate import Gradients
from layerflow.gates.settings import as_number
from layerflow.gates.targets import ElementLoss


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
        delta: where the parabola goes over into straight lines, more than 0.

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
