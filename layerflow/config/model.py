"""The `model` section: a list of gates, or a graph of named ones."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from layerflow.config.checking import Checker
from layerflow.config.document import Node
from layerflow.config.elements import Element
from layerflow.config.hints import shown
from layerflow.config.problems import Path
from layerflow.config.registry import Registry
from layerflow.config.signatures import signature_of
from layerflow.errors import did_you_mean

WIDTH = "out_features"


@dataclass(frozen=True)
class Entry:
    """One gate of a model: its name (in a list it may have none) and, in a graph, the nodes that it reads."""

    element: Element
    name: str | None = None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelPlan:
    """A checked model. Without `inputs` it is a row of gates, each fed by the one before; with them, a graph."""

    entries: tuple[Entry, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def open_width(self) -> int | None:
        """The index of the entry that leaves its width to the data: the number of classes, or of targets."""
        return next((i for i, entry in enumerate(self.entries) if _lacks_width(entry.element)), None)

    def with_width(self, width: int) -> "ModelPlan":
        """Return the plan with the open width filled in."""
        entries = list(self.entries)
        if (index := self.open_width) is not None:
            element = entries[index].element
            entries[index] = replace(
                entries[index], element=replace(element, arguments={WIDTH: width, **element.arguments})
            )
        return replace(self, entries=tuple(entries))

    def plain(self, folder: str | None = None) -> Any:
        """Return the section as plain values."""
        if not self.inputs:
            return [
                {"name": entry.name} | entry.element.mapping(folder) if entry.name else entry.element.plain(folder)
                for entry in self.entries
            ]
        gates = [{"name": e.name} | e.element.mapping(folder) | {"inputs": list(e.inputs)} for e in self.entries]
        outputs: Any = self.outputs[0] if len(self.outputs) == 1 else list(self.outputs)
        return {"inputs": list(self.inputs), "gates": gates} | ({"output": outputs} if self.outputs else {})


def check_model(checker: Checker, node: Node, path: Path = ("model",)) -> ModelPlan | None:
    """Return the checked model, or None once its problems are noted."""
    if isinstance(node.value, list):
        return _check_list(checker, node, path)
    if isinstance(node.value, dict) and "gates" in node.value:
        return _check_graph(checker, node, path)
    hint = ": begin the line with '- '" if isinstance(node.value, dict) and "type" in node.value else ""
    wanted = "must be a list of gates, or a graph {inputs: [x], gates: [...], output: name}"
    checker.problems.add(node.place, path, f"{wanted}, not {shown(node.value)}{hint}")
    return None


def _check_list(checker: Checker, node: Node, path: Path) -> ModelPlan | None:
    items = list(_items(node))
    if not items:
        checker.problems.add(node.place, path, "must have at least one gate: [{type: Linear}]")
        return None
    last = _last_with_width(checker.registry, items)
    entries: list[Entry | None] = []
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        spared = WIDTH if index == last else ""
        element = checker.element(item, "gate", (*path, index), beside={"name"}, spared=spared)
        name = _name(checker, item, (*path, index), seen)
        entries.append(None if element is None else Entry(element, name))
    return None if None in entries else ModelPlan(tuple(entry for entry in entries if entry is not None))


def _check_graph(checker: Checker, node: Node, path: Path) -> ModelPlan | None:
    assert isinstance(node.value, dict)
    before = len(checker.problems.found)
    for key in node.value:
        if key not in ("inputs", "gates", "output"):
            hint = did_you_mean(key, ("inputs", "gates", "output")) or "; a graph has inputs, gates and output"
            checker.problems.add(node.keys[key], (*path, key), f"unknown key{hint}")
    seen: dict[str, int] = {}
    inputs = _names(checker, node, "inputs", path)
    for name in inputs:
        seen[name] = node.value["inputs"].place.line
    if "inputs" not in node.value:
        checker.problems.add(node.place, path, "the graph's inputs are missing: write inputs: [x]")
    gates = node.value["gates"]
    if not isinstance(gates.value, list) or not gates.value:
        checker.problems.add(gates.place, (*path, "gates"), f"must be a list of gates, not {shown(gates.plain())}")
        return None
    entries = _graph_entries(checker, gates, (*path, "gates"), seen)
    _check_wires(checker, gates, (*path, "gates"), set(seen))
    outputs = _names(checker, node, "output", path)
    for name in outputs:
        if name not in seen:
            place, hint = node.value["output"].place, did_you_mean(name, seen)
            checker.problems.add(place, (*path, "output"), f"no gate of the graph is called {name!r}{hint}")
    if len(checker.problems.found) > before:
        return None
    return ModelPlan(tuple(entries), inputs, outputs)


def _graph_entries(checker: Checker, gates: Node, path: Path, seen: dict[str, int]) -> list[Entry]:
    items = list(_items(gates))
    last = _last_with_width(checker.registry, items)
    entries = []
    for index, item in enumerate(items):
        here = (*path, index)
        spared = WIDTH if index == last else ""
        element = checker.element(item, "gate", here, beside={"name", "inputs"}, spared=spared)
        name = _name(checker, item, here, seen)
        fields = item.value if isinstance(item.value, dict) else {}
        missing = [f"{key}: {example}" for key, example in (("name", "h"), ("inputs", "x")) if key not in fields]
        if missing:
            checker.problems.add(
                item.place, here, f"a gate in a graph needs a name and inputs: add {' and '.join(missing)}"
            )
        if element is not None:
            entries.append(Entry(element, name, _names(checker, item, "inputs", here)))
    return entries


def _check_wires(checker: Checker, gates: Node, path: Path, known: set[str]) -> None:
    reads: dict[str, tuple[str, ...]] = {}
    silent = Checker(checker.registry, checker.folder)
    for index, item in enumerate(_items(gates)):
        if not isinstance(item.value, dict):
            continue
        wires = _names(silent, item, "inputs", (*path, index))
        for wire in wires:
            if wire not in known:
                place = item.value["inputs"].place
                message = f"no input or gate of the graph is called {wire!r}{did_you_mean(wire, known)}"
                checker.problems.add(place, (*path, index, "inputs"), message)
        if "name" in item.value and isinstance(item.value["name"].value, str):
            reads[item.value["name"].value] = wires
    try:
        TopologicalSorter(reads).prepare()
    except CycleError as error:
        ring = " -> ".join(reversed(error.args[1]))
        checker.problems.add(gates.place, path, f"the gates form a cycle: {ring}")


def _names(checker: Checker, node: Node, key: str, path: Path) -> tuple[str, ...]:
    """Return the name or names under a key of a mapping."""
    if not isinstance(node.value, dict) or key not in node.value:
        return ()
    item = node.value[key]
    if isinstance(item.value, str):
        return (item.value,)
    names = checker.value(item, list[str] | str, (*path, key))
    if not isinstance(names, list):
        return ()
    if not names:
        checker.problems.add(item.place, (*path, key), "must have at least one name")
    return tuple(names)


def _name(checker: Checker, item: Node, path: Path, seen: dict[str, int]) -> str | None:
    if not isinstance(item.value, dict) or "name" not in item.value:
        return None
    node = item.value["name"]
    name = checker.value(node, str, (*path, "name"))
    if not isinstance(name, str):
        return None
    if not name or "." in name or name.isdigit():
        checker.problems.add(node.place, (*path, "name"), f"{name!r} cannot be a gate's name: no dots, not only digits")
    elif name in seen:
        checker.problems.add(
            node.place, (*path, "name"), f"{name!r} is already a name in line {seen[name]}: names must differ"
        )
    seen.setdefault(name, node.place.line)
    return name


def _items(node: Node) -> Iterator[Node]:
    if isinstance(node.value, list):
        yield from node.value


def _last_with_width(registry: Registry, items: list[Node]) -> int | None:
    """Return the index of the last gate that has a width: the one that may leave it to the data."""
    for index in reversed(range(len(items))):
        value = items[index].value
        named = value["type"].value if isinstance(value, dict) and "type" in value else value
        factory = registry.find("gate", named) if isinstance(named, str) else None
        if factory is not None and WIDTH in signature_of(factory).arguments:
            return index
    return None


def _lacks_width(element: Element) -> bool:
    argument = signature_of(element.factory).arguments.get(WIDTH)
    return argument is not None and argument.is_required and WIDTH not in element.arguments
