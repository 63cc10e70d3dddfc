"""NumPy's functions that choose, join, move and repeat elements, on stand-in arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.engine.traced import Traced, held_by, is_live, recorder, refuse
from layerflow.engine.ufuncs import as_traced, axes_of, elementwise, into, outside


def where_(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None:
        raise refuse("np.where(mask), whose size depends on the numbers", "give it both values: np.where(mask, x, y)")
    values = [held_by(item) for item in (condition, x, y)]
    value = np.where(*values)
    nodes = [recorder().node(condition, bool), *[recorder().node(item, value.dtype) for item in (x, y)]]
    return elementwise("where", nodes, value)


def concatenate(arrays: Any, axis: Any = 0, out: Any = None) -> Any:
    parts = list(arrays)
    if axis is None:
        parts, axis = [np.ravel(part) for part in parts], 0
    value = np.concatenate([held_by(part) for part in parts], axis)
    nodes = [recorder().node(part, value.dtype) for part in parts]
    settings = {"axis": axis % value.ndim}
    made = recorder().add("concatenate", tuple(nodes), settings, value.shape, value.dtype)
    return into(out, Traced(made, value), "np.concatenate")


def stack(arrays: Any, axis: int = 0, out: Any = None) -> Any:
    return concatenate([np.expand_dims(as_traced(each), axis) for each in arrays], axis, out)


def clipped(x: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    result = x if low is None else np.maximum(x, low)
    result = result if high is None else np.minimum(result, high)
    return into(out, result, "np.clip")


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    width = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    if mode != "constant":  # every element is that of some place in x
        for axis, (before, after) in enumerate(width):
            places = np.pad(np.arange(x.shape[axis]), (before, after), mode)  # type: ignore[call-overload]
            x = np.take(x, places, axis=axis)
        return x
    shape = tuple(int(a + size + b) for size, (a, b) in zip(x.shape, width, strict=True))
    padded = Traced.constant(np.full(shape, constant_values, x.dtype))
    padded[tuple(slice(int(a), int(a) + size) for size, (a, _) in zip(x.shape, width, strict=True))] = x
    return padded


def taken(x: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    if axis is None:
        return np.ravel(x)[indices]
    return into(out, x[(slice(None),) * (axis % x.ndim) + (indices,)], "np.take")


def _along(x: Any, indices: Any, axis: Any) -> tuple[Any, ...]:
    places: list[Any] = [
        np.arange(size).reshape([-1 if i == j else 1 for j in range(x.ndim)]) for i, size in enumerate(indices.shape)
    ]
    places[axis % x.ndim] = indices
    return tuple(places)


def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    arr, axis = (np.ravel(arr), 0) if axis is None else (arr, axis)
    return arr[_along(arr, indices, axis)]


def put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    arr[_along(arr, indices, axis)] = values


def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    marked = np.empty([i + 2 for i in range(a.ndim)], np.bool_)
    sources, targets = (list(item) if isinstance(item, range) else item for item in (source, destination))
    return a.transpose(*[size - 2 for size in np.moveaxis(marked, sources, targets).shape])


def windows(x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False) -> Any:
    sizes = (window_shape,) if isinstance(window_shape, int) else tuple(window_shape)
    axes = tuple(range(x.ndim)) if axis is None else axes_of(axis, x.ndim)
    shape = np.lib.stride_tricks.sliding_window_view(x.value, sizes, axes).shape
    return x.through("windows", shape, axes=axes, sizes=sizes)


def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    np.broadcast_to(array.value, shape)
    return array if array.shape == shape else array.through("broadcast", shape)


def parts(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    size = ary.shape[axis]
    if isinstance(indices_or_sections, int | np.integer):
        if size % indices_or_sections:
            raise ValueError("array split does not result in an equal division")
        cuts = [size // int(indices_or_sections) * i for i in range(1, int(indices_or_sections))]
    else:
        cuts = [int(cut) for cut in held_by(indices_or_sections)]
    before = (slice(None),) * (axis % ary.ndim)
    return [ary[(*before, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, size], strict=True)]


def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    x, place = (np.ravel(a), 0) if axis is None else (a, axis)
    if is_live(repeats):
        raise refuse("np.repeat with a number of times that depends on the inputs", "use a constant")
    return np.take(x, np.repeat(np.arange(x.shape[place]), held_by(repeats)), axis=place)


def flip(m: Any, axis: Any = None) -> Any:
    axes = range(m.ndim) if axis is None else axes_of(axis, m.ndim)
    return m[tuple(slice(None, None, -1) if i in axes else slice(None) for i in range(m.ndim))]


def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    if axis is None:
        return roll(np.ravel(a), shift, 0).reshape(a.shape)
    shifts, axes = np.atleast_1d(held_by(shift)), axes_of(axis, a.ndim)
    for each, place in zip(np.broadcast_to(shifts, len(axes)), axes, strict=True):
        a = np.take(a, np.roll(np.arange(a.shape[place]), each), axis=place)
    return a


def tile(A: Any, reps: Any) -> Any:
    places = np.tile(np.arange(A.size).reshape(A.shape), reps)
    return np.ravel(A)[places]


def triangle(function: Any) -> Callable[..., Any]:
    def found(m: Any, k: int = 0) -> Any:
        return np.where(function(np.ones(m.shape[-2:], bool), k), m, m.dtype.type(0))

    return found


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    moved = np.moveaxis(a, (axis1, axis2), (0, 1))
    rows = np.arange(max(min(moved.shape[0] + min(offset, 0), moved.shape[1] - max(offset, 0)), 0))
    return np.moveaxis(moved[rows - min(offset, 0), rows + max(offset, 0)], 0, -1)


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if not isinstance(dst, Traced):
        raise outside("np.copyto")
    dst.write(src if where is True else np.where(where, src, dst))


def isin(element: Any, test_elements: Any, invert: bool = False) -> Any:
    found = (np.expand_dims(element, -1) == np.ravel(test_elements)).any(axis=-1)
    return ~found if invert else found


def made_like(make: Callable[..., Any]) -> Callable[..., Any]:
    def found(a: Any, *args: Any, dtype: Any = None, order: str = "K", shape: Any = None) -> Any:
        kind = a.dtype if dtype is None else dtype
        if args and is_live(args[0]):
            return np.broadcast_to(as_traced(args[0]).astype(kind), a.shape if shape is None else shape).copy()
        return Traced.constant(make(a.shape if shape is None else shape, *held_by(args), dtype=kind))

    return found
