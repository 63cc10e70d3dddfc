"""What a checked configuration consists of: elements `{type: ..., setting: ...}` and sections of fixed keys.

Each part can be built, and written down again as plain values.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from layerflow.config.problems import InvalidConfig, Problem
from layerflow.config.registry import Factory, signature_of
from layerflow.config.yaml import Node
from layerflow.errors import LayerflowError

WIDTH = "out_features"
"""The argument that the last gate with one may leave to the data."""


class ConfigPath(str):
    """A file or folder named in a configuration, as an absolute path."""

    __slots__ = ()


class Part(ABC):
    """Something that a configuration describes."""

    @abstractmethod
    def build(self) -> Any:
        """Return a new object."""

    @abstractmethod
    def plain(self, folder: str | None = None) -> Any:
        """Return what YAML says for it; paths relative to `folder`."""


class Section(Part):
    """A mapping of fixed keys, checked; its subclasses are dataclasses, whose fields are the keys."""

    def build(self) -> Any:
        """Return the section itself."""
        return self

    def plain(self, folder: str | None = None) -> dict[str, Any]:
        """Return the section as plain values; elements with their defaults, paths relative to `folder`."""
        return {name: plain_value(getattr(self, name), folder) for name in signature_of(type(self))}


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
        arguments, positional = {name: build(value) for name, value in self.arguments.items()}, []
        signature = list(signature_of(self.factory).values())
        if (variadic := next((index for index, item in enumerate(signature) if item.is_variadic), None)) is not None:
            # With `*items`, whatever comes before them has to be given by position, too.
            before = [arguments.pop(item.name, item.default) for item in signature[:variadic]]
            positional = [*before, *arguments.pop(signature[variadic].name, [])]
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
        values, signature = dict(self.arguments), signature_of(self.factory)
        for name, argument in signature.items():
            if not argument.is_required and not argument.is_variadic and is_plain(argument.default):
                values.setdefault(name, argument.default)
        ordered = [name for name in signature if name in values]
        return {"type": self.type} | {name: plain_value(values[name], folder) for name in [*ordered, *values]}

    @property
    def lacks_width(self) -> bool:
        """Whether it has a required width that is left to the data."""
        argument = signature_of(self.factory).get(WIDTH)
        return argument is not None and argument.is_required and WIDTH not in self.arguments

    def _problem(self, error: Exception) -> Problem:
        """Return the error of the constructor with the place of the argument that it names, if any."""
        expected = isinstance(error, LayerflowError | ValueError | TypeError)
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        message = re.sub(rf"^{re.escape(self.type)}(\(.*?\))?: ", "", " ".join(text.split()))
        word = message.split(" ")[0].strip("'\":,").split("[")[0]
        return self.node.entries.get(word, self.node).problem(f"{self.type}: {message}")


def build(value: Any) -> Any:
    """Return a checked value with every element in it built; tuples become lists."""
    return _map(value, lambda part: part.build(), str)


def plain_value(value: Any, folder: str | None) -> Any:
    """Return a checked value as plain values: elements as mappings, paths relative to `folder`, tuples as lists."""

    def path(text: ConfigPath) -> str:
        return str(text) if folder is None else os.path.relpath(os.path.realpath(text), os.path.realpath(folder))

    return _map(value, lambda part: part.plain(folder), path)


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


def is_plain(value: Any) -> bool:
    """Whether YAML can say a value."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)
