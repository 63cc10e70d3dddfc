"""Checks the `model` section: a list of gates, or a graph `{inputs: [x], gates: [...], output: scores}`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from layerflow.config.building import WIDTH, Element, Entry, ModelPlan
from layerflow.config.problems import InvalidConfig, Problem, collected
from layerflow.config.registry import Registry
from layerflow.config.signatures import signature_of
from layerflow.config.vocabulary import shown
from layerflow.config.yaml import Node
from layerflow.errors import GateError, did_you_mean

GRAPH_KEYS = ("inputs", "constants", "parameters", "gates", "output")


ElementCheck = Callable[[Node, str, Collection[str], str], Element]
"""Returns the element of a kind that a node describes (`layerflow.config.checking.Checker.element`)."""


def check_model(node: Node, check: ElementCheck, registry: Registry) -> ModelPlan:
    """Return the checked model; raise `InvalidConfig` with all its problems."""
    if isinstance(node.value, list):
        plan = ModelPlan(tuple(_Entries(check, registry).check_list(node)))
    elif "gates" in node.entries:
        plan = _check_graph(node, check, registry)
    else:
        hint = ": begin the line with '- '" if "type" in node.entries else ""
        wanted = "must be a list of gates, or a graph {inputs: [x], gates: [...], output: name}"
        raise InvalidConfig([node.problem(f"{wanted}, not {shown(node.plain())}{hint}")])
    try:
        plan.with_width(1).build()  # without weights, to see whether a container objects
    except (GateError, ValueError, TypeError) as error:
        raise InvalidConfig([node.problem(" ".join(str(error).split()))]) from error
    return plan


def _check_graph(node: Node, check: ElementCheck, registry: Registry) -> ModelPlan:
    found: list[Problem] = []
    for key in node.entries:
        if key not in GRAPH_KEYS:
            hint = did_you_mean(key, GRAPH_KEYS) or f"; known keys: {', '.join(GRAPH_KEYS)}"
            found.append(node.key_problem(key, f"unknown key{hint}"))
    if "inputs" not in node.entries:
        found.append(node.problem("the graph's inputs are missing: write inputs: [x]"))
    names: dict[str, tuple[str, ...]] = {"inputs": (), "output": ()}
    arrays: dict[str, dict[str, Any]] = {"constants": {}, "parameters": {}}
    entries = _Entries(check, registry, is_graph=True)
    for key, item in node.entries.items():
        with collected(found):
            if key in names:
                names[key] = _names(item)
            elif key in arrays:
                arrays[key] = _arrays(item)
    for key in ("inputs", *arrays):
        for name in (*names.get(key, ()), *arrays.get(key, ())):
            with collected(found):
                entries.claim(node.entries[key], name)
    with collected(found):
        entries.check_list(node.entries["gates"])
    for name in names["output"]:
        if name not in entries.lines:
            message = f"no gate of the graph is called {name!r}{did_you_mean(name, entries.lines)}"
            found.append(node.entries["output"].problem(message))
    if found:
        raise InvalidConfig(found)
    return ModelPlan(tuple(entries.checked.values()), names["inputs"], names["output"], **arrays)


@dataclass
class _Entries:
    """The gates of one model while they are checked; `lines` has the line of every name."""

    check: ElementCheck
    registry: Registry
    is_graph: bool = False
    lines: dict[str, int] = field(default_factory=dict)
    checked: dict[str, Entry] = field(default_factory=dict)
    wires: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def check_list(self, node: Node) -> list[Entry]:
        """Return the entries."""
        if not isinstance(node.value, list) or not node.value:
            wanted = "must be a list of at least one gate, such as [{type: Linear}]"
            raise InvalidConfig([node.problem(f"{wanted}, not {shown(node.plain())}")])
        found: list[Problem] = []
        last = max((index for index, item in enumerate(node.value) if self._has_width(item)), default=None)
        for index, item in enumerate(node.value):
            self._check_entry(item, index, WIDTH if index == last else "", found)
        if self.is_graph:
            self._check_wires(node, found)
        if found:
            raise InvalidConfig(found)
        return list(self.checked.values())

    def claim(self, node: Node, name: str) -> None:
        """Note a name, which must be new and usable."""
        line = self.lines.get(name)
        self.lines.setdefault(name, node.place.line)
        if not name or "." in name or name.isdigit():
            message = f"{name!r} cannot be a name here: no dots, and not only digits"
            raise InvalidConfig([node.problem(message)])
        if line is not None:
            raise InvalidConfig([node.problem(f"{name!r} is already a name in line {line}: names must differ")])

    def _has_width(self, node: Node) -> bool:
        """Whether a gate has a width; the last one that has may leave it to the data."""
        named = node.entries["type"].value if "type" in node.entries else node.value
        factory = self.registry.find("gate", named) if isinstance(named, str) else None
        return factory is not None and WIDTH in signature_of(factory).arguments

    def _check_entry(self, node: Node, index: int, spared: str, found: list[Problem]) -> None:
        name: str | None = None
        inputs: tuple[str, ...] = ()
        fields = node.entries
        with collected(found):
            name = self._name(node)
        if self.is_graph and "inputs" in fields:
            with collected(found):
                inputs = _names(fields["inputs"])
        self.wires.append((name or str(index), inputs))
        if self.is_graph and not ("name" in fields and "inputs" in fields):
            missing = [example for example in ("name: h", "inputs: x") if example.split(":")[0] not in fields]
            found.append(node.problem(f"a gate in a graph needs a name and inputs: add {' and '.join(missing)}"))
        with collected(found):
            if "same_as" in fields and "type" not in fields:
                entry = self._same_as(node, name, inputs)
            else:
                beside = ("name", "inputs") if self.is_graph else ("name",)
                entry = Entry(self.check(node, "gate", beside, spared), name, inputs)
            self.checked[name or str(index)] = entry

    def _same_as(self, node: Node, name: str | None, inputs: tuple[str, ...]) -> Entry:
        message = "unknown key: a gate that is used again has its settings in its first entry"
        found = [node.key_problem(key, message) for key in node.entries if key not in ("name", "inputs", "same_as")]
        other = node.entries["same_as"]
        first = self.checked.get(str(other.value))
        if first is None:
            hint = did_you_mean(other.value, self.checked)
            found.append(other.problem(f"no gate before this one is called {other.value!r}{hint}"))
        if found or first is None:
            raise InvalidConfig(found)
        return Entry(first.element, name, inputs, first.same_as or str(other.value))

    def _name(self, node: Node) -> str | None:
        if "name" not in node.entries:
            return None
        (name,) = _names(node.entries["name"], most=1)
        self.claim(node.entries["name"], name)
        return name

    def _check_wires(self, node: Node, found: list[Problem]) -> None:
        assert isinstance(node.value, list)
        for item, (_, wires) in zip(node.value, self.wires, strict=True):
            for number, wire in enumerate(wires):
                if wire not in self.lines:
                    message = f"no input or gate of the graph is called {wire!r}{did_you_mean(wire, self.lines)}"
                    inputs = item.entries["inputs"]
                    place = inputs.value[number].place if isinstance(inputs.value, list) else inputs.place
                    found.append(Problem(place, inputs.path, message))
        try:
            TopologicalSorter(dict(self.wires)).prepare()
        except CycleError as error:
            ring = " -> ".join(reversed(error.args[1]))
            found.append(node.problem(f"the gates form a cycle: {ring}"))


def _names(node: Node, most: int | None = None) -> tuple[str, ...]:
    """Return the name or names that a node holds."""
    items = node.value if isinstance(node.value, list) and most is None else [node]
    if not items:
        raise InvalidConfig([node.problem("must have at least one name")])
    names = [item.value for item in items if isinstance(item.value, str)]
    if len(names) < len(items):
        wrong = [item for item in items if not isinstance(item.value, str)]
        raise InvalidConfig(item.problem(f"must be text, not {shown(item.plain())}") for item in wrong)
    return tuple(names)


def _arrays(node: Node) -> dict[str, Any]:
    """Return the arrays of a graph by name."""
    if not isinstance(node.value, dict):
        raise InvalidConfig([node.problem(f"must be a mapping, not {shown(node.plain())}")])
    values: dict[str, Any] = node.plain()
    return values
