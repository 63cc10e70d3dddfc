"""Which settings a type takes, read from its constructor's signature, type hints and docstring."""

import contextlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Annotated, Any, Union

REQUIRED = inspect.Parameter.empty
PATH = "path"
MODEL = "model"
"""Marks a hint whose value is a model, as the `model` section writes it: `Annotated[Any, MODEL]`."""

_ARGUMENT = re.compile(r"^(\w+)(?: .*?)?:(.*(?:\n[ \t]+.*)*)", re.MULTILINE)
_LISTS: tuple[Any, ...] = (list, Sequence, Iterable, Collection)


@dataclass(frozen=True)
class ElementKind:
    """Marks a hint whose value is an element `{type: ...}` of this kind: `Annotated[Any, ElementKind("reader")]`."""

    name: str


@dataclass(frozen=True)
class Argument:
    """One setting: its name, its type hint (`Any` when there is none), its default or `REQUIRED`."""

    name: str
    annotation: Any
    default: Any = REQUIRED
    description: str = ""
    is_variadic: bool = False

    @property
    def is_required(self) -> bool:
        """Whether the setting has to be written."""
        return self.default is REQUIRED


@dataclass(frozen=True)
class Signature:
    """All settings of a type; `is_open` when it takes further ones by `**`, whose names cannot be checked."""

    arguments: dict[str, Argument]
    is_open: bool = False


@lru_cache(maxsize=1024)
def signature_of(target: Callable[..., Any]) -> Signature:
    """Return the settings that a class (its `__init__`) or a function takes."""
    function = target.__init__ if inspect.isclass(target) else target
    if function is object.__init__:
        return Signature({})
    parameters = list(inspect.signature(function).parameters.values())[1 if inspect.isclass(target) else 0 :]
    hints = _hints(function)
    documented = argument_descriptions(target)
    arguments = {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        hint = hints.get(parameter.name, Any)
        is_variadic = parameter.kind is parameter.VAR_POSITIONAL
        arguments[parameter.name] = Argument(
            parameter.name,
            list[hint] if is_variadic else hint,  # type: ignore[valid-type]  # the hint is a value, known at run time
            [] if is_variadic else parameter.default,
            documented.get(parameter.name, ""),
            is_variadic,
        )
    return Signature(arguments, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters))


def summary_of(target: Any) -> str:
    """Return the first paragraph of the docstring on one line."""
    return " ".join((inspect.getdoc(target) or "").split("\n\n")[0].split())


def argument_descriptions(target: Any) -> dict[str, str]:
    """Return what the `Args:` part of a class's docstrings says about each argument."""
    described: dict[str, str] = {}
    for documented in (target, getattr(target, "__init__", None)):
        block = re.search(r"^Arg(?:ument)?s:\n((?:[ \t]+\S.*\n?)+)", inspect.getdoc(documented) or "", re.MULTILINE)
        for name, text in _ARGUMENT.findall(textwrap.dedent(block[1])) if block else []:
            described[name] = " ".join(text.split())
    return described


def _hints(function: Any) -> dict[str, Any]:
    """Return the type hints of a function, each by itself: one that cannot be resolved leaves the others checked."""
    hints: dict[str, Any] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        with contextlib.suppress(NameError, TypeError, AttributeError, SyntaxError):
            alone = SimpleNamespace(__annotations__={name: hint})
            hints |= typing.get_type_hints(alone, getattr(function, "__globals__", {}), include_extras=True)
    return hints


# Type hints --------------------------------------------------------------------------------------------------------


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
    """Whether a hint is that of a file or folder (see `layerflow.data.DataPath`)."""
    return PATH in metadata_of(hint)


def item_hint(hint: Any) -> Any | None:
    """Return the hint of a list's items (`Any` when it says none), or None when `hint` is no list of any length."""
    origin, arguments = typing.get_origin(bare(hint)) or bare(hint), typing.get_args(bare(hint))
    if origin in _LISTS or (origin is tuple and (not arguments or arguments[-1] is Ellipsis)):
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
