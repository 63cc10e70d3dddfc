"""Gates that join arrays, take them apart, or pick elements; and products named by their indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients
from layerflow.gates.reduction import check_axes
from layerflow.gates.windows import as_sizes


class Stack(Gate):
    """y[..., i, ...] = the i-th input, along a new axis.

    Shapes: k inputs of one shape -> y with one more axis, of size k.
    Local gradient: each input gets its part of the upstream gradient.

    Args:
        axis: where the new axis stands in y.

    Raises:
        GateError: there is no input, their shapes differ, or y has no such axis.
    """

    def __init__(self, axis: int = 0) -> None:
        self.axis = axis

    def forward(self, *inputs: Any) -> Any:
        shapes = {x.shape for x in inputs}
        if len(shapes) != 1 or not -inputs[0].ndim - 1 <= self.axis <= inputs[0].ndim:
            given = ", ".join(str(x.shape) for x in inputs) or "none"
            raise GateError(f"{self!r}: inputs of shapes {given}; they must have one shape, and y the axis {self.axis}")
        self.save()
        return np.stack(inputs, axis=self.axis)

    def backward(self, grad: Any) -> Gradients:
        return tuple(np.moveaxis(grad, self.axis, 0)), {}


class Split(Gate):
    """y_1, ..., y_k = the parts of x along an axis.

    Shapes: x -> k outputs, whose sizes along the axis add up to that of x.
    Local gradient: dL/dx = the upstream gradients, joined again; an unused output sends zeros.

    Args:
        sections: the number of equal parts, or a list with the size of each.
        axis: the axis along which x is split.

    Raises:
        GateError: x has no such axis, or the parts do not add up to its size there.
    """

    def __init__(self, sections: int | Sequence[int], axis: int = -1) -> None:
        as_sizes(self, "sections", sections, len(sections) or 2 if isinstance(sections, tuple | list) else 1)
        self.sections, self.axis = sections, axis

    def forward(self, x: Any) -> Any:
        check_axes(self, x, self.axis)
        size, sections = x.shape[self.axis], self.sections
        sizes = [size // sections] * sections if isinstance(sections, int) else list(sections)
        if sum(sizes) != size:
            raise GateError(f"{self!r}: input of shape {x.shape} has size {size} along axis {self.axis}")
        self.save()
        parts = tuple(np.split(x, np.cumsum(sizes)[:-1], axis=self.axis))
        return parts if len(parts) > 1 else parts[0]

    def backward(self, *grads: Any) -> Gradients:
        return (np.concatenate(grads, axis=self.axis),), {}


class Gather(Gate):
    """y[..., i, ...] = x[..., index[..., i, ...], ...]: picks elements along an axis.

    Shapes: x, and an index of whole numbers with the same shape but for the axis -> y of the shape of the index.
    Local gradient: dL/dx adds up the upstream gradient of all places that picked an element; the index has none.

    Args:
        axis: the axis along which elements are picked.

    Raises:
        GateError: the shapes do not fit, or an index is out of range.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any, index: Any) -> Any:
        check_axes(self, x, self.axis)
        axis, size = self.axis % x.ndim, x.shape[self.axis]
        if index.ndim != x.ndim or any(
            a != b for i, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)) if i != axis
        ):
            raise GateError(f"{self!r}: an index of shape {index.shape} for an input of shape {x.shape}")
        outside = (index < 0) | (index >= size) | (index != np.floor(index))
        if outside.any():
            place = tuple(int(item) for item in np.argwhere(outside)[0])
            raise GateError(f"{self!r}: the index at {place} is {index[place]}, expected 0 to {size - 1}")
        whole = index.astype(np.intp)
        self.save(whole, x.shape)
        return np.take_along_axis(x, whole, axis=axis)

    def backward(self, grad: Any) -> Gradients:
        index, shape = self.saved
        axis = self.axis % len(shape)
        down = np.zeros(shape, grad.dtype)
        places = list(np.ogrid[tuple(map(slice, index.shape))])
        places[axis] = index
        np.add.at(down, tuple(places), grad)
        return (down, None), {}


class Einsum(Gate):
    """y = the sum over all indices that do not stand on the right of the arrow, as in "bij,bjk->bik".

    Shapes: the inputs have the axes named by their letters, y those on the right.
    Local gradient: of each input, the same formula with y's letters in the place of its own.

    Args:
        subscripts: the letters of each input, with commas between, an arrow, and the letters of y.

    Raises:
        GateError: the formula has no arrow, another form, or a letter twice in one term; the inputs do not fit it.
    """

    def __init__(self, subscripts: str) -> None:
        left, arrow, right = str(subscripts).replace(" ", "").partition("->")
        terms = left.split(",")
        is_right = arrow and all((term + "a").isalpha() and len(set(term)) == len(term) for term in (*terms, right))
        if not is_right or not set(right) <= set(left):
            raise GateError(
                f"{self!r}: {subscripts!r} is not a formula such as 'ij,jk->ik': letters that occur once in each term, "
                "and an arrow before the letters of the output"
            )
        self.terms, self.right = terms, right

    def forward(self, *inputs: Any) -> Any:
        sizes: dict[str, int] = {}
        fits = len(inputs) == len(self.terms)
        for term, x in zip(self.terms, inputs, strict=False):
            fits = (
                fits
                and len(term) == x.ndim
                and all(sizes.setdefault(letter, size) == size for letter, size in zip(term, x.shape, strict=True))
            )
        if not fits:
            given = ", ".join(str(x.shape) for x in inputs)
            raise GateError(f"{self!r}: inputs of shapes {given} do not fit the letters {', '.join(self.terms)}")
        self.save(inputs)
        return np.einsum(f"{','.join(self.terms)}->{self.right}", *inputs)

    def backward(self, grad: Any) -> Gradients:
        (inputs,) = self.saved
        downs = []
        for place, (term, x) in enumerate(zip(self.terms, inputs, strict=True)):
            others = [(t, item) for i, (t, item) in enumerate(zip(self.terms, inputs, strict=True)) if i != place]
            found = {*self.right, *(letter for other, _ in others for letter in other)}
            kept = "".join(letter for letter in term if letter in found)
            formula = f"{','.join([self.right, *(other for other, _ in others)])}->{kept}"
            down = np.einsum(formula, grad, *(item for _, item in others))
            # a letter of this term alone was summed away: every element gets the same
            down = down.reshape([size if letter in kept else 1 for letter, size in zip(term, x.shape, strict=True)])
            downs.append(np.broadcast_to(down, x.shape).copy())
        return tuple(downs), {}
