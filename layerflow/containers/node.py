"""One value of a `ComputationalGraph`: calling gates on nodes and computing with them builds the graph."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from layerflow.containers.drawn import Drawn
from layerflow.containers.shown import show
from layerflow.errors import GateError, Place, Placed, file_and_line
from layerflow.gate import Gate
from layerflow.gates.activation import ReLU, Sigmoid, Tanh
from layerflow.gates.arithmetic import Add, Divide, Exp, Log, MatMul, Multiply, Negate, Power, Subtract
from layerflow.gates.reduction import Max, Mean, Sum
from layerflow.gates.settings import Axes
from layerflow.gates.shape import Reshape, Slice, Transpose
from layerflow.step import Operation

if TYPE_CHECKING:
    from layerflow.containers.nodes import NodeGraph

ADD, SUBTRACT, MULTIPLY, DIVIDE, MATMUL, NEGATE = Add(), Subtract(), Multiply(), Divide(), MatMul(), Negate()
EXP, LOG, TANH, RELU, SIGMOID, TRANSPOSE = Exp(), Log(), Tanh(), ReLU(), Sigmoid(), Transpose()
_power = lru_cache(maxsize=64)(Power)


@dataclass(slots=True)
class Entry(Placed):
    """What made a node that is no result of an operator: name, gate if it has one, and the line that added it."""

    name: str = ""
    gate: Gate | None = None
    place: Place | None = None


class Node(Drawn):
    """A named value of a graph: an input, a parameter, a constant, or the output of a gate.

    Attributes:
        graph: the graph it belongs to.
        slot: where the graph keeps its value and its gradient.
        made_by: what it was made by, and where in the user's code.
    """

    __slots__ = ("graph", "made_by", "slot")

    def __init__(self, graph: "NodeGraph", slot: int, made_by: "Entry | Operation") -> None:
        self.graph = graph
        self.slot = slot
        self.made_by = made_by

    @property
    def name(self) -> str:
        """Its name, unique in the graph; results of operators are named when that is first asked for."""
        if not self.made_by.name:
            self.graph.name_operations()
        return self.made_by.name

    @property
    def gate(self) -> Gate | None:
        """The gate that computes it; `None` for inputs, parameters and constants."""
        made_by = self.made_by
        return made_by.own_gate() if isinstance(made_by, Operation) else made_by.gate

    @property
    def value(self) -> Any:
        """The value as of the last forward sweep; `None` before there is one. A parameter's can be assigned to."""
        source = self.graph.sources.get(self.slot)
        if source is not None:
            return source.value if source.has_value else None
        return show(self.graph.values[self.slot], "value", self)

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
        return show(self.graph.grads[self.slot], "gradient", self)

    def backward(self, grad: Any = None) -> None:
        """Run back from this node; afterwards every node it depends on has its `.grad`. A scalar starts from 1."""
        self.graph.backward_from(self, grad)

    def __add__(self, other: Any) -> "Node":
        return self.graph.operate(ADD, self, other)

    def __radd__(self, other: Any) -> "Node":
        return self.graph.operate(ADD, other, self)

    def __sub__(self, other: Any) -> "Node":
        return self.graph.operate(SUBTRACT, self, other)

    def __rsub__(self, other: Any) -> "Node":
        return self.graph.operate(SUBTRACT, other, self)

    def __mul__(self, other: Any) -> "Node":
        return self.graph.operate(MULTIPLY, self, other)

    def __rmul__(self, other: Any) -> "Node":
        return self.graph.operate(MULTIPLY, other, self)

    def __truediv__(self, other: Any) -> "Node":
        return self.graph.operate(DIVIDE, self, other)

    def __rtruediv__(self, other: Any) -> "Node":
        return self.graph.operate(DIVIDE, other, self)

    def __matmul__(self, other: Any) -> "Node":
        return self.graph.operate(MATMUL, self, other)

    def __rmatmul__(self, other: Any) -> "Node":
        return self.graph.operate(MATMUL, other, self)

    def __pow__(self, exponent: float) -> "Node":
        return self.graph.transform(_power(exponent), self)

    def __neg__(self) -> "Node":
        return self.graph.transform(NEGATE, self)

    def __getitem__(self, key: Any) -> "Node":
        return self.graph.transform(Slice(key), self)

    @property
    def T(self) -> "Node":  # noqa: N802 (NumPy's name)
        """The transpose."""
        return self.graph.transform(TRANSPOSE, self)

    def sum(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The sum of all elements, or along some axes."""
        return self.graph.transform(Sum(axis, keepdims), self)

    def mean(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The mean of all elements, or along some axes."""
        return self.graph.transform(Mean(axis, keepdims), self)

    def max(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The largest element, of all or along some axes."""
        return self.graph.transform(Max(axis, keepdims), self)

    def reshape(self, *shape: Any) -> "Node":
        """The same elements in another shape, given as sizes or as one tuple."""
        return self.graph.transform(Reshape(shape[0] if len(shape) == 1 else shape), self)

    def exp(self) -> "Node":
        """Euler's number to the power of each element."""
        return self.graph.transform(EXP, self)

    def log(self) -> "Node":
        """The natural logarithm of each element."""
        return self.graph.transform(LOG, self)

    def tanh(self) -> "Node":
        """The hyperbolic tangent of each element."""
        return self.graph.transform(TANH, self)

    def relu(self) -> "Node":
        """max(0, x) of each element x."""
        return self.graph.transform(RELU, self)

    def sigmoid(self) -> "Node":
        """1 / (1 + e^-x) of each element x."""
        return self.graph.transform(SIGMOID, self)

    # Comparisons are about values, so that ifs and loops can follow them; nothing of them is in the graph.

    def __lt__(self, other: Any) -> Any:
        return self.value < _value(other)

    def __le__(self, other: Any) -> Any:
        return self.value <= _value(other)

    def __gt__(self, other: Any) -> Any:
        return self.value > _value(other)

    def __ge__(self, other: Any) -> Any:
        return self.value >= _value(other)

    # NumPy must leave `array + node` and the like to the methods above, and `for item in node` has no end to stop at.
    __array_ufunc__ = None
    __iter__ = None

    def __repr__(self) -> str:
        kind = "value" if self.made_by.gate is None else repr(self.gate)
        return f"<Node {self.name!r}: {kind}>"

    def __str__(self) -> str:
        place = self.made_by.place
        return f"{self.name!r}{f' (added at {file_and_line(place)})' if place else ''}"


def _value(operand: Any) -> Any:
    return operand.value if isinstance(operand, Node) else operand
