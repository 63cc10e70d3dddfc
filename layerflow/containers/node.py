"""One value of a `ComputationalGraph`: calling gates on nodes and computing with them builds the graph."""

import copy
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from layerflow.contract import Shape
from layerflow.errors import GateError, file_and_line
from layerflow.gate import Gate, Gradients
from layerflow.gates.activation import ReLU, Sigmoid, Tanh
from layerflow.gates.arithmetic import Add, Divide, Exp, Log, MatMul, Maximum, Multiply, Negate, Power, Subtract
from layerflow.gates.reduction import Axes, Max, Mean, Sum
from layerflow.gates.shape import Reshape, Slice, Transpose
from layerflow.sweep import Step

if TYPE_CHECKING:
    from layerflow.containers.graph import ComputationalGraph


class Detach(Gate):
    """y = x, a constant for everything in front of it: no gradient passes."""

    differentiable = False

    def forward(self, x: Any) -> Any:
        return x

    def backward(self, grad: Any) -> Gradients:
        return (None,), {}


class Value(Gate):
    """The gate of a node that no gate computes; copies and pickles keep it as it is."""

    def __reduce__(self) -> str:
        return "VALUE"


VALUE, POWER, MAXIMUM = Value(), Power(), Maximum()
_power = lru_cache(maxsize=64)(Power)


def _unary(name: str, gate: Gate, doc: str) -> Callable[["Node"], "Node"]:
    """Return a method that applies a gate to a node."""

    def method(self: "Node") -> "Node":
        return self.graph.operate(gate, self)

    method.__name__, method.__qualname__, method.__doc__ = name, f"Node.{name}", doc
    return method


def _binary(gate: Gate) -> tuple[Callable[["Node", Any], "Node"], Callable[["Node", Any], "Node"]]:
    """Return the methods of an operator with the node on its left and on its right."""

    def method(self: "Node", other: Any) -> "Node":
        return self.graph.operate(gate, self, other)

    def reflected(self: "Node", other: Any) -> "Node":
        return self.graph.operate(gate, other, self)

    return method, reflected


def _comparison(compare: Callable[[Any, Any], Any]) -> Callable[["Node", Any], Any]:
    def method(self: "Node", other: Any) -> Any:
        return compare(self.value, other.value if isinstance(other, Node) else other)

    return method


class Node:
    """A named value of a graph: an input, a parameter, a constant, or an output of a gate.

    Attributes:
        graph: the graph it belongs to.
        slot: where the graph keeps its value and its gradient.
        step: what computes it, with its name and the line that added it; the gate is `VALUE` where nothing does.
    """

    __slots__ = ("graph", "slot", "step")

    def __init__(self, graph: "ComputationalGraph", slot: int, step: Step) -> None:
        self.graph = graph
        self.slot = slot
        self.step = step

    def __getattr__(self, name: str) -> Any:
        if name == "graph":  # which only `clear` takes away
            raise GateError(f"node {self.step.name!r} is no longer there: its graph was cleared; add it again")
        raise AttributeError(f"a node has no attribute {name!r}")

    @property
    def name(self) -> str:
        """Its name, unique in the graph; results of operators are named when that is first asked for."""
        if not self.step.name:
            self.graph.name_results()
        number = self.step.writes.index(self.slot)
        return f"{self.step.name}.{number}" if number else self.step.name

    @property
    def gate(self) -> Gate | None:
        """The gate that computes it; `None` for inputs, parameters and constants."""
        step = self.step
        if step.is_operator:  # by hand, a gate of its own, apart from those that serve other steps
            step.gate, step.is_operator = copy.copy(step.gate), False
            step.gate._saved, step.gates = self.graph.memories[self.slot], (step.gate,)
        return None if step.gate is VALUE else step.gate

    @property
    def shape(self) -> Shape:
        """The shape of the value, or the one that `build` inferred.

        Raises:
            GateError: neither is known yet.
        """
        if (value := self.value) is not None:
            return np.shape(value)
        if self.slot in self.graph.shapes:
            return self.graph.shapes[self.slot]
        raise GateError(f"the shape of {self} is not known yet: run build or forward first")

    @property
    def value(self) -> Any:
        """The value as of the last forward sweep; `None` before there is one. A parameter's can be assigned to."""
        source = self.graph.sources.get(self.slot)
        if source is not None:
            return source.value if source.has_value else None
        return _shown(self.graph.values[self.slot], "value", self)

    @value.setter
    def value(self, value: Any) -> None:
        source = self.graph.sources.get(self.slot)
        if source is None:
            wanted = f"give it to forward({self.name}=...)" if self.gate is None else "its gate computes it"
            raise GateError(f"the value of {self} cannot be set: {wanted}")
        source.value = value

    @property
    def grad(self) -> Any:
        """The gradient of the last backward sweep; `None` where none arrived."""
        return _shown(self.graph.grads[self.slot], "gradient", self)

    def backward(self, grad: Any = None) -> None:
        """Run back from this node; afterwards every node it depends on has its `.grad`. A scalar starts from 1.

        Only the gates that it depends on are visited.
        """
        self.graph.backward_from(self, grad)

    __add__, __radd__ = _binary(Add())
    __sub__, __rsub__ = _binary(Subtract())
    __mul__, __rmul__ = _binary(Multiply())
    __truediv__, __rtruediv__ = _binary(Divide())
    __matmul__, __rmatmul__ = _binary(MatMul())
    __rpow__ = _binary(POWER)[1]

    __neg__ = _unary("__neg__", Negate(), "The negative of each element.")
    exp = _unary("exp", Exp(), "Euler's number to the power of each element.")
    log = _unary("log", Log(), "The natural logarithm of each element.")
    sqrt = _unary("sqrt", Power(0.5), "The square root of each element.")
    tanh = _unary("tanh", Tanh(), "The hyperbolic tangent of each element.")
    relu = _unary("relu", ReLU(), "max(0, x) of each element x.")
    sigmoid = _unary("sigmoid", Sigmoid(), "1 / (1 + e^-x) of each element x.")
    detach = _unary(
        "detach", Detach(), "The same value as a constant: no gradient passes to what it was computed from."
    )
    T = property(_unary("T", Transpose(), "The transpose."))

    def __pow__(self, exponent: Any) -> "Node":
        if isinstance(exponent, int | float):
            return self.graph.operate(_power(exponent), self)
        return self.graph.operate(POWER, self, exponent)

    def __getitem__(self, key: Any) -> "Node":
        parts = key if isinstance(key, tuple) else (key,)
        key = tuple([np.asarray(part) if isinstance(part, list) else part for part in parts])
        return self.graph.operate(Slice(key), self)

    def abs(self) -> "Node":
        """The absolute value of each element; the gradient at 0 is 0."""
        return self.graph.operate(MAXIMUM, self, -self)

    __abs__ = abs

    def reshape(self, *shape: Any) -> "Node":
        """The same elements in another shape, given as sizes or as one tuple."""
        return self.graph.operate(Reshape(shape[0] if len(shape) == 1 else shape), self)

    def sum(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The sum of all elements, or along some axes."""
        return self.graph.operate(Sum(axis, keepdims), self)

    def mean(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The mean of all elements, or along some axes."""
        return self.graph.operate(Mean(axis, keepdims), self)

    def max(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The largest element, of all or along some axes."""
        return self.graph.operate(Max(axis, keepdims), self)

    def min(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The smallest element, of all or along some axes."""
        return -(-self).max(axis, keepdims)

    def __float__(self) -> float:
        return float(self.value)

    # Comparisons are about values, so that ifs and loops can follow them; nothing of them is in the graph.

    __lt__, __le__ = _comparison(operator.lt), _comparison(operator.le)
    __gt__, __ge__ = _comparison(operator.gt), _comparison(operator.ge)

    # NumPy must leave `array + node` and the like to the methods above, and `for item in node` has no end to stop at.
    __array_ufunc__ = None
    __iter__ = None

    def __repr__(self) -> str:
        return f"<Node {self.name!r}: {'value' if self.gate is None else repr(self.gate)}>"

    def __str__(self) -> str:
        return f"{self.name!r}{f' (added at {file_and_line(self.step.place)})' if self.step.place else ''}"


class _ShownArray(np.ndarray[Any, Any]):
    """A read-only view of a node's value or gradient; whatever is computed from it is a plain array."""

    shows: tuple[str, Any] = ("", None)  # "value" or "gradient", and the node

    def __array_finalize__(self, parent: Any) -> None:
        self.shows = getattr(parent, "shows", self.shows)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return array[()] if return_scalar else np.asarray(array)

    def _refuse(self, *_: Any) -> NoReturn:
        what, node = self.shows
        raise GateError(f"the {what} of node {node} cannot be changed in place: backward builds on it; change a copy")

    # Other ways to write (`fill`, `sort`, `out=`) are refused by NumPy itself, since the view is read-only.
    __setitem__ = __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __ipow__ = __imatmul__ = _refuse

    def __repr__(self) -> str:
        return repr(np.asarray(self))

    def __reduce__(self) -> Any:
        return np.array(self).__reduce__()


def _shown(array: Any, what: str, node: Node) -> Any:
    """Return an array as a read-only view, and a number, which cannot be changed, as it is."""
    if not isinstance(array, np.ndarray):
        return array
    if array.ndim == 0:
        return array[()]
    view = array.view(_ShownArray)
    view.shows = what, node
    view.flags.writeable = False
    return view
