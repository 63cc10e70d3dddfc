"""What is to be drawn, in no particular format: items (gates, data, parameters, constants, outputs) and their wires.

This is the one place that reads steps, slots and nodes; everything else draws a `Picture`.
"""

from collections.abc import Callable, Sequence
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
from layerflow.report.graph.wording import is_generated, label_of, number
from layerflow.sweep import Step

Kind = Literal["gate", "data", "parameter", "constant", "output"]


@dataclass(frozen=True, eq=False)
class Item:
    """A box of the picture.

    Attributes:
        key: unique in the picture, an identifier in every format.
        label: the one word that says what it is: `+`, `ReLU`, `Linear(64)`, `hidden.weight`.
        name: the name it has in its graph, as in error messages.
        is_named: whether a person chose that name.
    """

    key: str
    kind: Kind
    label: str
    name: str
    is_named: bool = True

    @property
    def lines(self) -> tuple[str, ...]:
        """What is written in the box: the label, and below it the name that a person gave a gate."""
        is_both = self.kind == "gate" and self.is_named and self.name != self.label
        return (self.label, self.name) if is_both else (self.label,)


@dataclass(frozen=True, eq=False, kw_only=True)
class GateItem(Item):
    """A gate of the picture, with what the last sweeps computed at it.

    Attributes:
        shape: the shape of the output, if it is known.
        output, upstream: the output, and the gradient that arrived at it.
        pull_back: what the gate's backward returns for an upstream gradient: one gradient per wire into the gate.
    """

    gate: Gate
    shape: tuple[int, ...] | None
    output: Any
    upstream: Any
    pull_back: Callable[[Any], list[Any]]


@dataclass(frozen=True, eq=False)
class Wire:
    """A connection: `value` flows along it from `source` to `target`, `grad` flows back.

    Attributes:
        port: the name of the target's input or parameter.
        shape: the shape of the value, if it is known.
        grad: what this target alone sends back; at a fork the gradients of the wires add up.
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
    title: str = ""

    @property
    def gates(self) -> list[GateItem]:
        """The gates in forward order."""
        return [item for item in self.items if isinstance(item, GateItem)]

    def wires_into(self, item: Item) -> list[Wire]:
        """The wires that end at an item, in the order of its inputs."""
        return [wire for wire in self.wires if wire.target is item]


def picture_of(drawn: Container | Node, values: bool = True) -> Picture:
    """Describe a container, or everything that a node depends on.

    Args:
        drawn: what to describe.
        values: whether the wires carry the values and gradients of the last sweeps, if there have been any.
    """
    container, ends = (drawn.graph, (drawn.slot,)) if isinstance(drawn, Node) else (drawn, None)
    container.finish()
    return _Drafter(container, values).draft(ends)


def find_gate(picture: Picture, name: str) -> GateItem:
    """Return the gate of that name, or the only one whose name ends so (`0` for `model.0`) or that is of that type.

    Raises:
        GateError: there is no such gate, or more than one; the message lists the gates.
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
    problem = f"{name!r} matches {len(named)} gates" if named else f"there is no gate {name!r}"
    raise GateError(f"{problem}; the gates are {known}")


class _Drafter:
    """Follows the slots of a container: an item for whatever writes one, a wire for whatever reads it."""

    def __init__(self, container: Container, values: bool) -> None:
        self.container = container
        nothing: list[Any] = [None] * len(container.values)
        self.values: list[Any] = container.values if values else nothing
        self.grads: list[Any] = container.grads if values else nothing
        self.picture = Picture()
        self.writers: dict[int, Item] = {}
        self.parameters: dict[int, Item] = {}
        self.names = container.parameter_names()
        self.slot_names: dict[int, str] = {}
        if isinstance(container, ComputationalGraph):
            self.slot_names = {node.slot: name for name, node in container.nodes.items()}

    def draft(self, ends: tuple[int, ...] | None) -> Picture:
        steps = list(enumerate(self.container.steps))
        if ends is not None:
            steps = _ancestors(steps, set(ends))
        ends = ends or self.container.output_slots
        self.picture.has_values = any(self.values[slot] is not None for slot in ends)
        for index, step in steps:
            self._add_gate(index, step)
        for slot in ends:
            name = self.slot_names.get(slot, "output")
            source = self._source(slot)
            item = self._add(Item(f"out{slot}", "output", "output" if name == source.name else name, name))
            self._wire(source, item, "", slot, self.grads[slot])
        return self.picture

    def _add_gate(self, index: int, step: Step) -> None:
        sources = [self._source(slot) for slot in step.reads]
        parameters = step.gate.named_parameters()
        first = step.writes[0]
        upstream = step.upstream(self.values, self.grads)

        def pull_back(*grads: Any) -> list[Any]:
            # A sweep keeps sums only, so the gate is asked again what it sends back, on what its forward saved.
            others = [np.zeros_like(self.values[slot]) for slot in step.writes[len(grads) :]]
            inputs, learned = step.backward([*grads, *others], self.container.memories[first])
            wanted = [grad if needed else None for grad, needed in zip(inputs, step.needs_grad, strict=True)]
            return wanted + [learned.get(name) for name in parameters]

        item = GateItem(
            f"gate{index}", "gate", label_of(step.gate), step.name, not is_generated(step.name, step.gate),
            gate=step.gate, shape=self.container.shapes.get(first), output=self.values[first],
            upstream=upstream and upstream[0], pull_back=pull_back,
        )  # fmt: skip
        has_gradients = upstream is not None and (step.parameters or True in step.needs_grad)
        grads = iter(pull_back(*upstream or ()) if has_gradients else [None] * (len(sources) + len(parameters)))
        for slot, source, port in zip(step.reads, sources, input_names(step.gate, len(sources)), strict=True):
            self._wire(source, item, port, slot, next(grads))
        for name, parameter in parameters.items():
            shape = parameter.value.shape if parameter.has_value else None
            value = parameter.value if shape is not None and self.picture.has_values else None
            self.picture.wires.append(Wire(self._parameter(parameter), item, name, shape, value, next(grads)))
        self.writers |= dict.fromkeys(step.writes, self._add(item))

    def _wire(self, source: Item, target: Item, port: str, slot: int, grad: Any) -> None:
        value = self.container.values[slot]
        shape = self.container.shapes.get(slot) if value is None else np.shape(value)
        self.picture.wires.append(Wire(source, target, port, shape, self.values[slot], grad))

    def _source(self, slot: int) -> Item:
        if slot in self.writers:
            return self.writers[slot]
        container, name = self.container, self.slot_names.get(slot)
        if slot in container.sources:
            item = self._parameter(container.sources[slot], name)
        elif slot in container.constants:
            value, name = container.constants[slot], name or "constant"
            item = self._add(Item(f"const{slot}", "constant", number(value) if np.ndim(value) == 0 else name, name))
        else:
            inputs = container.input_slots
            name = name or ("x" if len(inputs) == 1 else f"input {inputs.index(slot)}")
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


def _ancestors(steps: Sequence[tuple[int, Step]], wanted: set[int]) -> list[tuple[int, Step]]:
    kept = []
    for index, step in reversed(steps):
        if not wanted.isdisjoint(step.writes):
            wanted.update(step.reads)
            kept.append((index, step))
    return kept[::-1]
