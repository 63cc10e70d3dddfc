"""Measures gates beside PyTorch's, forward plus backward in float32, in one run: milliseconds and their ratio.

    OPENBLAS_NUM_THREADS=2 OMP_NUM_THREADS=2 python scripts/bench_gates.py              # needs torch

The two take turns, and each figure is the median of the turns. Below 1 layerflow is the faster one.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import layerflow as lf


class Sequence(nn.Module):
    """A recurrent module of torch that returns its outputs alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> Any:
        """Return the outputs, without the last states."""
        return self.module(x)[0]


class SelfAttention(nn.Module):
    """Causal multi-head attention of x to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.MultiheadAttention(128, 4, batch_first=True)
        self.mask = nn.Transformer.generate_square_subsequent_mask(64)

    def forward(self, x: torch.Tensor) -> Any:
        """Return the outputs, without the weights."""
        return self.module(x, x, x, attn_mask=self.mask, need_weights=False)[0]


IMAGES, TEXT = (64, 16, 28, 28), (32, 64, 128)
CASES: list[tuple[str, lf.Gate, nn.Module, tuple[int, ...]]] = [
    ("Conv2d 16 -> 32, 3x3", lf.Conv2d(32, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1), IMAGES),
    ("Conv2d depthwise, 3x3", lf.Conv2d(16, 3, padding=1, groups=16), nn.Conv2d(16, 16, 3, 1, 1, groups=16), IMAGES),
    ("MaxPool2d 2x2", lf.MaxPool2d(2), nn.MaxPool2d(2), IMAGES),
    ("BatchNorm", lf.BatchNorm(), nn.BatchNorm2d(16), IMAGES),
    ("LayerNorm", lf.LayerNorm(), nn.LayerNorm(128), TEXT),
    ("RNN", lf.RNN(128), Sequence(nn.RNN(128, 128, batch_first=True)), TEXT),
    ("GRU", lf.GRU(128), Sequence(nn.GRU(128, 128, batch_first=True)), TEXT),
    ("LSTM", lf.LSTM(128), Sequence(nn.LSTM(128, 128, batch_first=True)), TEXT),
    ("MultiHeadAttention, causal", lf.MultiHeadAttention(4, causal=True), SelfAttention(), TEXT),
]


def median_of_turns(*actions: Callable[[], Any], turns: int = 15) -> list[float]:
    """Return the median time of each action in milliseconds, after one turn to warm up."""
    times: list[list[float]] = [[] for _ in actions]
    for turn in range(turns + 1):
        for action, taken in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            if turn:
                taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]


def main() -> None:
    """Print one line per gate."""
    rng = np.random.default_rng(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'gate':26}{'layerflow':>10}{'torch':>10}   ratio")
    for name, gate, module, shape in CASES:
        x = rng.normal(size=shape).astype(np.float32)
        upstream = rng.normal(size=gate(x).shape).astype(np.float32)
        tensor, grad = torch.tensor(x, requires_grad=True), torch.tensor(upstream)

        def ours(gate: Any = gate, x: Any = x, upstream: Any = upstream) -> None:
            gate.bare_forward(x)
            gate.bare_backward(upstream)

        def theirs(module: Any = module, tensor: Any = tensor, grad: Any = grad) -> None:
            module(tensor).backward(grad)

        mine, other = median_of_turns(ours, theirs)
        print(f"{name:26}{mine:10.2f}{other:10.2f}{mine / other:8.2f}")


if __name__ == "__main__":
    main()
