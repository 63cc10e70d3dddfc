"""A checked element of a configuration, `{type: Linear, out_features: 64}`: dumped again, or turned into an object."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from layerflow.config.problems import InvalidConfig, Path, Place, Problem, Source
from layerflow.config.registry import Factory
from layerflow.config.signatures import signature_of
from layerflow.errors import LayerflowError


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
        path: where in the configuration it stands (`("model", 0)`).
        place: where in the file it stands.
        places: the place of each argument, for problems that only the constructor can find.
    """

    type: str
    factory: Factory
    arguments: dict[str, Any]
    path: Path = ()
    place: Place = field(default_factory=lambda: Place(Source("<python>")))
    places: Mapping[str, Place] = field(default_factory=dict)

    def build(self, **more: Any) -> Any:
        """Call the type with its arguments, and with `more`; what it objects to is a `ConfigError` with the place."""
        positional, arguments = self._call_arguments()
        try:
            return self.factory(*positional, **arguments, **more)
        except Exception as error:  # whatever a constructor of somebody's own may raise
            raise InvalidConfig([self.problem(error)]) from error

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

    def _call_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Return what to call the type with, by position and by name."""
        arguments = {name: build_value(value) for name, value in self.arguments.items()}
        signature = list(signature_of(self.factory).arguments.values())
        variadic = next((index for index, item in enumerate(signature) if item.is_variadic), None)
        if variadic is None:
            return [], arguments
        # With `*items`, whatever stands before them has to be given by position, too.
        before = [arguments.pop(item.name, item.default) for item in signature[:variadic]]
        return [*before, *arguments.pop(signature[variadic].name, [])], arguments

    def problem(self, error: Exception) -> Problem:
        """Say where in the file stands what the constructor objects to: at the argument that it names, if any."""
        expected = isinstance(error, LayerflowError | ValueError | TypeError)
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        message = re.sub(rf"^{re.escape(self.type)}(\(.*?\))?: ", "", " ".join(text.split()))
        word = message.split(" ")[0].strip("'\":,").split("[")[0]
        path = (*self.path, word) if word in self.places else self.path
        return Problem(self.places.get(word, self.place), path, f"{self.type}: {message}")


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
