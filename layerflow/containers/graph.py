"""Gates in any acyclic order; writing code is building the graph."""

import sys
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from layerflow.byhand import as_input, build_by_hand
from layerflow.containers.container import Container
from layerflow.containers.node import Entry, Node
from layerflow.errors import GateError, did_you_mean, users_place
from layerflow.gate import Gate
from layerflow.parameter import Parameter
from layerflow.sweep import Operation, forward_sweep, plan_gradients

Wire = Node | str
Slots = tuple[int, ...]
RAN: Any = [], (), np.dtype(float)


class ComputationalGraph(Container, checked=False):
    """A graph of gates, built by calling gates on nodes, by operators, or by `add(name, gate, inputs)`.

        g = ComputationalGraph()
        x, y, z = g.inputs("x", "y", "z")
        f = (x + y) * z
        g.forward(x=-2.0, y=5.0, z=-4.0)     # -12.0
        (dx, dy, dz), _ = g.backward()       # -4, -4, 3

    Where the inputs of a gate have values already (`g.input("x", array)`), it computes at once. The outputs are the
    nodes that no gate reads, unless `output` names them. A graph that became part of another container was laid out
    as it was then; nodes added later are not seen there.

    Raises:
        GateError: nodes of two graphs, a name given twice, an unknown name, a cycle (named), a missing input value.
    """

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[str, Node] = {}
        self._unnamed: list[Node] = []
        self._waiting: dict[str, tuple[Gate, list[Wire]]] = {}
        self._chosen: tuple[Wire, ...] = ()
        self._counts: dict[str, int] = {}
        self._is_built = True  # there is nothing yet that would wait for shapes

    # Building ----------------------------------------------------------------------------------------------------

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

    def apply(self, gate: Gate, *inputs: Any, name: str | None = None) -> Node:
        """Add a gate that reads the given nodes (plain values become constants) and return its node."""
        mark = self._mark()
        try:
            wires = [value if isinstance(value, Node) else self.constant(value) for value in inputs]
            return self.add(name or self._free_name(type(gate).__name__.lower()), gate, wires)
        except Exception:
            self._roll_back(mark)
            raise

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
            right = self._new_constant(right)
        elif type(left) is not Node:
            left = self._new_constant(left)
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

    def _forget_constants(self, reads: Slots) -> None:
        """Forget the constant that was made for an operation that failed: nothing was added since."""
        last = len(self.values) - 1
        if last in reads and last in self.constants:
            self._roll_back((last, len(self.steps)))

    def add(self, name: str, gate: Gate, inputs: Wire | Sequence[Wire]) -> Node:
        """Add a gate under a name; its inputs are nodes or names, also of nodes that will only be added later."""
        wires = [inputs] if isinstance(inputs, Node | str) else list(inputs)
        for wire in wires:
            if isinstance(wire, Node):
                self._node(wire, name)
        if not isinstance(gate, Gate):
            raise GateError(f"{name!r} is {gate!r}, not a gate")
        mark = self._mark()
        node = self._new_node(name, gate=gate)
        read = [self.nodes.get(wire) if isinstance(wire, str) else wire for wire in wires]
        if all(other is not None and other.value is not None for other in read):
            try:
                self._compute(node, gate, tuple([self._node(wire).slot for wire in wires]))
            except Exception:
                self._roll_back(mark)
                raise
        else:
            self._waiting[name] = gate, wires
            self._is_built = False
        self.output_slots = ()
        return node

    def output(self, *nodes: Wire) -> None:
        """Say which nodes are the outputs, in order."""
        self._chosen, self.output_slots = nodes, ()

    def __getitem__(self, name: str) -> Node:
        if name not in self.nodes:
            raise GateError(f"the graph has no node {name!r}{did_you_mean(name, self.nodes)}")
        return self.nodes[name]

    def members(self) -> dict[str, Any]:
        """The gates and parameters by the names of their nodes; operators, which hold nothing, are left out."""
        return {
            name: node.made_by.gate or self.sources.get(node.slot)
            for name, node in self._nodes.items()
            if isinstance(node.made_by, Entry)
        }

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

    def finish(self) -> None:
        """Lay the waiting gates in topological order and settle which nodes are the outputs."""
        self.name_operations()
        if self.output_slots and not self._waiting:
            return
        for name in self._order() if self._waiting else ():
            gate, wires = self._waiting[name]
            first, node = len(self.steps), self[name]
            self.lay(name, gate, tuple([self._node(wire, name).slot for wire in wires]), node.slot)
            for step in self.steps[first:]:
                step.place = node.made_by.place
            del self._waiting[name]
        if not self.output_slots:
            read = {slot for step in self.steps for slot in step.reads}
            ends = [step.writes for step in self.steps if step.writes not in read]
            self.output_slots = tuple([self._node(wire, "output").slot for wire in self._chosen]) or tuple(ends)
        if len(set(self.output_slots)) < len(self.output_slots):
            raise GateError("the graph has one node as output twice; outputs must differ")
        if not self.output_slots:
            raise GateError("the graph has no gate yet: call one on its nodes, or add(name, gate, inputs)")
        self._check_outputs()

    def _check_outputs(self) -> None:
        """Whatever the inputs and parameters are, an output that depends on none of them stays the same: a mistake."""
        reached = {*self.input_slots, *self.sources}
        for step in self.steps:
            if not reached.isdisjoint(step.reads) or step.gate.parameters():
                reached.add(step.writes)
        for slot in self.output_slots:
            if slot not in reached:
                raise GateError(f"no input and no parameter reaches the output {self.described(slot)}")

    def described(self, slot: int) -> str:
        """A slot in words: its node, with the line that added it."""
        return next((str(node) for node in self.nodes.values() if node.slot == slot), super().described(slot))

    # Sweeps ------------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the graph on its inputs, given in order or by name; an input left out keeps the value it has."""
        self.finish()
        if named or len(inputs) != len(self.input_slots):
            inputs = self._all_inputs(inputs, named)
        return super().forward(*inputs)

    def backward_from(self, node: Node, grad: Any = None) -> None:
        """Run back from any node that has a value."""
        if node.value is None:
            raise GateError(f"backward from {node}, which has no value yet: run forward first")
        self.sweep_back({node.slot: grad})

    @property
    def input_names(self) -> list[str]:
        """The inputs in the order in which `forward` takes them."""
        by_slot = {node.slot: name for name, node in self.nodes.items()}
        return [by_slot[slot] for slot in self.input_slots]

    # Inside ------------------------------------------------------------------------------------------------------

    def _all_inputs(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Return the value of every input: as given in order or by name, else the one it has."""
        names = self.input_names
        if len(inputs) > len(names):
            raise GateError(f"the graph has {len(names)} inputs ({', '.join(names)}), {len(inputs)} were given")
        given = dict(zip(names, inputs, strict=False))
        for name, value in named.items():
            if name not in names:
                hint = did_you_mean(name, names) or "."
                raise GateError(f"the graph has no input {name!r}{hint} Its inputs: {', '.join(names)}")
            if name in given:
                raise GateError(f"input {name!r} was given twice, by position and by name")
            given[name] = value
        values = [given.get(name, self.values[slot]) for name, slot in zip(names, self.input_slots, strict=True)]
        if missing := [name for name, value in zip(names, values, strict=True) if value is None]:
            nodes = ", ".join(str(self.nodes[name]) for name in missing)
            raise GateError(f"forward needs a value for {nodes}: forward({missing[0]}=...)")
        return tuple(values)

    def _compute(self, node: Node, gate: Gate, reads: tuple[int, ...]) -> None:
        """Lay a gate whose inputs have values, and run it."""
        first = len(self.steps)
        self.lay(node.name, gate, reads, node.slot)
        for step in self.steps[first:]:
            for slot in step.reads:
                if slot in self.sources:
                    self._refresh(slot)
            step.place = node.made_by.place
            self.claim(step)
            if not step.gate._is_built:
                build_by_hand(step.gate, tuple([self.values[slot] for slot in step.reads]))
            plan_gradients((step,), self.needed)
            forward_sweep((step,), self.values, self.training)
            self.shapes[step.writes] = np.shape(self.values[step.writes])
        self._ran = RAN

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

    def _order(self) -> list[str]:
        """The names of the waiting gates, each after those that it reads."""
        waits_for = {
            name: [node.name for wire in wires if (node := self._node(wire, name)).name in self._waiting]
            for name, (_, wires) in self._waiting.items()
        }
        try:
            return list(TopologicalSorter(waits_for).static_order())
        except CycleError as error:
            cycle = " -> ".join(error.args[1])
            raise GateError(f"the graph has a cycle: {cycle}; a gate cannot depend on its own output") from None

    def _node(self, wire: Wire, reader: str = "") -> Node:
        if isinstance(wire, Node):
            if wire.graph is not self:
                raise GateError(f"{reader!r} reads {wire}, which is a node of another graph; build both in one graph")
            return wire
        if wire not in self.nodes and reader:
            hint = did_you_mean(wire, self.nodes)
            raise GateError(f"{reader!r} reads {wire!r}, but the graph has no such node{hint}")
        return self[wire]

    def _new_constant(self, value: Any) -> Node:
        slot = self.new_slot(as_input(value))
        self.constants[slot] = self.values[slot]
        node = Node(self, slot, Entry())
        self._unnamed.append(node)
        return node

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
