"""NumPy's ufuncs on stand-in arrays, and reductions with them: what each of them notes in the program."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.engine.contraction import matmul
from layerflow.engine.indexing import add_at
from layerflow.engine.traced import Traced, held_by, is_live, recorder, refuse

REDUCTIONS = {
    "add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "logical_and": "all", "logical_or": "any",
}  # fmt: skip
ELEMENTWISE = {
    "absolute", "add", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "bitwise_and",
    "bitwise_or", "bitwise_xor", "cbrt", "ceil", "copysign", "cos", "cosh", "deg2rad", "degrees", "divide", "equal",
    "exp", "exp2", "expm1", "fabs", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "greater",
    "greater_equal", "heaviside", "hypot", "invert", "isfinite", "isinf", "isnan", "left_shift", "less", "less_equal",
    "log", "log10", "log1p", "log2", "logaddexp", "logaddexp2", "logical_and", "logical_not", "logical_or",
    "logical_xor", "maximum", "minimum", "multiply", "negative", "not_equal", "positive", "power", "rad2deg",
    "radians", "reciprocal", "remainder", "right_shift", "rint", "sign", "signbit", "sin", "sinh", "sqrt", "square",
    "subtract", "tan", "tanh", "true_divide", "trunc",
}  # fmt: skip


def call_ufunc(ufunc: Any, method: str, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """`np.add(x, y)`, `np.add.reduce(x)`, `np.add.at(x, index, y)`, ... on stand-ins."""
    out = named.pop("out", None)
    if isinstance(out, tuple):
        out = out[0]
    if method == "at":
        if ufunc is not np.add:
            raise refuse(f"np.{ufunc.__name__}.at", "np.add.at can be recorded")
        if not isinstance(inputs[0], Traced):
            raise outside("np.add.at")
        add_at(*inputs)
        return None
    where = named.pop("where", True)
    if not is_live((*inputs, where, *named.values())):
        with np.errstate(all="ignore"):
            extra = {} if where is True else {"where": held_by(where)}
            result: Any = getattr(ufunc, method)(*held_by(inputs), **held_by_name(named), **extra)
        weak = all(type(item) in (int, float) for item in held_by(inputs)) and method == "__call__"
        result = as_constants(result, weak)
    elif method == "__call__":
        result = _call(ufunc, inputs, where, out, named)
    elif method == "reduce" and ufunc.__name__ in REDUCTIONS:
        axis = named.pop("axis", inputs[1] if len(inputs) > 1 else 0)
        result = reduced(REDUCTIONS[ufunc.__name__], inputs[0], axis, where=where, **named)
    elif method == "accumulate" and ufunc.__name__ in ("add", "multiply"):
        function = np.cumsum if ufunc.__name__ == "add" else np.cumprod
        result = function(inputs[0], axis=named.get("axis", inputs[1] if len(inputs) > 1 else 0))
    elif method == "outer":
        a, b = inputs
        result = _call(ufunc, (as_traced(a).reshape(*np.shape(a), *(1,) * np.ndim(b)), b), True, None, named)
    else:
        raise refuse(f"np.{ufunc.__name__}.{method}", "write it with NumPy's functions for whole arrays")
    return into(out, result, f"np.{ufunc.__name__}")


def _call(ufunc: Any, inputs: tuple[Any, ...], where: Any, out: Any, named: dict[str, Any]) -> Any:
    name = ufunc.__name__
    if ufunc is np.matmul:
        return matmul(*inputs)
    if ufunc is np.divmod:
        return np.floor_divide(*inputs), np.remainder(*inputs)
    if name not in ELEMENTWISE:
        raise refuse(f"np.{name}", "it is not among the functions that can be recorded")
    dtype = named.get("dtype")
    values = [held_by(item) for item in inputs]
    weak = all(type(value) in (int, float) for value in values)
    with np.errstate(all="ignore"):
        value = ufunc(*values, **({} if dtype is None else {"dtype": dtype}))
    if weak:
        loop: Sequence[Any] = [np.dtype(np.float64)] * len(values)
    else:
        kinds = [type(value) if type(value) in (int, float) else np.asarray(value).dtype for value in values]
        kinds = [np.dtype(bool) if kind is bool else kind for kind in kinds]
        wanted = {} if dtype is None else {"signature": (*[None] * len(values), np.dtype(dtype))}
        loop = ufunc.resolve_dtypes((*kinds, None), **wanted)
        if name.startswith("logical_"):
            loop = [np.dtype(bool)] * len(values)
    result: Any
    if name == "power" and type(values[1]) in (int, float) and values[1] == 2 and not is_live(inputs[1]) and not weak:
        result = np.multiply(inputs[0], inputs[0])  # as NumPy does
    else:
        nodes = [recorder().node(item, kind) for item, kind in zip(inputs, loop, strict=False)]
        result = elementwise(name, nodes, value, weak)
    if where is not True:
        result = np.where(where, result, np.zeros_like(result) if out is None else out)
    return result


def elementwise(function: str, nodes: Sequence[Any], value: Any, weak: bool = False) -> Traced:
    shape = np.broadcast_shapes(*[node.shape for node in nodes])
    array = np.asarray(value)
    return Traced(recorder().add("elementwise", tuple(nodes), {"function": function}, shape, array.dtype), array, weak)


def reduced(
    function: str, x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False,
    initial: Any = None, where: Any = True,
) -> Any:  # fmt: skip
    """A sum, product, largest or smallest element, `all` or `any` over axes."""
    if where is not True:
        neutral = {"sum": 0, "prod": 1, "any": False, "all": True}.get(function, initial)
        x = np.where(where, x, neutral)
    x = as_traced(x)
    axes = tuple(range(x.ndim)) if axis is None else axes_of(axis, x.ndim)
    with np.errstate(all="ignore"):
        named = {} if dtype is None else {"dtype": dtype}
        if not x.size and initial is not None:
            named["initial"] = initial
        value = np.asarray(getattr(np, function)(x.value, axis=axes, **named))
    node = recorder().node(x, bool if function in ("all", "any") else value.dtype)
    settings = {"function": function, "axes": axes}
    result: Any = Traced(recorder().add("reduce", (node,), settings, value.shape, value.dtype), value)
    if keepdims:
        result = result.reshape(tuple(1 if i in axes else size for i, size in enumerate(x.shape)))
    if initial is not None and x.size:
        combine = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[function]
        result = combine(result, initial)
    return into(out, result, f"np.{function}")


def into(out: Any, result: Any, name: str) -> Any:
    """Put a result into the array that `out=` names."""
    if out is None:
        return result
    if not isinstance(out, Traced):
        raise outside(name)
    out.write(result)
    return out


def outside(name: str) -> Exception:
    return refuse(
        f"{name} writes into an array that was made before", "a gate keeps what changes from step to step in lf.Buffer"
    )


def held_by_name(named: dict[str, Any]) -> dict[str, Any]:
    return {key: held_by(value) for key, value in named.items()}


def as_constants(result: Any, weak: bool = False) -> Any:
    if isinstance(result, tuple | list):
        return type(result)([as_constants(item) for item in result])
    if isinstance(result, np.ndarray | np.generic):
        return result.item() if weak else Traced.constant(result)
    return result


def as_traced(x: Any) -> Traced:
    return x if isinstance(x, Traced) else Traced.constant(x)


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    given = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    if any(not -ndim <= each < ndim for each in given):
        raise np.exceptions.AxisError(f"axis {axis} is out of bounds for array of dimension {ndim}")
    return tuple([int(each) % ndim for each in given])


def count_along(x: Any, axis: Any) -> int:
    return math.prod(x.shape[each] for each in (range(x.ndim) if axis is None else axes_of(axis, x.ndim)))
