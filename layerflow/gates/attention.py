"""Attention: every query takes a weighted mean of the values, with weights from a softmax over the keys."""

import math
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.initializers import named_initializer
from layerflow.gates.shared import as_number
from layerflow.gates.windows import as_sizes
from layerflow.parameter import Parameter


def attention_weights(scores: Any, allowed: Any) -> Any:
    """Return the softmax over the last axis among the allowed entries; a row without any gets zeros."""
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total > 0, total, 1)


def through_weights(weights: Any, grad: Any) -> Any:
    """Return the gradient of the scores: P (g - the sum of g P over the row): softmax has cross terms."""
    return weights * (grad - (grad * weights).sum(axis=-1, keepdims=True))


def allowed_places(queries: int, keys: int, causal: bool, mask: Any) -> Any:
    """Return which query may look at which key, or None for all at all."""
    earlier = np.tri(queries, keys, dtype=bool) if causal else None
    if mask is None:
        return earlier
    return mask != 0 if earlier is None else (mask != 0) & earlier


class ScaledDotProductAttention(Gate):
    """y = P v with P = softmax(q k^T / sqrt(features)) over the keys.

    With `causal`, query t sees the keys up to t. A fourth input is a mask, 0 where a query must not look. A query that
    may look nowhere gets the output 0.

    Shapes: q (..., queries, features), k (..., keys, features), v (..., keys, width), and a mask that broadcasts to
    (..., queries, keys) -> y (..., queries, width).
    Local gradient: dL/dv = P^T g; with D = g v^T and dL/ds = P (D - the sum of D P over the keys),
    dL/dq = dL/ds k / sqrt(features) and dL/dk = (dL/ds)^T q / sqrt(features).
    Source: Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, equation 1.

    Args:
        causal: whether a query sees only the keys up to its own position.

    Raises:
        GateError: the inputs' shapes do not fit each other.
    """

    def __init__(self, causal: bool = False) -> None:
        self.causal = causal

    def build(self, rng: "np.random.Generator", query: Shape, key: Shape, value: Shape, *mask: Shape) -> Shape:
        self._check(query, key, value, *mask)
        return (*query[:-1], value[-1])

    def _check(self, query: Shape, key: Shape, value: Shape, *mask: Shape) -> None:
        fits = len(query) >= 2 and query[:-2] == key[:-2] == value[:-2] and query[-1:] == key[-1:] and 0 not in key
        scores = (*query[:-1], *key[-2:-1])
        fits = fits and key[-2] == value[-2] and len(mask) < 2
        if not fits or any(not _broadcasts(shape, scores) for shape in mask):
            given = ", ".join(map(str, (query, key, value, *mask)))
            raise GateError(
                f"{self!r}: inputs of shapes {given}, expected (..., queries, features), (..., keys, features), "
                "(..., keys, width), and perhaps a mask that broadcasts to (..., queries, keys)"
            )

    def forward(self, query: Any, key: Any, value: Any, *mask: Any) -> Any:
        self._check(query.shape, key.shape, value.shape, *(item.shape for item in mask))
        factor = 1 / math.sqrt(query.shape[-1])
        allowed = allowed_places(query.shape[-2], key.shape[-2], self.causal, *(mask or (None,)))
        weights = attention_weights((query * factor) @ key.swapaxes(-1, -2), allowed)
        self.save(query, key, value, weights, len(mask))
        return weights @ value

    def backward(self, grad: Any) -> Gradients:
        query, key, value, weights, masks = self.saved
        factor = 1 / math.sqrt(query.shape[-1])
        to_scores = through_weights(weights, grad @ value.swapaxes(-1, -2)) * factor
        to_key, to_value = to_scores.swapaxes(-1, -2) @ query, weights.swapaxes(-1, -2) @ grad
        return (to_scores @ key, to_key, to_value, *[None] * masks), {}


def _broadcasts(shape: Shape, target: Shape) -> bool:
    ends = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in ends)


class MultiHeadAttention(Gate):
    """y = W_o (the heads' outputs, joined) + b_o, every head being attention on its own projections of q, k and v.

    Inputs: x, which attends to itself; or query, key and value. A mask (batch, keys) may follow, 0 where a sequence
    has ended. A query that may look nowhere gets b_o.

    Shapes: x or query (batch, time, features), key and value (batch, keys, features) -> y (batch, time, features);
    in_proj_weight (3 features, features) and in_proj_bias (3 features,) for q, k, v in this order; out_proj_weight
    (features, features), out_proj_bias (features,).
    Local gradient: as of Linear for the projections and of ScaledDotProductAttention for each head; for x, the sum of
    the gradients of query, key and value.
    Source: Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.2.2.

    Args:
        num_heads: the number of heads; it divides the features.
        causal: whether a query sees only the keys up to its own position.
        dropout: the probability with which a weight is dropped while training, 0 <= dropout < 1.

    Raises:
        GateError: a setting is out of range; num_heads doesn't divide the features; the inputs' shapes do not fit.
    """

    def __init__(self, num_heads: int, causal: bool = False, dropout: float = 0.0) -> None:
        as_sizes(self, "num_heads", num_heads, 1)
        self.num_heads, self.causal = num_heads, causal
        self.dropout = as_number(self, "dropout", dropout, "a probability below 1", lambda value: 0 <= value < 1)
        self.rng: np.random.Generator | None = None
        self.in_proj_weight, self.in_proj_bias = Parameter(), Parameter(decay=False)
        self.out_proj_weight, self.out_proj_bias = Parameter(), Parameter(decay=False)

    def build(self, rng: "np.random.Generator", shape: Shape, *others: Shape) -> Shape:
        self._check((shape, *others), shape[-1] if shape else 0)
        features, draw = shape[2], named_initializer("xavier")
        if self.dropout and self.rng is None:
            self.rng = rng.spawn(1)[0]
        self.in_proj_weight.create((3 * features, features), lambda wanted: draw(rng, wanted))
        self.in_proj_bias.create((3 * features,), np.zeros)
        self.out_proj_weight.create((features, features), lambda wanted: draw(rng, wanted))
        self.out_proj_bias.create((features,), np.zeros)
        return shape

    def _check(self, shapes: tuple[Shape, ...], features: int) -> None:
        sequences = shapes[:3] if len(shapes) > 2 else shapes[:1]
        mask, keys = shapes[len(sequences) :], sequences[-1][:2]
        fits = all(len(shape) == 3 and shape[2] == features and shape[0] == keys[0] for shape in sequences)
        fits = fits and all(shape[1] == keys[1] for shape in sequences[1:]) and 0 not in keys[1:]
        if not fits or len(mask) > 1 or any(shape != keys for shape in mask):
            raise GateError(
                f"{self!r}: inputs of shapes {', '.join(map(str, shapes))}, expected (batch, time, "
                f"{features or 'features'}) once or three times, and perhaps a mask (batch, keys)"
            )
        if features % self.num_heads:
            raise GateError(f"{self!r}: num_heads={self.num_heads} must divide the {features} features of the input")

    def forward(self, *inputs: Any) -> Any:
        features = self.out_proj_bias.value.shape[0]
        self._check(tuple(x.shape for x in inputs), features)
        sequences = inputs[:3] if len(inputs) > 2 else inputs[:1] * 3
        mask = inputs[-1][:, None, None] if len(inputs) in (2, 4) else None
        matrices = zip(np.split(self.in_proj_weight.value, 3), np.split(self.in_proj_bias.value, 3), strict=True)
        projected = [x @ weight.T + bias for x, (weight, bias) in zip(sequences, matrices, strict=True)]
        query, key, value = map(self._heads, projected)
        allowed = allowed_places(query.shape[2], key.shape[2], self.causal, mask)
        query = query / math.sqrt(features // self.num_heads)
        weights = attention_weights(query @ key.swapaxes(2, 3), allowed)
        kept = self._kept(weights)
        joined = self._joined((weights if kept is None else weights * kept) @ value)
        self.save(sequences, query, key, value, weights, kept, joined, len(inputs))
        return joined @ self.out_proj_weight.value.T + self.out_proj_bias.value

    def _kept(self, weights: Any) -> Any:
        """Return the mask of dropout, or None."""
        if not self.training or self.dropout == 0:
            return None
        if self.rng is None:
            raise GateError(f"{self!r}: it has no generator yet; call build(rng, shape) first")
        is_kept = self.rng.random(weights.shape, np.float32) >= self.dropout
        return np.multiply(is_kept, 1 / (1 - self.dropout), dtype=weights.dtype)

    def _heads(self, x: Any) -> Any:
        return x.reshape(*x.shape[:2], self.num_heads, -1).swapaxes(1, 2)

    def _joined(self, heads: Any) -> Any:
        return heads.swapaxes(1, 2).reshape(heads.shape[0], heads.shape[2], -1)

    def backward(self, grad: Any) -> Gradients:
        sequences, query, key, value, weights, kept, joined, count = self.saved
        rows = grad.reshape(-1, grad.shape[2])
        grads = {"out_proj_weight": rows.T @ joined.reshape(rows.shape), "out_proj_bias": rows.sum(axis=0)}
        heads = self._heads(grad @ self.out_proj_weight.value)
        to_value = (weights if kept is None else weights * kept).swapaxes(2, 3) @ heads
        to_weights = heads @ value.swapaxes(2, 3)
        to_scores = through_weights(weights, to_weights if kept is None else to_weights * kept)
        factor = 1 / math.sqrt(query.shape[3])
        to_projected = [to_scores @ key * factor, to_scores.swapaxes(2, 3) @ query, to_value]
        found = [self._joined(item) for item in to_projected]
        flat = [item.reshape(-1, item.shape[2]) for item in found]
        pairs = zip(flat, sequences, strict=True)
        grads["in_proj_weight"] = np.concatenate([part.T @ x.reshape(-1, x.shape[2]) for part, x in pairs])
        grads["in_proj_bias"] = np.concatenate([part.sum(axis=0) for part in flat])
        matrices = np.split(self.in_proj_weight.value, 3)
        downs: list[Any] = [part @ matrix for part, matrix in zip(found, matrices, strict=True)]
        downs = downs if count > 2 else [downs[0] + downs[1] + downs[2]]
        return (*downs, *[None] * (count in (2, 4))), grads
