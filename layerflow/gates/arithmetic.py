"""Arithmetic of two arrays or one, element by element, and the matrix product: the patterns in which gradients flow.

A sum distributes the gradient, a product switches its factors, a maximum routes it to the winner.
"""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients
from layerflow.gates.shared import as_number
from layerflow.parameter import Array


def sum_to(grad: Array, shape: tuple[int, ...]) -> Array:
    """Undo broadcasting: sum a gradient over the axes along which a value of `shape` was repeated."""
    if grad.shape == shape:
        return grad
    grad = grad.sum(axis=tuple(range(grad.ndim - len(shape))))
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1 and grad.shape[axis] != 1)
    return grad.sum(axis=repeated, keepdims=True) if repeated else grad


class Add(Gate):
    """y = a + b: the distributor; both inputs get the upstream gradient.

    Shapes: a and b broadcast against each other; a broadcast input's gradient is summed back to its shape.
    Local gradient: dy/da = 1, dy/db = 1.
    """

    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b.shape)
        return a + b

    def backward(self, grad: Any) -> Gradients:
        shape_a, shape_b = self.saved
        return (sum_to(grad, shape_a), sum_to(grad, shape_b)), {}


class Subtract(Gate):
    """y = a - b: a gets the upstream gradient, b its negative.

    Shapes: a and b broadcast against each other; a broadcast input's gradient is summed back to its shape.
    Local gradient: dy/da = 1, dy/db = -1.
    """

    def forward(self, a: Any, b: Any) -> Any:
        self.save(a.shape, b.shape)
        return a - b

    def backward(self, grad: Any) -> Gradients:
        shape_a, shape_b = self.saved
        return (sum_to(grad, shape_a), sum_to(-grad, shape_b)), {}


class Multiply(Gate):
    """y = a * b: the switcher; each input gets the upstream gradient times the other input.

    Shapes: a and b broadcast against each other; a broadcast input's gradient is summed back to its shape.
    Local gradient: dy/da = b, dy/db = a.
    """

    def forward(self, a: Any, b: Any) -> Any:
        self.save(a, b)
        return a * b

    def backward(self, grad: Any) -> Gradients:
        a, b = self.saved
        return (sum_to(grad * b, a.shape), sum_to(grad * a, b.shape)), {}


class Divide(Gate):
    """y = a / b.

    Shapes: a and b broadcast against each other; a broadcast input's gradient is summed back to its shape.
    Local gradient: dy/da = 1 / b, dy/db = -a / b^2 = -y / b. Where b is 0 the result is not finite, and NumPy warns.
    """

    def forward(self, a: Any, b: Any) -> Any:
        y = a / b
        self.save(a.shape, b, y)
        return y

    def backward(self, grad: Any) -> Gradients:
        shape_a, b, y = self.saved
        grad_a = grad / b
        return (sum_to(grad_a, shape_a), sum_to(-grad_a * y, b.shape)), {}


class Negate(Gate):
    """y = -x.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = -1.
    """

    def forward(self, x: Any) -> Any:
        self.save()
        return -x

    def backward(self, grad: Any) -> Gradients:
        return (-grad,), {}


class Power(Gate):
    """y = x^p for a constant exponent p, or for an exponent that is the second input.

    Shapes: any x -> y of the same shape; x and an array p broadcast against each other, and a broadcast input's
        gradient is summed back to its shape.
    Local gradient: dy/dx = p x^(p - 1), dy/dp = y ln x (0 where x is 0). A fraction's power of a negative x is NaN, and
        NumPy warns; so is dy/dp at a negative x.

    Args:
        exponent: the number p; `None` if it is an input.

    Raises:
        GateError: the exponent is not a finite number; it is given twice, or not at all.
    """

    def __init__(self, exponent: float | None = None) -> None:
        expected = "a finite number, such as 2 or -0.5"
        self.exponent = None if exponent is None else as_number(self, "exponent", exponent, expected, lambda _: True)

    def forward(self, x: Any, exponent: Any = None) -> Any:
        if (exponent is None) is (self.exponent is None):
            raise GateError(f"{self!r}: write Power(2) for one input x, or Power() for the two inputs x and exponent")
        self.save(x, exponent)
        return x**self.exponent if exponent is None else x**exponent

    def backward(self, grad: Any) -> Gradients:
        x, exponent = self.saved
        if self.exponent is not None:
            if self.exponent == 0.0:  # 0 * x^-1 would not be a number at x = 0
                return (grad * 0.0,), {}
            return (grad * (self.exponent * x ** (self.exponent - 1.0)),), {}
        grad_x = grad_exponent = None
        if self.needs_grad[0]:
            grad_x = sum_to(grad * exponent * x ** np.where(exponent == 0, 1, exponent - 1), x.shape)
        if self.needs_grad[1]:
            grad_exponent = sum_to(grad * x**exponent * np.log(np.where(x == 0, 1, x)), exponent.shape)
        return (grad_x, grad_exponent), {}


class Maximum(Gate):
    """y = max(a, b): the router; the larger input gets the whole upstream gradient, equal ones half of it each.

    Shapes: a and b broadcast against each other; a broadcast input's gradient is summed back to its shape.
    Local gradient: dy/da = 1 where a > b, 1/2 where a = b, else 0; dy/db = 1 - dy/da.
    """

    def forward(self, a: Any, b: Any) -> Any:
        self.save(a, b)
        return np.maximum(a, b)

    def backward(self, grad: Any) -> Gradients:
        a, b = self.saved
        grad_a = grad * (np.add(a > b, a >= b, dtype=grad.dtype) / 2)
        return (sum_to(grad_a, a.shape), sum_to(grad - grad_a, b.shape)), {}


class Minimum(Gate):
    """y = min(a, b): the router; the smaller input gets the whole upstream gradient, equal ones half of it each.

    Shapes: a and b broadcast against each other; a broadcast input's gradient is summed back to its shape.
    Local gradient: dy/da = 1 where a < b, 1/2 where a = b, else 0; dy/db = 1 - dy/da.
    """

    def forward(self, a: Any, b: Any) -> Any:
        self.save(a, b)
        return np.minimum(a, b)

    def backward(self, grad: Any) -> Gradients:
        a, b = self.saved
        grad_a = grad * (np.add(a < b, a <= b, dtype=grad.dtype) / 2)
        return (sum_to(grad_a, a.shape), sum_to(grad - grad_a, b.shape)), {}


class MatMul(Gate):
    """Y = A B, the matrix product; a vector counts as a row on the left and as a column on the right.

    Shapes: A (..., m, k) or (k,), B (..., k, n) or (k,) -> Y (..., m, n), without the axis that a vector added; the
    leading axes broadcast, and a broadcast input's gradient is summed back to its shape.
    Local gradient: dL/dA = G B^T, dL/dB = A^T G, for the upstream gradient G.
    """

    def forward(self, a: Any, b: Any) -> Any:
        self.save(a, b)
        return a @ b

    def backward(self, grad: Any) -> Gradients:
        a, b = self.saved
        left, right = a, b
        if b.ndim == 1:
            right, grad = b[:, np.newaxis], grad[..., np.newaxis]
        if a.ndim == 1:
            left, grad = a[np.newaxis, :], np.expand_dims(grad, -2)
        grad_a = sum_to(grad @ right.mT, left.shape).reshape(a.shape)
        grad_b = sum_to(left.mT @ grad, right.shape).reshape(b.shape)
        return (grad_a, grad_b), {}


class Exp(Gate):
    """y = e^x.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = y. Beyond x = 709 (88 in float32) y is infinite, and NumPy warns.
    """

    def forward(self, x: Any) -> Any:
        y = np.exp(x)
        self.save(y)
        return y

    def backward(self, grad: Any) -> Gradients:
        (y,) = self.saved
        return (grad * y,), {}


class Log(Gate):
    """y = ln x.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1 / x. Where x is not positive y is not finite, and NumPy warns.
    """

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.log(x)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (grad / x,), {}
