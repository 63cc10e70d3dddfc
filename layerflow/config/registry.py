"""The types a configuration may name, by kind, and the settings that each takes; your own types can be added.

A configuration file alone never causes code to run: modules are imported only when the command line names them, and
an installed package's gate only when the file names its type and no other type has that name.
"""

import contextlib
import copy
import importlib
import importlib.util
import inspect
import re
import sys
import textwrap
import traceback
import typing
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, Self

from layerflow.blocks import Parallel, Recurrent, Residual
from layerflow.containers.sequential import Sequential
from layerflow.data import AUGMENTATIONS, READERS, SCALERS, Augmentation, Reader, Scaler
from layerflow.errors import ConfigError
from layerflow.gate import Gate
from layerflow.gates import GATES, LOSSES, REGULARIZERS
from layerflow.gates.initializers import INITIALIZERS, Initializer
from layerflow.training.adaptive import OPTIMIZERS
from layerflow.training.averaging import AVERAGINGS, Averaging
from layerflow.training.callbacks import Callback
from layerflow.training.optimizers import Optimizer
from layerflow.training.schedules import SCHEDULES, Schedule
from layerflow.training.trackers import TRACKERS

ENTRY_POINT_GROUP = "layerflow.gates"
REQUIRED = inspect.Parameter.empty
BASES: dict[str, type] = {
    "gate": Gate,
    "loss": Gate,
    "regularizer": Gate,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "reader": Reader,
    "scaler": Scaler,
    "augmentation": Augmentation,
    "averaging": Averaging,
    "callback": Callback,
}
"""What your own types of each kind are subclasses of."""

HINTS: dict[str, Any] = BASES | {"initializer": Initializer}
"""The type hint that asks for each kind; the first one of those that share it."""

_ARGUMENT = re.compile(r"^(\w+)(?: .*?)?:(.*(?:\n[ \t]+.*)*)", re.MULTILINE)
Factory = Callable[..., Any]


@dataclass(frozen=True)
class ElementKind:
    """Marks a hint whose value is an element `{type: ...}` of this kind: `Annotated[Any, ElementKind("reader")]`."""

    name: str


MODEL = ElementKind("model")
"""Marks a hint whose value is a model, as the `model` section writes it."""


# Settings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Argument:
    """One setting of a type.

    Attributes:
        name: its name.
        annotation: its type hint; `Any` when there is none.
        default: its default, or `REQUIRED`.
        description: what the docstring says about it.
        is_variadic: whether it is `*arguments`, which a configuration writes as a list.
    """

    name: str
    annotation: Any
    default: Any
    description: str
    is_variadic: bool

    @property
    def is_required(self) -> bool:
        """Whether the setting has to be written."""
        return self.default is REQUIRED


@lru_cache(maxsize=1024)
def signature_of(target: Factory) -> dict[str, Argument]:
    """Return the settings that a class (its `__init__`) or a function takes, all but those of `**arguments`."""
    hints, documented = _hints(_function(target)), _argument_descriptions(target)
    arguments = {}
    for item in _parameters(target):
        if item.kind is not item.VAR_KEYWORD:
            hint, default, is_variadic = hints.get(item.name, Any), item.default, item.kind is item.VAR_POSITIONAL
            if is_variadic:
                hint, default = list[hint], []  # type: ignore[valid-type]  # the hint is a value, known at run time
            arguments[item.name] = Argument(item.name, hint, default, documented.get(item.name, ""), is_variadic)
    return arguments


def is_open(target: Factory) -> bool:
    """Whether a type takes further settings by `**arguments`, whose names cannot be checked."""
    return any(item.kind is item.VAR_KEYWORD for item in _parameters(target))


def summary_of(target: Any) -> str:
    """Return the first paragraph of the docstring on one line."""
    return " ".join((inspect.getdoc(target) or "").split("\n\n")[0].split())


def _function(target: Factory) -> Any:
    return target.__init__ if inspect.isclass(target) else target


def _parameters(target: Factory) -> list[inspect.Parameter]:
    function = _function(target)
    if function is object.__init__:
        return []
    return list(inspect.signature(function).parameters.values())[1 if inspect.isclass(target) else 0 :]


def _argument_descriptions(target: Any) -> dict[str, str]:
    """Return what the `Args:` part of the docstrings of a class and its constructor says about each argument."""
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


# Types -------------------------------------------------------------------------------------------------------------


@dataclass
class Registry:
    """Every type. `Registry.builtin()` has what layerflow ships; each configuration is loaded with its own.

    Attributes:
        types: the types of each kind, by name.
        own: the types that were added.
    """

    types: dict[str, dict[str, Factory]]
    own: dict[str, Factory] = field(default_factory=dict)

    @cached_property
    def entry_points(self) -> list[EntryPoint]:
        """The gates that installed packages offer; each is imported when its name is used."""
        return list(entry_points(group=ENTRY_POINT_GROUP))

    @classmethod
    def builtin(cls, imports: Iterable[str] = ()) -> Self:
        """Return the built-in types, and those of `imports`: Python files or modules (`--import`)."""
        registry = cls(_builtin_types())
        for name in imports:
            registry.import_types(name)
        return registry

    def find(self, kind: str, name: str) -> Factory | None:
        """Return the type called `name`, from an installed package's entry point if no other type has that name."""
        if name not in self.types[kind] and BASES.get(kind) is Gate:
            for point in self.entry_points:
                if point.name == name:
                    self.add(_load(point), origin=f"entry point {point.value!r}", name=name)
        return self.types[kind].get(name)

    def names(self, kind: str) -> list[str]:
        """Return the names that `find` knows, built-in ones first."""
        names = list(self.types[kind])
        if BASES.get(kind) is Gate:
            names += [point.name for point in self.entry_points if point.name not in names]
        return names

    def add(self, target: Factory, origin: str = "", name: str | None = None) -> None:
        """Add a type of your own to every kind it fits; a name that is taken is a `ConfigError`."""
        name = name or target.__name__
        prefix = f"{origin}: " if origin else ""
        kinds = kinds_of(target)
        if not kinds:
            bases = ", ".join(sorted({base.__name__ for base in BASES.values()}))
            raise ConfigError(f"{prefix}{name!r} is no subclass of {bases}, so a configuration cannot use it")
        for kind in kinds:
            known = self.types[kind].get(name)
            if known is not None and known is not target:
                owner = f"the one in {known.__module__}" if name in self.own else "a built-in type"
                raise ConfigError(f"{prefix}{name!r} is also the name of {owner}: give yours another name")
        for kind in kinds:
            self.types[kind][name] = target
        self.own[name] = target

    def import_types(self, name: str) -> None:
        """Import a Python file or a module and add the gates, optimizers, schedules, ... that it defines."""
        module = import_code(name)
        targets = {
            id(target): target
            for word, target in vars(module).items()
            if isinstance(target, type) and not word.startswith("_") and not target.__module__.startswith("layerflow.")
        }
        usable = [target for target in targets.values() if kinds_of(target)]
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


def kinds_of(target: object) -> list[str]:
    """Return the kinds that a class of your own belongs to."""
    if not isinstance(target, type) or inspect.isabstract(target):
        return []
    kinds = [kind for kind, base in BASES.items() if issubclass(target, base)]
    return kinds if "loss" not in kinds or _takes_two_inputs(target) else [kind for kind in kinds if kind != "loss"]


def _builtin_types() -> dict[str, dict[str, Factory]]:
    """Return the types that layerflow ships, in fresh dicts that can be added to."""
    layers = {name: gate for name, gate in GATES.items() if name not in (*LOSSES, *REGULARIZERS)}
    return {
        "gate": {
            **layers,
            "Sequential": _sequential,
            "ComputationalGraph": _graph,
            "Residual": _residual,
            "Parallel": _parallel,
            "Recurrent": Recurrent,
            "Repeat": _repeat,
        },
        "loss": {name: GATES[name] for name in LOSSES},
        "regularizer": {name: GATES[name] for name in REGULARIZERS},
        "optimizer": dict(OPTIMIZERS),
        "schedule": dict(SCHEDULES),
        "reader": dict(READERS),
        "scaler": dict(SCALERS),
        "augmentation": dict(AUGMENTATIONS),
        "averaging": dict(AVERAGINGS),
        "callback": dict(TRACKERS),
        "initializer": {**INITIALIZERS, **{name.lower(): made for name, made in INITIALIZERS.items()}},
    }


def _sequential(gates: Annotated[Any, MODEL]) -> Any:
    """Gates one after another, as one gate of the model."""
    return gates


def _graph(graph: Annotated[Any, MODEL]) -> Any:
    """A graph `{inputs: [x], gates: [...], output: name}`, as one gate of the model."""
    return graph


def _residual(gates: Annotated[Any, MODEL]) -> Any:
    """y = x + f(x), f being the gates in a row."""
    return _held(Residual, gates)


def _parallel(gates: Annotated[Any, MODEL], join: str = "concatenate", axis: int = -1, shared: bool = True) -> Any:
    """Gates as branches beside each other, joined.

    Args:
        gates: the branches; one of several gates is a Sequential.
        join: "concatenate" or "sum".
        axis: along which the outputs are concatenated: 1 for the channels of images, the last one for features.
        shared: whether all branches have the same input, or each its own.
    """
    return _held(Parallel, gates, join=join, axis=axis, shared=shared)


def _held(kind: Any, gates: Sequential, **options: Any) -> Any:
    """Return a block of the gates in a row, by position where they have no names."""
    is_named = not all(map(str.isdigit, gates.gates))
    return kind(**gates.gates, **options) if is_named else kind(*gates, **options)


def _repeat(repeat: int, gates: Annotated[Any, MODEL]) -> Any:
    """The same gates several times in a row, each time with parameters of their own.

    Args:
        repeat: how many times.
        gates: the gates in a row.
    """
    if repeat < 1:
        raise ValueError(f"repeat: must be 1 or more, not {repeat}")
    return Sequential(gates, *[copy.deepcopy(gates) for _ in range(repeat - 1)])


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
