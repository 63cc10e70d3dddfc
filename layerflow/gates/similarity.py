"""Losses of vectors that should be near each other, or far apart."""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.shared import as_number
from layerflow.parameter import Array

SMALLEST = 1e-12  # added to squared norms, so that a vector of zeros has the cosine 0


class Triplet(Gate):
    """L = mean of max(0, |a - p + eps| - |a - n + eps| + margin): the anchor nearer to the positive than the negative.

    Shapes: anchor, positive, negative (batch, features) -> L ().
    Local gradient: with u = (a - p + eps) / |a - p + eps| and v the same for n, for each of the batch's samples with a
    loss above 0: dL/da = (u - v) / batch, dL/dp = -u / batch, dL/dn = v / batch; 0 for the others.
    Source: Schroff, Kalenichenko and Philbin 2015, FaceNet: A Unified Embedding for Face Recognition and Clustering.

    Args:
        margin: by how much the distance to the negative must exceed that to the positive, 0 or more.
        eps: added to every difference, so that equal vectors have a gradient.

    Raises:
        GateError: margin or eps is negative; inputs that are not of one shape (batch, features); an empty batch.
    """

    def __init__(self, margin: float = 1.0, eps: float = 1e-6) -> None:
        self.margin = as_number(self, "margin", margin, "a finite number, 0 or more", lambda value: value >= 0)
        self.eps = as_number(self, "eps", eps, "a finite number, 0 or more", lambda value: value >= 0)

    def build(self, rng: "np.random.Generator", anchor: Shape, positive: Shape, negative: Shape) -> Shape:
        return _expect_pairs(self, {"anchor": anchor, "positive": positive, "negative": negative})

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        _expect_pairs(self, {"anchor": anchor.shape, "positive": positive.shape, "negative": negative.shape})
        near, far = anchor - positive + self.eps, anchor - negative + self.eps
        to_near, to_far = _norm(near), _norm(far)
        excess = np.maximum(to_near - to_far + self.margin, 0)
        self.save(near, far, to_near, to_far, excess)
        return excess.mean()

    def backward(self, grad: Any) -> Gradients:
        near, far, to_near, to_far, excess = self.saved
        share = grad * (excess > 0) / len(excess)
        u, v = (share * _unit(side, length) for side, length in ((near, to_near), (far, to_far)))
        return (u - v, -u, v), {}


class CosineEmbedding(Gate):
    """L = mean of 1 - cos(x1, x2) for pairs that belong together (target 1), max(0, cos - margin) for others (-1).

    Shapes: x1, x2 (batch, features); targets (batch,), 1 or -1 -> L (). A vector of zeros has the cosine 0.
    Local gradient: dcos/dx1 = x2 / (|x1| |x2|) - cos x1 / |x1|^2, times -1 / batch for target 1, and 1 / batch for
    target -1 where cos > margin.
    Source: Hadsell, Chopra and LeCun 2006, Dimensionality Reduction by Learning an Invariant Mapping (the pairs).

    Args:
        margin: the cosine, from -1 to 1, down to which pairs that do not belong together are pushed apart.

    Raises:
        GateError: margin is not from -1 to 1; inputs of different shapes; targets other than 1 and -1; an empty batch.
    """

    def __init__(self, margin: float = 0.0) -> None:
        self.margin = as_number(self, "margin", margin, "a number from -1 to 1", lambda value: -1 <= value <= 1)

    def build(self, rng: "np.random.Generator", x1: Shape, x2: Shape, targets: Shape) -> Shape:
        self._check(x1, x2, targets)
        return ()

    def _check(self, x1: Shape, x2: Shape, targets: Shape) -> None:
        _expect_pairs(self, {"x1": x1, "x2": x2})
        if targets != x1[:1]:
            raise GateError(f"{self!r}: targets of shape {targets}, expected {x1[:1]}, one per pair")

    def forward(self, x1: Any, x2: Any, targets: Any) -> Any:
        self._check(x1.shape, x2.shape, targets.shape)
        if not np.isin(targets, (-1, 1)).all():
            row = int(np.argmin(np.isin(targets, (-1, 1))))
            raise GateError(f"{self!r}: target {targets[row]} in row {row}; expected 1 or -1 (for 0 and 1: 2 * y - 1)")
        squares = [(x * x).sum(axis=1, keepdims=True) + SMALLEST for x in (x1, x2)]
        size = np.sqrt(squares[0] * squares[1])
        cosine = (x1 * x2).sum(axis=1, keepdims=True) / size
        is_pair = (targets > 0)[:, np.newaxis]
        self.save(x1, x2, squares, size, cosine, is_pair)
        return np.where(is_pair, 1 - cosine, np.maximum(cosine - self.margin, 0)).mean()

    def backward(self, grad: Any) -> Gradients:
        x1, x2, squares, size, cosine, is_pair = self.saved
        slope = np.where(is_pair, -1, cosine > self.margin).astype(cosine.dtype) * (grad / len(cosine))
        grad_x1 = slope * (x2 / size - cosine * x1 / squares[0])
        grad_x2 = slope * (x1 / size - cosine * x2 / squares[1])
        return (grad_x1, grad_x2, None), {}


def _expect_pairs(gate: Gate, shapes: dict[str, Shape]) -> Shape:
    first, *others = shapes.values()
    if len(first) != 2 or any(shape != first for shape in others):
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise GateError(f"{gate!r}: {given}; expected one shape, (batch, features), for all")
    if first[0] == 0:
        raise GateError(f"{gate!r}: the batch is empty, of shape {first}; a mean needs a sample")
    return ()


def _norm(x: Array) -> Array:
    length: Array = np.sqrt((x * x).sum(axis=1, keepdims=True))
    return length


def _unit(x: Array, length: Array) -> Array:
    """x / |x|, and 0 for a vector of zeros."""
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)
