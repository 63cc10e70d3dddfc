"""Gates in any acyclic order; writing code is building the graph."""

import copy
import sys
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.containers.node import VALUE, Node
from layerflow.errors import GateError, did_you_mean, users_place
from layerflow.gate import Gate, Run, build_by_hand
from layerflow.parameter import Parameter, as_input
from layerflow.sweep import Step, write_gradients

Wire = Node | str


class ComputationalGraph(Container, checked=False):
    """A graph of gates, built by calling gates on nodes, by operators, or by `add(name, gate, inputs)`.

        g = ComputationalGraph()
        x, y, z = g.inputs("x", "y", "z")
        f = (x + y) * z
        g.forward(x=-2.0, y=5.0, z=-4.0)     # -12.0
        (dx, dy, dz), _ = g.backward()       # -4, -4, 3

    Where the inputs of a gate have values already (`g.input("x", array)`), it computes at once. The outputs are the
    nodes that no gate reads, unless `output` names them. A gate of several outputs gives a tuple of nodes. A graph that
    became part of another container was laid out as it was then; nodes added later are not seen there.

    Raises:
        GateError: nodes of two graphs, a name given twice, an unknown name, a cycle (named), a missing input value.
    """

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[str, Node] = {}
        self._unnamed: list[Node] = []
        self._counts: dict[str, int] = {}
        self._waiting: dict[str, tuple[Step, list[Wire]]] = {}  # steps that are not laid yet
        self._chosen: tuple[Wire, ...] = ()
        self._finished = -1  # how many slots there were when the outputs were settled
        self._learned: dict[Parameter, Any] = {}  # by the last backward from a node
        self._is_built = True  # there is nothing yet that would wait for shapes
        self._ran = Run([], [], [])  # nodes that are given values compute at once

    # Where values come from --------------------------------------------------------------------------------------

    def inputs(self, *names: str, needs_grad: bool = True) -> tuple[Node, ...]:
        """Add inputs whose values `forward` will be given."""
        return tuple(self.input(name, needs_grad=needs_grad) for name in names)

    def input(self, name: str, value: Any = None, needs_grad: bool = True) -> Node:
        """Add an input, with a value if the graph is to compute at once; data that needs no gradient says so."""
        if isinstance(value, np.ndarray):
            value = value.copy()  # what the graph has computed from it stays true, whatever happens to the original
        node = self._value_node(name, None if value is None else as_input(value), needs_grad)
        self.input_slots += (node.slot,)
        return node

    def parameter(self, name: str, value: Any) -> Node:
        """Add a learned array, or a `Parameter` that a gate already holds."""
        node = self._value_node(name, None, needs_grad=True)
        self.sources[node.slot] = value if isinstance(value, Parameter) else Parameter(value)
        return node

    def constant(self, value: Any, name: str = "", beside: Node | None = None) -> Node:
        """Add a value that never changes and needs no gradient.

        A bare number takes the floating-point type of the value of `beside`.
        """
        value = as_input(value)
        other = None if beside is None else self.values[beside.slot]
        if type(value) is np.float64 and other is not None and other.dtype.kind == "f":
            value = other.dtype.type(value)
        node = self._value_node(name, value)
        self.constants[node.slot] = value
        return node

    def _value_node(self, name: str, value: Any, needs_grad: bool = False) -> Node:
        """Make a node that no gate computes."""
        step = Step(name, VALUE, (), (len(self.values),), (), users_place() if name else None)
        (node,) = self._add_nodes(step)
        self.new_slot(value, needs_grad)
        return node

    # Building ----------------------------------------------------------------------------------------------------

    def apply(self, gate: Gate, *inputs: Any, name: str | None = None) -> Any:
        """Add a gate under a name, or the next free one; see `add`."""
        return self.add(name or self._free_name(gate), gate, inputs)

    def add(self, name: str, gate: Gate, inputs: Any) -> Any:
        """Add a gate under a name.

        Args:
            name: the name of its node.
            gate: the gate.
            inputs: a node or a name, or a sequence of them; a name may be that of a node that will only be added later.
                Plain values become constants.

        Returns:
            its node; for a gate of several outputs a tuple of nodes, called `name`, `name.1` and so on. Before there
            are values only `gate.num_outputs` says how many there are; without it one node stands for all of them.
        """
        if not isinstance(gate, Gate):
            raise GateError(f"{name!r} is {gate!r}, not a gate")
        mark, step = len(self.values), Step(name, gate, (), (), (), users_place())
        try:
            items = [inputs] if isinstance(inputs, Node | str) else inputs
            wires = [item if isinstance(item, Node | str) else self.constant(item) for item in items]
            read = [self.nodes.get(wire) if isinstance(wire, str) else self._node(wire, name) for wire in wires]
            if all(node is not None and node.value is not None for node in read):
                step.reads = tuple([node.slot for node in read if node is not None])
                self._compute(step)
                nodes = self._add_nodes(step)
            else:
                step.writes = self.slots_for(gate)
                nodes = self._add_nodes(step)
                self._waiting[name] = step, wires
                self._is_built = False
        except Exception:
            self._roll_back(mark)
            raise
        return nodes[0] if len(nodes) == 1 else tuple(nodes)

    def _compute(self, step: Step) -> None:
        """Lay a gate whose inputs have values, and run it, which shows how many outputs it has."""
        gate, first = step.gate, len(self.steps)
        if not gate._is_built:
            for slot in step.reads:
                self._read(slot, first)
            build_by_hand(gate, tuple([self.values[slot] for slot in step.reads]))
        if isinstance(gate, Container) and gate.is_plain:
            step.writes = self.slots_for(gate)
        self.lay(step)
        for index, laid in enumerate(self.steps[first:], first):
            for slot in laid.reads:
                self._read(slot, index)
            is_needed = laid.plan(self.needed)
            for parameter in laid.parameters:
                self._watch(parameter, index)
            output, memory = laid.forward([self.values[slot] for slot in laid.reads], self.training)
            outputs = output if type(output) is tuple else (output,)
            laid.writes = laid.writes or tuple([self.new_slot(None, is_needed, index) for _ in outputs])
            self.memories[laid.writes[0]] = memory
            for slot, value in zip(laid.writes, outputs, strict=True):
                self.values[slot], self.shapes[slot] = value, np.shape(value)

    def widen(self, step: Step, count: int) -> None:
        """Make nodes for the further outputs of a gate too."""
        super().widen(step, count)
        self._finished = len(self.values)
        if step.name in self._nodes:
            nodes = [Node(self, slot, step) for slot in step.writes]
            self._nodes |= {node.name: node for node in nodes[1:]}

    def operate(self, gate: Gate, left: Any, right: Any = None) -> Node:
        """Add a built-in operator to a node, or to two of which one may be a plain value.

        This is `apply` without its ceremony, for gates that hold no parameters and keep nothing but what they save: one
        gate then serves any number of nodes. Loops make millions of nodes, so this is written for speed.
        """
        values, sources, needed, slot = self.values, self.sources, self.needed, len(self.values)
        if right is None:
            i = left.slot
            if i in sources:
                self._read(i, len(self.steps))
            reads: tuple[int, ...] = (i,)
            inputs: tuple[Any, ...] = (values[i],)
            needs_grad: tuple[bool, ...] = (needed[i] and gate.differentiable,)
        else:
            if type(right) is not Node:
                right = self.constant(right, beside=left)
            elif type(left) is not Node:
                left = self.constant(left, beside=right)
            elif left.graph is not right.graph:
                self._node(right, type(gate).__name__.lower())
            i, j = left.slot, right.slot
            if i in sources:
                self._read(i, len(self.steps))
            if j in sources:
                self._read(j, len(self.steps))
            reads, inputs, needs_grad = (i, j), (values[i], values[j]), (needed[i], needed[j])
        if inputs[0] is None or inputs[-1] is None:
            node: Node = self.apply(copy.copy(gate), *[left, right][: len(inputs)])
            return node
        gate.needs_grad = needs_grad
        try:
            output = gate.bare_forward(*inputs)
        except Exception as error:
            self._roll_back(slot)  # a constant made for this operation
            shapes = ", ".join(str(x.shape) for x in inputs)
            error.add_note(f"in gate {type(gate).__name__}, forward, input shapes {shapes}")
            raise
        slot = len(values)
        frame = sys._getframe(2)  # who called the method of Node that called this
        step = Step("", gate, reads, (slot,), needs_grad, (frame.f_code, frame.f_lasti), True)
        node = Node(self, slot, step)
        values.append(output)
        self.grads.append(None)
        self.memories.append(gate._saved)
        self.writers.append(len(self.steps))
        self.steps.append(step)
        self._unnamed.append(node)
        needed.append(True in needs_grad)
        return node

    def output(self, *nodes: Wire) -> None:
        """Say which nodes are the outputs, in order."""
        self._chosen, self._finished = nodes, -1

    def clear(self) -> None:
        """Forget inputs, constants and results; parameters and their nodes stay."""
        nodes, sources = self.nodes, self.sources
        ComputationalGraph.__init__(self)
        for name, node in nodes.items():
            if node.slot not in sources:
                del node.graph
                continue
            parameter, node.slot = sources[node.slot], self.new_slot(needs_grad=True)
            node.step.writes = (node.slot,)
            self.sources[node.slot], self._nodes[name] = parameter, node

    def _roll_back(self, slots: int) -> None:
        """Forget all slots, steps and nodes since there were so many slots: what failed leaves the graph as it was."""
        for by_index in self.values, self.grads, self.memories, self.writers, self.needed:
            del by_index[slots:]
        while self.steps and (not self.steps[-1].writes or self.steps[-1].writes[0] >= slots):
            del self.steps[-1]
        self._nodes = {name: node for name, node in self._nodes.items() if node.slot < slots}
        self._unnamed = [node for node in self._unnamed if node.slot < slots]
        for by_slot in (self.sources, self.constants, self.shapes):
            for slot in [slot for slot in by_slot if slot >= slots]:
                del by_slot[slot]
        self._names = None

    def finish(self) -> None:
        """Lay the waiting gates in topological order and settle which nodes are the outputs."""
        if self._finished == len(self.values):
            return
        self.name_results()
        for name in self._order() if self._waiting else ():
            step, wires = self._waiting[name]
            step.reads = tuple([self._node(wire, name).slot for wire in wires])
            self.lay(step)
            del self._waiting[name]
        read = {slot for step in self.steps for slot in step.reads}
        ends = [slot for step in self.steps for slot in step.writes if slot not in read]
        self.output_slots = tuple([self._node(wire, "output").slot for wire in self._chosen]) or tuple(ends)
        if len(set(self.output_slots)) < len(self.output_slots):
            raise GateError("the graph has one node as output twice; outputs must differ")
        if not self.output_slots:
            raise GateError("the graph has no gate yet: call one on its nodes, or add(name, gate, inputs)")
        # Whatever the inputs and parameters are, an output that depends on none of them stays the same: a mistake.
        reached = {*self.input_slots, *self.sources}
        for step in self.steps:
            if not reached.isdisjoint(step.reads) or step.gate.parameters():
                reached.update(step.writes)
        for slot in self.output_slots:
            if slot not in reached:
                raise GateError(f"no input and no parameter reaches the output {self.described(slot)}")
        self._finished = len(self.values)

    def _order(self) -> list[str]:
        """The names of the waiting gates, each after those that it reads."""
        waits_for = {}
        for name, (_, wires) in self._waiting.items():
            waits_for[name] = [
                step.name for wire in wires if (step := self._node(wire, name).step).name in self._waiting
            ]
        try:
            return list(TopologicalSorter(waits_for).static_order())
        except CycleError as error:
            cycle = " -> ".join(error.args[1])
            raise GateError(f"the graph has a cycle: {cycle}; a gate cannot depend on its own output") from None

    # The sweeps --------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run the graph on its inputs, given in order or by name; an input left out keeps the value it has."""
        self.finish()
        if named or len(inputs) != len(self.input_slots):
            inputs = self._all_inputs(inputs, named)
        return super().forward(*inputs)

    @property
    def input_names(self) -> list[str]:
        """The inputs in the order in which `forward` takes them."""
        by_slot = {node.slot: name for name, node in self.nodes.items()}
        return [by_slot[slot] for slot in self.input_slots]

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
        values = {name: given.get(name, self.values[slot]) for name, slot in zip(names, self.input_slots, strict=True)}
        if missing := [name for name, value in values.items() if value is None]:
            nodes = ", ".join(str(self.nodes[name]) for name in missing)
            raise GateError(f"forward needs a value for {nodes}: forward({missing[0]}=...)")
        return tuple(values.values())

    def backward_from(self, node: Node, grad: Any = None) -> None:
        """Run back from any node that has a value, through what it depends on and nothing else."""
        if node.value is None:
            raise GateError(f"backward from {node}, which has no value yet: run forward first")
        self.grads, reached = [None] * len(self.values), [node.slot]
        before = self._learned
        self._learned = learned = self.sweep_back({node.slot: grad}, self._passing(reached), reached)
        write_gradients((before | learned).keys(), learned)

    def _read(self, slot: int, index: int) -> None:
        """If a slot holds a parameter, read its present value, for the step with this index."""
        parameter = self.sources.get(slot)
        if parameter is not None:
            if parameter.has_value:
                self._watch(parameter, index)
            self.values[slot] = parameter.present if parameter.has_value else None

    # Names -------------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> dict[str, Node]:
        """Every node by name."""
        self.name_results()
        return self._nodes

    def name_results(self) -> None:
        """Name the results of operators, and the constants in them, that are still without a name."""
        unnamed, self._unnamed = self._unnamed, []
        for node in unnamed:
            node.step.name = name = self._free_name(node.step.gate)
            self._nodes[name] = node

    def __getitem__(self, name: str) -> Node:
        if name not in self.nodes:
            raise GateError(f"the graph has no node {name!r}{did_you_mean(name, self.nodes)}")
        return self.nodes[name]

    def members(self) -> dict[str, Any]:
        """The gates and parameters by the names of their nodes; operators, which hold nothing, are left out."""
        return {
            name: self.sources.get(node.slot) if node.step.gate is VALUE else node.step.gate
            for name, node in self._nodes.items()
            if not node.step.is_operator
        }

    def described(self, slot: int) -> str:
        """A slot in words: its node, with the line that added it."""
        return next((str(node) for node in self.nodes.values() if node.slot == slot), super().described(slot))

    def _node(self, wire: Wire, reader: str) -> Node:
        """The node that a gate reads."""
        if isinstance(wire, Node):
            if wire.graph is not self:
                raise GateError(f"{reader!r} reads {wire}, which is a node of another graph; build both in one graph")
            return wire
        if wire not in self.nodes:
            hint = did_you_mean(wire, self.nodes)
            raise GateError(f"{reader!r} reads {wire!r}, but the graph has no such node{hint}")
        return self.nodes[wire]

    def _add_nodes(self, step: Step) -> list[Node]:
        """Make the nodes of what a step writes; those of a step without a name are named later."""
        nodes = [Node(self, slot, step) for slot in step.writes]
        if not step.name:
            self._unnamed += nodes
            return nodes
        for node in nodes:
            if (name := node.name) in self.nodes:
                raise GateError(f"the graph already has a node {self.nodes[name]}; names must differ")
            self._nodes[name] = node
        self._names = None
        return nodes

    def _free_name(self, gate: Gate) -> str:
        kind = "constant" if gate is VALUE else type(gate).__name__.lower()
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        name = kind if count == 1 else f"{kind}_{count}"
        return name if name not in self._nodes else self._free_name(gate)
