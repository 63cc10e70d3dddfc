"""Which settings a type takes: read from its constructor's real signature and type hints, or from a pydantic model."""

import contextlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

REQUIRED = inspect.Parameter.empty


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
    """Return the settings that a class (its `__init__`), a function or a pydantic model (its fields) takes."""
    if inspect.isclass(target) and issubclass(target, BaseModel):
        return Signature({name: _field(name, info) for name, info in target.model_fields.items()})
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
    described: dict[str, list[str]] = {}
    for documented in (target, getattr(target, "__init__", None)):
        lines = (inspect.getdoc(documented) or "").splitlines()
        start = next((number for number, line in enumerate(lines) if line.strip() in ("Args:", "Arguments:")), None)
        if start is None:
            continue
        indent, current = 0, None
        for line in lines[start + 1 :]:
            depth = len(line) - len(line.lstrip())
            if not line.strip() or depth == 0:
                break
            indent = indent or depth
            name, colon, text = line.strip().partition(":")
            if depth == indent and colon and name.split(" ")[0].isidentifier():
                current = described.setdefault(name.split(" ")[0], [])
                current.append(text.strip())
            elif current is not None:
                current.append(line.strip())
    return {name: " ".join(parts).strip() for name, parts in described.items()}


def _field(name: str, info: Any) -> Argument:
    annotation = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    default = info.get_default(call_default_factory=True)
    return Argument(name, annotation, REQUIRED if default is PydanticUndefined else default, info.description or "")


def _hints(function: Any) -> dict[str, Any]:
    """Return the type hints of a function, each by itself: one that cannot be resolved leaves the others checked."""
    hints: dict[str, Any] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        with contextlib.suppress(NameError, TypeError, AttributeError, SyntaxError):
            alone = SimpleNamespace(__annotations__={name: hint})
            hints |= typing.get_type_hints(alone, getattr(function, "__globals__", {}), include_extras=True)
    return hints
