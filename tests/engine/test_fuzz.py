"""Random programs of all kinds of nodes: machine code gives what the interpreter gives."""

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import layerflow as lf
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
    "stack", "batched", "mirror", "shift",
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

    def mirror(self, pool: list[Any]) -> Any:
        x = np.tanh(self.any(pool)) + 0.1
        return x * 2 + x[::-1] if x.ndim else None

    def shift(self, pool: list[Any]) -> Any:
        x = self.any(pool)
        if x.ndim < 2:
            return None
        out = x.reshape(-1, x.shape[-1]) @ np.eye(x.shape[-1])
        out[1:] += out[:-1]
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
        made = pool[len(arrays) :]
        # Most arrays are no outputs, whose memory is never given to others; all of them are needed in the end.
        total = sum((np.sum(np.tanh(array) * (1 + i)) for i, array in enumerate(made)), np.zeros(()))
        return {str(i): array for i, array in enumerate(made[-2:])} | {"total": total}

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


ROWS = {
    "linear": lambda n: lf.Linear(1 + n % 9), "relu": lambda n: lf.ReLU(), "tanh": lambda n: lf.Tanh(),
    "gelu": lambda n: lf.GELU(), "norm": lambda n: lf.LayerNorm(), "batch norm": lambda n: lf.BatchNorm(),
    "dropout": lambda n: lf.Dropout(0.3, seed=n), "softmax": lambda n: lf.Softmax(), "silu": lambda n: lf.SiLU(),
    "residual": lambda n: lf.Sequential(lf.Linear(6), lf.Residual(lf.LayerNorm(), lf.Linear(6), lf.Tanh())),
    "parallel": lambda n: lf.Sequential(lf.Parallel(lf.Linear(2), lf.Linear(4)), lf.Mish()),
    "rms": lambda n: lf.RMSNorm(), "glu": lambda n: lf.Sequential(lf.Linear(12), lf.GLU()),
    "prelu": lambda n: lf.PReLU(), "noise": lambda n: lf.GaussianNoise(0.1, seed=n),
}  # fmt: skip
SEQUENCES = {
    "gru": lambda n: lf.GRU(6), "lstm": lambda n: lf.LSTM(3, bidirectional=True), "rnn": lambda n: lf.RNN(6),
    "attention": lambda n: lf.MultiHeadAttention(2, causal=n % 2 == 0),
    "recurrent": lambda n: lf.Recurrent(lf.GRUCell(6)),
}  # fmt: skip
IMAGES = {
    "conv": lambda n: lf.Conv2d(6, 3, padding=1), "depthwise": lambda n: lf.Conv2d(6, 3, padding=1, groups=6),
    "average": lambda n: lf.AvgPool2d(3, stride=1, padding=1), "max": lambda n: lf.MaxPool2d(3, stride=1, padding=1),
    "group norm": lambda n: lf.GroupNorm(2), "relu": lambda n: lf.ReLU(), "drop": lambda n: lf.Dropout2d(0.2, seed=n),
    "batch norm": lambda n: lf.BatchNorm(),
}  # fmt: skip
KIND = {"rows": (ROWS, (6,)), "sequences": (SEQUENCES | ROWS, (4, 6)), "images": (IMAGES, (6, 5, 4))}


def check_model(kind: str, choices: list[int], optimizer: Any) -> None:
    """Train with both engines; the native one compares itself with NumPy, step by step, and so do we at the end."""
    family, shape = KIND[kind]
    names = list(family)
    rng = np.random.default_rng(sum(choices))
    x, y = rng.normal(size=(20, *shape)), rng.integers(0, 3, 20)
    found = []
    for engine in ("native", "numpy"):
        gates = [family[names[choice % len(names)]](choice) for choice in choices]
        model = lf.Sequential(*gates, lf.Flatten(), lf.Linear(3))
        settings: dict[str, Any] = {"batch_size": 5, "epochs": 2, "dtype": "float64", "metrics": []}
        trainer = lf.Trainer(model, lf.SoftmaxCE(), optimizer, engine=engine, **settings)
        trainer.fit(x, y)
        found.append(trainer.history["train_loss"])
    assert np.allclose(*found, rtol=1e-6), (kind, choices)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(kind=st.sampled_from(list(KIND)), choices=st.lists(st.integers(0, 999), min_size=1, max_size=4))
def test_random_models_train_as_with_numpy(kind: str, choices: list[int]) -> None:
    check_model(kind, choices, lf.SGD(0.05, momentum=0.9))


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(list(KIND)),
    choices=st.lists(st.integers(0, 999), min_size=1, max_size=6),
    optimizer=st.sampled_from([lf.SGD(0.05), lf.SGD(0.05, momentum=0.9, weight_decay=0.01), lf.AdamW(1e-3)]),
)
def test_many_random_models_train_as_with_numpy(kind: str, choices: list[int], optimizer: Any) -> None:
    check_model(kind, choices, optimizer)
