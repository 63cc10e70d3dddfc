"""Gates that only move elements; their gradients move back."""

import math
import operator
from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.shared import as_number
from layerflow.parameter import Array

PADDINGS = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # NumPy's words
Index = int | slice | EllipsisType | Array | None


class Reshape(Gate):
    """y = the elements of x in another shape, in the same order (NumPy's row-major one).

    Shapes: x of any shape -> y of the shape given, which covers the batch axis too. In a model write -1 first, as in
    `Reshape([-1, 1, 8, 8])`: the batch, whatever its size.
    Local gradient: dy/dx = 1, each element back at its place.

    Args:
        shape: the new shape; one entry may be -1 and is inferred.

    Raises:
        GateError: the shape is not a list of integers, has several -1, or does not hold as many elements as x.
    """

    def __init__(self, shape: int | Sequence[int]) -> None:
        try:
            self.shape = (shape,) if isinstance(shape, int) else tuple(map(operator.index, shape))
        except TypeError:
            raise GateError(f"{self!r}: shape must be a list of integers, such as [-1, 64]") from None
        if min(self.shape, default=0) < -1 or self.shape.count(-1) > 1:
            raise GateError(f"{self!r}: sizes are 0 or more, and one of them may be -1, which is then inferred")

    def forward(self, x: Any) -> Any:
        self.save(x.shape)
        try:
            return x.reshape(self.shape)
        except ValueError:
            raise GateError(
                f"{self!r}: input of shape {x.shape} has {x.size} elements, which do not fill the shape {self.shape}; "
                "-1 as the first entry takes batches of any size"
            ) from None

    def backward(self, grad: Any) -> Gradients:
        (shape,) = self.saved
        return (grad.reshape(shape),), {}


class Flatten(Gate):
    """y = x with all axes after the first merged into one: each sample becomes one row of features.

    Shapes: x (batch, ...) -> y (batch, features), features being the product of the other sizes.
    Local gradient: dy/dx = 1, each element back at its place.

    Raises:
        GateError: x has no batch axis.
    """

    def forward(self, x: Any) -> Any:
        if x.ndim == 0:
            raise GateError(f"{self!r}: input of shape (), expected (batch, ...)")
        self.save(x.shape)
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))

    def backward(self, grad: Any) -> Gradients:
        (shape,) = self.saved
        return (grad.reshape(shape),), {}


class Transpose(Gate):
    """y = x with its axes in another order: axis i of y is axis axes[i] of x.

    Shapes: x (d_0, ..., d_k) -> y (d_axes[0], ..., d_axes[k]); reversed if axes is None.
    Local gradient: dy/dx = 1, each element back at its place: the inverse order.

    Args:
        axes: a permutation of the axes of x, the batch axis being 0; None reverses them all.

    Raises:
        GateError: axes is not a permutation of the axes of x.
    """

    def __init__(self, axes: Sequence[int] | None = None) -> None:
        self.axes = None if axes is None else tuple(axes)

    def forward(self, x: Any) -> Any:
        axes = range(x.ndim)[::-1] if self.axes is None else [axis % max(x.ndim, 1) for axis in self.axes]
        if sorted(axes) != list(range(x.ndim)):
            raise GateError(f"{self!r}: input of shape {x.shape}; axes must hold each of 0 to {x.ndim - 1} once")
        self.save(axes)
        return x.transpose(axes)

    def backward(self, grad: Any) -> Gradients:
        (axes,) = self.saved
        return (grad.transpose(np.argsort(axes)),), {}


class Concatenate(Gate):
    """y = the inputs, any number of them, joined along an axis.

    Shapes: x_i equal but for that axis -> y, whose size along it is the sum of theirs.
    Local gradient: dy/dx_i = 1: every input gets its part of the upstream gradient.

    Args:
        axis: the axis along which they are joined; by default the last one, the features.

    Raises:
        GateError: no inputs; shapes that differ along another axis.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, *inputs: Any) -> Any:
        try:
            y = np.concatenate(inputs, axis=self.axis)
        except ValueError:
            shapes = ", ".join(str(x.shape) for x in inputs) or "none"
            raise GateError(
                f"{self!r}: inputs of shapes {shapes}; they must be one or more, and equal but for axis {self.axis}"
            ) from None
        self.save(np.cumsum([x.shape[self.axis] for x in inputs])[:-1])
        return y

    def backward(self, grad: Any) -> Gradients:
        (ends,) = self.saved
        return tuple(np.split(grad, ends, axis=self.axis)), {}


class Slice(Gate):
    """y = x[key], for integers, slices, `...`, new axes and arrays of integers, or a tuple of these.

    Shapes: as in NumPy; the batch axis is the first, so `Slice(":, 0")` takes the first feature of every sample.
    Local gradient: dy/dx = how often an element was taken; 0 for the others.

    Args:
        key: the index, or its text as between brackets: "1:3, 0", "..., ::2", ":, None".

    Raises:
        GateError: the key is not such an index; it does not fit x.
    """

    def __init__(self, key: Index | tuple[Index, ...] | str) -> None:
        parts = key.split(",") if isinstance(key, str) else key if isinstance(key, tuple | list) else (key,)
        self.key = tuple([_index(self, part) for part in parts])

    def forward(self, x: Any) -> Any:
        self.save(x.shape)
        try:
            return x[self.key]
        except (IndexError, ValueError) as error:
            raise GateError(f"{self!r}: does not fit an input of shape {x.shape}: {error}") from None

    def backward(self, grad: Any) -> Gradients:
        (shape,) = self.saved
        grad_x = np.zeros(shape, grad.dtype)
        if any(isinstance(part, np.ndarray) for part in self.key):  # an element may be taken more than once
            np.add.at(grad_x, self.key, grad)  # type: ignore[arg-type]
        else:
            grad_x[self.key] = grad
        return (grad_x,), {}


class Pad(Gate):
    """y = x with elements added at both ends of its last axes: a constant, or elements of x again.

    Shapes: x (batch, channels, ...) -> y with padding added to the sizes of the last axes.
    Local gradient: dy/dx = 1 where an element was kept or repeated, so dL/dx is the sum of dL/dy over its places.

    Args:
        padding: an integer, for both ends of every axis after the channels; or two integers per axis, from the last one
            on, as in torch's `functional.pad`: (left, right) or (left, right, top, bottom).
        mode: "constant"; "reflect" (d c b | a b c d | c b a), "replicate" (a a | a b c d | d d) or "circular"
            (c d | a b c d | a b).
        value: the constant.

    Raises:
        GateError: padding that is not such a list, or does not fit the input; an unknown mode; a value that is not a
            finite number.
    """

    def __init__(self, padding: int | Sequence[int], mode: str = "constant", value: float = 0.0) -> None:
        self.padding = padding if isinstance(padding, int) else list(padding)
        self.value = as_number(self, "value", value, "a finite number", lambda value: True)
        self.mode = mode
        if mode not in PADDINGS:
            raise GateError(f"{self!r}: mode is {mode!r}, expected {', '.join(map(repr, PADDINGS))}")
        sizes = [self.padding] if isinstance(self.padding, int) else self.padding
        are_sizes = all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in sizes)
        if not are_sizes or not sizes or (sizes is self.padding and len(sizes) % 2):
            raise GateError(
                f"{self!r}: padding must be an integer, 0 or more, or two of them per axis, from the last axis on, "
                f"such as [left, right, top, bottom], not {padding!r}"
            )

    def forward(self, x: Any) -> Any:
        pairs = self._pairs(x)
        self.save(x.shape, pairs)
        if self.mode == "constant":
            return np.pad(x, pairs, constant_values=self.value)
        for axis, positions in self._positions(x.shape, pairs):
            x = x.take(positions, axis)
        return x

    def backward(self, grad: Any) -> Gradients:
        shape, pairs = self.saved
        if self.mode == "constant":
            inside = tuple(slice(before, before + size) for (before, _), size in zip(pairs, shape, strict=True))
            return (grad[inside],), {}
        for axis, positions in self._positions(shape, pairs):
            folded = np.zeros((*grad.shape[:axis], shape[axis], *grad.shape[axis + 1 :]), grad.dtype)
            np.add.at(np.moveaxis(folded, axis, 0), positions, np.moveaxis(grad, axis, 0))
            grad = folded
        return (grad,), {}

    def _pairs(self, x: Array) -> list[tuple[int, int]]:
        """What is added before and after, for every axis."""
        if isinstance(self.padding, int):
            return [(0, 0)] * min(2, x.ndim) + [(self.padding, self.padding)] * (x.ndim - 2)
        last = list(zip(self.padding[::2], self.padding[1::2], strict=True))[::-1]
        if len(last) > x.ndim:
            raise GateError(f"{self!r}: padding for {len(last)} axes, but the input has shape {x.shape}")
        return [(0, 0)] * (x.ndim - len(last)) + last

    def _positions(self, shape: Shape, pairs: list[tuple[int, int]]) -> Iterator[tuple[int, Array]]:
        """For every padded axis, the position in x that each position of y shows."""
        for axis, (pair, size) in enumerate(zip(pairs, shape, strict=True)):
            most = {"reflect": size - 1, "circular": size}.get(self.mode, max(pair) if size else 0)
            if max(pair) > most:
                raise GateError(
                    f"{self!r}: input of shape {shape} has {size} elements on axis {axis}, too few for a padding of "
                    f"{max(pair)}; {self.mode} takes at most {most}"
                )
            if max(pair):
                yield axis, np.pad(np.arange(size), pair, PADDINGS[self.mode])  # type: ignore[call-overload]


def _index(gate: Gate, part: object) -> Index:
    """One entry of a key, which may be text such as "1:3"."""
    named: dict[object, Index] = {"...": ..., "None": None, "newaxis": None}
    if isinstance(part, np.ndarray) and part.dtype.kind in "iu":
        return part
    if part is None or isinstance(part, slice | EllipsisType) or (isinstance(part, int) and not isinstance(part, bool)):
        return part
    try:
        if not isinstance(part, str):
            return operator.index(part) if isinstance(part, np.integer) else named[part]
        text = part.strip()
        if ":" in text:
            return slice(*[int(bound) if bound.strip() else None for bound in text.split(":")])
        return named[text] if text in named else int(text)
    except (ValueError, TypeError, KeyError):
        raise GateError(
            f"{gate!r}: {part!r} is not a basic index; use integers, slices, ... or None, as in Slice('1:3, 0')"
        ) from None
