"""Activations: nonlinear functions of one input. None overflows: no exponential is taken of anything positive."""

import math
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients
from layerflow.gates.shared import as_number, normal_cdf, sigmoid


class ReLU(Gate):
    """y = max(0, x).

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 where x > 0, else 0 (at the kink x = 0 too).
    Source: Nair and Hinton 2010, Rectified Linear Units Improve Restricted Boltzmann Machines.
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.maximum(x, 0)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * (x > 0),), {}


class LeakyReLU(Gate):
    """y = x where x > 0, else negative_slope * x.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 where x > 0, else negative_slope (at the kink x = 0 too).
    Source: Maas, Hannun and Ng 2013, Rectifier Nonlinearities Improve Neural Network Acoustic Models.

    Args:
        negative_slope: the slope below zero.

    Raises:
        GateError: negative_slope is not a finite number.
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = as_number(self, "negative_slope", negative_slope, "a finite number", lambda value: True)

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.where(x > 0, x, self.negative_slope * x)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (np.where(x > 0, grad, self.negative_slope * grad),), {}


class ELU(Gate):
    """y = x where x > 0, else alpha (e^x - 1).

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 where x > 0, else alpha e^x.
    Source: Clevert, Unterthiner and Hochreiter 2016, arXiv:1511.07289, eq. 16.

    Args:
        alpha: y tends to -alpha as x falls.

    Raises:
        GateError: alpha is not a finite number.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = as_number(self, "alpha", alpha, "a finite number", lambda value: True)

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0)))

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (np.where(x > 0, grad, grad * (self.alpha * np.exp(np.minimum(x, 0)))),), {}


class Sigmoid(Gate):
    """y = 1 / (1 + e^-x).

    Shapes: any x -> y of the same shape, in [0, 1].
    Local gradient: dy/dx = y (1 - y), at most 1/4: a chain of sigmoids shrinks the gradient.
    """

    def forward(self, x: Any) -> Any:
        y = sigmoid(x)
        self.save(y)
        return y

    def backward(self, grad: Any) -> Gradients:
        (y,) = self.saved
        return (grad * (y * (1 - y)),), {}


class Tanh(Gate):
    """y = tanh x = (e^x - e^-x) / (e^x + e^-x).

    Shapes: any x -> y of the same shape, in [-1, 1].
    Local gradient: dy/dx = 1 - y^2.
    """

    def forward(self, x: Any) -> Any:
        y = np.tanh(x)
        self.save(y)
        return y

    def backward(self, grad: Any) -> Gradients:
        (y,) = self.saved
        return (grad * (1 - y * y),), {}


class Softplus(Gate):
    """y = ln(1 + e^x), a smooth ReLU, computed as max(x, 0) + ln(1 + e^-|x|).

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = sigmoid(x).
    Source: Dugas, Bengio, Belisle, Nadeau and Garcia 2001, Incorporating Second-Order Functional Knowledge.
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * sigmoid(x),), {}


class GELU(Gate):
    """y = x Phi(x), Phi being the standard normal distribution function, or its approximation by a tanh.

    The approximation is Phi(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = Phi(x) + x phi(x), phi being the derivative of Phi: e^(-x^2 / 2) / sqrt(2 pi) if exact.
    Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, eq. 1.

    Args:
        approximate: "none" for the exact function, "tanh" for the approximation.

    Raises:
        GateError: approximate is neither "none" nor "tanh".
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise GateError(f"{self!r}: approximate must be 'none' or 'tanh', not {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        if self.approximate == "none":
            cdf = normal_cdf(x)
        else:
            cdf = 0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
        self.save(x, cdf)
        return x * cdf

    def backward(self, grad: Any) -> Gradients:
        x, cdf = self.saved
        if self.approximate == "none":
            density = np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
        else:
            density = 2 * cdf * (1 - cdf) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
        return (grad * (cdf + x * density),), {}


class SiLU(Gate):
    """y = x sigmoid(x), also known as swish.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = s + x s (1 - s), for s = sigmoid(x).
    Source: Elfwing, Uchibe and Doya 2018, arXiv:1702.03118, eq. 9.
    """

    def forward(self, x: Any) -> Any:
        s = sigmoid(x)
        self.save(x, s)
        return x * s

    def backward(self, grad: Any) -> Gradients:
        x, s = self.saved
        return (grad * (s + x * s * (1 - s)),), {}


def check_classes(gate: Any, x: Any) -> None:
    """Raise `GateError` if there is nothing to normalise over."""
    if x.ndim and x.shape[gate.axis] == 0:
        raise GateError(f"{gate!r}: an input of shape {x.shape} has no elements along axis {gate.axis}")


class Softmax(Gate):
    """y_i = e^(x_i) / sum_j e^(x_j): positive and summing to 1 along an axis.

    Shapes: any x -> y of the same shape.
    Local gradient: dy_i/dx_j = y_i (1[i = j] - y_j), hence dL/dx = y * (g - sum(g * y)).
    Source: Bridle 1990, Probabilistic Interpretation of Feedforward Classification Network Outputs.

    Args:
        axis: the axis along which y sums to 1.

    Raises:
        GateError: the axis is empty.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        check_classes(self, x)
        exps = np.exp(x - x.max(axis=self.axis, keepdims=True))  # the largest exponent is 0
        y = exps / exps.sum(axis=self.axis, keepdims=True)
        self.save(y)
        return y

    def backward(self, grad: Any) -> Gradients:
        (y,) = self.saved
        return (y * (grad - (grad * y).sum(axis=self.axis, keepdims=True)),), {}


class LogSoftmax(Gate):
    """y_i = x_i - ln sum_j e^(x_j): the logarithm of Softmax, exact even where Softmax would round to 0.

    Shapes: any x -> y of the same shape.
    Local gradient: dy_i/dx_j = 1[i = j] - e^(y_j), hence dL/dx = g - e^y * sum(g).

    Args:
        axis: the axis along which e^y sums to 1.

    Raises:
        GateError: the axis is empty.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        check_classes(self, x)
        shifted = x - x.max(axis=self.axis, keepdims=True)
        y = shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))
        self.save(y)
        return y

    def backward(self, grad: Any) -> Gradients:
        (y,) = self.saved
        return (grad - np.exp(y) * grad.sum(axis=self.axis, keepdims=True),), {}
