"""YAML text as a tree of nodes that know their line and column, and plain values as YAML text.

The tree is built from PyYAML's events: nothing is ever instantiated, limits hold before memory is spent, and every key
and value keeps its place. Scalars mean what the core schema of YAML 1.2 says (https://yaml.org/spec/1.2.2/#103-core-schema):
`1e-4` is a number; `no`, `on` and `12:30` are text. PyYAML itself follows YAML 1.1, where `1e-4` is text, `no` is
false and `12:30` is 750.
"""

import math
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import stat as file_status
from pathlib import Path as FilePath
from typing import Any

import yaml

from layerflow.config.problems import InvalidConfig, Path, Place, Problem, Source
from layerflow.data.reader import near_name
from layerflow.errors import did_you_mean

Scalar = str | int | float | bool | None

MAXIMUM_BYTES = 256 * 1024
MAXIMUM_DEPTH = 50
MAXIMUM_NODES = 20_000
MAXIMUM_DIGITS = 300
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


@dataclass
class Node:
    """A value of the document: a scalar, a list of nodes, or a mapping of text to nodes, with its place and path."""

    place: Place
    value: "Scalar | list[Node] | dict[str, Node]"
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1
    path: Path = ()

    @property
    def entries(self) -> "dict[str, Node]":
        """The entries of a mapping; none of anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def plain(self) -> Any:
        """Return the value without places: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def copy(self) -> "Node":
        """Return the same tree in nodes of its own."""
        value = self.value
        if isinstance(value, dict):
            value = {key: node.copy() for key, node in value.items()}
        elif isinstance(value, list):
            value = [node.copy() for node in value]
        return Node(self.place, value, dict(self.keys), self.size)

    def settle(self, path: Path = ()) -> "Node":
        """Give every node of the tree its path, once the tree no longer changes; return this node."""
        self.path = path
        items = enumerate(self.value) if isinstance(self.value, list) else self.entries.items()
        for key, node in items:
            node.settle((*path, key))
        return self

    def problem(self, message: str, choices: str = "") -> Problem:
        """Return a problem of this value."""
        return Problem(self.place, self.path, message, choices)

    def key_problem(self, key: str, message: str) -> Problem:
        """Return a problem of one of the keys of this mapping."""
        return Problem(self.keys[key], (*self.path, key), message)


@contextmanager
def collected(found: list[Problem]) -> Iterator[None]:
    """Add the problems that are raised inside to `found`, so that one run of the checks reports them all."""
    try:
        yield
    except InvalidConfig as error:
        found += error.found


# Reading -----------------------------------------------------------------------------------------------------------


def read_text(file: str | FilePath) -> str:
    """Return the text of a YAML file; anything else is a `ConfigError`."""
    name = str(file)
    try:
        mode = file_status(file).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise _unreadable(name, "not a regular file, expected a YAML file")
        with open(file, "rb") as stream:
            content = stream.read(MAXIMUM_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(name, f"no such file{near_name(FilePath(file))}") from None
    except IsADirectoryError:
        raise _unreadable(name, "a folder, expected a YAML file") from None
    except (OSError, ValueError) as error:
        raise _unreadable(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAXIMUM_BYTES:
        limit = MAXIMUM_BYTES // 1024
        raise _unreadable(name, f"larger than {limit} KiB, too large for a configuration: is it a data file?")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        lines = tuple(_LINE_BREAK.split(content[: error.start].decode("utf-8")))
        place = Place(Source(name, lines), len(lines), len(lines[-1]) + 1)
        message = f"byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8 text"
        raise InvalidConfig([Problem(place, (), message)]) from None


def read_document(file: str | FilePath) -> Node:
    """Read a YAML file; see `parse_document`."""
    return parse_document(read_text(file), str(file))


def _unreadable(name: str, message: str) -> InvalidConfig:
    return InvalidConfig([Problem(Place(Source(name)), (), message)])


def parse_document(text: str, name: str = "<text>", found: list[Problem] | None = None) -> Node:
    """Parse YAML text whose problems are labelled with `name`.

    Problems that leave a readable tree (a key that occurs twice) are added to `found`, where it is given.

    Raises:
        ConfigError: the text is not YAML, or exceeds a limit; one line with file, line and column.
    """
    text = text.removeprefix("\ufeff")
    return parse_value(text, Source(name, tuple(_LINE_BREAK.split(text))), found=found)


def parse_value(text: str, source: Source, column: int = 0, found: list[Problem] | None = None) -> Node:
    """Parse one YAML value that begins `column` characters into the (first) line of its source."""
    parser = _TreeBuilder(source, column)
    try:
        root = parser.build(text)
    except yaml.reader.ReaderError as error:
        before = _LINE_BREAK.split(text[: error.position])
        place = Place(source, len(before), len(before[-1]) + 1 + (column if len(before) == 1 else 0))
        raise InvalidConfig([Problem(place, (), "a control character, which YAML does not allow")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = parser.place(mark) if mark else Place(source)
        raise InvalidConfig([*parser.repeated, Problem(place, (), _explain(error))]) from None
    except (ValueError, OverflowError) as error:
        message = f"not valid YAML: an escape or a version number is out of range ({error})"
        raise InvalidConfig([Problem(Place(source), (), message)]) from None
    if parser.repeated and found is None:
        raise InvalidConfig(parser.repeated)
    if found is not None:
        found += parser.repeated
    return root


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "cannot be parsed"
    if r"'\t'" in problem:
        return "a tab where YAML expects spaces: indent with spaces"
    if "mapping values are not allowed" in problem:
        return (
            "not valid YAML: a key inside a value: give the line the indentation of the keys beside it, or quote the "
            "text if ': ' is part of it"
        )
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
        self.repeated: list[Problem] = []

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

    def problem(self, event: yaml.Event, message: str) -> InvalidConfig:
        return InvalidConfig([*self.repeated, Problem(self.place(event.start_mark), (), message)])

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
            raise self.problem(event, f"*{event.anchor} refers to nothing: no &{event.anchor} comes before it")
        target = self.anchors[event.anchor]
        if target is None:
            raise self.problem(event, f"*{event.anchor} contains itself")
        self.grow(event, target.size)
        return target.copy()

    def scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text: str = event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.problem(event, "half of a surrogate pair, which is not a character")
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
            place = self.place(key.start_mark)
            if is_repeated := key.value in entries:
                first = f"first in line {node.keys[key.value].line}"
                self.repeated.append(Problem(place, (), f"{key.value!r} is written twice ({first}): keep one of them"))
            value = self.node(next(self.events), depth + 1)
            if not is_repeated:
                node.keys[key.value], entries[key.value] = place, value
                node.size += value.size
        return node


# Scalars and writing -----------------------------------------------------------------------------------------------

_DECIMAL, _OCTAL, _HEXADECIMAL = "[-+]?[0-9]+", "0o[0-7]+", "0x[0-9a-fA-F]+"
_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
_NUMBERS = re.compile("|".join((_DECIMAL, _OCTAL, _HEXADECIMAL, _FLOAT)))
_WORDS: dict[str, Scalar] = (
    dict.fromkeys(("", "~", "null", "Null", "NULL"))
    | dict.fromkeys(("true", "True", "TRUE"), True)
    | dict.fromkeys(("false", "False", "FALSE"), False)
    | {sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")}
    | dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan)
)


def read_scalar(text: str) -> Scalar:
    """Return the value of a plain (unquoted) scalar; raise `ValueError` for a number that Python cannot hold."""
    if text in _WORDS or not _NUMBERS.fullmatch(text):
        return _WORDS.get(text, text)
    if len(text) > MAXIMUM_DIGITS:
        raise ValueError(f"a number of more than {MAXIMUM_DIGITS} characters")
    if re.fullmatch(_DECIMAL, text):
        return int(text)
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number beyond the range of a float (write .inf for infinity)")
    return value


class _Dumper(yaml.SafeDumper):
    """Writes YAML that 1.1 and 1.2 readers understand alike: text that either takes for something else is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value in full, so that no reader meets an anchor."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Line breaks of every kind survive only as escapes.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)
for _tag, _pattern in (("int", _OCTAL), ("int", _DECIMAL), ("int", _HEXADECIMAL), ("float", _FLOAT)):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list("-+.0123456789"))


def dump_yaml(value: object) -> str:
    """Return plain values as YAML text that `read_document` reads back to the same values."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)


def inline_yaml(value: object) -> str:
    """Return a plain value as YAML on one line, for use inside `{...}`, `[...]` or after a key."""
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": math.inf, "default_flow_style": True}
    listed: str = yaml.dump([value], Dumper=_Dumper, **options)
    return listed.strip()[1:-1]


# Overrides ---------------------------------------------------------------------------------------------------------


def apply_override(root: Node, text: str) -> None:
    """Put the value of `path.to.key=value`, read as YAML, into the document; its problems point into `text`.

    A key that is not in the file is added, where its section is a mapping; a section that the file leaves out is begun.
    """
    source = Source(text, (text,), is_override=True)
    name, equals, value = text.partition("=")
    parts = tuple(name.split("."))
    start = Place(source, 1, 1)
    if indexed := re.sub(r"\[(\w+)\]", r".\1", name) if "[" in name else "":
        raise InvalidConfig([Problem(start, (), f"items are numbered after a dot: write {indexed}={value}")])
    if not equals or not all(parts) or name != name.strip() or len(parts) > MAXIMUM_DEPTH:
        raise InvalidConfig([Problem(start, (), "must be written path.to.key=value, such as optimizer.lr=0.05")])
    found: list[Problem] = []
    node = Node(start, None)
    if value.strip():
        with collected(found):
            node = parse_value(value, source, column=len(name) + 1)
    if found:
        raise InvalidConfig(Problem(Place(source, 1, len(name) + 2), parts, each.message) for each in found)
    parent = root
    for depth, part in enumerate(parts):
        place = Place(source, 1, 1 + sum(len(before) + 1 for before in parts[:depth]))
        parent = _step(parent, part, parts[:depth], node if depth == len(parts) - 1 else None, place)


def _step(parent: Node, part: str, path: Path, value: Node | None, place: Place) -> Node:
    """Return the child of `parent` called `part`, which becomes `value` unless that is None."""
    if parent.value is None or (isinstance(parent.value, str) and path and path != ("model",)):
        # `schedule: Cosine` and a section that was left empty become mappings that keys can be added to.
        parent.value = {"type": Node(parent.place, parent.value)} if isinstance(parent.value, str) else {}
        parent.keys = dict.fromkeys(parent.value, parent.place)
    if isinstance(parent.value, dict):
        if value is not None or part not in parent.value:
            parent.value[part] = value or Node(place, {})
            parent.keys[part] = place
        return parent.value[part]
    if isinstance(parent.value, list):
        if part.isascii() and part.isdigit() and int(part[:9]) < len(parent.value):
            if value is not None:
                parent.value[int(part)] = value
            return parent.value[int(part)]
        named = {str(item.entries["name"].value): item for item in reversed(parent.value) if "name" in item.entries}
        if part in named and value is None:
            return named[part]
        last = len(parent.value) - 1
        message = f"has no item {part!r}{did_you_mean(part, named)}; items are numbered 0 to {last}"
    else:
        message = f"is a single value, so it has no {part!r} in it"
    raise InvalidConfig([Problem(place, path, message)])
