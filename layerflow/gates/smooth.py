"""Smooth activations beyond the classical ones. None overflows: no exponential is taken of anything positive."""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients
from layerflow.gates.shared import as_number, sigmoid

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def softplus(x: Any) -> Any:
    """ln(1 + e^x), which cannot overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


class SELU(Gate):
    """y = scale x where x > 0, else scale alpha (e^x - 1), with alpha = 1.6733 and scale = 1.0507.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = scale where x > 0, else scale alpha e^x.
    Source: Klambauer, Unterthiner, Mayr and Hochreiter 2017, Self-Normalizing Neural Networks, arXiv:1706.02515.
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * np.exp(np.minimum(x, 0))),), {}


class CELU(Gate):
    """y = x where x > 0, else alpha (e^(x / alpha) - 1).

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 where x > 0, else e^(x / alpha).
    Source: Barron 2017, Continuously Differentiable Exponential Linear Units, arXiv:1704.07483.

    Args:
        alpha: the limit far below zero is -alpha.

    Raises:
        GateError: alpha is not a finite number above 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = as_number(self, "alpha", alpha, "a finite number above 0", lambda value: value > 0)

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0) / self.alpha))

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * np.exp(np.minimum(x, 0) / self.alpha),), {}


class Mish(Gate):
    """y = x tanh(ln(1 + e^x)).

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = t + x (1 - t^2) sigmoid(x) with t = tanh(ln(1 + e^x)).
    Source: Misra 2020, Mish: A Self Regularized Non-Monotonic Activation Function, arXiv:1908.08681.
    """

    def forward(self, x: Any) -> Any:
        t = np.tanh(softplus(x))
        self.save(x, t)
        return x * t

    def backward(self, grad: Any) -> Gradients:
        x, t = self.saved
        return (grad * (t + x * (1 - t * t) * sigmoid(x)),), {}


class Softsign(Gate):
    """y = x / (1 + |x|).

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 / (1 + |x|)^2.
    Source: Glorot and Bengio 2010, Understanding the Difficulty of Training Deep Feedforward Neural Networks.
    """

    def forward(self, x: Any) -> Any:
        size = 1 + np.abs(x)
        self.save(size)
        return x / size

    def backward(self, grad: Any) -> Gradients:
        (size,) = self.saved
        return (grad / (size * size),), {}


class LogSigmoid(Gate):
    """y = ln(1 / (1 + e^-x)).

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 - sigmoid(x) = sigmoid(-x).
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return -softplus(-x)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * sigmoid(-x),), {}


class GLU(Gate):
    """y = a sigmoid(b), a and b being the two halves of x along an axis.

    Shapes: x with an even size 2 n along the axis -> y with n there.
    Local gradient: dy/da = sigmoid(b), dy/db = a sigmoid(b) (1 - sigmoid(b)).
    Source: Dauphin, Fan, Auli and Grangier 2017, Language Modeling with Gated Convolutional Networks.

    Args:
        axis: the axis that is halved.

    Raises:
        GateError: x has no such axis, or an odd size there.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        if not -x.ndim <= self.axis < x.ndim or x.shape[self.axis] % 2:
            raise GateError(f"{self!r}: input of shape {x.shape}, expected an even size along axis {self.axis}")
        a, b = np.split(x, 2, axis=self.axis)
        s = sigmoid(b)
        self.save(a, s)
        return a * s

    def backward(self, grad: Any) -> Gradients:
        a, s = self.saved
        return (np.concatenate([grad * s, grad * a * s * (1 - s)], axis=self.axis),), {}
