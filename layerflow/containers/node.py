"""One value of a `ComputationalGraph`: calling gates on nodes and computing with them builds the graph."""

from typing import TYPE_CHECKING, Any

from layerflow.gate import Gate
from layerflow.gates.activation import ReLU, Sigmoid, Tanh
from layerflow.gates.arithmetic import Add, Divide, Exp, Log, MatMul, Multiply, Negate, Power, Subtract
from layerflow.gates.reduction import Max, Mean, Sum
from layerflow.gates.settings import Axes
from layerflow.gates.shape import Reshape, Slice, Transpose

if TYPE_CHECKING:
    from layerflow.containers.graph import ComputationalGraph


class Node:
    """A named value of a graph: an input, a parameter, a constant, or the output of a gate.

    Attributes:
        graph: the graph it belongs to.
        name: unique in the graph.
        gate: the gate that computes it; `None` for inputs, parameters and constants.
    """

    __slots__ = ("gate", "graph", "name", "slot")

    def __init__(self, graph: "ComputationalGraph", name: str, slot: int, gate: Gate | None = None) -> None:
        self.graph = graph
        self.name = name
        self.slot = slot
        self.gate = gate

    @property
    def value(self) -> Any:
        """The value as of the last forward sweep; `None` before there is one."""
        source = self.graph.sources.get(self.slot)
        if source is None:
            return self.graph.values[self.slot]
        return source.value if source.has_value else None

    @property
    def grad(self) -> Any:
        """The gradient of the last backward sweep; `None` where none arrived."""
        return self.graph.grads[self.slot]

    def backward(self, grad: Any = None) -> None:
        """Run back from this node; afterwards every node it depends on has its `.grad`. A scalar starts from 1."""
        self.graph.backward_from(self, grad)

    def __add__(self, other: Any) -> "Node":
        return self.graph.apply(Add(), self, other)

    def __radd__(self, other: Any) -> "Node":
        return self.graph.apply(Add(), other, self)

    def __sub__(self, other: Any) -> "Node":
        return self.graph.apply(Subtract(), self, other)

    def __rsub__(self, other: Any) -> "Node":
        return self.graph.apply(Subtract(), other, self)

    def __mul__(self, other: Any) -> "Node":
        return self.graph.apply(Multiply(), self, other)

    def __rmul__(self, other: Any) -> "Node":
        return self.graph.apply(Multiply(), other, self)

    def __truediv__(self, other: Any) -> "Node":
        return self.graph.apply(Divide(), self, other)

    def __rtruediv__(self, other: Any) -> "Node":
        return self.graph.apply(Divide(), other, self)

    def __matmul__(self, other: Any) -> "Node":
        return self.graph.apply(MatMul(), self, other)

    def __rmatmul__(self, other: Any) -> "Node":
        return self.graph.apply(MatMul(), other, self)

    def __pow__(self, exponent: float) -> "Node":
        return self.graph.apply(Power(exponent), self)

    def __neg__(self) -> "Node":
        return self.graph.apply(Negate(), self)

    def __getitem__(self, key: Any) -> "Node":
        return self.graph.apply(Slice(key), self)

    @property
    def T(self) -> "Node":  # noqa: N802 (NumPy's name)
        """The transpose."""
        return self.graph.apply(Transpose(), self)

    def sum(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The sum of all elements, or along some axes."""
        return self.graph.apply(Sum(axis, keepdims), self)

    def mean(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The mean of all elements, or along some axes."""
        return self.graph.apply(Mean(axis, keepdims), self)

    def max(self, axis: Axes = None, keepdims: bool = False) -> "Node":
        """The largest element, of all or along some axes."""
        return self.graph.apply(Max(axis, keepdims), self)

    def reshape(self, *shape: Any) -> "Node":
        """The same elements in another shape, given as sizes or as one tuple."""
        return self.graph.apply(Reshape(shape[0] if len(shape) == 1 else shape), self)

    def exp(self) -> "Node":
        """Euler's number to the power of each element."""
        return self.graph.apply(Exp(), self)

    def log(self) -> "Node":
        """The natural logarithm of each element."""
        return self.graph.apply(Log(), self)

    def tanh(self) -> "Node":
        """The hyperbolic tangent of each element."""
        return self.graph.apply(Tanh(), self)

    def relu(self) -> "Node":
        """max(0, x) of each element x."""
        return self.graph.apply(ReLU(), self)

    def sigmoid(self) -> "Node":
        """1 / (1 + e^-x) of each element x."""
        return self.graph.apply(Sigmoid(), self)

    # NumPy must leave `array + node` and the like to the methods above, and `for item in node` has no end to stop at.
    __array_ufunc__ = None
    __iter__ = None

    def __repr__(self) -> str:
        kind = "value" if self.gate is None else repr(self.gate)
        return f"<Node {self.name!r}: {kind}>"
