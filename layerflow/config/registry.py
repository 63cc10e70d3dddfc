"""The types a configuration may name, by kind; your own are added from Python, by `--import` or by entry point.

A configuration file alone never causes code to run: modules are imported only when the command line names them, and
an installed package's gate only when the file names its type and no other type has that name.
"""

import importlib
import importlib.util
import inspect
import sys
import traceback
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Self

from layerflow.config.signatures import MODEL, ElementKind, bare, metadata_of
from layerflow.data import READERS, SCALERS, Reader, Scaler
from layerflow.errors import ConfigError
from layerflow.gate import Gate
from layerflow.gates import GATES, LOSSES, REGULARIZERS
from layerflow.gates.affine import INITIALIZERS, Initializer
from layerflow.training.optimizers import OPTIMIZERS, Optimizer
from layerflow.training.schedules import SCHEDULES, Schedule

ENTRY_POINT_GROUP = "layerflow.gates"
Factory = Callable[..., Any]


@dataclass
class Kind:
    """One kind of element.

    Attributes:
        name: what it is called in messages.
        types: the types known by name.
        base: what your own types of this kind are subclasses of.
        fits: which subclasses of `base` belong to it.
        text_is_name: whether text always names a type, even where the hint takes other text too.
        aliases: names in `types` that are another spelling of a type.
    """

    name: str
    types: dict[str, Factory]
    base: type | None = None
    text_is_name: bool = False
    aliases: frozenset[str] = frozenset()
    fits: Callable[[Any], bool] = lambda target: True

    def accepts(self, target: object) -> bool:
        """Whether a class that was imported belongs to this kind."""
        is_one = self.base is not None and isinstance(target, type) and issubclass(target, self.base)
        return is_one and not inspect.isabstract(target) and self.fits(target)


@dataclass
class Registry:
    """Every kind by name. `Registry.builtin()` has what layerflow ships; each configuration is loaded with its own.

    Attributes:
        kinds: the kinds by name.
        own: the types that were added.
    """

    kinds: dict[str, Kind]
    own: dict[str, Factory] = field(default_factory=dict)

    @cached_property
    def entry_points(self) -> list[EntryPoint]:
        """The gates that installed packages offer; each is imported when its name is used."""
        return list(entry_points(group=ENTRY_POINT_GROUP))

    @classmethod
    def builtin(cls, imports: Iterable[str] = ()) -> Self:
        """Return the built-in types, and those of `imports`: Python files or modules (`--import`)."""
        registry = cls({kind.name: kind for kind in _builtin_kinds()})
        for name in imports:
            registry.import_types(name)
        return registry

    def find(self, kind: str, name: str) -> Factory | None:
        """Return the type called `name`, from an installed package's entry point if no other type has that name."""
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

    def add(self, target: Factory, origin: str = "", name: str | None = None) -> None:
        """Add a type of your own to every kind it fits; a name that is taken is a `ConfigError`."""
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


_KINDS_BY_HINT: dict[Any, str] = {
    Gate: "gate",
    Optimizer: "optimizer",
    Schedule: "schedule",
    Reader: "reader",
    Scaler: "scaler",
    Initializer: "initializer",
}


def kind_of(hint: Any) -> str | None:
    """Return the kind of element that a type hint asks for: by its mark, or because it is the kind's base class."""
    marked = [mark.name for mark in metadata_of(hint) if isinstance(mark, ElementKind)]
    return marked[0] if marked else next((kind for base, kind in _KINDS_BY_HINT.items() if bare(hint) is base), None)


def _builtin_kinds() -> list[Kind]:
    """Return every kind with its built-in types, in fresh dicts that can be added to."""
    losses: dict[str, Factory] = {name: GATES[name] for name in LOSSES}
    regularizers: dict[str, Factory] = {name: GATES[name] for name in REGULARIZERS}
    layers = {name: gate for name, gate in GATES.items() if name not in (*LOSSES, *REGULARIZERS)}
    lower_case = {name.lower(): initializer for name, initializer in INITIALIZERS.items()}
    named: dict[str, Factory] = {**INITIALIZERS, **lower_case}
    return [
        Kind("gate", {**layers, "Sequential": _sequential, "ComputationalGraph": _graph}, Gate),
        Kind("loss", losses, Gate, fits=_takes_two_inputs),
        Kind("regularizer", regularizers, Gate),
        Kind("optimizer", dict(OPTIMIZERS), Optimizer),
        Kind("schedule", dict(SCHEDULES), Schedule),
        Kind("reader", dict(READERS), Reader),
        Kind("scaler", dict(SCALERS), Scaler),
        Kind("initializer", named, text_is_name=True, aliases=frozenset(lower_case)),
    ]


def _sequential(gates: Annotated[Any, MODEL]) -> Gate:
    """Gates one after another, as one gate of the model."""
    nested: Gate = gates
    return nested


def _graph(graph: Annotated[Any, MODEL]) -> Gate:
    """A graph `{inputs: [x], gates: [...], output: name}`, as one gate of the model."""
    nested: Gate = graph
    return nested


def _takes_two_inputs(target: Any) -> bool:
    parameters = list(inspect.signature(target.forward).parameters.values())[1:]
    positional = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 or any(item.kind is item.VAR_POSITIONAL for item in parameters)


# Your own code ------------------------------------------------------------------------------------------------------


def import_code(name: str) -> ModuleType:
    """Import `my_layers.py` (a file, from the current folder) or `my.layers` (a module); a file runs once per process.

    Raises:
        ConfigError: it does not exist, or running it failed; the message shows the line of your own code.
    """
    is_file = name.endswith(".py") or "/" in name
    try:
        if not is_file:
            return importlib.import_module(name)
        if not Path(name).is_file():
            raise ConfigError("no such file")
        return _import_file(Path(name).resolve())
    except ConfigError as error:
        message = str(error)
    except (Exception, SystemExit) as error:
        if not is_file and isinstance(error, ModuleNotFoundError) and error.name == name.split(".")[0]:
            message = "no such module" + (f", did you mean --import {name}.py?" if Path(f"{name}.py").exists() else "")
        else:
            message = _explain(error, name, is_file)
    raise ConfigError(f"--import {name}: {message}")


def reason(error: BaseException) -> str:
    """Return the kind of an exception and its message on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _import_file(file: Path) -> ModuleType:
    # The checksum tells two files of the same name apart.
    module_name = f"imported_{file.stem}_{zlib.crc32(str(file).encode()):08x}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ConfigError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    finally:
        sys.path.remove(str(file.parent))
    return module


def _explain(error: BaseException, name: str, is_file: bool) -> str:
    """Return the error with the last line of your own code that led to it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}\n    {(error.text or '').strip()}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    theirs = [frame for frame in frames if Path(frame.filename).resolve() == Path(name).resolve()] if is_file else []
    for frame in reversed(theirs or frames):
        if frame.filename != __file__:
            return f"{frame.filename}:{frame.lineno}: {reason(error)}\n    {frame.line}"
    return reason(error)
