"""Models and readers as plain values, and back: what a model file keeps besides arrays. No pickle, no code."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

from layerflow.blocks import Parallel, Residual
from layerflow.config.checking import PATH, bare, members_of, metadata_of
from layerflow.config.elements import Element
from layerflow.config.plan import ModelChecker
from layerflow.config.problems import InvalidConfig, Place, Source
from layerflow.config.registry import Factory, Registry, signature_of
from layerflow.config.yaml import MAXIMUM_DEPTH, Node, parse_value
from layerflow.containers.container import Container
from layerflow.containers.graph import ComputationalGraph
from layerflow.containers.sequential import Sequential
from layerflow.data import READERS
from layerflow.data.reader import SUPPORTED, Reader, kind_by_name
from layerflow.errors import ConfigError
from layerflow.gate import Gate
from layerflow.gates.affine import TiedLinear


def describe_model(model: Gate) -> Any:
    """Return the model as the `model` section of a configuration would write it; a lone gate as one element.

    Raises:
        ConfigError: an argument of a gate cannot be written down (a function, a `Parameter`), or gates share a
            `Parameter` in a way that a description cannot express.
    """
    _refuse_shared_parameters(model)
    return _describe(model)


def rebuild_model(description: Any, registry: Registry | None = None, name: str = "model") -> Gate:
    """Return the model that `describe_model` or `ModelPlan.plain` described, without weights.

    Args:
        description: plain values, as JSON keeps them.
        registry: the types it may name; built-in ones and entry points when left out.
        name: where the description comes from, for messages.

    Raises:
        ConfigError: it is damaged, or names a type that is not known here: it has to be imported first.
    """
    node = _node(description, Place(Source(name)), depth=0).settle(("model",))
    checker = ModelChecker(registry or Registry.builtin(), ".")
    is_lone_gate = isinstance(description, str) or (isinstance(description, dict) and "gates" not in description)
    plan = checker.element(node, "gate") if is_lone_gate else checker.model(node)
    gate: Gate = plan.build()
    return gate


def rebuild_element(description: Any, kind: str, registry: Registry | None = None, name: str = "element") -> Any:
    """Return the loss, reader, ... of which `Element.plain` gave the description; see `rebuild_model`."""
    node = _node(description, Place(Source(name)), depth=0).settle((kind,))
    return ModelChecker(registry or Registry.builtin(), ".").element(node, kind).build()


def _describe(model: Gate) -> Any:
    if isinstance(model, Sequential):
        return _row(model)
    return _graph(model) if isinstance(model, ComputationalGraph) else _element(model)


def _row(model: Sequential | Residual | Parallel) -> list[Any]:
    first: dict[int, str] = {}
    described: list[Any] = []
    for index, (name, gate) in enumerate(model.gates.items()):
        known = first.setdefault(id(gate), name)
        named = {} if name == str(index) else {"name": name}
        described.append(named | (_element(gate, model.gates) if known == name else {"same_as": known}))
    return described


def _graph(model: ComputationalGraph) -> dict[str, Any]:
    names = {node.slot: name for name, node in model.nodes.items()}
    first: dict[int, str] = {}
    gates = []
    model.finish()
    gates_by_name = {name: node.gate for name, node in model.nodes.items() if node.gate is not None}
    for name, node in model.nodes.items():
        if node.gate is not None:
            known = first.setdefault(id(node.gate), name)
            gate = _element(node.gate, gates_by_name) if known == name else {"same_as": known}
            gates.append({"name": name} | gate | {"inputs": [names[slot] for slot in _reads(model, name, node.gate)]})
    return {
        "inputs": model.input_names,
        "constants": {
            names[slot]: np.asarray(value).tolist() for slot, value in model.constants.items() if slot in names
        },
        "parameters": {names[slot]: p.value.tolist() for slot, p in model.sources.items() if slot in names},
        "gates": gates,
        "output": [names[slot] for slot in model.output_slots],
    }


def _reads(model: ComputationalGraph, name: str, gate: Gate) -> tuple[int, ...]:
    """Return the slots that a gate of the graph reads; those of a nested container through its steps, laid flat."""
    if not isinstance(gate, Container):
        return next(step.reads for step in model.steps if step.name == name)
    laid = [step for step in model.steps if step.name.startswith(f"{name}.")]
    outer: dict[int, int] = {}
    for inner, step in zip(gate.steps, laid, strict=False):
        outer |= dict(zip(inner.reads, step.reads, strict=True))
    return tuple(outer[slot] for slot in gate.input_slots)


def _element(gate: Gate, beside: Mapping[str, Gate] = MappingProxyType({})) -> dict[str, Any]:
    """Return a gate as an element; `beside` are the gates among which it may name the one it is tied to."""
    if isinstance(gate, TiedLinear):
        sources = [name for name, other in beside.items() if getattr(other, "weight", None) is gate.weight]
        if not sources or beside[sources[0]] is gate:
            raise ConfigError(f"{gate!r} is tied to a gate that is not beside it, which a description cannot express")
        return {"type": "TiedLinear"} | gate.arguments | {"source": sources[0]}
    if isinstance(gate, Sequential):
        return {"type": "Sequential", "gates": _row(gate)}
    if isinstance(gate, ComputationalGraph):
        return {"type": "ComputationalGraph", "graph": _graph(gate)}
    if isinstance(gate, Residual | Parallel):
        settings = {name: getattr(gate, name) for name in ("join", "axis", "shared") if isinstance(gate, Parallel)}
        return {"type": type(gate).__name__, "gates": _row(gate)} | settings
    variadic = [p.name for p in inspect.signature(type(gate)).parameters.values() if p.kind is p.VAR_KEYWORD]
    described: dict[str, Any] = {"type": type(gate).__name__}
    for name, value in gate.arguments.items():
        items = value.items() if name in variadic else [(name, value)]
        described |= {key: _value(item, f"the argument {key!r} of {gate!r}") for key, item in items}
    return described


def _value(value: Any, where: str) -> Any:
    if isinstance(value, Gate):
        return _element(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_value(item, where) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _value(item, where) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        held = {item.name: _value(getattr(value, item.name), where) for item in fields(value) if item.init}
        return {"type": type(value).__name__} | held
    raise ConfigError(f"{where} is a {type(value).__name__}, which cannot be written down: use a number, text or list")


def _node(value: Any, place: Place, depth: int) -> Node:
    """Return plain values as nodes of one place."""
    if depth > MAXIMUM_DEPTH:
        raise InvalidConfig([Node(place, None).problem(f"nested more than {MAXIMUM_DEPTH} levels deep")])
    if isinstance(value, dict):
        nodes = {str(key): _node(item, place, depth + 1) for key, item in value.items()}
        return Node(place, nodes, dict.fromkeys(nodes, place))
    return Node(place, [_node(item, place, depth + 1) for item in value] if isinstance(value, list | tuple) else value)


def _refuse_shared_parameters(model: Gate) -> None:
    owners: dict[int, Gate] = {}
    for gate in _parts(model):
        held = list(gate.sources.values()) if isinstance(gate, Container) else gate.parameters()
        if isinstance(gate, TiedLinear):
            held = [parameter for parameter in held if parameter is not gate.weight]
        for parameter in held:
            owner = owners.setdefault(id(parameter), gate)
            if owner is not gate:
                raise ConfigError(
                    f"{gate!r} and {owner!r} hold the same Parameter {parameter.name!r}, which a description of the "
                    "model cannot express: use one gate at both places instead"
                )


def _parts(gate: Gate) -> Iterator[Gate]:
    """Yield the containers of a model, and the gates in them."""
    yield gate
    if isinstance(gate, Container):
        for part in gate.members().values():
            if isinstance(part, Gate):
                yield from _parts(part)


# Readers of new files -----------------------------------------------------------------------------------------------


def without_files(reader: Element) -> dict[str, Any]:
    """Return the description of a reader, all but the files that it reads."""
    files = file_arguments(reader.factory)
    return {name: value for name, value in reader.mapping().items() if name not in files}


def reader_for(words: Sequence[str], known: dict[str, Any], registry: Registry) -> Reader:
    """Return a reader for new files: of the kind that read the training data, or of the kind that the file's name says.

    Args:
        words: the files, in the order in which the reader takes them, and settings of the reader (`delimiter=;`).
        known: the description of the reader of the training data; its settings hold for the new file too, unless the
            file's name says that it is of another kind.
        registry: the known types.

    Raises:
        ConfigError: no file, too many of them, or an unsupported type of file.
    """
    files = [word for word in words if "=" not in word or Path(word).exists()]
    if not files:
        raise ConfigError(f"no data file is given, only settings ({', '.join(words)}); name a file first")
    kind, factory = known["type"], registry.find("reader", known["type"])
    is_known, named = factory is not None and bool(file_arguments(factory)), kind_by_name(files[0])
    described = dict(known)
    if named and (not is_known or (kind in READERS and named != kind)):
        kind, factory, described = named, READERS[named], {"type": named}
    elif factory is None or not is_known:
        raise ConfigError(f"{files[0]}: unsupported file type; {SUPPORTED}")
    if kind == "CSV" and files[0].lower().removesuffix(".gz").endswith(".tsv"):
        described["delimiter"] = "\t"
    arguments, left = file_arguments(factory), files
    for name, is_many in arguments.items():
        if left:
            described[name], left = (left, []) if is_many else (left[0], left[1:])
    if left:
        raise ConfigError(f"{kind} takes {len(arguments)} file(s), {', '.join(arguments)}; {len(files)} were given")
    for word in words:
        if word not in files:
            name, _, text = word.partition("=")
            source = Source(word, (word,), is_override=True)
            described[name] = parse_value(text, source, column=len(name) + 1).plain()
    reader: Reader = rebuild_element(described, "reader", registry, files[0])
    return reader


def file_arguments(reader: Factory) -> dict[str, bool]:
    """Return the arguments of a reader that are files, in order; True for one that takes any number of them."""
    found = {}
    for name, argument in signature_of(reader).items():
        members = members_of(argument.annotation)
        is_many = any(PATH in metadata_of(item) for member in members for item in get_args(bare(member)))
        if is_many or any(PATH in metadata_of(member) for member in members):
            found[name] = is_many
    return found
