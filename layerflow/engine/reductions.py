"""NumPy's means, deviations, norms and running sums on stand-in arrays, made of sums."""

from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.engine.traced import Traced, recorder, refuse
from layerflow.engine.ufuncs import count_along, into, reduced


def mean(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    if dtype is None and x.dtype.kind in "biu":
        dtype = np.float64
    total = reduced("sum", x, axis, dtype, None, keepdims)
    return into(out, total / total.dtype.type(count_along(x, axis)), "np.mean")


def var(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    away = x - mean(x, axis, dtype, keepdims=True)
    total = reduced("sum", away * away, axis, dtype, None, keepdims)
    return into(out, total / total.dtype.type(max(count_along(x, axis) - ddof, 0)), "np.var")


def std(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return into(out, np.sqrt(var(x, axis, dtype, None, ddof, keepdims)), "np.std")


def argument(function: str) -> Callable[..., Any]:
    def found(x: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        source: Any = np.ravel(x) if axis is None else x
        place = 0 if axis is None else int(axis) % x.ndim
        value = np.asarray(getattr(np, function)(source.value, axis=place))
        settings = {"function": function, "axis": place}
        result: Any = Traced(recorder().add("arg", (source.node,), settings, value.shape, value.dtype), value)
        if keepdims:
            result = np.expand_dims(result, place) if axis is not None else result.reshape((1,) * x.ndim)
        return into(out, result, f"np.{function}")

    return found


def cumulated(function: str) -> Callable[..., Any]:
    def found(x: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        source: Any
        source, place = (np.ravel(x), 0) if axis is None else (x, int(axis) % x.ndim)
        value = np.asarray(getattr(np, f"cum{function}")(source.value, axis=place, dtype=dtype))
        settings, node = {"function": function, "axis": place}, recorder().node(source, value.dtype)
        made = recorder().add("cumulate", (node,), settings, value.shape, value.dtype)
        return into(out, Traced(made, value), f"np.cum{function}")

    return found


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord in (None, 2) and not (ord == 2 and axis is None and x.ndim == 2):
        return np.sqrt(reduced("sum", x * x, axis, keepdims=keepdims))
    if ord == 1 and isinstance(axis, int):
        return reduced("sum", np.abs(x), axis, keepdims=keepdims)
    raise refuse(f"np.linalg.norm with ord={ord}", "write the norm with np.sum, np.abs and np.max")
