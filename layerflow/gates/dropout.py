"""Dropout: random noise that prevents co-adaptation."""

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

    def forward(self, x: Any) -> Any:
        if not self.training or self.rate == 0.0:
            self.save(None)
            return x
        if self.rng is None:
            raise GateError(f"{self!r}: it has no generator yet; call build(rng, shape) first, or set a seed")
        is_kept = self.rng.random(x.shape, np.float32) >= self.rate
        mask = np.multiply(is_kept, 1 / (1 - self.rate), dtype=x.dtype)
        self.save(mask)
        return x * mask

    def backward(self, grad: Any) -> Gradients:
        (mask,) = self.saved
        return (grad if mask is None else grad * mask,), {}
