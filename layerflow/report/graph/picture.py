"""What is to be drawn, free of any format: items (gates, data, parameters, constants, outputs) and their wires."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from layerflow.containers.container import Container
from layerflow.containers.graph import ComputationalGraph
from layerflow.containers.node import Node
from layerflow.contract import input_names
from layerflow.errors import GateError
from layerflow.gate import Gate
from layerflow.parameter import Parameter
from layerflow.report.graph.flow import Flow, trace
from layerflow.report.graph.words import is_generated, label_of, number
from layerflow.sweep import Step

Kind = Literal["gate", "data", "parameter", "constant", "output"]


@dataclass(frozen=True)
class Item:
    """A box of the picture.

    Attributes:
        key: unique in the picture, an identifier in every format.
        label: the one word that says what it is: `+`, `ReLU`, `Linear(64)`, `hidden.weight`.
        name: the name it has in its graph, as error messages use it.
        is_named: whether a person chose that name.
        step: for gates: the position in the forward sweep.
    """

    key: str
    kind: Kind
    label: str
    name: str
    is_named: bool = True
    gate: Gate | None = None
    step: int | None = None


@dataclass(frozen=True)
class Wire:
    """A connection: `value` flows along it from `source` to `target`, `grad` flows back.

    Attributes:
        port: which input (or parameter) of the target it is, by name.
        shape: the shape of the value, where it is known.
        grad: what the target alone sends back; at a fork the wires' gradients add up.
    """

    source: Item
    target: Item
    port: str
    shape: tuple[int, ...] | None = None
    value: Any = None
    grad: Any = None


@dataclass
class Picture:
    """Items in the order in which a forward sweep meets them, and their wires."""

    items: list[Item] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    has_values: bool = False

    @property
    def gates(self) -> list[Item]:
        """The gates in forward order."""
        return [item for item in self.items if item.kind == "gate"]

    def wires_into(self, item: Item) -> list[Wire]:
        """The wires that end at an item, in the order of its inputs."""
        return [wire for wire in self.wires if wire.target is item]

    def wires_from(self, item: Item) -> list[Wire]:
        """The wires that begin at an item."""
        return [wire for wire in self.wires if wire.source is item]


def picture_of(drawn: Container | Node, values: bool = True) -> Picture:
    """Describe a container, or all that a node depends on.

    Args:
        drawn: what to describe.
        values: whether the wires carry the values and gradients of the last sweeps, as far as there have been any.
    """
    container, ends = (drawn.graph, (drawn.slot,)) if isinstance(drawn, Node) else (drawn, None)
    container.finish()
    return _Drafter(container, values).draft(ends)


class _Drafter:
    """Follows the slots of a container: an item for whatever writes one, a wire for whoever reads it."""

    def __init__(self, container: Container, values: bool) -> None:
        self.container = container
        self.flow = trace(container) if values else Flow()
        self.values = container.values if values else [None] * len(container.values)
        self.picture = Picture(has_values=any(self.values[slot] is not None for slot in container.output_slots))
        self.writers: dict[int, Item] = {}
        self.parameters: dict[int, Item] = {}
        self.names = container.parameter_names()
        self.slot_names: dict[int, str] = {}
        if isinstance(container, ComputationalGraph):
            self.slot_names = {node.slot: name for name, node in container.nodes.items()}

    def draft(self, ends: tuple[int, ...] | None) -> Picture:
        steps = list(enumerate(self.container.steps))
        if ends is not None:
            steps = _needed_for(steps, set(ends))
            self.picture.has_values = any(self.values[slot] is not None for slot in ends)
        for position, (index, step) in enumerate(steps):
            self._add_gate(position, index, step)
        for slot in ends or self.container.output_slots:
            name = self.slot_names.get(slot, "output")
            item = self._add(Item(f"out{slot}", "output", "output" if name == self._source(slot).name else name, name))
            self._connect(slot, item, "", self.container.grads[slot] if self.flow.ran_back else None)
        return self.picture

    def _add_gate(self, position: int, index: int, step: Step) -> None:
        sources = [self._source(slot) for slot in step.reads]
        is_named = not is_generated(step.name, step.gate)
        item = Item(f"gate{index}", "gate", label_of(step.gate), step.name, is_named, step.gate, position)
        count = len(step.reads)
        inputs = zip(step.reads, sources, input_names(step.gate, count), self.flow.inputs_of(index, count), strict=True)
        for slot, source, port, grad in inputs:
            self._wire(source, item, port, slot, grad)
        grads = self.flow.parameters.get(index, {})
        for name, parameter in step.gate.named_parameters().items():
            source = self._parameter(parameter)
            value = parameter.value if parameter.has_value else None
            shape = None if value is None else np.shape(value)
            shown = value if self.picture.has_values else None
            self.picture.wires.append(Wire(source, item, name, shape, shown, grads.get(name)))
        self.writers |= dict.fromkeys(step.writes, self._add(item))

    def _connect(self, slot: int, item: Item, port: str, grad: Any) -> None:
        self._wire(self._source(slot), item, port, slot, grad)

    def _wire(self, source: Item, target: Item, port: str, slot: int, grad: Any) -> None:
        value = self.container.values[slot]
        shape = self.container.shapes.get(slot) if value is None else np.shape(value)
        self.picture.wires.append(Wire(source, target, port, shape, self.values[slot], grad))

    def _source(self, slot: int) -> Item:
        if slot in self.writers:
            return self.writers[slot]
        container = self.container
        if slot in container.sources:
            item = self._parameter(container.sources[slot], self.slot_names.get(slot))
        elif slot in container.constants:
            value = container.constants[slot]
            name = self.slot_names.get(slot, "constant")
            item = self._add(Item(f"const{slot}", "constant", number(value) if np.ndim(value) == 0 else name, name))
        else:
            unnamed = "x" if len(container.input_slots) == 1 else f"input {container.input_slots.index(slot)}"
            name = self.slot_names.get(slot, unnamed)
            item = self._add(Item(f"data{slot}", "data", name, name))
        self.writers[slot] = item
        return item

    def _parameter(self, parameter: Parameter, name: str | None = None) -> Item:
        """The one item of a parameter, however many gates and nodes read it."""
        if id(parameter) not in self.parameters:
            name = self.names.get(parameter) or name or parameter.name or "parameter"
            self.parameters[id(parameter)] = self._add(Item(f"param{len(self.parameters)}", "parameter", name, name))
        return self.parameters[id(parameter)]

    def _add(self, item: Item) -> Item:
        self.picture.items.append(item)
        return item


def find_gate(picture: Picture, name: str) -> Item:
    """The gate of that name; else the only one whose name ends so (`0` for `model.0`), or that is of that type.

    Raises:
        GateError: there is no such gate; the message lists those there are.
    """
    laws = (
        lambda item: item.name == name,
        lambda item: item.name.endswith(f".{name}"),
        lambda item: type(item.gate).__name__ == name,
    )
    named = next(filter(None, ([item for item in picture.gates if law(item)] for law in laws)), [])
    if len(named) == 1:
        return named[0]
    known = ", ".join(f"{item.name} ({type(item.gate).__name__})" for item in picture.gates)
    problem = f"{name!r} stands for {len(named)} gates" if named else f"there is no gate {name!r}"
    raise GateError(f"{problem}; the gates are {known}")


def _needed_for(steps: Iterable[tuple[int, Step]], wanted: set[int]) -> list[tuple[int, Step]]:
    kept = []
    for index, step in reversed(list(steps)):
        if not wanted.isdisjoint(step.writes):
            wanted.update(step.reads)
            kept.append((index, step))
    return kept[::-1]
