"""Embeddings: a learned row per token, and where in the sequence it stands."""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.initializers import Initializer, Normal, named_initializer
from layerflow.gates.windows import as_sizes
from layerflow.parameter import Array, Parameter


class Embedding(Gate):
    """y[..., :] = W[tokens[...]], one row of W per token.

    Shapes: tokens (...), whole numbers from 0 to num_embeddings - 1 -> y (..., embedding_dim);
    W (num_embeddings, embedding_dim).
    Local gradient: dL/dW[k] = the sum of the upstream gradient over all places where token k stands; the tokens have
    no gradient.
    Source: Bengio, Ducharme, Vincent and Jauvin 2003, A Neural Probabilistic Language Model.

    Args:
        num_embeddings: the number of different tokens.
        embedding_dim: the width of a row.
        padding_idx: a token that gives 0 and whose row is not trained.
        init: draws the initial weights: an initializer or its name; standard normal by default.

    Raises:
        GateError: a size is not a positive integer; a token is out of range or no whole number.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        init: Initializer | str | None = None,
    ) -> None:
        as_sizes(self, "num_embeddings", num_embeddings, 1)
        as_sizes(self, "embedding_dim", embedding_dim, 1)
        if padding_idx is not None and padding_idx not in range(num_embeddings):
            raise GateError(
                f"{self!r}: padding_idx must be a token from 0 to {num_embeddings - 1}, or None, not {padding_idx!r}"
            )
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.init = Normal(1.0) if init is None else named_initializer(init)
        self.weight = Parameter()

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        def draw(wanted: Shape) -> Array:
            weight = self.init(rng, wanted)
            if self.padding_idx is not None:
                weight[self.padding_idx] = 0.0
            return weight

        self.weight.create((self.num_embeddings, self.embedding_dim), draw)
        return (*shape, self.embedding_dim)

    def _indices(self, tokens: Any) -> Any:
        is_right = (tokens >= 0) & (tokens < self.num_embeddings)
        if tokens.dtype.kind not in "iu":
            is_right = is_right & (tokens == np.floor(tokens))
        if not is_right.all():
            place = tuple(int(axis) for axis in np.argwhere(~is_right)[0])
            raise GateError(
                f"{self!r}: the token at position {place} is {tokens[place]}; tokens are whole numbers from 0 to "
                f"{self.num_embeddings - 1}"
            )
        return tokens.astype(np.intp)

    def forward(self, tokens: Any) -> Any:
        indices = self._indices(tokens)
        self.save(indices)
        rows = self.weight.value[indices]
        return rows if self.padding_idx is None else np.where((indices == self.padding_idx)[..., None], 0, rows)

    def backward(self, grad: Any) -> Gradients:
        (indices,) = self.saved
        rows = np.zeros(self.weight.value.shape, grad.dtype)
        np.add.at(rows, indices, grad)
        if self.padding_idx is not None:
            rows[self.padding_idx] = 0
        return (None,), {"weight": rows}


class PaddingMask(Gate):
    """y = 1 where a token is not the padding, else 0: the mask that `GRU`, `Recurrent` and attention take.

    Shapes: tokens (batch, time) -> y (batch, time).
    Local gradient: dy/dx = 0.

    Args:
        padding_idx: the token that fills up shorter sequences.

    Raises:
        GateError: padding_idx is not an integer.
    """

    def __init__(self, padding_idx: int = 0) -> None:
        if not isinstance(padding_idx, int) or isinstance(padding_idx, bool):
            raise GateError(f"{self!r}: padding_idx must be an integer, not {padding_idx!r}")
        self.padding_idx = padding_idx

    def forward(self, x: Any) -> Any:
        self.save(x)
        return (x != self.padding_idx).astype(x.dtype if x.dtype.kind == "f" else np.float64)

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        return (np.zeros_like(grad) if x.dtype.kind == "f" else None,), {}


class PositionalEmbedding(Gate):
    """y[n, t] = x[n, t] + P[t], a learned row per position.

    Shapes: x (batch, time, features) -> y of the same shape; P, named `weight`, (max_length, features).
    Local gradient: dy/dx = 1; dL/dP[t] = the sum of the upstream gradient over the samples, 0 beyond the sequence.
    Source: Gehring, Auli, Grangier, Yarats and Dauphin 2017, Convolutional Sequence to Sequence Learning.

    Args:
        max_length: the longest sequence there will be.

    Raises:
        GateError: max_length is not a positive integer; x has another rank, is longer, or has other features.
    """

    def __init__(self, max_length: int) -> None:
        as_sizes(self, "max_length", max_length, 1)
        self.max_length = max_length
        self.weight = Parameter(decay=False)

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._check(shape, shape[-1:])
        self.weight.create((self.max_length, shape[2]), lambda wanted: rng.normal(0.0, 0.02, wanted))
        return shape

    def _check(self, shape: Shape, features: Shape) -> None:
        if len(shape) != 3 or shape[2:] != features:
            raise GateError(f"{self!r}: input of shape {shape}, expected (batch, time, {(*features, 'features')[0]})")
        if shape[1] > self.max_length:
            raise GateError(f"{self!r}: a sequence of {shape[1]} steps, more than max_length={self.max_length}")

    def forward(self, x: Any) -> Any:
        weight = self.weight.value
        self._check(x.shape, weight.shape[1:])
        self.save()
        return x + weight[: x.shape[1]]

    def backward(self, grad: Any) -> Gradients:
        rows = np.zeros(self.weight.value.shape, grad.dtype)
        rows[: grad.shape[1]] = grad.sum(axis=0)
        return (grad,), {"weight": rows}


class SinusoidalEncoding(Gate):
    """y[n, t, k] = x[n, t, k] + sin(t / 10000^(k / features)) for even k, and the cosine with k - 1 for odd k.

    Shapes: x (batch, time, features) -> y of the same shape.
    Local gradient: dy/dx = 1.
    Source: Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.5.

    Raises:
        GateError: x has another rank.
    """

    def forward(self, x: Any) -> Any:
        if x.ndim != 3:
            raise GateError(f"{self!r}: input of shape {x.shape}, expected (batch, time, features)")
        self.save()
        feature = np.arange(x.shape[2])
        angle = np.arange(x.shape[1])[:, None] / 10000.0 ** ((feature - feature % 2) / max(x.shape[2], 1))
        return x + np.where(feature % 2 == 0, np.sin(angle), np.cos(angle)).astype(x.dtype)

    def backward(self, grad: Any) -> Gradients:
        return (grad,), {}
