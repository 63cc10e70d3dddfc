"""Activations made of straight or quadratic pieces. At a kink the derivative is that of the flatter side."""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.shared import as_number
from layerflow.gates.windows import as_sizes
from layerflow.parameter import Parameter


class PReLU(Gate):
    """y = x where x > 0, else weight * x, with a learned slope.

    Shapes: any x -> y of the same shape; weight (1,), or one per channel for x (batch, channels, ...).
    Local gradient: dy/dx = 1 where x > 0, else weight; dL/dweight = the sum of g x where x <= 0.
    Source: He, Zhang, Ren and Sun 2015, Delving Deep into Rectifiers, arXiv:1502.01852.

    Args:
        num_parameters: 1 slope for all elements, or as many as there are channels.
        init: the first slope.

    Raises:
        GateError: num_parameters is not a positive integer, or neither 1 nor the number of channels.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        as_sizes(self, "num_parameters", num_parameters, 1)
        self.num_parameters = num_parameters
        self.init = as_number(self, "init", init, "a finite number", lambda value: True)
        self.weight = Parameter(np.full(num_parameters, self.init), decay=False)

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._layout(shape)
        return shape

    def _layout(self, shape: Shape) -> tuple[int, ...]:
        if self.num_parameters == 1:
            return ()
        if len(shape) < 2 or shape[1] != self.num_parameters:
            raise GateError(f"{self!r}: input of shape {shape}, expected (batch, {self.num_parameters}, ...)")
        return (-1, *(1,) * (len(shape) - 2))

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.where(x > 0, x, self.weight.value.reshape(self._layout(x.shape)) * x)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        each = np.where(x > 0, 0, grad * x)
        axes = tuple(axis for axis in range(x.ndim) if axis != 1) if self.num_parameters > 1 else None
        slopes = each.sum(axis=axes).reshape(self.num_parameters)
        return (np.where(x > 0, grad, grad * self.weight.value.reshape(self._layout(x.shape))),), {"weight": slopes}


class Hardtanh(Gate):
    """y = min(max(x, min_val), max_val).

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 where min_val < x < max_val, else 0.

    Args:
        min_val: the least value.
        max_val: the largest value, above min_val.

    Raises:
        GateError: a setting is not a finite number, or max_val is not above min_val.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val = as_number(self, "min_val", min_val, "a finite number", lambda value: True)
        self.max_val = as_number(self, "max_val", max_val, "a number above min_val", lambda value: value > self.min_val)

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.minimum(np.maximum(x, self.min_val), self.max_val)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * ((x > self.min_val) & (x < self.max_val)),), {}


class ReLU6(Gate):
    """y = min(max(x, 0), 6).

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 where 0 < x < 6, else 0.
    Source: Krizhevsky 2010, Convolutional Deep Belief Networks on CIFAR-10.
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.minimum(np.maximum(x, 0), 6)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * ((x > 0) & (x < 6)),), {}


class Hardsigmoid(Gate):
    """y = min(max(x / 6 + 1/2, 0), 1), a sigmoid of straight pieces.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1/6 where -3 < x < 3, else 0.
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.minimum(np.maximum(x / 6 + 0.5, 0), 1)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad / 6 * ((x > -3) & (x < 3)),), {}


class Hardswish(Gate):
    """y = x min(max(x / 6 + 1/2, 0), 1), a SiLU of pieces.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 0 where x <= -3, x / 3 + 1/2 in between, 1 where x >= 3.
    Source: Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244.
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return x * np.minimum(np.maximum(x / 6 + 0.5, 0), 1)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * np.where(x >= 3, 1, np.where(x <= -3, 0, x / 3 + 0.5)),), {}


class Threshold(Gate):
    """y = x where x > threshold, else value.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 where x > threshold, else 0. At the threshold y may jump; no gradient shows that.

    Args:
        threshold: what x must exceed.
        value: what replaces x otherwise.

    Raises:
        GateError: a setting is not a finite number.
    """

    def __init__(self, threshold: float, value: float) -> None:
        self.threshold = as_number(self, "threshold", threshold, "a finite number", lambda value: True)
        self.value = as_number(self, "value", value, "a finite number", lambda value: True)

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.where(x > self.threshold, x, np.asarray(self.value, x.dtype))

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * (x > self.threshold),), {}
