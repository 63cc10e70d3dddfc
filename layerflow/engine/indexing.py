"""Indexing of stand-in arrays: `x[1:, None]` is a view, `x[rows, labels]` gathers, and assignments scatter."""

from typing import Any

import numpy as np

from layerflow.engine.traced import Traced, guard, held_by, is_live, recorder, refuse


def read(x: Traced, key: Any) -> Traced:
    """`x[key]`."""
    parts = _parts(x, key)
    if not any(isinstance(part, Traced) for part in parts):
        return _view(x, parts)
    base, indices, place = _leading(x, parts)
    value = base.value[tuple(index.value for index in indices)]
    nodes = [index.node for index in indices]
    found = Traced(recorder().add("gather", (base.node, *nodes), {}, value.shape, x.dtype), value)
    moved: Traced = _moved(found, indices, place)
    return moved


def store(x: Traced, key: Any, new: Any) -> None:
    """`x[key] = new`."""
    if isinstance(key, Traced) and key.dtype == np.bool_ and not key.is_constant:
        if key.shape != x.shape or np.ndim(held_by(new)):
            raise refuse("x[mask] = ... with an array", "write x = np.where(mask, new, x)")
        x.write(np.where(key, new, x))
        return
    parts = _parts(x, key)
    if not any(isinstance(part, Traced) for part in parts):
        part = _view(x, parts)
        if not (isinstance(new, Traced) and new.node is part.node):  # x[1:] += y has already written
            part.write(new)
        return
    scatter(x, parts, new, "set")


def add_at(x: Traced, key: Any, new: Any) -> None:
    """`np.add.at(x, key, new)`."""
    parts = _parts(x, key)
    if any(isinstance(part, Traced) for part in parts):
        scatter(x, parts, new, "add")
    else:
        part = _view(x, parts)
        part.write(part + new)


def scatter(x: Traced, parts: list[Any], new: Any, mode: str) -> None:
    """Write or add at indices."""
    base, indices, place = _leading(x, parts)
    full = np.array(base.value)
    places = tuple(index.value for index in indices)
    region, lead = full[places].shape, len(np.broadcast_shapes(*[index.shape for index in indices]))
    given: Any = new if isinstance(new, Traced) else Traced.constant(new)
    shape = (*region[lead : lead + place], *region[:lead], *region[lead + place :])
    if given.shape != shape:
        given = np.broadcast_to(given, shape)
    given = np.moveaxis(given, range(place, place + lead), range(lead)) if place and lead else given
    value = given.value.astype(full.dtype)
    if mode == "add":
        np.add.at(full, places, value)
    else:
        full[places] = value
    inputs = base.node, recorder().node(given, x.dtype), *[index.node for index in indices]
    base.write(Traced(recorder().add("scatter", inputs, {"mode": mode}, full.shape, full.dtype), full))


def _parts(x: Traced, key: Any) -> list[Any]:
    """One entry for each axis, and `None` for new ones; arrays of indices as stand-ins."""
    parts = list(key) if isinstance(key, tuple) else [key]
    found: list[Any] = []
    for part in parts:
        if part is None or part is Ellipsis or isinstance(part, slice):
            found.append(part)
        elif isinstance(part, bool | np.bool_):
            raise refuse("x[True]", "write the condition as np.where")
        elif isinstance(part, int | np.integer):
            found.append(int(part))
        else:
            found += _indices(part)
    axes = sum(part is not None and part is not Ellipsis for part in found)
    if axes > x.ndim:
        raise IndexError(f"too many indices for array: array is {x.ndim}-dimensional, but {axes} were indexed")
    rest = [slice(None)] * (x.ndim - axes)
    at = next((i for i, part in enumerate(found) if part is Ellipsis), len(found))
    found[at : at + 1] = rest
    if any(isinstance(part, Traced) for part in found):  # beside arrays, NumPy takes a number for an array too
        found = [Traced.constant(part) if isinstance(part, int) else part for part in found]
    return found


def _indices(part: Any) -> list[Any]:
    """An array of indices, or those of the places where a mask is true."""
    if not is_live(part):
        array = np.asarray(held_by(part))
        if array.dtype == np.bool_:
            return [Traced.constant(places) for places in array.nonzero()]
        return [int(array)] if array.ndim == 0 else [Traced.constant(array.astype(np.int64))]
    index = part if isinstance(part, Traced) else np.stack(part)
    if index.dtype == np.bool_:
        raise refuse(
            "x[mask], whose size depends on the numbers", "np.where(mask, x, 0) keeps the shape, as a sum or mean does"
        )
    return [index]


def _view(x: Traced, parts: list[Any]) -> Traced:
    starts, steps, sizes, shape, axis = [], [], [], [], 0
    for part in parts:
        if part is None:
            shape.append(1)
            continue
        size = x.shape[axis]
        if isinstance(part, int):
            if not -size <= part < size:
                raise IndexError(f"index {part} is out of bounds for axis {axis} with size {size}")
            start, step, count = part % size, 1, 1
        else:
            start, stop, step = slice(*map(_bound, (part.start, part.stop, part.step))).indices(size)
            count = len(range(start, stop, step))
            shape.append(count)
        starts.append(start)
        steps.append(step)
        sizes.append(count)
        axis += 1
    part = x.through("slice", tuple(sizes), starts=tuple(starts), steps=tuple(steps))
    return part if part.shape == tuple(shape) else part.through("reshape", tuple(shape))


def _bound(bound: Any) -> Any:
    return None if bound is None else bound.__index__()


def _leading(x: Traced, parts: list[Any]) -> tuple[Traced, list[Traced], int]:
    """Return x with the indexed axes first, the indices, and where NumPy puts their axes in the result."""
    sliced = _view(x, [slice(None) if isinstance(part, Traced) else part for part in parts])
    axes = [i for i, part in enumerate(parts) if isinstance(part, Traced)]
    others = [i for i in range(sliced.ndim) if i not in axes]
    order = (*axes, *others)
    base = sliced if order == tuple(range(sliced.ndim)) else sliced.transpose(*order)
    indices = [_checked(parts[axis], sliced.shape[axis]) for axis in axes]
    is_together = axes == list(range(axes[0], axes[0] + len(axes)))
    return base, indices, axes[0] if is_together else 0


def _checked(index: Any, size: int) -> Traced:
    """An index from 0 on, with the guard that it is one."""
    if index.dtype.kind not in "iu":
        raise IndexError("arrays used as indices must be of integer (or boolean) type")
    if index.is_constant:
        return Traced.constant(np.where(index.value < 0, index.value + size, index.value).astype(np.int64))
    if index.node.kind != "arg":
        is_inside: Any = (index >= -size) & (index < size) if index.dtype.kind == "i" else index < size
        guard(is_inside.all().node, True, is_implied=True)
        if index.dtype.kind == "i":
            index = np.where(index < 0, index + size, index)
    checked: Traced = index.astype(np.int64, copy=False)
    return checked


def _moved(found: Any, indices: list[Traced], place: int) -> Any:
    """Move the axes of the indices, which a gather puts first, to where NumPy puts them."""
    lead = len(np.broadcast_shapes(*[index.shape for index in indices]))
    return np.moveaxis(found, range(lead), range(place, place + lead)) if place and lead else found
