"""Cases for embeddings, recurrent layers and attention."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    x = rng.normal
    tokens = rng.integers(0, 6, (3, 4))
    series, mask = x(size=(3, 5, 4)), np.arange(5) < np.array([[5], [2], [3]])
    query, key, value = x(size=(2, 3, 4)), x(size=(2, 5, 4)), x(size=(2, 5, 6))
    allowed = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1]], bool)
    memory = x(size=(3, 6, 4))
    layers: list[Any] = [RNN(2), RNN(3, "relu"), GRU(2), LSTM(2)]
    options: list[dict[str, Any]] = [{}, {"bidirectional": True}, {"return_sequences": False}]
    options.append(options[1] | options[2])
    return [
        *[(Embedding(6, 3, **option), tokens) for option in _embeddings()],
        (Embedding(6, 2), np.array([5, 5, 0])),
        (PaddingMask(), np.array([[2.0, 1.0, 0.0], [3.0, 0.0, 0.0]])),
        (PaddingMask(padding_idx=5), np.array([[5.0], [4.0]])),
        *[(PositionalEmbedding(length), series) for length in (5, 8)],
        *[(SinusoidalEncoding(), x(size=shape)) for shape in ((2, 3, 4), (1, 4, 3))],
        *[(RNNCell(3, nonlinearity), x(size=(4, 2)), x(size=(4, 3))) for nonlinearity in ("tanh", "relu")],
        (GRUCell(3), x(size=(4, 2)), x(size=(4, 3))),
        (LSTMCell(3), x(size=(4, 2)), x(size=(4, 3)), x(size=(4, 3))),
        *[(type(gate)(**gate.arguments | option), series) for gate in layers for option in options],
        *[(type(gate)(**gate.arguments | option), series, mask) for gate in layers for option in options],
        *[(gate(2), x(size=(1, 1, 3))) for gate in (RNN, GRU, LSTM)],
        *[(ScaledDotProductAttention(causal), query, key, value) for causal in (False, True)],
        (ScaledDotProductAttention(), query, key, value, allowed),
        (ScaledDotProductAttention(causal=True), x(size=(2, 2, 3, 4)), x(size=(2, 2, 3, 4)), x(size=(2, 2, 3, 4))),
        *[(MultiHeadAttention(heads, causal), series) for heads in (1, 2) for causal in (False, True)],
        (MultiHeadAttention(2), series, mask),
        (MultiHeadAttention(2, causal=True), series, mask),
        (MultiHeadAttention(4), series, memory, x(size=(3, 6, 4))),
        (MultiHeadAttention(2), series, memory, x(size=(3, 6, 4)), np.arange(6) < np.array([[6], [1], [4]])),
    ]


def _embeddings() -> list[dict[str, Any]]:
    return [{}, {"padding_idx": 2}, {"init": "normal"}]
