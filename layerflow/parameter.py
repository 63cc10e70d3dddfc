"""What a gate owns besides its inputs: learned arrays (`Parameter`), and arrays that are only kept (`Buffer`)."""

import copy
import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from layerflow.errors import GateError

Array = NDArray[Any]

LARGEST_SIZE = 1 << 48
"""Of a parameter: four times as many bytes are beyond every machine, and NumPy words it strangely."""


class Cell:
    """A named place for one floating-point array. Whoever holds the same cell holds the same array."""

    __slots__ = ("_is_view", "_value", "name")

    def __init__(self, value: ArrayLike | None = None) -> None:
        self.name = ""
        self._is_view = False
        self._value = None if value is None else floating(value).copy()

    @property
    def value(self) -> Array:
        """The array itself.

        Assigning puts a copy in its place, or fills it in place once it is part of a `ParameterStore`.

        Raises:
            GateError: there is no value yet; the array assigned has another shape than the one in the store.
        """
        if self._value is None:
            raise GateError(
                f"{type(self).__name__} {self.name or '(unnamed)'} has no value yet: its gate creates it from the "
                "input shape, at `gate.build(rng, shape)` or at the first forward"
            )
        return self._value

    @value.setter
    def value(self, value: ArrayLike) -> None:
        array = floating(value)
        if self._is_view and self._value is not None:
            if array.shape != self._value.shape:
                raise GateError(
                    f"parameter {self.name or '(unnamed)'} has shape {self._value.shape} and is part of a built model; "
                    f"an array of shape {array.shape} cannot take its place"
                )
            self._value[...] = array
        elif array is not self._value:
            self._value = array.copy()

    @property
    def present(self) -> Any:
        """The value for gates to compute with: the array, or of a single number the number itself, which is faster."""
        value = self.value
        return value if value.ndim else value[()]

    @property
    def has_value(self) -> bool:
        """False as long as the input shape, and with it the array, is unknown."""
        return self._value is not None

    @property
    def is_packed(self) -> bool:
        """Whether the value is a view into a `ParameterStore`."""
        return self._is_view

    def place(self, view: Array) -> None:
        """Move the value into `view`, which from now on *is* the value (`ParameterStore` calls this)."""
        view[...] = self.value
        self._value, self._is_view = view, True

    def astype(self, dtype: DTypeLike) -> None:
        """Turn the value into another floating-point type; one that was in a `ParameterStore` leaves it."""
        if self._value is not None and self._value.dtype != dtype:
            self._value, self._is_view = self._value.astype(dtype), False

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy of its own, outside any `ParameterStore`."""
        twin = memo[id(self)] = copy.copy(self)
        twin._value, twin._is_view = copy.deepcopy(self._value), False
        return twin

    def __repr__(self) -> str:
        shape = "no value yet" if self._value is None else f"shape {self._value.shape}"
        return f"<{type(self).__name__} {self.name or '(unnamed)'}, {shape}>"


class Parameter(Cell):
    """A learned array.

    Two gates that hold the same `Parameter` share it: counted, updated and saved once, gradients summed.

    Args:
        value: the array, or nothing when the gate creates it in `build`, once the input shape is known.
        decay: False spares it from weight decay (biases, scales).
    """

    __slots__ = ("decay", "grad")

    def __init__(self, value: ArrayLike | None = None, decay: bool = True) -> None:
        super().__init__(value)
        self.decay = decay
        self.grad: Array | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = super().__deepcopy__(memo)
        twin.grad = copy.deepcopy(self.grad)
        return twin

    def create(self, shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], Array]) -> None:
        """Set the first value to `draw(shape)`; a value that is there already stays.

        Raises:
            GateError: the value that is there has another shape.
        """
        if self._value is None:
            if math.prod(shape) > LARGEST_SIZE:
                raise GateError(f"a parameter of shape {shape} has more values than any memory holds")
            self._value = floating(draw(shape))
        elif self._value.shape != shape:
            raise GateError(
                f"the parameter has shape {self._value.shape}, but the input needs {shape}; "
                "use a new gate for input of another width"
            )


class Buffer(Cell):
    """An array that is kept and saved but not learned: running means and variances, counters."""

    __slots__ = ()


def floating(value: ArrayLike) -> Array:
    """Return `value` as an array of its own floating-point type, or float64 for anything that isn't floating-point."""
    array = np.asarray(value)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)


def float_type(value: Any) -> np.dtype[Any]:
    """Return the floating-point type in which gradients with respect to `value` are computed."""
    dtype = getattr(value, "dtype", None)
    return dtype if dtype is not None and dtype.kind == "f" else np.dtype(np.float64)
