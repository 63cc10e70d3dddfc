"""Gates in any acyclic order; writing code is building the graph."""

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from layerflow.byhand import build_by_hand
from layerflow.containers.node import Entry, Node
from layerflow.containers.nodes import RAN, NodeGraph, Wire
from layerflow.errors import GateError, did_you_mean
from layerflow.gate import Gate
from layerflow.sweep import forward_sweep, plan_gradients


class ComputationalGraph(NodeGraph, checked=False):
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
        self._waiting: dict[str, tuple[Gate, list[Wire]]] = {}
        self._chosen: tuple[Wire, ...] = ()
        self._is_built = True  # there is nothing yet that would wait for shapes

    # Building ----------------------------------------------------------------------------------------------------

    def apply(self, gate: Gate, *inputs: Any, name: str | None = None) -> Node:
        """Add a gate that reads the given nodes (plain values become constants) and return its node."""
        mark = self._mark()
        try:
            wires = [value if isinstance(value, Node) else self.constant(value) for value in inputs]
            return self.add(name or self._free_name(type(gate).__name__.lower()), gate, wires)
        except Exception:
            self._roll_back(mark)
            raise

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

    def members(self) -> dict[str, Any]:
        """The gates and parameters by the names of their nodes; operators, which hold nothing, are left out."""
        return {
            name: node.made_by.gate or self.sources.get(node.slot)
            for name, node in self._nodes.items()
            if isinstance(node.made_by, Entry)
        }

    def finish(self) -> None:
        """Lay the waiting gates in topological order and settle which nodes are the outputs."""
        if self.output_slots and not self._waiting and not self._unnamed:
            return
        self.name_operations()
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

    # Sweeps ------------------------------------------------------------------------------------------------------

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
