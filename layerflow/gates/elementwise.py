"""Functions of single elements, beside the activations."""

import math
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients
from layerflow.gates.arithmetic import sum_to
from layerflow.gates.shared import as_number, erf


class Abs(Gate):
    """y = |x|.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = the sign of x (0 at the kink x = 0).
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.abs(x)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * np.sign(x),), {}


class Sqrt(Gate):
    """y = the square root of x. That of a negative x is NaN, and NumPy warns.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 / (2 y), which is infinite at x = 0.
    """

    def forward(self, x: Any) -> Any:
        y = np.sqrt(x)
        self.save(y)
        return y

    def backward(self, grad: Any) -> Gradients:
        (y,) = self.saved
        return (grad / (2 * y),), {}


class Sin(Gate):
    """y = sin x.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = cos x.
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.sin(x)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * np.cos(x),), {}


class Cos(Gate):
    """y = cos x.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = -sin x.
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.cos(x)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (-grad * np.sin(x),), {}


class Erf(Gate):
    """y = 2 / sqrt(pi) * the integral of e^(-t^2) from 0 to x.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 2 / sqrt(pi) * e^(-x^2).
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return erf(x)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad * (2 / math.sqrt(math.pi)) * np.exp(-x * x),), {}


class Clip(Gate):
    """y = min(max(x, min), max); either bound may be left out.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 where min <= x <= max, else 0.

    Args:
        min: the least value, or None.
        max: the largest value, or None.

    Raises:
        GateError: a bound is not a finite number, both are None, or max is not above min.
    """

    def __init__(self, min: float | None = None, max: float | None = None) -> None:
        if min is None and max is None:
            raise GateError(f"{self!r}: give min, max, or both")
        low = -math.inf if min is None else as_number(self, "min", min, "a finite number", lambda value: True)
        expected = "a finite number" if min is None else f"a number above min={min!r}"
        high = math.inf if max is None else as_number(self, "max", max, expected, lambda value: value > low)
        self.bounds = low, high

    def forward(self, x: Any) -> Any:
        self.save(x)
        low, high = self.bounds
        return np.minimum(np.maximum(x, low), high)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        low, high = self.bounds
        return (grad * ((x >= low) & (x <= high)),), {}


class Where(Gate):
    """y = a where the condition is not 0, else b.

    Shapes: the condition, a and b broadcast against each other; a broadcast input's gradient is summed back.
    Local gradient: dy/da = 1 where the condition holds, else 0; dy/db the other way round. The condition has none.
    """

    def forward(self, condition: Any, a: Any, b: Any) -> Any:
        self.save(condition != 0, a.shape, b.shape)
        return np.where(condition != 0, a, b)

    def backward(self, grad: Any) -> Gradients:
        holds, shape_a, shape_b = self.saved
        return (None, sum_to(np.where(holds, grad, 0), shape_a), sum_to(np.where(holds, 0, grad), shape_b)), {}
