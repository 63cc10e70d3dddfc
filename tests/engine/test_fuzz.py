"""Random programs of all kinds of nodes: machine code gives what the interpreter gives."""

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerflow.engine.interpreter import interpret
from layerflow.engine.program import Program
from layerflow.engine.recorder import record

pytest.importorskip("llvmlite")
from layerflow.engine.native.compiled import Compiled

ONE = ["tanh", "exp", "negative", "abs", "square", "sign", "sin", "rint", "floor", "copy", "logistic", "relu"]
TWO = ["add", "subtract", "multiply", "maximum", "minimum", "divide", "where"]
KINDS = [
    "one", "one", "two", "two", "two", "reduce", "reduce", "arg", "cumulate", "matmul", "matmul", "reshape",
    "transpose", "slice", "broadcast", "windows", "update", "update", "add_into", "gather", "scatter", "concatenate",
    "stack", "batched",
]  # fmt: skip


class Writer:
    """Draws operations and applies them to a pool of arrays; the same choices give the same operations."""

    def __init__(self, choices: list[int]) -> None:
        self.choices, self.at = choices, 0

    def pick(self, count: int) -> int:
        self.at += 1
        return self.choices[(self.at - 1) % len(self.choices)] % max(count, 1)

    def run(self, arrays: list[Any], steps: int) -> list[Any]:
        self.at = 0
        pool = list(arrays)
        for _ in range(steps):
            made = getattr(self, KINDS[self.pick(len(KINDS))])(pool)
            if made is not None and made.ndim <= 4 and 0 < made.size <= 3000:
                pool.append(made)
        return pool

    def any(self, pool: list[Any]) -> Any:
        return pool[self.pick(len(pool))]

    def axis(self, x: Any) -> int:
        return self.pick(x.ndim)

    def one(self, pool: list[Any]) -> Any:
        x, name = self.any(pool), ONE[self.pick(len(ONE))]
        if name == "logistic":
            return 1 / (1 + np.exp(-x))
        if name == "relu":
            return np.maximum(x, 0)
        if name == "exp":
            return np.exp(np.minimum(x, 3))
        return x.copy() if name == "copy" else np.abs(x) if name == "abs" else getattr(np, name)(x)

    def two(self, pool: list[Any]) -> Any:
        x, y, name = self.any(pool), self.any(pool), TWO[self.pick(len(TWO))]
        try:
            np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            y = y.sum()
        if name == "divide":
            return x / (1 + np.abs(y))
        return np.where(x > y, x, y - 1) if name == "where" else getattr(np, name)(x, y)

    def reduce(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        name = ["sum", "mean", "max", "min", "prod"][self.pick(5)]
        axis = None if not x.ndim or self.pick(4) == 0 else self.axis(x)
        return getattr(np.tanh(x) if name == "prod" else x, name)(axis=axis, keepdims=self.pick(2) == 1)

    def arg(self, pool: list[Any]) -> Any:
        x = np.rint(self.any(pool))
        return None if not x.ndim else (x.argmax(axis=self.axis(x)) * 1.0).astype(x.dtype)

    def cumulate(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        return None if not x.ndim else np.cumsum(x, axis=self.axis(x))

    def matmul(self, pool: list[Any]) -> Any:
        x, y = self.any(pool), self.any(pool)
        if x.ndim < 2 or y.ndim < 2:
            return None
        a, b = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        inner = min(a.shape[1], b.shape[0])
        product = a[:, :inner] @ b[:inner]
        return product if self.pick(3) else product + a[:, :inner] @ b[:inner]

    def batched(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        return None if x.ndim < 2 else x @ np.swapaxes(x, -1, -2)

    def reshape(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        halves = [size for size in range(1, x.size + 1) if x.size % size == 0]
        return x.reshape(halves[self.pick(len(halves))], -1)

    def transpose(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        return np.moveaxis(x, self.axis(x), self.axis(x)) if x.ndim else None

    def slice(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        if not x.ndim:
            return None
        keys = [slice(None), slice(1, None), slice(None, None, -1), slice(None, None, 2), slice(-2, None)]
        return x[(slice(None),) * self.axis(x) + (keys[self.pick(len(keys))],)]

    def broadcast(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        return np.broadcast_to(x, (1 + self.pick(3), *x.shape))

    def windows(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        if not x.ndim or x.shape[-1] < 2:
            return None
        return np.lib.stride_tricks.sliding_window_view(x, 2, axis=-1)

    def update(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        if not x.ndim:
            return None
        out = x.copy() if self.pick(2) else x * 1.5
        if self.pick(2) and x.shape[0] > 1:
            out[1:] = out[:-1]
        else:
            out.T[self.pick(x.shape[-1])] = self.any(pool).sum()
        return out

    def add_into(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        out = np.zeros(x.shape, x.dtype)
        out += x
        if x.ndim:
            out[..., :1] -= x[..., :1] * 2
        return out

    def gather(self, pool: list[Any]) -> Any:
        x, y = self.any(pool), self.any(pool)
        if not x.ndim:
            return None
        places = np.minimum(np.abs(np.rint(np.ravel(y))[:5]), x.shape[0] - 1).astype(np.int64)
        return x[places]

    def scatter(self, pool: list[Any]) -> Any:
        x, y = self.any(pool), self.any(pool)
        if x.ndim < 1 or y.size < 2:
            return None
        out, places = x.copy(), np.minimum(np.abs(np.rint(np.ravel(y)[:4])), x.shape[0] - 1).astype(np.int64)
        np.add.at(out, places, 0.5)
        if self.pick(2):
            out[places] = -1.0
        return out

    def concatenate(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        return np.concatenate([x, np.tanh(x), x * 2], axis=self.axis(x)) if x.ndim else None

    def stack(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        return np.stack([x, x + 1], axis=self.pick(x.ndim + 1))


def program_of(writer: Writer, arrays: list[Any], steps: int) -> Program:
    def run(active: Any) -> dict[str, Any]:
        pool = writer.run([active.input(f"x{i}", array) for i, array in enumerate(arrays)], steps)
        return {str(i): array for i, array in enumerate(pool[len(arrays) :])}

    return record(run, [sys.modules[__name__]])


def check(choices: list[int], seed: int, dtype: Any, steps: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in ((4, 6), (6, 3), (2, 3, 4), (5,), ())]
    program = program_of(Writer(choices), arrays, steps)
    inputs = {f"x{i}": array for i, array in enumerate(arrays)}
    expected, compiled = interpret(program, inputs), Compiled(program)
    assert compiled.run(inputs) is None
    for name, value in expected.items():
        finite = np.abs(value[np.isfinite(value)])
        scale = float(finite.max(initial=1.0))
        tolerance = 1e-3 if dtype == np.float32 else 1e-9
        found = compiled.outputs[name]
        if value.dtype.kind == "f":
            assert np.allclose(found, value, rtol=tolerance, atol=tolerance * scale, equal_nan=True), (name, program)
        else:
            assert np.array_equal(found, value), (name, program)


# Rounding decides rint, floor and > at random where numbers are large: few steps keep them small.
CHOICES = st.lists(st.integers(0, 10_000), min_size=20, max_size=60)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
LONG = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(choices=CHOICES, seed=st.integers(0, 99))
def test_random_programs_compiled_equal_the_interpreter(choices: list[int], seed: int) -> None:
    check(choices, seed, np.float64, 8)


@pytest.mark.slow
@LONG
@given(choices=CHOICES, seed=st.integers(0, 10_000), steps=st.integers(1, 16))
def test_many_random_programs_compiled_equal_the_interpreter(choices: list[int], seed: int, steps: int) -> None:
    check(choices, seed, np.float64, steps)
