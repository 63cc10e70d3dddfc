"""YAML text as a tree of nodes that know their line and column.

The tree is built from PyYAML's events rather than by its constructor: nothing is ever instantiated, limits hold
before memory is spent, and every key and value keeps its place.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from layerflow.config.problems import InvalidConfig, Path, Place, Problem, Source
from layerflow.config.scalars import Scalar, read_scalar
from layerflow.errors import ConfigError

MAXIMUM_BYTES = 256 * 1024
MAXIMUM_DEPTH = 50
MAXIMUM_NODES = 20_000
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


@dataclass
class Node:
    """A value of the document: a scalar, a list of nodes, or a mapping of text to nodes, with its place."""

    place: Place
    value: "Scalar | list[Node] | dict[str, Node]"
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1

    def plain(self) -> Any:
        """Return the value without places: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def copy(self) -> "Node":
        """Return the same tree in nodes of its own."""
        value = self.value
        if isinstance(value, dict):
            value = {key: node.copy() for key, node in value.items()}
        elif isinstance(value, list):
            value = [node.copy() for node in value]
        return Node(self.place, value, dict(self.keys), self.size)

    def place_of(self, path: Path) -> Place:
        """Return the place of the value at `path`, or of the deepest part of the path that exists."""
        node = self
        for part in path:
            if isinstance(node.value, dict) and part in node.value:
                node = node.value[str(part)]
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            else:
                break
        return node.place


def read_document(file: str | FilePath) -> Node:
    """Read a YAML file; every problem is a `ConfigError` of one line with the file, line and column."""
    name = str(file)
    try:
        if os.path.exists(file) and not os.path.isdir(file) and not os.path.isfile(file):
            raise _unreadable(name, "a pipe or device, expected a YAML file")
        with open(file, "rb") as stream:
            content = stream.read(MAXIMUM_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(name, "no such file") from None
    except IsADirectoryError:
        raise _unreadable(name, "a folder, expected a YAML file") from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAXIMUM_BYTES:
        limit = MAXIMUM_BYTES // 1024
        raise _unreadable(name, f"larger than {limit} KiB, which no configuration is: is it a data file?")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        source = Source(name, tuple(_LINE_BREAK.split(before)))
        place = Place(source, len(source.lines), len(source.lines[-1]) + 1)
        message = f"byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8 text"
        raise InvalidConfig([Problem(place, (), message)]) from None
    return parse_document(text, name)


def _unreadable(name: str, message: str) -> ConfigError:
    return InvalidConfig([Problem(Place(Source(name)), (), message)])


def parse_document(text: str, name: str = "<text>") -> Node:
    """Parse YAML text whose problems are labelled with `name`."""
    text = text.removeprefix("\ufeff")
    return parse_value(text, Source(name, tuple(_LINE_BREAK.split(text))))


def parse_value(text: str, source: Source, column: int = 0) -> Node:
    """Parse one YAML value that begins `column` characters into the (first) line of its source."""
    parser = _TreeBuilder(source, column)
    try:
        return parser.build(text)
    except yaml.reader.ReaderError as error:
        before = _LINE_BREAK.split(text[: error.position])
        place = Place(source, len(before), len(before[-1]) + 1 + (column if len(before) == 1 else 0))
        raise InvalidConfig([Problem(place, (), "a control character, which YAML does not allow")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = parser.place(mark) if mark else Place(source)
        raise InvalidConfig([Problem(place, (), _explain(error))]) from None
    except (ValueError, OverflowError) as error:
        message = f"not valid YAML: an escape or a version number is out of range ({error})"
        raise InvalidConfig([Problem(Place(source), (), message)]) from None


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be parsed"
    if r"'\t'" in problem:
        return "a tab where YAML wants spaces: indent with spaces"
    if "mapping values are not allowed" in problem:
        return "not valid YAML: ': ' inside a plain value: quote the text, or check the indentation"
    if "'<document start>'" in problem:
        return "not valid YAML: text that belongs to no key: check the indentation"
    return f"not valid YAML: {problem}" + (f" ({error.context})" if error.context else "")


class _TreeBuilder:
    """Turns the events of one document into nodes; recursion is bounded by `MAXIMUM_DEPTH`."""

    def __init__(self, source: Source, column: int):
        self.source = source
        self.column = column
        self.anchors: dict[str, Node | None] = {}
        self.count = 0

    def build(self, text: str) -> Node:
        self.events = yaml.parse(text, Loader=yaml.SafeLoader)
        start = next(self.events)
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            raise self.problem(start, "empty: a configuration has at least the sections data, model and loss")
        root = self.node(next(self.events), depth=0)
        next(self.events)
        second = next(self.events)
        if isinstance(second, yaml.DocumentStartEvent):
            raise self.problem(second, "a second document begins here: one file holds one configuration")
        return root

    def place(self, mark: Any) -> Place:
        """Return the place of a mark of PyYAML, which counts from 0."""
        return Place(self.source, mark.line + 1, mark.column + 1 + (self.column if mark.line == 0 else 0))

    def problem(self, event: yaml.Event, message: str) -> ConfigError:
        return InvalidConfig([Problem(self.place(event.start_mark), (), message)])

    def node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAXIMUM_DEPTH:
            raise self.problem(event, f"nested more than {MAXIMUM_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if (tag := getattr(event, "tag", None)) is not None:
            raise self.problem(event, f"the tag {tag!r} has no meaning here: write the plain value")
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self.anchors[anchor] = None
        self.grow(event, 1)
        if isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(event, depth)
        elif isinstance(event, yaml.MappingStartEvent):
            node = self.mapping(event, depth)
        else:
            assert isinstance(event, yaml.ScalarEvent)
            node = Node(self.place(event.start_mark), self.scalar(event))
        if anchor is not None:
            self.anchors[anchor] = node
        return node

    def grow(self, event: yaml.Event, size: int) -> None:
        self.count += size
        if self.count > MAXIMUM_NODES:
            raise self.problem(event, f"more than {MAXIMUM_NODES} values, repeated ones included")

    def alias(self, event: yaml.AliasEvent) -> Node:
        if event.anchor not in self.anchors:
            raise self.problem(event, f"*{event.anchor} refers to nothing: no &{event.anchor} stands before it")
        target = self.anchors[event.anchor]
        if target is None:
            raise self.problem(event, f"*{event.anchor} contains itself")
        self.grow(event, target.size)
        return target.copy()

    def scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text: str = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.problem(event, "half of a surrogate pair, which is no character")
        if not event.implicit[0]:
            return text
        try:
            return read_scalar(text)
        except ValueError as error:
            raise self.problem(event, str(error)) from None

    def sequence(self, event: yaml.Event, depth: int) -> Node:
        items: list[Node] = []
        node = Node(self.place(event.start_mark), items)
        while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(item, depth + 1))
            node.size += items[-1].size
        return node

    def mapping(self, event: yaml.Event, depth: int) -> Node:
        entries: dict[str, Node] = {}
        node = Node(self.place(event.start_mark), entries)
        while not isinstance(key := next(self.events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent) or key.tag is not None:
                raise self.problem(key, "a key must be plain text")
            self.scalar(key)
            if key.value in entries:
                first = node.keys[key.value].line
                raise self.problem(key, f"{key.value!r} is written twice (first in line {first}): keep one of them")
            node.keys[key.value] = self.place(key.start_mark)
            entries[key.value] = self.node(next(self.events), depth + 1)
            node.size += entries[key.value].size
        return node
