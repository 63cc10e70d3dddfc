"""Type hints as the checks see them: what is an element, what is a path, and how to say it to a person."""

import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

PATH = "path"
_LISTS: tuple[Any, ...] = (list, Sequence, Iterable, Collection)
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    None: "null",
    type(None): "null",
}


@dataclass(frozen=True)
class ElementKind:
    """Marks a hint whose value is an element `{type: ...}` of this kind: `Annotated[Any, ElementKind("reader")]`."""

    name: str


MODEL = "model"
"""Marks a hint whose value is a model, as the `model` section writes it: `Annotated[Any, MODEL]`."""


def metadata_of(hint: Any) -> tuple[Any, ...]:
    """Return what `Annotated` adds to a hint."""
    return tuple(hint.__metadata__) if typing.get_origin(hint) is Annotated else ()


def bare(hint: Any) -> Any:
    """Return a hint without its `Annotated`."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union; any other hint is its only one."""
    if typing.get_origin(bare(hint)) in (Union, types.UnionType):
        return tuple(member for part in typing.get_args(bare(hint)) for member in members_of(part))
    return (hint,)


def is_path(hint: Any) -> bool:
    """Whether a hint is that of a file or folder (see `layerflow.data.paths.DataPath`)."""
    return PATH in metadata_of(hint)


def item_hint(hint: Any) -> Any | None:
    """Return the hint of a list's items (`Any` when it says none), or None when `hint` is no list of any length."""
    origin, arguments = typing.get_origin(bare(hint)) or bare(hint), typing.get_args(bare(hint))
    if origin in _LISTS:
        return arguments[0] if arguments else Any
    if origin is tuple and (not arguments or arguments[-1] is Ellipsis):
        return arguments[0] if arguments else Any
    return None


def fixed_hints(hint: Any) -> tuple[Any, ...] | None:
    """Return the hints of a tuple of fixed length, or None."""
    arguments = typing.get_args(bare(hint))
    is_fixed = typing.get_origin(bare(hint)) is tuple and arguments and arguments[-1] is not Ellipsis
    return arguments if is_fixed else None


def mapped_hint(hint: Any) -> Any | None:
    """Return the hint of a mapping's values, or None when `hint` is no mapping."""
    origin, arguments = typing.get_origin(bare(hint)) or bare(hint), typing.get_args(bare(hint))
    if origin in (dict, Mapping):
        return arguments[1] if arguments else Any
    return None


def phrase(hint: Any) -> str:
    """Say what a hint asks for: `a number, a list of numbers or null`."""
    parts: list[str] = []
    for member in members_of(hint):
        parts += [word for word in _phrases(member) if word not in parts]
    if "a number" in parts and "a whole number" in parts:
        parts.remove("a whole number")
    parts.sort(key=lambda part: part == "null")
    return listed(parts) or "a plain value"


def with_article(noun: str) -> str:
    """Put `a` or `an` before a noun."""
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does: `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)


def shown(value: object) -> str:
    """Say what was given instead: `the text 'abc'`, `a list`, `-3`."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return f"the text {value[:37] + '...' if len(value) > 40 else value!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping"
    return repr(value)


def _phrases(hint: Any) -> list[str]:
    for mark in metadata_of(hint):
        if isinstance(mark, ElementKind):
            return [f"{with_article(mark.name)} ({{type: ...}})"]
    if MODEL in metadata_of(hint):
        return ["a list of gates"]
    if is_path(hint):
        return ["a path"]
    hint = bare(hint)
    if typing.get_origin(hint) is Literal:
        return [repr(choice) if isinstance(choice, str) else shown(choice) for choice in typing.get_args(hint)]
    if (fixed := fixed_hints(hint)) is not None:
        return [f"a list of {len(fixed)} ({', '.join(map(phrase, fixed))})"]
    if (item := item_hint(hint)) is not None:
        return ["a list" if item is Any else f"a list (each item {phrase(item)})"]
    if mapped_hint(hint) is not None:
        return ["a mapping"]
    if hint is bool:
        return ["true", "false"]
    try:
        return [_WORDS[hint]]
    except (KeyError, TypeError):
        return (
            [f"{with_article(hint.__name__)} ({{type: ...}})"]
            if isinstance(hint, type) and hint.__module__ != "builtins"
            else []
        )
