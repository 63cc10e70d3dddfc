"""What a node of a dynamic graph costs beside its peers: micrograd's Value for numbers, PyTorch eager for arrays.

    python scripts/bench_graph.py            # needs micrograd and torch for the comparison; one thread

A node is built, computed and swept back; the time is per node. Every measurement alternates between the peers, and the
fastest of its rounds counts. Garbage collection is on, as in real programs. Functions such as tanh are left out of the
arrays: there NumPy's and PyTorch's own arithmetic would be compared, not what surrounds it.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import gc
import importlib
import sys
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

import layerflow as lf

POINTS, WIDTHS, CHAIN, ROUNDS = 100, (2, 16, 16, 1), 200, 9
Leaf = Callable[[str, Any], Any]


def expression(leaf: Leaf) -> Any:
    """A chain of products and sums of three numbers: the bare cost of a node."""
    x, w, y = leaf("x", 0.5), leaf("w", 1.001), leaf("y", 0.25)
    for _ in range(CHAIN // 2):
        y = y * w + x
    return y


def network(leaf: Leaf) -> Any:
    """The max-margin loss of a 2-16-16-1 network of single numbers on 100 points, with its penalty."""
    rng = np.random.default_rng(0)
    points, signs = rng.normal(size=(POINTS, WIDTHS[0])).tolist(), rng.choice([-1.0, 1.0], POINTS).tolist()
    layers, parameters = [], []
    for fan_in, fan_out in pairwise(WIDTHS):
        draws = rng.uniform(-1, 1, (fan_out, fan_in + 1)).tolist()
        layer = [[leaf(f"p{len(layers)}.{i}.{j}", draw) for j, draw in enumerate(row)] for i, row in enumerate(draws)]
        layers.append(layer)
        parameters += [number for row in layer for number in row]
    total = 0.0
    for point, sign in zip(points, signs, strict=True):
        values: list[Any] = point
        for depth, layer in enumerate(layers):
            sums = [added(bias, (w * v for w, v in zip(weights, values, strict=True))) for *weights, bias in layer]
            values = sums if depth == len(layers) - 1 else [number.relu() for number in sums]
        total = total + (values[0] * -sign + 1.0).relu()
    return total * (1 / POINTS) + added(0.0, (p * p for p in parameters)) * 1e-4


def added(start: Any, summands: Iterable[Any]) -> Any:
    """The sum, one node at a time."""
    for summand in summands:
        start = start + summand
    return start


def arrays(leaf: Leaf) -> Any:
    """A chain of matrix products, products, sums and ReLUs of 64 x 64 arrays, summed at the end."""
    rng = np.random.default_rng(0)
    x, w = leaf("x", rng.uniform(0, 1, size=(64, 64))), leaf("w", rng.normal(size=(64, 64)) / 8)
    y = x
    for _ in range(CHAIN // 4):
        y = (y @ w + x * y).relu()
    return y.sum()


def elementwise(leaf: Leaf) -> Any:
    """The same without the matrix products, whose arithmetic outweighs any overhead."""
    rng = np.random.default_rng(0)
    x, w = leaf("x", rng.normal(size=(64, 64))), leaf("w", rng.uniform(0.9, 1.0, size=(64, 64)))
    y = x
    for _ in range(CHAIN // 2):
        y = y * w + x
    return y.sum()


def leaves() -> dict[str, Callable[[], Leaf]]:
    """How each library makes a leaf; those that are not installed are left out."""
    made: dict[str, Callable[[], Leaf]] = {"layerflow": lambda: lf.ComputationalGraph().input}
    with contextlib.suppress(ImportError):
        engine = importlib.import_module("micrograd.engine")
        made["micrograd"] = lambda: lambda name, value: engine.Value(value)
    with contextlib.suppress(ImportError):
        torch = importlib.import_module("torch")
        torch.set_num_threads(1)
        made["torch"] = lambda: lambda name, value: torch.tensor(value, requires_grad=True, dtype=torch.float64)
    return made


def compare(title: str, build: Callable[[Leaf], Any], names: Iterable[str], bound: str) -> None:
    """Measure one expression with each library, and print nanoseconds per node and the ratio."""
    known = leaves()
    graph = build(known["layerflow"]()).graph
    count = len(graph.steps)
    best = {name: float("inf") for name in names if name in known}
    for _ in range(ROUNDS):
        for name in best:
            gc.collect()
            leaf = known[name]()
            started = time.perf_counter()
            build(leaf).backward()
            best[name] = min(best[name], time.perf_counter() - started)
    print(f"{title} ({count} gates)")
    for name, seconds in best.items():
        ratio = f"   layerflow takes {best['layerflow'] / seconds:.2f} times as long" if name != "layerflow" else ""
        print(f"  {name:10} {seconds / count * 1e6:8.2f} us per node{ratio}")
    again = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        graph.forward()
        graph.backward()
        again = min(again, time.perf_counter() - started)
    print(f"  {'again':10} {again / count * 1e6:8.2f} us per node of layerflow's when the same graph is swept anew")
    print(f"  wanted: {bound}")


def main() -> None:
    """Run all comparisons."""
    sys.setrecursionlimit(1_000_000)
    compare("numbers, a chain", expression, ("layerflow", "micrograd"), "at most 1.5 times micrograd")
    compare(
        "numbers, a 2-16-16-1 network on 100 points", network, ("layerflow", "micrograd"), "at most 1.5 times micrograd"
    )
    compare("arrays of 64 x 64, element-wise", elementwise, ("layerflow", "torch"), "no more than PyTorch eager")
    compare("arrays of 64 x 64, with matrix products", arrays, ("layerflow", "torch"), "no more than PyTorch eager")


if __name__ == "__main__":
    main()
