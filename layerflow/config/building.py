"""What a checked configuration consists of: each part can be written down again as plain values, and built."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from layerflow.config.problems import InvalidConfig, Problem
from layerflow.config.registry import Factory
from layerflow.config.signatures import signature_of
from layerflow.config.yaml import Node
from layerflow.containers.graph import ComputationalGraph
from layerflow.containers.sequential import Sequential
from layerflow.errors import LayerflowError
from layerflow.gate import Gate

WIDTH = "out_features"


class ConfigPath(str):
    """A file or folder named in a configuration, as an absolute path."""

    __slots__ = ()


class Part(ABC):
    """Something that a configuration describes and that can be built."""

    @abstractmethod
    def build(self) -> Any:
        """Return a new object."""

    @abstractmethod
    def plain(self, folder: str | None = None) -> Any:
        """Return what YAML says for it; paths relative to `folder`."""


@dataclass(frozen=True)
class Element(Part):
    """A type and its checked arguments; arguments may hold further elements.

    Attributes:
        type: the name of the type, as the configuration writes it.
        factory: the class or function of that name.
        arguments: what its constructor is called with, by name.
        node: the value of the document that describes it.
    """

    type: str
    factory: Factory
    arguments: dict[str, Any]
    node: Node

    def build(self, **more: Any) -> Any:
        """Call the type with its arguments, and with `more`; an error of its constructor is a `ConfigError`."""
        positional, arguments = self._call_arguments()
        try:
            return self.factory(*positional, **arguments, **more)
        except Exception as error:  # whatever the constructor of a type of your own may raise
            raise InvalidConfig([self._problem(error)]) from error

    def plain(self, folder: str | None = None) -> dict[str, Any] | str:
        """Return what YAML says for the element: a mapping, or the bare type where there is nothing to set."""
        mapping = self.mapping(folder)
        return mapping if len(mapping) > 1 else self.type

    def mapping(self, folder: str | None = None) -> dict[str, Any]:
        """Return the element as plain values with every default that YAML can say; paths relative to `folder`."""
        values = {name: plain_value(value, folder) for name, value in self.arguments.items()}
        signature = signature_of(self.factory)
        for name, argument in signature.arguments.items():
            if not argument.is_required and not argument.is_variadic and is_plain(argument.default):
                values.setdefault(name, plain_value(argument.default, folder))
        ordered = [name for name in signature.arguments if name in values]
        return {"type": self.type} | {name: values[name] for name in [*ordered, *values]}

    @property
    def lacks_width(self) -> bool:
        """Whether it has a required width that is left to the data."""
        argument = signature_of(self.factory).arguments.get(WIDTH)
        return argument is not None and argument.is_required and WIDTH not in self.arguments

    def _call_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Return what to call the type with, by position and by name."""
        arguments = {name: build_value(value) for name, value in self.arguments.items()}
        signature = list(signature_of(self.factory).arguments.values())
        variadic = next((index for index, item in enumerate(signature) if item.is_variadic), None)
        if variadic is None:
            return [], arguments
        # With `*items`, whatever comes before them has to be given by position, too.
        before = [arguments.pop(item.name, item.default) for item in signature[:variadic]]
        return [*before, *arguments.pop(signature[variadic].name, [])], arguments

    def _problem(self, error: Exception) -> Problem:
        """Return the error of the constructor with the place of the argument that it names, if any."""
        expected = isinstance(error, LayerflowError | ValueError | TypeError)
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        message = re.sub(rf"^{re.escape(self.type)}(\(.*?\))?: ", "", " ".join(text.split()))
        word = message.split(" ")[0].strip("'\":,").split("[")[0]
        return self.node.entries.get(word, self.node).problem(f"{self.type}: {message}")


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
        inputs = {"inputs": list(self.inputs)} if self.inputs else {}
        return ({"name": self.name} if self.name else {}) | gate | inputs


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
        return next((index for index, entry in enumerate(self.entries) if entry.element.lacks_width), None)

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
            hint = "only the last width of a model is inferred from the data"
            raise InvalidConfig([element.node.problem(f"{element.type} needs {WIDTH!r}: {hint}")])
        gates: dict[str, Gate] = {}
        for index, entry in enumerate(self.entries):
            gates[entry.name or str(index)] = gates[entry.same_as] if entry.same_as else entry.element.build()
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


def build_value(value: Any) -> Any:
    """Return an argument with every element in it built."""
    return _map(value, lambda part: part.build(), str)


def plain_value(value: Any, folder: str | None) -> Any:
    """Return an argument as plain values: elements as mappings, paths relative to `folder`, tuples as lists."""

    def path(text: ConfigPath) -> str:
        return str(text) if folder is None else os.path.relpath(os.path.realpath(text), os.path.realpath(folder))

    return _map(value, lambda part: part.plain(folder), path)


def is_plain(value: Any) -> bool:
    """Whether YAML can say a value."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _map(value: Any, part: Callable[[Part], Any], path: Callable[[ConfigPath], Any]) -> Any:
    if isinstance(value, Part):
        return part(value)
    if isinstance(value, ConfigPath):
        return path(value)
    if isinstance(value, list | tuple):
        return [_map(item, part, path) for item in value]
    if isinstance(value, dict):
        return {key: _map(item, part, path) for key, item in value.items()}
    return value
