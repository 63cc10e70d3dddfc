"""Checks values of the document against type hints and signatures; problems are noted with their place."""

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from layerflow.config.document import Node
from layerflow.config.elements import ConfigPath, Element
from layerflow.config.hints import (
    MODEL,
    bare,
    fixed_hints,
    is_path,
    item_hint,
    mapped_hint,
    members_of,
    metadata_of,
    phrase,
    shown,
    with_article,
)
from layerflow.config.model_checking import check_model
from layerflow.config.problems import InvalidConfig, Path, Problems, dotted
from layerflow.config.registry import Registry
from layerflow.config.signatures import Argument, Signature, signature_of
from layerflow.config.words import setting_hint, type_hint
from layerflow.errors import did_you_mean

SECTIONS = ("seed", "dtype", "data", "model", "loss", "regularizer", "optimizer", "schedule", "train")


class Invalid:
    """Stands in for a value that has a problem, which is noted already."""


INVALID = Invalid()


@dataclass
class Checker:
    """Turns nodes into values; `folder` is where relative paths start."""

    registry: Registry
    folder: str
    problems: Problems = field(default_factory=Problems)

    def value(self, node: Node, hint: Any, path: Path) -> Any:
        """Return the value of a node that fits a hint, or `INVALID` once the problem is noted."""
        members = members_of(hint)
        if node.value is None and any(member in (None, type(None)) for member in members):
            return None
        for member in members:
            if MODEL in metadata_of(member):
                return check_model(self, node, path) or INVALID
            if isinstance(member, type) and issubclass(member, BaseModel):
                return self.section(node, member, path)
            kind = self.registry.kind_of(member)
            if kind is not None and self._is_element(node, kind, members):
                element = self.element(node, kind, path)
                return INVALID if element is None else element
        if isinstance(node.value, list):
            for member in members:
                if (item := item_hint(member)) is not None:
                    return self._collect([self.value(n, item, (*path, i)) for i, n in enumerate(node.value)])
                fixed = fixed_hints(member)
                if fixed is not None and len(fixed) == len(node.value):
                    checked = [
                        self.value(n, h, (*path, i)) for i, (n, h) in enumerate(zip(node.value, fixed, strict=True))
                    ]
                    return self._collect(checked)
        if isinstance(node.value, dict):
            for member in members:
                if (item := mapped_hint(member)) is not None:
                    values = {key: self.value(n, item, (*path, key)) for key, n in node.value.items()}
                    return INVALID if INVALID in values.values() else values
        return self._leaf(node, hint, path)

    def element(
        self, node: Node, kind: str, path: Path, beside: Collection[str] = (), spared: str = ""
    ) -> Element | None:
        """Return the element that a node describes: `{type: ReLU}`, or `ReLU` alone.

        `beside` are keys that belong to whoever holds the element, `spared` a required argument that may be missing.
        """
        named = self._type_node(node, kind, path)
        if named is None:
            return None
        name = str(named.value)
        factory = self.registry.find(kind, name)
        if factory is None:
            elsewhere = self.registry.kind_elsewhere(name)
            hint = (
                type_hint(name, self.registry.names(kind))
                if elsewhere is None
                else f": it is {with_article(elsewhere)}"
            )
            place_path = path if named is node else (*path, "type")
            self.problems.add(named.place, place_path, f"unknown {kind} {name!r}{hint}")
            return None
        signature = signature_of(factory)
        arguments = self.arguments(node, signature, path, name, beside=("type", *beside), spared=spared)
        if arguments is None:
            return None
        places = {key: item.place for key, item in node.value.items()} if isinstance(node.value, dict) else {}
        element = Element(name, factory, arguments, path, node.place, places)
        try:
            # What no type hint says, the constructor does. A width that is left to the data is a guess here.
            element.build(**({spared: 1} if spared and spared not in arguments else {}))
        except InvalidConfig as error:
            self.problems.found += [problem for problem in error.found if problem not in self.problems.found]
            return None
        return element

    def arguments(
        self, node: Node, signature: Signature, path: Path, owner: str, beside: Collection[str] = (), spared: str = ""
    ) -> dict[str, Any] | None:
        """Return the checked arguments that a mapping gives to a signature, or None when one has a problem."""
        entries = node.value if isinstance(node.value, dict) else {}
        values: dict[str, Any] = {}
        hints = ""
        for key, item in entries.items():
            if key in beside:
                continue
            argument = signature.arguments.get(key)
            if argument is not None:
                values[key] = self.value(item, argument.annotation, (*path, key))
            elif signature.is_open:
                values[key] = item.plain()
            else:
                hint = setting_hint(key, [*beside, *signature.arguments], SECTIONS)
                hints += hint.partition(";")[0]
                self.problems.add(node.keys[key], (*path, key), f"unknown key{hint}")
                values[key] = INVALID
        for name, argument in signature.arguments.items():
            if not argument.is_required or name in entries or name == spared:
                continue
            values[name] = INVALID
            if repr(name) not in hints:  # otherwise it is there, misspelt, and the hint says so
                self.problems.add(node.place, path, self._missing(argument, owner))
        return None if INVALID in values.values() else values

    def section(self, node: Node, section: type[BaseModel], path: Path) -> Any:
        """Return a section of fixed keys as its pydantic model, or `INVALID`."""
        if not isinstance(node.value, dict):
            keys = ", ".join(section.model_fields)
            self.problems.add(node.place, path, f"must be a mapping with the keys {keys}, not {shown(node.plain())}")
            return INVALID
        values = self.arguments(node, signature_of(section), path, dotted(path) or "the configuration")
        return INVALID if values is None else section(**values)

    def _missing(self, argument: Argument, owner: str) -> str:
        wanted = "" if argument.annotation is Any else f" ({phrase(argument.annotation).replace(' ({type: ...})', '')})"
        return f"{owner} needs {argument.name!r}{wanted}"

    def _is_element(self, node: Node, kind: str, members: tuple[Any, ...]) -> bool:
        if isinstance(node.value, dict):
            return "type" in node.value or not any(mapped_hint(member) is not None for member in members)
        if isinstance(node.value, str):
            takes_text = any(bare(member) is str or get_origin(bare(member)) is Literal for member in members)
            is_name = self.registry.kinds[kind].text_is_name or self.registry.find(kind, node.value) is not None
            return is_name or not takes_text
        return len(members) == 1

    def _type_node(self, node: Node, kind: str, path: Path) -> Node | None:
        example = f"{{type: {next(iter(self.registry.names(kind)), 'Name')}}}"
        if isinstance(node.value, str):
            return node
        if not isinstance(node.value, dict):
            wanted = f"must be {with_article(kind)}, such as {example}"
            self.problems.add(node.place, path, f"{wanted}, not {shown(node.plain())}")
            return None
        if "type" not in node.value:
            meant = next((key for key in node.value if did_you_mean(key, ["type"])), None)
            hint = f", did you mean 'type' where it says {meant!r}?" if meant else f": write {example}"
            self.problems.add(node.place, path, f"the type of the {kind} is missing{hint}")
            return None
        named = node.value["type"]
        if not isinstance(named.value, str):
            wanted = f"must be the name of {with_article(kind)}"
            self.problems.add(named.place, (*path, "type"), f"{wanted}, not {shown(named.plain())}")
            return None
        return named

    def _collect(self, values: list[Any]) -> Any:
        return INVALID if INVALID in values else values

    def _element_names(self, hint: Any) -> list[str]:
        kinds = [kind for member in members_of(hint) if (kind := self.registry.kind_of(member)) is not None]
        return [name for kind in kinds for name in self.registry.names(kind)]

    def _leaf(self, node: Node, hint: Any, path: Path) -> Any:
        value = node.plain()
        # Whatever could be an element was tried as one; what is left are plain values.
        plain = tuple(member for member in members_of(hint) if self.registry.kind_of(member) is None)
        adapter = adapter_of(hint if len(plain) == len(members_of(hint)) else _union(plain))
        if adapter is None:
            return value
        try:
            checked = adapter.validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            self.problems.add(node.place, path, _objection(error, hint, value, self._element_names(hint)))
            return INVALID
        if isinstance(value, str) and any(map(is_path, members_of(hint))):
            if "\0" in value or not value:
                self.problems.add(node.place, path, f"must be a path, not {shown(value)}")
                return INVALID
            return ConfigPath(os.path.normpath(os.path.join(self.folder, os.path.expanduser(value))))
        # What pydantic makes of plain values (tuples, sets) is not what YAML could say again.
        return checked if isinstance(checked, bool | int | float | str) else value


def _objection(error: ValidationError, hint: Any, value: Any, names: Collection[str]) -> str:
    """Say what is wrong: a bound that is broken, or else what kind of value the hint asks for."""
    bounds = (
        "greater_than",
        "less_than",
        "multiple_of",
        "finite_number",
        "string_too",
        "too_short",
        "too_long",
        "value_error",
    )
    for found in error.errors(include_url=False):
        if found["type"].startswith(bounds):
            message = found["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            return message if found["type"] == "value_error" else f"{message}, not {shown(value)}"
    choices = [c for member in members_of(hint) if get_origin(bare(member)) is Literal for c in get_args(bare(member))]
    guess = (
        did_you_mean(value, [*names, *(choice for choice in choices if isinstance(choice, str))])
        if isinstance(value, str)
        else ""
    )
    return f"must be {phrase(hint)}, not {shown(value)}{guess}"


def _union(hints: tuple[Any, ...]) -> Any:
    return Union[hints] if hints else NoneType  # noqa: UP007 - the hints are known at run time only


def adapter_of(hint: Any) -> TypeAdapter[Any] | None:
    """Return the validator of a hint, or None for one that is of no plain values (an array): nothing can be said."""
    try:
        return _cached_adapter(hint)
    except TypeError:  # a hint that cannot be hashed, such as `Annotated[float, Field(gt=0)]`
        return _cached_adapter.__wrapped__(hint)


@lru_cache(maxsize=1024)
def _cached_adapter(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError):
        return None
