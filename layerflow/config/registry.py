"""The types a configuration may name, by kind; a person's own are added from Python, by `--import` or by entry point.

A configuration file alone never causes code to run: modules are imported only when the command line names them, and
an installed package's gate only when the file names its type and nothing else is called so.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Self

from layerflow.config.hints import ElementKind, bare, metadata_of
from layerflow.config.importing import import_code, reason
from layerflow.errors import ConfigError

ENTRY_POINT_GROUP = "layerflow.gates"
Factory = Callable[..., Any]


@dataclass
class Kind:
    """One kind of element.

    Attributes:
        name: what it is called in messages.
        types: the types known by name.
        base: what a person's own types of this kind are subclasses of.
        hint: the type hint that asks for an element of this kind; `base` when left out.
        fits: which subclasses of `base` belong to it.
        text_is_name: whether text always names a type, even where the hint takes other text too.
        aliases: names in `types` that are another spelling of a type.
    """

    name: str
    types: dict[str, Factory]
    base: type | None = None
    hint: Any = None
    text_is_name: bool = False
    aliases: frozenset[str] = frozenset()
    fits: Callable[[Any], bool] = lambda target: True

    def accepts(self, target: object) -> bool:
        """Whether a class that was imported belongs to this kind."""
        is_one = self.base is not None and isinstance(target, type) and issubclass(target, self.base)
        return is_one and not inspect.isabstract(target) and self.fits(target)


@dataclass
class Registry:
    """Every kind by name. `Registry.builtin()` has what layerflow ships; each configuration is loaded with its own."""

    kinds: dict[str, Kind]
    own: dict[str, Factory] = field(default_factory=dict)

    @cached_property
    def entry_points(self) -> list[EntryPoint]:
        """The gates that installed packages offer; none is imported before its name is used."""
        return list(entry_points(group=ENTRY_POINT_GROUP))

    @classmethod
    def builtin(cls, imports: Iterable[str] = ()) -> Self:
        """Return the built-in types, and those of `imports`: Python files or modules (`--import`)."""
        from layerflow.config.builtin import builtin_kinds

        registry = cls({kind.name: kind for kind in builtin_kinds()})
        for name in imports:
            registry.import_types(name)
        return registry

    def find(self, kind: str, name: str) -> Factory | None:
        """Return the type called `name`, from an installed package's entry point if nothing else is called so."""
        if name not in self.kinds[kind].types and self.kinds[kind].base is self.kinds["gate"].base:
            for point in self.entry_points:
                if point.name == name:
                    self.add(_load(point), origin=f"entry point {point.value!r}", name=name)
        return self.kinds[kind].types.get(name)

    def names(self, kind: str) -> list[str]:
        """Return the names that `find` knows, built-in ones first."""
        names = list(self.kinds[kind].types)
        if self.kinds[kind].base is self.kinds["gate"].base:
            names += [point.name for point in self.entry_points if point.name not in names]
        return names

    def kind_elsewhere(self, name: str) -> str | None:
        """Return the kind that has a type called `name`."""
        return next((kind.name for kind in self.kinds.values() if name in kind.types), None)

    def kind_of(self, hint: Any) -> str | None:
        """Return the kind of element that a type hint asks for: by its mark, or because it is the kind's base class."""
        for mark in metadata_of(hint):
            if isinstance(mark, ElementKind):
                return mark.name
        hint = bare(hint)
        return next(
            (name for name, kind in self.kinds.items() if hint is not None and hint in (kind.hint, kind.base)), None
        )

    def name_of(self, target: Factory) -> str | None:
        """Return the name under which `target` can be found again."""
        for kind in self.kinds.values():
            for name, known in kind.types.items():
                if known is target:
                    return name
        return None

    def add(self, target: Factory, origin: str = "", name: str | None = None) -> None:
        """Add a person's own type to every kind it fits; a name that is taken is a `ConfigError`."""
        name = name or target.__name__
        prefix = f"{origin}: " if origin else ""
        kinds = [kind for kind in self.kinds.values() if kind.accepts(target)]
        if not kinds:
            bases = sorted({kind.base.__name__ for kind in self.kinds.values() if kind.base is not None})
            raise ConfigError(
                f"{prefix}{name!r} is no subclass of {', '.join(bases)}, so a configuration cannot use it"
            )
        for kind in kinds:
            known = kind.types.get(name)
            if known is not None and known is not target:
                owner = f"the one in {known.__module__}" if name in self.own else "a built-in type"
                raise ConfigError(f"{prefix}{name!r} is also the name of {owner}: give yours another name")
        for kind in kinds:
            kind.types[name] = target
        self.own[name] = target

    def import_types(self, name: str) -> None:
        """Import a Python file or a module and add the gates, optimizers, schedules, ... that it defines."""
        module = import_code(name)
        targets = {
            id(target): target
            for word, target in vars(module).items()
            if isinstance(target, type) and not word.startswith("_") and not target.__module__.startswith("layerflow.")
        }
        usable = [target for target in targets.values() if any(kind.accepts(target) for kind in self.kinds.values())]
        if not usable:
            raise ConfigError(f"--import {name}: defines no gate, loss, optimizer, schedule or reader that can be used")
        for target in usable:
            self.add(target, origin=f"--import {name}")


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        package = f" of the package {point.dist.name!r}" if point.dist else ""
        raise ConfigError(f"the gate {point.name!r}{package} cannot be imported: {reason(error)}") from None
