"""Checks a document against the signatures of constructors.

For each type that a file names, pydantic makes the validator of a mapping from its constructor's signature
(`validator_of`). It is given the nodes of the document rather than plain values: the validator of each setting
(`Setting`) takes the value out of its node, so that every problem is reported with the place of the node.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError, core_schema
from typing_extensions import TypedDict

from layerflow.config.elements import WIDTH, ConfigPath, Element, Part, Section, is_plain, plain_value
from layerflow.config.problems import InvalidConfig, Problem, dotted, setting_hint, shown, type_hint
from layerflow.config.registry import HINTS, MODEL, ElementKind, Factory, Registry, is_open, signature_of, summary_of
from layerflow.config.yaml import Node
from layerflow.errors import did_you_mean

PATH = "path"
"""Marks the hint of a file or folder (see `layerflow.data.DataPath`)."""

REFERENCE = "reference to"
BOUNDS = ("greater_than", "less_than", "multiple_of", "finite_number", "string_too", "too_short", "too_long")
LISTS: tuple[Any, ...] = (list, tuple, Sequence, Iterable, Collection)
WORDS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (int, ("an integer",)),
    (float, ("a number",)),
    (str, ("text",)),
    (bool, ("true", "false")),
    (NoneType, ("null",)),
    (Any, ()),
)


@dataclass(frozen=True)
class Checker(ABC):
    """Turns nodes into sections, models and elements.

    Attributes:
        registry: the known types.
        folder: where relative paths start.
        sections: the keys of the top level, to recognize one that is written elsewhere.
    """

    registry: Registry
    folder: str
    sections: Collection[str] = ()

    @abstractmethod
    def model(self, node: Node) -> Part:
        """Return a model."""

    def section(self, node: Node, section: type[Section]) -> Any:
        """Return a section of fixed keys."""
        if not isinstance(node.value, dict):
            keys = ", ".join(signature_of(section))
            raise InvalidConfig([node.problem(f"must be a mapping with the keys {keys}, not {shown(node.plain())}")])
        return section(**self._arguments(node, section))

    def element(self, node: Node, kind: str, beside: Collection[str] = (), spared: str = "") -> Element:
        """Return the element that a node describes: `{type: ReLU}`, or `ReLU` alone.

        Args:
            node: the value of the document.
            kind: what is expected there.
            beside: keys that belong to whatever holds the element.
            spared: a required argument that may be missing.
        """
        named = self._type_node(node, kind)
        name = str(named.value)
        factory = self.registry.find(kind, name)
        if factory is None:
            raise InvalidConfig([self._unknown_type(named, name, kind)])
        arguments = self._arguments(node, factory, name, ("type", *beside), spared)
        element = Element(name, factory, arguments, node)
        # The constructor checks what no type hint says. A width that is left to the data is a guess here.
        element.build(**({spared: 1} if spared and spared not in arguments else {}))
        return element

    def _arguments(
        self, node: Node, target: Factory, owner: str = "", beside: Collection[str] = (), spared: str = ""
    ) -> dict[str, Any]:
        """Return the checked arguments that a mapping gives to a type; raise `InvalidConfig` with all its problems."""
        signature, given = signature_of(target), {k: item for k, item in node.entries.items() if k not in beside}
        found: list[Problem] = []
        values: dict[str, Any] = {}
        hints = ""
        try:
            values = validator_of(target).validate_python(given, context=self)
        except ValidationError as error:
            found += _noted(error)
            for key in [str(each["loc"][0]) for each in error.errors() if each["type"] == "extra_forbidden"]:
                hint = setting_hint(key, [*beside, *signature], self.sections)
                hints += hint.partition(";")[0]
                found.append(node.key_problem(key, f"unknown key{hint}"))
        for name, argument in signature.items():
            # A name in the hints is there, misspelt.
            if argument.is_required and name not in node.entries and name != spared and repr(name) not in hints:
                phrase = Setting(argument.annotation).phrase.replace(" ({type: ...})", "")
                wanted = "" if argument.annotation is Any else f" ({phrase})"
                owner = owner or dotted(node.path) or "the configuration"
                found.append(node.problem(f"{owner} needs {name!r}{wanted}"))
        if found:
            raise InvalidConfig(found)
        return {key: value.plain() if isinstance(value, Node) else value for key, value in values.items()}

    def _type_node(self, node: Node, kind: str) -> Node:
        if isinstance(node.value, str):
            return node
        example = f"{{type: {next(iter(self.registry.types[kind]), 'Name')}}}"
        if not isinstance(node.value, dict):
            wanted = f"must be {_with_article(kind)}, such as {example}"
            raise InvalidConfig([node.problem(f"{wanted}, not {shown(node.plain())}")])
        if "type" not in node.value:
            meant = next((key for key in node.value if did_you_mean(key, ["type"])), None)
            hint = f", did you mean 'type' instead of {meant!r}?" if meant else f": write {example}"
            raise InvalidConfig([node.problem(f"the type of the {kind} is missing{hint}")])
        named = node.value["type"]
        if not isinstance(named.value, str):
            wanted = f"must be the name of {_with_article(kind)}"
            raise InvalidConfig([named.problem(f"{wanted}, not {shown(named.plain())}")])
        return named

    def _unknown_type(self, named: Node, name: str, kind: str) -> Problem:
        if elsewhere := next((kind for kind, types in self.registry.types.items() if name in types), None):
            return named.problem(f"unknown {kind} {name!r}: it is {_with_article(elsewhere)}")
        names = self.registry.names(kind)
        hint = type_hint(name, names)
        stop = "" if hint.endswith("?") else "."
        return named.problem(f"unknown {kind} {name!r}{hint}{stop}", f" Known: {', '.join(sorted(names))}")


@lru_cache(maxsize=1024)
def validator_of(target: Factory) -> TypeAdapter[dict[str, Any]]:
    """Return the validator of the mapping that a constructor's signature describes."""
    keys: dict[str, Any] = {}
    for name, argument in signature_of(target).items():
        default = {"default": plain_value(argument.default, None)} if is_plain(argument.default) else None
        described = Field(description=argument.description or None, json_schema_extra=default)
        # `Checker` knows where a width is needed.
        needed: Any = Required if argument.is_required and name != WIDTH else NotRequired
        keys[name] = needed[Annotated[Setting(argument.annotation).annotation, described]]
    make: Any = TypedDict  # mypy knows only those that are written as classes
    mapping = make(target.__name__, keys)
    mapping.__doc__ = summary_of(target)
    mapping.__pydantic_config__ = ConfigDict(extra="allow" if is_open(target) else "forbid", strict=True)
    return TypeAdapter(mapping)


@dataclass(frozen=True)
class Choice:
    """One alternative of a type hint: a part of a configuration, or plain values.

    Attributes:
        words: what messages call it.
        kind: the kind of the part.
        section: the section that it is.
        annotation: what pydantic checks plain values with.
        takes: the type of the plain values in the document.
    """

    words: tuple[str, ...]
    kind: str = ""
    section: type[Section] | None = None
    annotation: Any = None
    takes: Any = None


class Setting:
    """The validator of the settings that have a certain type hint: from a node to a checked value."""

    def __init__(self, hint: Any) -> None:
        self.hint = hint
        self.choices = [_choice(member) for member in members_of(hint)]
        self.parts = [choice for choice in self.choices if choice.kind or choice.section]
        self.plain = [choice for choice in self.choices if not (choice.kind or choice.section)]
        self.takes = [choice.takes for choice in self.plain]

    @property
    def phrase(self) -> str:
        """What the hint asks for: `a number, a list of numbers or null`."""
        words = dict.fromkeys(word for choice in self.choices for word in choice.words)
        if "a number" in words:
            words.pop("an integer", None)
        return _listed(sorted(words, key="null".__eq__)) or "a plain value"

    @property
    def annotation(self) -> Any:
        """The hint for pydantic: the alternatives that are plain values, and this validator ."""
        members = tuple(choice.annotation for choice in self.plain) or (NoneType,)
        inner: Any = Union.__getitem__(members)  # known at run time only
        return Annotated[_annotated(inner, metadata_of(self.hint) if len(self.choices) > 1 else ()), self]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        parts = [type_schema(part.section) if part.section else {REFERENCE: part.kind} for part in self.parts]
        plain = handler(schema) if self.plain else {}
        if not parts:
            return plain
        parts += plain.get("anyOf", [plain]) if self.plain else []
        return parts[0] if len(parts) == 1 else {"anyOf": parts}

    def _check(self, node: Node, handler: Any, info: Any) -> Any:
        try:
            return self._checked(node, handler, info.context)
        except InvalidConfig as error:
            # pydantic collects this one with the errors of the other settings.
            raise PydanticCustomError("found", "see found", {"found": error.found}) from None

    def _checked(self, node: Node, handler: Any, checker: Checker) -> Any:
        value = node.value
        if value is None and NoneType in self.takes:
            return None
        for part in self.parts:
            if part.section:
                return checker.section(node, part.section)
            if part.kind == MODEL.name:
                return checker.model(node)
            if self._is_element(value, part.kind, checker.registry):
                return checker.element(node, part.kind)
        shapes = [list, tuple] if isinstance(value, list) else [dict] if isinstance(value, dict) else []
        try:  # the items of a list or mapping are checked as nodes, each by a `Setting` of its own
            checked = handler(value if any(shape in self.takes for shape in shapes) else node.plain())
        except ValidationError as error:
            message = self._objection(error, node.plain(), checker.registry)
            raise InvalidConfig(_noted(error) or [node.problem(message)]) from None
        return list(checked) if isinstance(checked, tuple) else checked

    def _is_element(self, value: Any, kind: str, registry: Registry) -> bool:
        """Whether a value is meant to be an element of a kind, rather than a plain value."""
        if isinstance(value, dict):
            return "type" in value or dict not in self.takes
        if isinstance(value, str):
            is_name = kind == "initializer" or registry.find(kind, value) is not None
            return is_name or str not in self.takes
        return len(self.choices) == 1

    def _objection(self, error: ValidationError, value: Any, registry: Registry) -> str:
        """Return what is wrong: a bound that is broken, or else what kind of value the hint asks for."""
        for each in error.errors(include_url=False, include_input=False):
            if each["type"] == "value_error":
                return each["msg"].removeprefix("Value error, ")
            if each["type"].startswith(BOUNDS) and tuple not in self.takes:
                return f"{each['msg'].replace('Input should be', 'must be')}, not {shown(value)}"
        names = [name for part in self.parts if part.kind in HINTS for name in registry.names(part.kind)]
        names += [name for choice in self.plain for name in get_args(bare(choice.annotation)) if isinstance(name, str)]
        guess = did_you_mean(value, names) if isinstance(value, str) else ""
        return f"must be {self.phrase}, not {shown(value)}{guess}"


def _choice(hint: Any) -> Choice:
    plain, metadata = bare(hint), metadata_of(hint)
    origin, inner = get_origin(plain) or plain, get_args(plain)
    if kind := _kind_of(hint):
        return Choice(("a list of gates" if kind == MODEL.name else f"{_with_article(kind)} ({{type: ...}})",), kind)
    if isinstance(plain, type) and issubclass(plain, Section):
        return Choice(("a mapping",), section=plain)
    if PATH in metadata:
        schema = WithJsonSchema({"type": "string", "format": "path"})
        return Choice(("a path",), annotation=Annotated[str, AfterValidator(_absolute), schema], takes=str)
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        items = [Setting(item) for item in inner]
        words = f"a list of {len(items)} ({', '.join(item.phrase for item in items)})"
        annotation: Any = tuple.__class_getitem__(tuple(item.annotation for item in items))
        return Choice((words,), annotation=_annotated(annotation, (Strict(False), *metadata)), takes=tuple)
    if origin in LISTS:
        item = Setting(inner[0] if inner else Any)
        words = "a list" if item.hint is Any else f"a list (each item {item.phrase})"
        return Choice((words,), annotation=_annotated(list[item.annotation], metadata), takes=list)  # type: ignore[name-defined]
    if origin in (dict, Mapping):
        item = Setting(inner[1] if inner else Any)
        return Choice(("a mapping",), annotation=_annotated(dict[str, item.annotation], metadata), takes=dict)  # type: ignore[name-defined]
    if origin is Literal:
        return Choice(tuple(repr(c) if isinstance(c, str) else shown(c) for c in inner), annotation=hint, takes=str)
    known = next((words for known, words in WORDS if plain is known), None)
    if known is not None:
        return Choice(known, annotation=hint, takes=plain)
    is_own = isinstance(plain, type) and plain.__module__ != "builtins"
    own = (f"{_with_article(plain.__name__)} ({{type: ...}})",) if is_own else ()
    return Choice(own, annotation=_as_json(hint), takes=plain)


def _kind_of(hint: Any) -> str:
    """Return the kind of part that a type hint asks for: by its mark, or because it is the kind's base class."""
    marked = [mark.name for mark in metadata_of(hint) if isinstance(mark, ElementKind)]
    return next(iter(marked), "") or next((kind for kind, base in HINTS.items() if bare(hint) is base), "")


def _absolute(text: str, info: "ValidationInfo[Checker]") -> ConfigPath:
    """Return the path, which starts at the folder of the `Checker`."""
    if not text or "\0" in text:
        raise ValueError(f"must be a path, not {shown(text)}")
    return ConfigPath(os.path.normpath(os.path.join(info.context.folder, os.path.expanduser(text))))


def _as_json(hint: Any) -> Any:
    """Return the validator of a hint whose values are not plain ones, such as `Path`, but may be written in JSON."""
    try:
        adapter = TypeAdapter(hint)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError):
        return Any

    def check(value: Any) -> Any:
        adapter.validate_json(json.dumps(value), strict=True)
        return value

    return Annotated[Any, PlainValidator(check)]


def _noted(error: ValidationError) -> list[Problem]:
    """Return the problems that settings found."""
    errors = error.errors(include_url=False, include_input=False)
    return [problem for each in errors for problem in each.get("ctx", {}).get("found", [])]


# Type hints and words ---------------------------------------------------------------------------------------------


def metadata_of(hint: Any) -> tuple[Any, ...]:
    """Return what `Annotated` adds to a hint."""
    return tuple(hint.__metadata__) if get_origin(hint) is Annotated else ()


def bare(hint: Any) -> Any:
    """Return a hint without its `Annotated`."""
    return hint.__origin__ if get_origin(hint) is Annotated else hint


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union; any other hint is its only one."""
    if hint is None:
        return (NoneType,)
    if get_origin(bare(hint)) in (Union, UnionType):
        return tuple(member for part in get_args(bare(hint)) for member in members_of(part))
    return (hint,)


def _with_article(noun: str) -> str:
    """Put `a` or `an` before a noun."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def _listed(words: Sequence[str]) -> str:
    """Join words as a sentence does: `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


def _annotated(hint: Any, metadata: tuple[Any, ...]) -> Any:
    return Annotated[(hint, *metadata)] if metadata else hint


class _JsonSchema(GenerateJsonSchema):
    """Leaves out titles that only repeat the name of a setting."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False."""
        return False


def type_schema(target: Factory) -> dict[str, Any]:
    """Return the JSON schema of the mapping that describes a type."""
    return validator_of(target).json_schema(schema_generator=_JsonSchema)
