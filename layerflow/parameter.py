"""The arrays that a gate owns: learned ones (`Parameter`), and others that are kept and saved (`Buffer`)."""

import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from layerflow.errors import GateError

if TYPE_CHECKING:
    from layerflow.store import ParameterStore

Array = NDArray[Any]

LARGEST_SIZE = 1 << 48
"""Of a parameter: no machine has the memory for more, and NumPy's own message is hard to read."""


class Cell:
    """A named place for one floating-point array. Gates that hold the same cell share the array."""

    __slots__ = ("_store", "_value", "name")

    _store: "weakref.ref[ParameterStore] | None"  # the store whose vector the value is a view of

    def __init__(self, value: ArrayLike | None = None) -> None:
        self.name = ""
        self._store = None
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
        if self._store is not None and self._value is not None:
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
        return self._store is not None

    def create(self, shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], Array]) -> None:
        """Set the first value to `draw(shape)`; a value that is already set is kept.

        Raises:
            GateError: the present value has another shape.
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

    def place(self, view: Array, store: "ParameterStore") -> None:
        """Move the value into `view`, a part of `store`; a store that held it before can no longer be used."""
        view[...] = self.value
        self._leave_store()
        self._value, self._store = view, weakref.ref(store)

    def _leave_store(self) -> None:
        former = None if self._store is None else self._store()
        if former is not None:
            former.lose(self)
        self._store = None

    def equals(self, array: Array) -> bool:
        """Whether the value is this array, element by element; NaN equals NaN."""
        value = self.value
        if value.shape != array.shape:
            return False
        equal = value == array
        return bool(equal.all()) or bool((equal | ((value != value) & (array != array))).all())

    def astype(self, dtype: DTypeLike) -> None:
        """Turn the value into another floating-point type; one that was in a `ParameterStore` leaves it."""
        if self._value is not None and self._value.dtype != dtype:
            self._leave_store()
            self._value = self._value.astype(dtype)

    def __getstate__(self) -> Any:
        """What copies and pickles take along: all but the `ParameterStore`."""
        state: Any = object.__getstate__(self)
        return None, state[1] | {"_store": None}

    def __repr__(self) -> str:
        shape = "no value yet" if self._value is None else f"shape {self._value.shape}"
        return f"<{type(self).__name__} {self.name or '(unnamed)'}, {shape}>"


class Parameter(Cell):
    """A learned array.

    Two gates that hold the same `Parameter` share it: counted, updated and saved once, gradients summed.

    Args:
        value: the array, or nothing when the gate creates it in `build`, once the input shape is known.
        decay: False excludes it from weight decay (biases, scales).

    Attributes:
        frozen: whether training leaves the value as it is, though it gets a gradient; read when a training starts.
    """

    __slots__ = ("decay", "frozen", "grad")

    def __init__(self, value: ArrayLike | None = None, decay: bool = True) -> None:
        super().__init__(value)
        self.decay = decay
        self.frozen = False
        self.grad: Array | None = None


class Buffer(Cell):
    """An array that is kept and saved but not learned: running means and variances, counters."""

    __slots__ = ()


def floating(value: ArrayLike) -> Array:
    """Return `value` as an array of its own floating-point type, or float64 for anything that isn't floating-point."""
    array = np.asarray(value)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)


def as_input(value: Any) -> Any:
    """Return `value` as an array; a bare Python number is a real number, so 3 becomes 3.0."""
    if isinstance(value, np.ndarray | np.generic):
        return value
    return np.float64(value) if isinstance(value, int | float) else np.asarray(value)


def float_type(value: Any) -> np.dtype[Any]:
    """Return the floating-point type in which gradients with respect to `value` are computed."""
    dtype = getattr(value, "dtype", None)
    return dtype if dtype is not None and dtype.kind == "f" else np.dtype(np.float64)
