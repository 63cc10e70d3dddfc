"""Random noise that is there while training alone: dropout of elements, channels or samples, and Gaussian noise."""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.shared import as_number


class Dropout(Gate):
    """y = x * m / (1 - rate) while training, m being 0 with probability `rate` and 1 otherwise; y = x in evaluation.

    Shapes: any x -> y of the same shape; the mask m is drawn anew at every forward, for every element.
    Local gradient: dy/dx = m / (1 - rate) while training, 1 in evaluation.
    Source: Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014, Dropout (section 10: scaled in training).

    Args:
        rate: the probability with which an element is dropped, 0 <= rate < 1.
        seed: the seed of the gate's generator `rng`; by default it is derived from the seed of the model.

    Raises:
        GateError: rate is outside [0, 1).
    """

    def __init__(self, rate: float, seed: int | None = None) -> None:
        self.rate = as_number(self, "rate", rate, "a probability below 1, 0 <= rate < 1", lambda value: 0 <= value < 1)
        self.rng = None if seed is None else np.random.default_rng(seed)

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        if self.rng is None:
            self.rng = rng.spawn(1)[0]
        return shape

    def dropped_together(self, shape: Shape) -> Shape:
        """Return the shape of the mask, which is broadcast against x of `shape`."""
        return shape

    def forward(self, x: Any) -> Any:
        if not self.training or self.rate == 0.0:
            self.save(None)
            return x
        if self.rng is None:
            raise GateError(f"{self!r}: it has no generator yet; call build(rng, shape) first, or set a seed")
        is_kept = self.rng.random(self.dropped_together(x.shape), np.float32) >= self.rate
        mask = np.multiply(is_kept, 1 / (1 - self.rate), dtype=x.dtype)
        self.save(mask)
        return x * mask

    def backward(self, grad: Any) -> Gradients:
        (mask,) = self.saved
        return (grad if mask is None else grad * mask,), {}


class Dropout2d(Dropout):
    """y = x * m / (1 - rate) while training, m being 0 or 1 for each channel of each sample; y = x in evaluation.

    Shapes: x (batch, channels, axes...) -> y of the same shape.
    Local gradient: dy/dx = m / (1 - rate) while training, 1 in evaluation.
    Source: Tompson, Goroshin, Jain, LeCun and Bregler 2015, Efficient Object Localization Using Convolutional Networks.

    Args: those of Dropout.

    Raises:
        GateError: rate is outside [0, 1); x has no channels.
    """

    def dropped_together(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise GateError(f"{self!r}: input of shape {shape}, expected (batch, channels, ...)")
        return (*shape[:2], *(1,) * (len(shape) - 2))


class DropPath(Dropout):
    """y = x * m / (1 - rate) while training, m being 0 or 1 for each sample; y = x in evaluation.

    At the end of a residual branch it skips the branch for some samples, which is known as stochastic depth.

    Shapes: x (batch, ...) -> y of the same shape.
    Local gradient: dy/dx = m / (1 - rate) while training, 1 in evaluation.
    Source: Huang, Sun, Liu, Sedra and Weinberger 2016, Deep Networks with Stochastic Depth, arXiv:1603.09382.

    Args: those of Dropout.

    Raises:
        GateError: rate is outside [0, 1); x has no samples axis.
    """

    def dropped_together(self, shape: Shape) -> Shape:
        if not shape:
            raise GateError(f"{self!r}: input of shape (), expected (batch, ...)")
        return (shape[0], *(1,) * (len(shape) - 1))


class GaussianNoise(Gate):
    """y = x + std * n while training, n being standard normal noise; y = x in evaluation.

    Shapes: any x -> y of the same shape.
    Local gradient: dy/dx = 1.

    Args:
        std: the standard deviation of the noise, 0 or more.
        seed: the seed of the gate's generator `rng`; by default it is derived from the seed of the model.

    Raises:
        GateError: std is not a finite number, 0 or more.
    """

    def __init__(self, std: float, seed: int | None = None) -> None:
        self.std = as_number(self, "std", std, "a finite number, 0 or more", lambda value: value >= 0)
        self.rng = None if seed is None else np.random.default_rng(seed)

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        if self.rng is None:
            self.rng = rng.spawn(1)[0]
        return shape

    def forward(self, x: Any) -> Any:
        self.save()
        if not self.training or self.std == 0.0:
            return x
        if self.rng is None:
            raise GateError(f"{self!r}: it has no generator yet; call build(rng, shape) first, or set a seed")
        return x + self.rng.normal(0.0, self.std, x.shape).astype(x.dtype)

    def backward(self, grad: Any) -> Gradients:
        return (grad,), {}
