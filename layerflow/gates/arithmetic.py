"""Element-wise arithmetic: the patterns of gradient flow (distributor, switcher, router)."""

from typing import Any

import numpy as np

from layerflow.gate import Gate, Gradients
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
        self.save(np.shape(a), np.shape(b))
        return a + b

    def backward(self, grad: Any) -> Gradients:
        shape_a, shape_b = self.saved
        return (sum_to(grad, shape_a), sum_to(grad, shape_b)), {}


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
        return (sum_to(grad * b, np.shape(a)), sum_to(grad * a, np.shape(b))), {}
