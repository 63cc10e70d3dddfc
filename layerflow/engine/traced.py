"""The stand-in for an array while code is recorded: it computes with NumPy, and notes every operation.

A `Traced` array is a root, which has a node and a value, or a view of another one. To write into a view gives its root
a new node, so that the root and all its views see the change, as in NumPy. What depends on constants only is computed
once and stays a constant.
"""

import functools
import threading
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from layerflow.engine.program import Guard, Node, viewed
from layerflow.errors import RecordError
from layerflow.parameter import Array

ACTIVE = threading.local()  # `ACTIVE.recorder` is the recorder of this thread, while there is one


def recorder() -> Any:
    """The recorder of this thread, or `None`."""
    return getattr(ACTIVE, "recorder", None)


def refuse(what: str, cure: str) -> RecordError:
    """Return the error for code that cannot be recorded, with the gate and the line that is running."""
    return RecordError(f"{recorder().origin()}: {what}; {cure}")


def held_by(value: Any) -> Any:
    """The numbers of a value: of stand-ins, in lists and tuples too, what NumPy computed."""
    if isinstance(value, Traced):
        return value.value if not value.is_weak else value.value.item()
    if isinstance(value, tuple | list):
        return type(value)([held_by(item) for item in value])
    return value


def is_live(value: Any) -> bool:
    """Whether a value depends on an input of the program."""
    if isinstance(value, Traced):
        return not value.is_constant
    return isinstance(value, tuple | list) and any(map(is_live, value))


class Traced(NDArrayOperatorsMixin):
    """A stand-in for an array.

    Attributes:
        is_weak: whether it stands for a Python number, which does not decide the type of a result.
        owner: what an array belongs to that nothing may change, in words; empty for all others.
    """

    __slots__ = ("_node", "_value", "is_weak", "kind", "owner", "parent", "settings")

    def __init__(self, node: Node | None, value: Any, is_weak: bool = False, owner: str = "") -> None:
        self._node, self._value, self.is_weak, self.owner = node, value, is_weak, owner
        self.parent: Traced | None = None
        self.kind = ""
        self.settings: dict[str, Any] = {}

    @classmethod
    def constant(cls, value: Any, owner: str = "") -> "Traced":
        """A stand-in for an array that never depends on the inputs."""
        array = np.asarray(value)
        return cls(recorder().constant(array), array, owner=owner)

    def through(self, kind: str, shape: tuple[int, ...], **settings: Any) -> "Traced":
        """A view of this array."""
        made = Traced(None, None)
        made.parent, made.kind, made.settings = self, kind, settings | {"shape": tuple(map(int, shape))}
        return made

    @property
    def value(self) -> Array:
        """What NumPy computed."""
        if self.parent is None:
            array: Array = self._value
            return array
        return viewed(self.kind, self.settings, self.settings["shape"], self.parent.value)

    @property
    def node(self) -> Node:
        """The node that computes it, as it is now."""
        if self.parent is None:
            assert self._node is not None
            return self._node
        settings = {name: item for name, item in self.settings.items() if name != "shape"}
        base = self.parent.node
        is_all = base.shape == self.settings["shape"] and {*settings.get("steps", ())} <= {1}
        if is_all and self.kind in ("slice", "reshape"):
            return base
        made: Node = recorder().add(self.kind, (base,), settings, self.settings["shape"], base.dtype)
        return made

    @property
    def is_constant(self) -> bool:
        root = self
        while root.parent is not None:
            root = root.parent
        return root._node is not None and root._node.kind == "constant"

    def write(self, new: Any) -> None:
        """Put another value in the place of this one: the root, and with it all its views, changes."""
        old = self.value
        value = np.array(np.broadcast_to(np.asarray(held_by(new)).astype(old.dtype), old.shape))
        node = recorder().node(new, old.dtype)
        if node.shape != old.shape:
            node = recorder().add("broadcast", (node,), {}, old.shape, old.dtype)
        if self.parent is None:
            if self.owner:
                raise refuse(
                    f"{self.owner} is changed in place", "a gate keeps what changes from step to step in an lf.Buffer"
                )
            self._node, self._value = node, value
            return
        source = Traced(node, value)
        if self.kind == "reshape":
            self.parent.write(source.reshape(self.parent.shape))
        elif self.kind == "transpose":
            self.parent.write(source.transpose(*np.argsort(self.settings["axes"])))
        elif self.kind == "slice":
            full = np.array(self.parent.value)
            viewed("slice", self.settings, old.shape, full)[...] = value
            settings = {name: self.settings[name] for name in ("starts", "steps")}
            base = self.parent.node
            self.parent.write(Traced(recorder().add("update", (base, node), settings, full.shape, full.dtype), full))
        else:
            raise refuse(f"an array is written through a view of kind {self.kind}", "write into the array itself")

    # NumPy's protocols ---------------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        return recorder().call_ufunc(ufunc, method, inputs, named)

    def __array_function__(self, function: Any, types: Any, args: Any, named: Any) -> Any:
        return recorder().call_function(function, args, named)

    def __array__(self, *args: Any, **named: Any) -> Array:
        self.reveal("the array is handed to a function that needs the numbers themselves", "write it in NumPy")
        return np.asarray(self.value, *args)

    def reveal(self, what: str, cure: str) -> None:
        """Raise unless the numbers may be looked at: those of a constant, or on the way to an error message."""
        if not self.is_constant and not recorder().is_exploring:
            raise refuse(what, cure)

    def __bool__(self) -> bool:
        if self.is_constant:
            return bool(self.value)
        answer: bool = recorder().decide(self)
        return answer

    def __float__(self) -> float:
        self.reveal("float() of an array", "keep it an array: NumPy's functions take it as it is")
        return float(self.value)

    def __int__(self) -> int:
        self.reveal("int() of an array", "keep it an array; x.astype(int) makes it whole")
        return int(self.value)

    def __index__(self) -> int:
        self.reveal("an array as the bound of a slice or range", "index with the array itself, as in x[rows, labels]")
        return self.value.__index__()

    def item(self, *args: Any) -> Any:
        self.reveal("x.item()", "keep it an array: NumPy's functions take it as it is")
        return self.value.item(*args)

    def tolist(self) -> Any:
        self.reveal("x.tolist()", "write the loop in NumPy")
        return self.value.tolist()

    # What arrays know of themselves ----------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        found: tuple[int, ...] = self.settings["shape"] if self.parent is not None else self._value.shape
        return found

    @property
    def dtype(self) -> np.dtype[Any]:
        root = self
        while root.parent is not None:
            root = root.parent
        found: np.dtype[Any] = root._value.dtype
        return found

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape, dtype=np.int64)))
    itemsize = property(lambda self: self.dtype.itemsize)
    nbytes = property(lambda self: self.size * self.itemsize)
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))  # noqa: N815
    real = property(lambda self: self)

    @property
    def flat(self) -> "Traced":
        return self.reshape(-1)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Any:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(np.ndarray, name):
            raise AttributeError(f"an array has no attribute {name!r}")
        if name in METHODS:
            return functools.partial(getattr(np, name), self)
        raise refuse(f"x.{name}", "there is no such thing in a recorded program")

    def __repr__(self) -> str:
        return f"<array {self.dtype}{list(self.shape)}, recorded>"

    def __format__(self, spec: str) -> str:
        return format(held_by(self), spec) if self.is_constant or recorder().is_exploring else repr(self)

    def __copy__(self) -> "Traced":
        return Traced(self.node, np.array(self.value))

    def __deepcopy__(self, memo: Any) -> "Traced":
        return self.copy()

    # Parts of an array ---------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> "Traced":
        found: Traced = recorder().read(self, key)
        return found

    def __setitem__(self, key: Any, new: Any) -> None:
        recorder().store(self, key, new)

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> "Traced":
        wanted = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        value: Any = self.value
        result = value.reshape(held_by(wanted), order=order)
        if order != "C" and value.ndim > 1:
            raise refuse(f"reshape with order={order!r}", "transpose first, then reshape")
        if result.shape == value.shape:
            return self.through("slice", value.shape, starts=(0,) * value.ndim, steps=(1,) * value.ndim)
        if self.is_constant or not value.size or np.may_share_memory(value, result):
            return self.through("reshape", result.shape)
        node = recorder().add("reshape", (self.node,), {}, result.shape, self.dtype)  # NumPy makes a copy here
        return Traced(node, np.array(result))

    def ravel(self, order: str = "C") -> "Traced":
        return self.reshape(-1)

    def flatten(self, order: str = "C") -> "Traced":
        return self.reshape(-1).copy()

    def view(self, *args: Any) -> "Traced":
        if args:
            raise refuse("x.view(dtype)", "x.astype(dtype) converts the numbers")
        return self.reshape(self.shape)

    def transpose(self, *axes: Any) -> "Traced":
        given: Any = axes[0] if len(axes) == 1 and not isinstance(axes[0], int | np.integer) else axes
        if given is None or len(given) == 0:
            given = range(self.ndim)[::-1]
        order = tuple(int(axis) % self.ndim for axis in given)
        return self.through("transpose", self.value.transpose(order).shape, axes=order)

    def swapaxes(self, first: int, second: int) -> "Traced":
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self.transpose(*order)

    def squeeze(self, axis: Any = None) -> "Traced":
        return self.reshape(np.squeeze(self.value, axis).shape)

    # Copies --------------------------------------------------------------------------------------------------------

    def copy(self, order: str = "C") -> "Traced":
        return Traced(self.node, np.array(self.value))

    def astype(self, dtype: Any, *, copy: bool = True, **ignored: Any) -> "Traced":
        dtype = np.dtype(dtype)
        if self.dtype == dtype and not self.is_weak:
            return self.copy() if copy else self
        return Traced(recorder().node(self, dtype), self.value.astype(dtype))

    def fill(self, value: Any) -> None:
        self.write(value)


METHODS = {
    "all", "any", "argmax", "argmin", "clip", "cumprod", "cumsum", "diagonal", "dot", "max", "mean", "min", "nonzero",
    "prod", "ptp", "repeat", "round", "sort", "std", "sum", "take", "trace", "var",
}  # fmt: skip


def guard(node: Node, expected: bool, is_implied: bool = False) -> None:
    """Note a condition that must hold."""
    active = recorder()
    active.program.guards.append(Guard(node, expected, active.origin(), is_implied))
