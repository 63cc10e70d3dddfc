"""Regularizers: gates of the weights, whose output is added to the data loss."""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients
from layerflow.gates.shared import as_number


class L2Regularizer(Gate):
    """y = strength * sum W^2, over all elements of the weights given (weight decay, ridge).

    Shapes: any number of W, of any shapes -> y (). It is not divided by the batch size.
    Local gradient: dy/dW = 2 * strength * W.
    Source: Krogh and Hertz 1991, A Simple Weight Decay Can Improve Generalization.

    Args:
        strength: the factor, 0 or more.

    Raises:
        GateError: strength is negative or not finite; no weights are given.
    """

    def __init__(self, strength: float) -> None:
        self.strength = _strength(self, strength)

    def forward(self, *weights: Any) -> Any:
        _need_weights(self, weights)
        self.save(weights)
        return self.strength * sum([np.vdot(weight, weight) for weight in weights])

    def backward(self, grad: Any) -> Gradients:
        (weights,) = self.saved
        factor = 2 * self.strength * grad
        return tuple([factor * weight for weight in weights]), {}


class L1Regularizer(Gate):
    """y = strength * sum |W|, over all elements of the weights given (lasso): it drives weights to exactly zero.

    Shapes: any number of W, of any shapes -> y (). It is not divided by the batch size.
    Local gradient: dy/dW = strength * sign(W), 0 where W is 0.
    Source: Tibshirani 1996, Regression Shrinkage and Selection via the Lasso.

    Args:
        strength: the factor, 0 or more.

    Raises:
        GateError: strength is negative or not finite; no weights are given.
    """

    def __init__(self, strength: float) -> None:
        self.strength = _strength(self, strength)

    def forward(self, *weights: Any) -> Any:
        _need_weights(self, weights)
        self.save(weights)
        return self.strength * sum([np.abs(weight).sum() for weight in weights])

    def backward(self, grad: Any) -> Gradients:
        (weights,) = self.saved
        factor = self.strength * grad
        return tuple([factor * np.sign(weight) for weight in weights]), {}


def _strength(gate: Gate, strength: float) -> float:
    return as_number(gate, "strength", strength, "a finite number, 0 or more", lambda value: value >= 0)


def _need_weights(gate: Gate, weights: tuple[Any, ...]) -> None:
    if not weights:
        raise GateError(f"{gate!r}: no weights were given; pass the parameters, as in forward(linear.weight.value)")
