"""A checked model: a row of gates, or a graph of named ones; dumped again, or built."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from layerflow.config.elements import Element, Part
from layerflow.config.problems import InvalidConfig, Problem
from layerflow.config.signatures import signature_of
from layerflow.containers.graph import ComputationalGraph
from layerflow.containers.sequential import Sequential
from layerflow.gate import Gate

WIDTH = "out_features"


@dataclass(frozen=True)
class Entry:
    """One gate of a model.

    Attributes:
        element: the gate.
        name: its name; in a row it may have none and is called by its position.
        inputs: in a graph, the nodes that it reads.
        same_as: the name of an earlier entry whose gate is used here once more, parameters shared.
    """

    element: Element
    name: str | None = None
    inputs: tuple[str, ...] = ()
    same_as: str | None = None

    def plain(self, folder: str | None) -> dict[str, Any] | str:
        """Return the entry as plain values."""
        if self.same_as is None and self.name is None:
            return self.element.plain(folder)
        gate = self.element.mapping(folder) if self.same_as is None else {"same_as": self.same_as}
        return (
            ({"name": self.name} if self.name else {}) | gate | ({"inputs": list(self.inputs)} if self.inputs else {})
        )


@dataclass(frozen=True)
class ModelPlan(Part):
    """A checked model. Without `inputs` it is a row of gates, each fed by the one before; with them, a graph.

    Attributes:
        entries: the gates, in the order of the file.
        inputs: the names of a graph's inputs.
        outputs: the nodes that are a graph's outputs; those that no gate reads when left out.
        constants, parameters: a graph's nodes that hold an array, by name.
    """

    entries: tuple[Entry, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    constants: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def open_width(self) -> int | None:
        """The index of the entry that leaves its width to the data: the number of classes, or of targets."""
        return next((index for index, entry in enumerate(self.entries) if _lacks_width(entry.element)), None)

    def with_width(self, width: int) -> "ModelPlan":
        """Return the plan with the open width filled in."""
        entries = list(self.entries)
        if (index := self.open_width) is not None:
            element = entries[index].element
            filled = replace(element, arguments={WIDTH: width, **element.arguments})
            entries[index] = replace(entries[index], element=filled)
        return replace(self, entries=tuple(entries))

    def plain(self, folder: str | None = None) -> Any:
        """Return the section as plain values."""
        gates = [entry.plain(folder) for entry in self.entries]
        if not self.inputs:
            return gates
        arrays = {"constants": self.constants, "parameters": self.parameters}
        output: Any = self.outputs[0] if len(self.outputs) == 1 else list(self.outputs)
        held = {key: values for key, values in arrays.items() if values}
        return {"inputs": list(self.inputs)} | held | {"gates": gates} | ({"output": output} if self.outputs else {})

    def build(self) -> Gate:
        """Return a new `Sequential` of a row, or `ComputationalGraph` of a graph; no weights are drawn yet.

        Raises:
            ConfigError: a gate refuses its arguments, or the open width is still open.
        """
        if (index := self.open_width) is not None:
            element = self.entries[index].element
            message = f"{element.type} needs {WIDTH!r}: no data say it here"
            raise InvalidConfig([Problem(element.place, element.path, message)])
        gates = self._gates()
        if not self.inputs:
            is_named = any(entry.name for entry in self.entries)
            return Sequential(**gates) if is_named else Sequential(*gates.values())
        graph = ComputationalGraph()
        graph.inputs(*self.inputs)
        for name, value in self.constants.items():
            graph.constant(np.asarray(value, np.float64), name)
        for name, value in self.parameters.items():
            graph.parameter(name, np.asarray(value, np.float64))
        for entry in self.entries:
            graph.add(str(entry.name), gates[str(entry.name)], list(entry.inputs))
        if self.outputs:
            graph.output(*self.outputs)
        return graph

    def _gates(self) -> dict[str, Gate]:
        gates: dict[str, Gate] = {}
        for index, entry in enumerate(self.entries):
            name = entry.name or str(index)
            gates[name] = entry.element.build() if entry.same_as is None else gates[entry.same_as]
        return gates


def last_with_width(factories: Iterable[Any]) -> int | None:
    """Return the index of the last gate that has a width: the one that may leave it to the data."""
    found = [i for i, factory in enumerate(factories) if factory and WIDTH in signature_of(factory).arguments]
    return found[-1] if found else None


def _lacks_width(element: Element) -> bool:
    argument = signature_of(element.factory).arguments.get(WIDTH)
    return argument is not None and argument.is_required and WIDTH not in element.arguments
