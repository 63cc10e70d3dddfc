"""The nodes of a graph: how they are made, named, found and forgotten."""

import sys
from typing import Any

import numpy as np

from layerflow.byhand import as_input
from layerflow.containers.container import Container
from layerflow.containers.node import Entry, Node
from layerflow.errors import GateError, did_you_mean, users_place
from layerflow.gate import Gate
from layerflow.parameter import Parameter
from layerflow.step import Operation

Wire = Node | str
RAN: Any = [], (), np.dtype(float)


class NodeGraph(Container, checked=False):
    """The part of a `ComputationalGraph` that knows its nodes: inputs, parameters, constants, results of operators."""

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[str, Node] = {}
        self._unnamed: list[Node] = []
        self._counts: dict[str, int] = {}

    def apply(self, gate: Gate, *inputs: Any, name: str | None = None) -> Node:
        """Add a gate that reads the given nodes (plain values become constants) and return its node."""
        raise NotImplementedError

    # Where values come from --------------------------------------------------------------------------------------

    def inputs(self, *names: str, needs_grad: bool = True) -> tuple[Node, ...]:
        """Add inputs whose values `forward` will be given."""
        return tuple(self.input(name, needs_grad=needs_grad) for name in names)

    def input(self, name: str, value: Any = None, needs_grad: bool = True) -> Node:
        """Add an input, with a value if the graph is to compute at once; data that needs no gradient says so."""
        if isinstance(value, np.ndarray):
            value = value.copy()  # what the graph has computed from it stays true, whatever happens to the original
        node = self._new_node(name, needs_grad=needs_grad, value=None if value is None else as_input(value))
        self.input_slots += (node.slot,)
        return node

    def parameter(self, name: str, value: Any) -> Node:
        """Add a learned array, or a `Parameter` that a gate already holds."""
        parameter = value if isinstance(value, Parameter) else Parameter(value)
        node = self._new_node(name, needs_grad=True)
        self.sources[node.slot] = parameter
        self._refresh(node.slot)
        return node

    def constant(self, value: Any, name: str | None = None) -> Node:
        """Add a value that never changes and needs no gradient."""
        if name is None:
            return self._new_constant(value)
        node = self._new_node(name, value=as_input(value))
        self.constants[node.slot] = self.values[node.slot]
        return node

    # Operators ---------------------------------------------------------------------------------------------------

    # `transform` and `operate` are `apply` without its ceremony, for gates that hold no parameters and keep nothing but
    # what they save: one gate then serves any number of nodes. Millions of nodes are made by them, so they are terse.

    def transform(self, gate: Gate, operand: Node) -> Node:
        """Add a built-in operator to one node."""
        slot = operand.slot
        if slot in self.sources:
            self._refresh(slot)
        value = self.values[slot]
        if value is None:
            return self.apply(gate.reuse(), operand)
        return self._result(gate, (value,), (slot,), (self.needed[slot],))

    def operate(self, gate: Gate, left: Any, right: Any) -> Node:
        """Add a built-in operator to two nodes, or to one and a plain value."""
        if type(right) is not Node:
            right = self._new_constant(right, left)
        elif type(left) is not Node:
            left = self._new_constant(left, right)
        elif left.graph is not right.graph:
            self._node(right, type(gate).__name__.lower())
        i, j = left.slot, right.slot
        sources, values, needed = self.sources, self.values, self.needed
        if i in sources:
            self._refresh(i)
        if j in sources:
            self._refresh(j)
        x, y = values[i], values[j]
        if x is None or y is None:
            return self.apply(gate.reuse(), left, right)
        return self._result(gate, (x, y), (i, j), (needed[i], needed[j]))

    def _result(
        self, gate: Gate, inputs: tuple[Any, ...], reads: tuple[int, ...], needs_grad: tuple[bool, ...]
    ) -> Node:
        """Run an operator and append its operation and its node."""
        gate.needs_grad = needs_grad
        try:
            output = gate.bare_forward(*inputs)
        except Exception as error:
            self._forget_constants(reads)
            error.add_note(
                f"in gate {type(gate).__name__}, forward, input shapes {', '.join(str(x.shape) for x in inputs)}"
            )
            raise
        values = self.values
        slot = len(values)
        frame = sys._getframe(3)  # who called the method of Node that called `transform` or `operate`
        operation = Operation(gate, reads, slot, needs_grad, gate._saved, (frame.f_code, frame.f_lasti))
        node = Node(self, slot, operation)
        values.append(output)
        self.grads.append(None)
        self.needed[slot] = True in needs_grad
        self.steps.append(operation)
        self._unnamed.append(node)
        self._ran = RAN
        self.output_slots = ()
        return node

    def _refresh(self, slot: int) -> None:
        """Read the present value of a parameter that a node holds."""
        source = self.sources[slot]
        self.values[slot] = source.present if source.has_value else None

    def _forget_constants(self, reads: tuple[int, ...]) -> None:
        """Forget the constant that was made for an operation that failed: nothing was added since."""
        last = len(self.values) - 1
        if last in reads and last in self.constants:
            self._roll_back((last, len(self.steps)))

    def _new_constant(self, value: Any, beside: Node | None = None) -> Node:
        """Add a constant; a bare number takes the floating-point type of the value that it meets."""
        value = as_input(value)
        other = None if beside is None else self.values[beside.slot]
        if type(value) is np.float64 and other is not None and other.dtype.kind == "f":
            value = other.dtype.type(value)
        slot = self.new_slot(value)
        self.constants[slot] = value
        node = Node(self, slot, Entry())
        self._unnamed.append(node)
        return node

    def backward_from(self, node: Node, grad: Any = None) -> None:
        """Run back from any node that has a value."""
        if node.value is None:
            raise GateError(f"backward from {node}, which has no value yet: run forward first")
        self.sweep_back({node.slot: grad})

    # Names -------------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> dict[str, Node]:
        """Every node by name."""
        self.name_operations()
        return self._nodes

    def name_operations(self) -> None:
        """Name the results of operators, and the constants in them, that are still without a name."""
        unnamed, self._unnamed = self._unnamed, []
        for node in unnamed:
            gate = node.made_by.gate
            name = self._free_name("constant" if gate is None else type(gate).__name__.lower())
            node.made_by.name = name
            self._nodes[name] = node

    def __getitem__(self, name: str) -> Node:
        if name not in self.nodes:
            raise GateError(f"the graph has no node {name!r}{did_you_mean(name, self.nodes)}")
        return self.nodes[name]

    def described(self, slot: int) -> str:
        """A slot in words: its node, with the line that added it."""
        return next((str(node) for node in self.nodes.values() if node.slot == slot), super().described(slot))

    def _node(self, wire: Wire, reader: str = "") -> Node:
        if isinstance(wire, Node):
            if wire.graph is not self:
                raise GateError(f"{reader!r} reads {wire}, which is a node of another graph; build both in one graph")
            return wire
        if wire not in self.nodes and reader:
            hint = did_you_mean(wire, self.nodes)
            raise GateError(f"{reader!r} reads {wire!r}, but the graph has no such node{hint}")
        return self[wire]

    def _new_node(self, name: str, value: Any = None, needs_grad: bool = False, gate: Gate | None = None) -> Node:
        if name in self.nodes:
            raise GateError(f"the graph already has a node {self.nodes[name]}; names must differ")
        node = Node(self, self.new_slot(value, needs_grad), Entry(name, gate, users_place()))
        self._nodes[name] = node
        self._names = None
        return node

    def _free_name(self, kind: str) -> str:
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        name = kind if count == 1 else f"{kind}_{count}"
        return name if name not in self._nodes else self._free_name(kind)

    # Undoing -----------------------------------------------------------------------------------------------------

    def _mark(self) -> tuple[int, int]:
        return len(self.values), len(self.steps)

    def _roll_back(self, mark: tuple[int, int]) -> None:
        """Forget all nodes, slots and steps since the mark: what failed leaves the graph as it was."""
        slots, steps = mark
        del self.values[slots:], self.grads[slots:], self.steps[steps:]
        self._nodes = {name: node for name, node in self._nodes.items() if node.slot < slots}
        self._unnamed = [node for node in self._unnamed if node.slot < slots]
        for by_slot in (self.sources, self.constants, self.shapes, self.needed):
            for slot in [slot for slot in by_slot if slot >= slots]:
                del by_slot[slot]
        self._names = None
