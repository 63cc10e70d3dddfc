"""NumPy code that is recorded on some numbers gives what NumPy gives on others."""

import ast
from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 3, 4))
C, D = RNG.normal(size=(2, 3, 4))
LABELS, OTHERS = np.array([0, 3, 1]), np.array([2, 2, 0])

EXPRESSIONS = """
x + y
x - 1
2 * x
x / y
x // 0.3
x % 0.7
x ** 2
x ** 3
2.0 ** x
np.abs(x) ** 0.5
-x
+x
abs(x)
x @ y.T
x.T @ y
x[0] @ y[0]
x @ y[0]
x[:, 0] @ y
np.matmul(x[None], y.T)
np.dot(x, y.T)
np.vdot(x, y)
np.inner(x, y)
np.outer(x[0], y[1])
np.tensordot(x, y, axes=2)
np.tensordot(x, y, axes=([0], [0]))
np.einsum('ij,ij->i', x, y)
np.einsum('ij,kj->ik', x, y)
np.einsum('ij,kl->jl', x, y)
np.einsum('ii->i', x[:, :3])
np.einsum('ij,kj', x, y)
np.einsum('...j,...j->...', x, y)
np.einsum('ij,jk,kl->il', x, y.T, x)
np.exp(x) + np.log(np.abs(y)) + np.tanh(x)
np.sin(x) * np.cos(y) + np.arctan2(x, y)
np.expm1(x) + np.log1p(np.abs(x)) + np.hypot(x, y)
np.sqrt(np.square(x)) + np.cbrt(y) + np.sign(x)
np.maximum(x, 0) + np.minimum(x, y) + np.fmax(x, y)
np.floor(x) + np.ceil(y) + np.rint(x) + np.trunc(y)
np.logaddexp(x, y)
np.reciprocal(x) + np.copysign(x, y)
np.isfinite(x) & (y > 0)
(x > 0) | ~(y > 0)
np.logical_and(x > 0, y > 0) ^ (x > y)
x.sum()
x.sum(axis=0)
x.sum(axis=(0, 1), keepdims=True)
x.sum(-1, keepdims=True)
(x > 0).sum()
(x > 0).sum(axis=1).dtype.type(1) * x
np.add.reduce(x)
np.multiply.reduce(x, axis=1)
np.maximum.reduce(x, 1, None, None, True)
np.logical_or.reduce(x > 0, axis=1)
x.mean()
x.mean(axis=1)
(x > 0).mean()
x.var()
x.var(axis=0, ddof=1)
x.std(axis=1, keepdims=True)
np.average(x, axis=1, weights=np.abs(y))
x.max() + x.min()
x.max(axis=1, keepdims=True)
np.max(x, axis=0, initial=0.5)
np.amax(x) - np.amin(x)
np.ptp(x, axis=1)
np.sum(x, where=y > 0)
np.sum(x, axis=1, dtype=np.float32)
np.prod(x, axis=1)
(x > 0).all() | (x > 0).any()
np.all(x > -9, axis=0)
np.count_nonzero(x > 0, axis=1)
x.argmax()
x.argmax(axis=1)
np.argmin(x, axis=0, keepdims=True)
np.cumsum(x)
np.cumsum(x, axis=1)
np.cumprod(x, axis=0)
np.add.accumulate(x, axis=1)
np.diff(x)
np.where(x > y, x, 0)
np.where(x > 0, 1, y)
np.clip(x, -0.5, 0.5)
x.clip(min=0)
np.nan_to_num(np.log(x))
np.isin(np.floor(x), (0, 1))
x[1]
x[1, 2]
x[-1, ..., None]
x[:, ::-1]
x[::2, 1:-1]
x[:, None, :]
x[np.arange(3), t]
x[t[:2] % 3]
x[:, t]
x[:, t][:, ::2]
x[t % 3, :]
x[None, t % 3, t]
x[[0, 2]]
x[np.array([True, False, True])]
x[0, t]
x[..., t]
x[t % 3, None, t]
x[-t]
np.take(x, t, axis=1)
np.take_along_axis(x, x.argmax(axis=1)[:, None], axis=1)
np.eye(4)[t] * x
np.concatenate([x, y])
np.concatenate([x, y], axis=-1)
np.stack([x, y], axis=1)
np.vstack([x, y[0]])
np.hstack([x, y])
np.column_stack([x[:, 0], y])
np.array([x[0, 0], y[1, 1]])
np.asarray([[x[0, 0], 1.0], [2.0, y[0, 0]]])
np.split(x, 2, axis=1)[1]
np.split(x, [1, 3], axis=1)[1]
np.pad(x, 1)
np.pad(x, ((1, 0), (0, 2)), constant_values=3.0)
np.pad(x, ((0, 0), (2, 2)), mode='reflect')
np.pad(x, 1, mode='edge')
np.repeat(x, 2, axis=1)
np.repeat(x[0], [1, 0, 2, 1])
np.tile(x, (2, 1))
np.flip(x, axis=1)
np.roll(x, 1)
np.roll(x, (1, -1), axis=(0, 1))
np.tril(x) + np.triu(y, 1)
np.diagonal(x)
np.diag(x[0])
np.diag(x @ y.T)
np.trace(x @ y.T)
np.linalg.norm(x)
np.linalg.norm(x, axis=1, keepdims=True)
np.linalg.norm(x, 1, axis=1)
x.reshape(2, 6)
x.reshape(-1)
x.reshape((4, 3)).T
x.T.reshape(2, 6)
x.ravel() + y.flatten()
x.transpose(1, 0) + y.T
np.transpose(x)
np.swapaxes(x, 0, 1)
np.moveaxis(x[None], 0, -1)
x[None].squeeze()
np.expand_dims(x, (0, 2))
np.broadcast_to(x[0], (2, 4)) + 1
np.broadcast_arrays(x, y[0])[1]
np.lib.stride_tricks.sliding_window_view(x, 2, axis=1) * 2
np.lib.stride_tricks.sliding_window_view(x, (2, 2)).sum(axis=(2, 3))
np.zeros_like(x) + np.ones_like(y) + np.full_like(x, 2.0)
np.full((2, 2), x[0, 0])
np.full_like(x, y[0, 0])
x.astype(np.float32)
x.astype(np.float32) * 2
x.astype(np.float32) * np.float64(2)
x.astype(int) // 2
x.astype(np.int32) + 1.5
(x > 0).astype(x.dtype)
(x > 0) * x
(x > 0) + (y > 0)
np.float32(3) * x.astype(np.float32)
np.add(x, y, dtype=np.float32)
np.subtract.outer(x[0], y[0])
np.divmod(x, 0.5)[1]
np.result_type(x, np.float32).type(2) * x
sum(row.sum() for row in x)
len(x) * x + x.shape[1] + x.ndim + x.size
np.shape(x)[0] * x
x.copy() + 0 * y
np.round(x)
x[np.ix_([0, 1], [1, 2])]
np.exp(x - x.max(axis=1, keepdims=True)) / np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)
"""
FUNCTIONS = EXPRESSIONS.strip().splitlines()


def compiled(expression: str) -> Any:
    function: Any = eval(f"lambda x, y, t: {expression}", globals())
    return function


@pytest.mark.parametrize("expression", FUNCTIONS)
def test_an_expression_recorded_equals_numpy(expression: str, assert_recorded_equals_numpy: Any) -> None:
    ast.parse(expression)
    assert_recorded_equals_numpy(compiled(expression), (A, B, LABELS), (C, D, OTHERS))


def written(x: Any, y: Any, t: Any) -> Any:
    out = np.zeros((3, 4))
    out[...] = x
    out[1] = y[0]
    out[:, 0] += 1
    out[np.arange(3), t] -= 2
    return out, x


def written_through_views(x: Any, y: Any, t: Any) -> Any:
    out = np.empty_like(x)
    flat, across = out.reshape(-1), out.T
    flat[:] = y.ravel()
    across[1:3, ::2] = 7.0
    out[2, 3:] *= 2
    return out, flat, across


def a_copy_is_no_view(x: Any, y: Any, t: Any) -> Any:
    out = x.copy()
    moved = out.T.reshape(-1)  # NumPy copies here
    moved[:] = 0
    out += y
    return out, moved


def added_at(x: Any, y: Any, t: Any) -> Any:
    out = np.zeros((4, 3))
    np.add.at(out, t, y[:, :3])
    np.add.at(out, (t, np.array([0, 0, 1])), 1.0)
    np.add.at(out, slice(0, 2), 1.0)
    return out


def written_with_masks(x: Any, y: Any, t: Any) -> Any:
    out = x.copy()
    out[out > 0] = 0
    np.copyto(out, y, where=y > 1)
    np.maximum(out, -1, out=out)
    np.exp(y, out=out, where=y < 0)
    return out


def put_along(x: Any, y: Any, t: Any) -> Any:
    out = np.zeros_like(x)
    np.put_along_axis(out, x.argmax(axis=1)[:, None], y[:, :1], axis=1)
    np.moveaxis(out, 0, 1)[0] = 5.0
    return out


def loops(x: Any, y: Any, t: Any) -> Any:
    state, found = np.zeros(4), []
    for row in x:
        state = np.tanh(0.5 * state + row)
        found.append(state)
    total = np.zeros(())
    for i in range(3):
        for j in range(4):
            total += x[i, j] * y[i, j]
    return np.stack(found), total


def in_lists(x: Any, y: Any, t: Any) -> Any:
    held = [np.zeros(2) for _ in range(2)]
    held[0][0] = x[0, 0]
    held[1][:] = y[0, :2]
    x += 1
    return held[0] + held[1], x


@pytest.mark.parametrize(
    "function",
    [
        written, written_through_views, a_copy_is_no_view, added_at, written_with_masks, put_along, loops, in_lists,
    ],
    ids=lambda function: function.__name__,
)  # fmt: skip
def test_a_function_that_writes_recorded_equals_numpy(function: Any, assert_recorded_equals_numpy: Any) -> None:
    assert_recorded_equals_numpy(function, (A, B, LABELS), (C, D, OTHERS))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.bool_, np.uint8])
@pytest.mark.parametrize("function", ["x + 1", "x * 2.5", "x / 2", "x.sum(axis=0)", "x.mean()", "x @ x.T + 1", "x * x"])
def test_types_are_those_of_numpy(function: str, dtype: Any, assert_recorded_equals_numpy: Any) -> None:
    if dtype is np.bool_ and "@" in function:
        return
    x, other = (np.abs(10 * array).astype(dtype) for array in (A, C))
    assert_recorded_equals_numpy(compiled(function), (x, x, LABELS), (other, other, OTHERS))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_empty_arrays_are_recorded(shape: Any, assert_recorded_equals_numpy: Any) -> None:
    empty = np.zeros(shape)
    assert_recorded_equals_numpy(lambda x: (x.sum(axis=0), x @ x.T, x.reshape(-1)), (empty,), (empty,))
