"""Checks a document against constructors' signatures, and writes the same rules down as a JSON schema.

For each type that a file names, pydantic makes a model of its constructor's signature (`create_model`). It is given the
nodes of the document rather than plain values: the validator of each setting (`Setting`) takes the value out of its
node, so that every problem is reported with the place of the node. Which model checks an element is decided by its
`type`: a union discriminated by `type`, whose members are made when they are named.
"""

import json
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from layerflow.config.building import WIDTH, ConfigPath, Element, ModelPlan, is_plain, plain_value
from layerflow.config.problems import InvalidConfig, Problem, dotted
from layerflow.config.registry import Factory, Registry, kind_of
from layerflow.config.signatures import (
    MODEL,
    bare,
    fixed_hints,
    is_path,
    item_hint,
    mapped_hint,
    members_of,
    metadata_of,
    signature_of,
    summary_of,
)
from layerflow.config.toplevel import Section, TopLevel
from layerflow.config.vocabulary import phrase, setting_hint, shown, type_hint, with_article
from layerflow.config.wiring import check_model
from layerflow.config.yaml import Node
from layerflow.errors import did_you_mean

SECTIONS = tuple(signature_of(TopLevel).arguments)
BOUNDS = ("greater_than", "less_than", "multiple_of", "finite_number", "string_too", "too_short", "too_long")
PLAIN: tuple[Any, ...] = (int, float, str, bool, None, NoneType, Any)
REFERENCE = "reference to"


@dataclass(frozen=True)
class Checker:
    """Turns nodes into sections, models and elements; `folder` is where relative paths start."""

    registry: Registry
    folder: str

    def section(self, node: Node, section: type[Section]) -> Any:
        """Return a section of fixed keys."""
        if not isinstance(node.value, dict):
            keys = ", ".join(signature_of(section).arguments)
            raise InvalidConfig([node.problem(f"must be a mapping with the keys {keys}, not {shown(node.plain())}")])
        return section(**self.arguments(node, section, dotted(node.path) or "the configuration"))

    def model(self, node: Node) -> ModelPlan:
        """Return a model."""
        return check_model(node, self.element, self.registry)

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
        arguments = self.arguments(node, factory, name, ("type", *beside), spared)
        element = Element(name, factory, arguments, node)
        # The constructor checks what no type hint says. A width that is left to the data is a guess here.
        element.build(**({spared: 1} if spared and spared not in arguments else {}))
        return element

    def arguments(
        self, node: Node, target: Factory, owner: str, beside: Collection[str] = (), spared: str = ""
    ) -> dict[str, Any]:
        """Return the checked arguments that a mapping gives to a type; raise `InvalidConfig` with all its problems."""
        signature, model, entries = signature_of(target), model_of(target), node.entries
        found: list[Problem] = []
        values: dict[str, Any] = {}
        hints = ""
        try:
            checked = model.model_validate({k: item for k, item in entries.items() if k not in beside}, context=self)
            given = [name for name in model.model_fields if name in checked.model_fields_set]
            values = {str(model.model_fields[name].alias): getattr(checked, name) for name in given}
            values |= {key: item.plain() for key, item in (checked.model_extra or {}).items()}
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=False):
                if each["type"] == "extra_forbidden":
                    hint = setting_hint(str(each["loc"][0]), [*beside, *signature.arguments], SECTIONS)
                    hints += hint.partition(";")[0]
                    found.append(node.key_problem(str(each["loc"][0]), f"unknown key{hint}"))
            found += _noted(error)
        for name, argument in signature.arguments.items():
            # A name in the hints is there, misspelt.
            if argument.is_required and name not in entries and name != spared and repr(name) not in hints:
                hint = phrase(argument.annotation).replace(" ({type: ...})", "")
                wanted = "" if argument.annotation is Any else f" ({hint})"
                found.append(node.problem(f"{owner} needs {name!r}{wanted}"))
        if found:
            raise InvalidConfig(found)
        return values

    def _type_node(self, node: Node, kind: str) -> Node:
        if isinstance(node.value, str):
            return node
        example = f"{{type: {next(iter(self.registry.kinds[kind].types), 'Name')}}}"
        if not isinstance(node.value, dict):
            wanted = f"must be {with_article(kind)}, such as {example}"
            raise InvalidConfig([node.problem(f"{wanted}, not {shown(node.plain())}")])
        if "type" not in node.value:
            meant = next((key for key in node.value if did_you_mean(key, ["type"])), None)
            hint = f", did you mean 'type' instead of {meant!r}?" if meant else f": write {example}"
            raise InvalidConfig([node.problem(f"the type of the {kind} is missing{hint}")])
        named = node.value["type"]
        if not isinstance(named.value, str):
            wanted = f"must be the name of {with_article(kind)}"
            raise InvalidConfig([named.problem(f"{wanted}, not {shown(named.plain())}")])
        return named

    def _unknown_type(self, named: Node, name: str, kind: str) -> Problem:
        elsewhere = self.registry.kind_elsewhere(name)
        if elsewhere is not None:
            return named.problem(f"unknown {kind} {name!r}: it is {with_article(elsewhere)}")
        names = self.registry.names(kind)
        hint = type_hint(name, names)
        stop = "" if hint.endswith("?") else "."
        return named.problem(f"unknown {kind} {name!r}{hint}{stop}", f" Known: {', '.join(sorted(names))}")


class Setting:
    """The validator of the settings that have a certain type hint: from a node to a checked value."""

    def __init__(self, hint: Any) -> None:
        self.hint = hint
        self.members = members_of(hint)
        self.kinds = [kind for member in self.members if (kind := kind_of(member)) is not None]
        self.sections = [bare(member) for member in self.members if _is_section(member)]
        self.is_model = any(MODEL in metadata_of(member) for member in self.members)
        self.plain = tuple(member for member in self.members if not _is_part(member))
        self.takes_lists = any(item_hint(member) is not None or fixed_hints(member) for member in self.plain)
        self.takes_mappings = any(mapped_hint(member) is not None for member in self.plain)
        self.takes_text = any(bare(m) is str or get_origin(bare(m)) is Literal for m in self.plain)

    @property
    def annotation(self) -> Any:
        """The schema for pydantic: the members that are not parts of a configuration, and this validator."""
        members = tuple(self._member(member) for member in self.plain) or (NoneType,)
        inner: Any = Union.__getitem__(members)  # known at run time only
        if len(self.members) > 1 and (metadata := metadata_of(self.hint)):
            inner = Annotated[(inner, *metadata)]
        return Annotated[inner, self]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        parts = [{REFERENCE: kind} for kind in [*self.kinds, *([MODEL] if self.is_model else [])]]
        parts += [type_schema(section) for section in self.sections]
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
        if value is None and any(member in (None, NoneType) for member in self.members):
            return None
        if self.is_model:
            return checker.model(node)
        if self.sections:
            return checker.section(node, self.sections[0])
        for kind in self.kinds:
            if self._is_element(value, kind, checker.registry):
                return checker.element(node, kind)
        is_entered = (isinstance(value, list) and self.takes_lists) or (isinstance(value, dict) and self.takes_mappings)
        try:
            checked = handler(value if is_entered else node.plain())
        except ValidationError as error:
            message = self._objection(error, node.plain(), checker.registry)
            raise InvalidConfig(_noted(error) or [node.problem(message)]) from None
        if isinstance(value, str) and any(map(is_path, self.members)):
            if "\0" in value or not value:
                raise InvalidConfig([node.problem(f"must be a path, not {shown(value)}")])
            return ConfigPath(os.path.normpath(os.path.join(checker.folder, os.path.expanduser(value))))
        return list(checked) if isinstance(checked, tuple) else checked

    def _is_element(self, value: Any, kind: str, registry: Registry) -> bool:
        """Whether a value is meant to be an element of a kind, rather than one of the plain members."""
        if isinstance(value, dict):
            return "type" in value or not self.takes_mappings
        if isinstance(value, str):
            is_name = registry.kinds[kind].text_is_name or registry.find(kind, value) is not None
            return is_name or not self.takes_text
        return len(self.members) == 1

    def _member(self, member: Any) -> Any:
        """Return a plain member of the hint for pydantic; what it cannot check becomes `Any`."""
        inner: Any = member
        if is_path(member):
            return Annotated[str, WithJsonSchema({"type": "string", "format": "path"})]
        if (item := item_hint(member)) is not None:
            inner = list[Setting(item).annotation]  # type: ignore[misc]
        elif (fixed := fixed_hints(member)) is not None:
            items = tuple(Setting(each).annotation for each in fixed)
            inner = Annotated[tuple[items], Strict(False)]  # type: ignore[valid-type]
        elif (mapped := mapped_hint(member)) is not None:
            inner = dict[str, Setting(mapped).annotation]  # type: ignore[misc]
        elif bare(member) not in PLAIN and get_origin(bare(member)) is not Literal:
            return _as_json(member)
        return Annotated[(inner, *metadata_of(member))] if inner is not member and metadata_of(member) else inner

    def _objection(self, error: ValidationError, value: Any, registry: Registry) -> str:
        """Say what is wrong: a bound that is broken, or else what kind of value the hint asks for."""
        for each in error.errors(include_url=False, include_input=False):
            if each["type"] == "value_error":
                return each["msg"].removeprefix("Value error, ")
            if each["type"].startswith(BOUNDS) and not any(map(fixed_hints, self.plain)):
                return f"{each['msg'].replace('Input should be', 'must be')}, not {shown(value)}"
        names = [name for kind in self.kinds for name in registry.names(kind)]
        choices = [c for m in self.plain if get_origin(bare(m)) is Literal for c in get_args(bare(m))]
        known = [*names, *(choice for choice in choices if isinstance(choice, str))]
        guess = did_you_mean(value, known) if isinstance(value, str) else ""
        return f"must be {phrase(self.hint)}, not {shown(value)}{guess}"


@lru_cache(maxsize=1024)
def model_of(target: Factory) -> type[BaseModel]:
    """Return the pydantic model of a constructor's signature."""
    signature = signature_of(target)
    fields: dict[str, Any] = {}
    for number, (name, argument) in enumerate(signature.arguments.items()):
        options: dict[str, Any] = {"alias": name, "description": argument.description or None}
        if is_plain(argument.default):
            options["default"] = plain_value(argument.default, None)
        elif not argument.is_required or name == WIDTH:  # `Checker.arguments` says where a width is needed
            options["default_factory"] = NoneType
        fields[f"field_{number}"] = (Setting(argument.annotation).annotation, Field(**options))
    settings = ConfigDict(extra="allow" if signature.is_open else "forbid", strict=True)
    return create_model(target.__name__, __config__=settings, __doc__=summary_of(target), **fields)


def _noted(error: ValidationError) -> list[Problem]:
    """Return the problems that settings found."""
    errors = error.errors(include_url=False, include_input=False)
    return [problem for each in errors for problem in each.get("ctx", {}).get("found", [])]


def _is_part(hint: Any) -> bool:
    return kind_of(hint) is not None or _is_section(hint) or MODEL in metadata_of(hint)


def _is_section(hint: Any) -> bool:
    return isinstance(bare(hint), type) and issubclass(bare(hint), Section)


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


# JSON schema -------------------------------------------------------------------------------------------------------


def json_schema(registry: Registry | None = None) -> dict[str, Any]:
    """Return a JSON schema of configurations for the types of `registry` (built-in ones when left out).

    Draft 2020-12 (https://json-schema.org/draft/2020-12), for completion in editors. The checks say more than a schema
    can: names that refer to each other in a graph, and what only a constructor knows.
    """
    registry = registry or Registry.builtin()
    names = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    beside = {"name": {"type": "string"}, "inputs": names}
    definitions: dict[str, Any] = {"model": _model_schema(names, beside)}
    for kind in registry.kinds.values():
        own = beside if kind.name == "gate" else {}
        names_of_kind = [name for name in kind.types if name not in kind.aliases]
        for name in names_of_kind:
            definitions[f"{kind.name}.{name}"] = type_schema(kind.types[name], name, own)
        lone = [name for name, target in kind.types.items() if not _needs_more(target)]
        references = [{REFERENCE: f"{kind.name}.{name}"} for name in names_of_kind]
        definitions[kind.name] = {"anyOf": [*([{"enum": lone}] if lone else []), *references]}
    whole = type_schema(TopLevel) | {"title": "layerflow configuration", "$defs": definitions}
    text = json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema"} | whole)
    # pydantic refuses references to definitions that are not its own.
    schema: dict[str, Any] = json.loads(re.sub(f'"{REFERENCE}": "', '"$ref": "#/$defs/', text))
    return schema


class _JsonSchema(GenerateJsonSchema):
    """Leaves out titles that only repeat the name of a setting."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False."""
        return False


def type_schema(target: Factory, name: str | None = None, beside: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the schema of a mapping that describes a type; `name` is that of its key `type`, if it has one."""
    schema = model_of(target).model_json_schema(schema_generator=_JsonSchema)
    if name is not None:
        schema["properties"] = {"type": {"const": name}} | (beside or {}) | schema["properties"]
        schema["required"] = ["type", *schema.get("required", [])]
    return schema


def _needs_more(target: Factory) -> bool:
    """Whether a type has required settings, so that its name alone does not describe it."""
    return any(item.is_required and item.name != WIDTH for item in signature_of(target).arguments.values())


def _model_schema(names: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    again = {
        "type": "object",
        "description": "The gate of an earlier entry once more, parameters shared.",
        "properties": {"same_as": {"type": ["string", "integer"]}, **beside},
        "required": ["same_as"],
        "additionalProperties": False,
    }
    gates = {"type": "array", "items": {"anyOf": [{REFERENCE: "gate"}, again]}, "minItems": 1}
    arrays = {"type": "object", "additionalProperties": {"type": ["number", "array"]}}
    graph = {
        "type": "object",
        "description": "Gates with names; each says which nodes it reads.",
        "properties": {"inputs": names, "constants": arrays, "parameters": arrays, "gates": gates, "output": names},
        "required": ["inputs", "gates"],
        "additionalProperties": False,
    }
    return {"anyOf": [gates, graph]}
