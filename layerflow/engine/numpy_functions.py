"""NumPy's functions on stand-in arrays; those that are not in the table cannot be recorded, and say so."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.engine.arrangement import (
    broadcast_to,
    clipped,
    concatenate,
    copyto,
    diagonal,
    flip,
    isin,
    made_like,
    moveaxis,
    pad,
    parts,
    put_along_axis,
    repeat,
    roll,
    stack,
    take_along_axis,
    taken,
    tile,
    triangle,
    where_,
    windows,
)
from layerflow.engine.contraction import einsum, matmul, tensordot
from layerflow.engine.reductions import argument, cumulated, mean, norm, std, var
from layerflow.engine.traced import Traced, held_by, is_live, recorder, refuse
from layerflow.engine.ufuncs import as_constants, held_by_name, into, reduced

CURES = {
    "unique": "count with (x[:, None] == values).sum(axis=0), values being a constant",
    "nonzero": "keep the shape, and use np.where(mask, x, 0)",
    "argwhere": "keep the shape, and use np.where(mask, x, 0)",
    "sort": "np.max, np.min and np.argmax can be recorded",
    "argsort": "np.max, np.min and np.argmax can be recorded",
    "vectorize": "write the function for whole arrays",
    "apply_along_axis": "write the function for whole arrays",
    "as_strided": "np.lib.stride_tricks.sliding_window_view can be recorded",
}


def call_function(function: Any, args: Any, named: dict[str, Any]) -> Any:
    """A function of NumPy that is not a ufunc."""
    name = function.__name__
    found = FUNCTIONS.get(name)
    is_view = name in VIEWING and isinstance(args[0], Traced)
    if (not is_live((*args, *named.values())) and not is_view) or (found is None and recorder().is_exploring):
        if name in WRITES:
            return WRITES[name](*args, **named)
        out = named.pop("out", None)
        with np.errstate(all="ignore"):
            return into(out, as_constants(function(*held_by(args), **held_by_name(named))), f"np.{name}")
    if found is None:
        cure = CURES.get(name, "it is not among the functions that can be recorded; write it with others")
        raise refuse(f"np.{name}", cure)
    known = inspect.signature(found).parameters
    unknown = [each for each in named if each not in known]
    if unknown:
        raise refuse(f"np.{name} with {unknown[0]}=", "leave this argument out")
    return found(*args, **named)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: functools.partial(reduced, name) for name in ("sum", "prod", "max", "min", "all", "any")},
    "amax": functools.partial(reduced, "max"),
    "amin": functools.partial(reduced, "min"),
    "ptp": lambda a, axis=None: np.max(a, axis=axis) - np.min(a, axis=axis),
    "count_nonzero": lambda a, axis=None: reduced("sum", a != 0, axis),
    "mean": mean,
    "average": lambda a, axis=None, weights=None: (
        mean(a, axis) if weights is None else reduced("sum", a * weights, axis) / reduced("sum", weights, axis)
    ),
    "var": var,
    "std": std,
    "argmax": argument("argmax"),
    "argmin": argument("argmin"),
    "cumsum": cumulated("sum"),
    "cumprod": cumulated("prod"),
    "diff": lambda a, axis=-1: np.take(a, range(1, a.shape[axis]), axis) - np.take(a, range(a.shape[axis] - 1), axis),
    "where": where_,
    "clip": clipped,
    "round": lambda a, decimals=0: np.rint(a) if not decimals else np.rint(a * 10.0**decimals) / 10.0**decimals,
    "isin": isin,
    "nan_to_num": lambda x, copy=True, nan=0.0: np.where(np.isnan(x), nan, x),
    "concatenate": concatenate,
    "stack": stack,
    "vstack": lambda tup: concatenate([x if np.ndim(x) > 1 else np.reshape(x, (1, -1)) for x in tup], 0),
    "hstack": lambda tup: concatenate([np.atleast_1d(x) for x in tup], 1 if np.ndim(tup[0]) > 1 else 0),
    "column_stack": lambda tup: concatenate([x if np.ndim(x) > 1 else np.reshape(x, (-1, 1)) for x in tup], 1),
    "split": parts,
    "pad": pad,
    "take": taken,
    "take_along_axis": take_along_axis,
    "put_along_axis": put_along_axis,
    "repeat": repeat,
    "tile": tile,
    "flip": flip,
    "flipud": lambda m: flip(m, 0),
    "fliplr": lambda m: flip(m, 1),
    "roll": roll,
    "tril": triangle(np.tril),
    "triu": triangle(np.triu),
    "diagonal": diagonal,
    "diag": lambda v, k=0: diagonal(v, k) if v.ndim == 2 else np.eye(len(v), dtype=v.dtype) * v,
    "trace": lambda a, offset=0, axis1=0, axis2=1: diagonal(a, offset, axis1, axis2).sum(axis=-1),
    "sliding_window_view": windows,
    "broadcast_to": broadcast_to,
    "broadcast_arrays": lambda *args: [np.broadcast_to(x, np.broadcast_shapes(*map(np.shape, args))) for x in args],
    "moveaxis": moveaxis,
    "reshape": lambda a, shape=None, order="C", newshape=None: a.reshape(newshape if shape is None else shape),
    "ravel": lambda a, order="C": a.ravel(),
    "transpose": lambda a, axes=None: a.transpose(*(() if axes is None else axes)),
    "permute_dims": lambda a, axes=None: a.transpose(*(() if axes is None else axes)),
    "matrix_transpose": lambda x: x.swapaxes(-1, -2),
    "swapaxes": lambda a, axis1, axis2: a.swapaxes(axis1, axis2),
    "squeeze": lambda a, axis=None: a.squeeze(axis),
    "expand_dims": lambda a, axis: a.reshape(np.expand_dims(a.value, axis).shape),
    "atleast_1d": lambda *arys: arys[0] if arys[0].ndim else arys[0].reshape(1),
    "atleast_2d": lambda *arys: arys[0] if arys[0].ndim > 1 else arys[0].reshape(1, -1),
    "copyto": copyto,
    "copy": lambda a, order="K", subok=False: a.copy(),
    "zeros_like": made_like(np.zeros),
    "ones_like": made_like(np.ones),
    "empty_like": made_like(np.zeros),
    "full_like": made_like(np.full),
    "dot": lambda a, b, out=None: into(
        out, matmul(a, b) if np.ndim(held_by(a)) and np.ndim(held_by(b)) else np.multiply(a, b), "np.dot"
    ),
    "vdot": lambda a, b: np.sum(np.ravel(a) * np.ravel(b)),
    "inner": lambda a, b: matmul(a, np.swapaxes(b, -1, -2)) if np.ndim(b) > 1 else matmul(a, b),
    "outer": lambda a, b, out=None: np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1)),
    "tensordot": tensordot,
    "einsum": einsum,
    "norm": norm,
    "shape": lambda a: a.shape,
    "ndim": lambda a: a.ndim,
    "size": lambda a, axis=None: a.size if axis is None else a.shape[axis],
    "iscomplexobj": lambda x: False,
    "result_type": lambda *args: np.result_type(*[x.dtype if isinstance(x, Traced) else x for x in args]),
    "can_cast": lambda from_, to, casting="safe": np.can_cast(from_.dtype, to, casting),
}
VIEWING = {
    "atleast_1d", "atleast_2d", "broadcast_to", "expand_dims", "flip", "fliplr", "flipud", "matrix_transpose",
    "moveaxis", "permute_dims", "ravel", "reshape", "sliding_window_view", "split", "squeeze", "swapaxes", "transpose",
}  # fmt: skip
WRITES: dict[str, Callable[..., Any]] = {"copyto": copyto, "put_along_axis": put_along_axis}
