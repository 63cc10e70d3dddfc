"""The `model` section: a list of gates, or a graph `{inputs: [x], gates: [...], output: scores}`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from layerflow.config.checking import Checker
from layerflow.config.elements import WIDTH, Element, Part
from layerflow.config.problems import InvalidConfig, Problem, shown
from layerflow.config.registry import signature_of
from layerflow.config.yaml import Node, collected
from layerflow.containers.graph import ComputationalGraph
from layerflow.containers.sequential import Sequential
from layerflow.errors import GateError, did_you_mean
from layerflow.gate import Gate
from layerflow.gates.affine import TiedLinear

GRAPH_KEYS = ("inputs", "constants", "parameters", "gates", "output")


@dataclass(frozen=True)
class Entry:
    """One gate of a model.

    Attributes:
        element: the gate.
        name: its name; in a row it may have none and is called by its position.
        inputs: in a graph, the nodes that it reads.
        same_as: the name of an earlier entry whose gate is used here once more, parameters shared.
    """

    element: Element
    name: str | None = None
    inputs: tuple[str, ...] = ()
    same_as: str | None = None

    def plain(self, folder: str | None) -> dict[str, Any] | str:
        """Return the entry as plain values."""
        if self.same_as is None and self.name is None:
            return self.element.plain(folder)
        gate = self.element.mapping(folder) if self.same_as is None else {"same_as": self.same_as}
        inputs = {"inputs": list(self.inputs)} if self.inputs else {}
        return ({"name": self.name} if self.name else {}) | gate | inputs


@dataclass(frozen=True)
class ModelPlan(Part):
    """A checked model. Without `inputs` it is a row of gates, each fed by the one before; with them, a graph.

    Attributes:
        entries: the gates, in the order of the file.
        inputs: the names of a graph's inputs.
        output: the nodes that are a graph's outputs; those that no gate reads when left out.
        constants, parameters: a graph's nodes that hold an array, by name.
    """

    entries: tuple[Entry, ...]
    inputs: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    constants: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    def with_width(self, width: int) -> "ModelPlan":
        """Return the plan with the open width, the number of classes or of targets, filled in."""
        entries = []
        for entry in self.entries:
            element = entry.element
            filled = replace(element, arguments={WIDTH: width, **element.arguments}) if element.lacks_width else element
            entries.append(replace(entry, element=filled))
        return replace(self, entries=tuple(entries))

    def plain(self, folder: str | None = None) -> Any:
        """Return the section as plain values."""
        gates = [entry.plain(folder) for entry in self.entries]
        if not self.inputs:
            return gates
        held = {"constants": self.constants, "parameters": self.parameters}
        arrays = {key: values for key, values in held.items() if values}
        output = {"output": self.output[0] if len(self.output) == 1 else list(self.output)} if self.output else {}
        return {"inputs": list(self.inputs)} | arrays | {"gates": gates} | output

    def build(self) -> Gate:
        """Return a new `Sequential` of a row, or `ComputationalGraph` of a graph; no weights are drawn yet.

        Raises:
            ConfigError: a gate refuses its arguments, or the open width is still open.
        """
        gates: dict[str, Gate] = {}
        for index, entry in enumerate(self.entries):
            if entry.element.lacks_width:
                hint = "only the last width of a model is inferred from the data"
                raise InvalidConfig([entry.element.node.problem(f"{entry.element.type} needs {WIDTH!r}: {hint}")])
            gate = gates[entry.same_as] if entry.same_as else entry.element.build()
            if isinstance(gate, TiedLinear) and isinstance(source := gate.arguments["source"], str):
                if source not in gates:
                    hint = did_you_mean(source, gates)
                    raise InvalidConfig([entry.element.node.problem(f"no gate before this is called {source!r}{hint}")])
                gate.tie(gates[source])
            gates[entry.name or str(index)] = gate
        if not self.inputs:
            is_named = any(entry.name for entry in self.entries)
            return Sequential(**gates) if is_named else Sequential(*gates.values())
        graph = ComputationalGraph()
        graph.inputs(*self.inputs)
        for name, value in self.constants.items():
            graph.constant(np.asarray(value, np.float64), name)
        for name, value in self.parameters.items():
            graph.parameter(name, np.asarray(value, np.float64))
        for entry in self.entries:
            graph.add(str(entry.name), gates[str(entry.name)], list(entry.inputs))
        if self.output:
            graph.output(*self.output)
        return graph


# Checking ----------------------------------------------------------------------------------------------------------


class ModelChecker(Checker):
    """Checks whole configurations: models, and all that they consist of."""

    def with_blocks(self, node: Node) -> "ModelChecker":
        """Return a checker that knows the blocks of a configuration as gates, each also in those after it."""
        types = self.registry.types
        known = dict(types["gate"])
        checker = replace(self, registry=replace(self.registry, types=types | {"gate": known}))
        for name, block in node.entries.items():
            if name in known:
                raise InvalidConfig([node.key_problem(name, "is the name of a gate already: give the block another")])
            known[name] = _factory(name, checker.model(block))
        return checker

    def model(self, node: Node) -> ModelPlan:
        """Return the checked model; raise `InvalidConfig` with all its problems."""
        found: list[Problem] = []
        gates = _Gates(self, found, is_graph="gates" in node.entries)
        if gates.is_graph:
            plan = _check_graph(node, gates)
        elif isinstance(node.value, list):
            plan = ModelPlan(gates.check_list(node))
        else:
            hint = ": begin the line with '- '" if "type" in node.entries else ""
            wanted = "must be a list of gates, or a graph {inputs: [x], gates: [...], output: name}"
            raise InvalidConfig([node.problem(f"{wanted}, not {shown(node.plain())}{hint}")])
        if found:
            raise InvalidConfig(found)
        try:
            plan.with_width(1).build()  # without weights, to see whether a container objects
        except (GateError, ValueError, TypeError) as error:
            raise InvalidConfig([node.problem(" ".join(str(error).split()))]) from error
        return plan


def _factory(name: str, plan: ModelPlan) -> Callable[[], Gate]:
    def block() -> Gate:
        return plan.build()

    block.__name__ = name
    block.__doc__ = f"The block {name!r} of the configuration."
    block.plan = plan  # type: ignore[attr-defined]  # written out where the block is used
    return block


def _check_graph(node: Node, gates: "_Gates") -> ModelPlan:
    found, held = gates.found, node.entries
    for key in held:
        if key not in GRAPH_KEYS:
            hint = did_you_mean(key, GRAPH_KEYS) or f"; known keys: {', '.join(GRAPH_KEYS)}"
            found.append(node.key_problem(key, f"unknown key{hint}"))
    if "inputs" not in held:
        found.append(node.problem("the graph's inputs are missing: write inputs: [x]"))
    values: dict[str, Any] = {}
    for key in ("inputs", "constants", "parameters"):
        if key in held:
            with collected(found):
                values[key] = _names(held[key]) if key == "inputs" else _arrays(held[key])
            for name in values.get(key, ()):
                with collected(found):
                    gates.claim(held[key], name)
    entries = gates.check_list(held["gates"])
    if "output" in held:
        with collected(found):
            values["output"] = _names(held["output"])
            found += gates.unknown(values["output"], held["output"], "no gate")
    return ModelPlan(entries, **values)


@dataclass
class _Gates:
    """The gates of one model while they are checked.

    Attributes:
        checker: checks each element.
        found: the problems so far.
        is_graph: whether the gates have names and inputs.
        lines: the line of every name.
        checked: the entries without problems, by name or position.
    """

    checker: Checker
    found: list[Problem]
    is_graph: bool
    lines: dict[str, int] = field(default_factory=dict)
    checked: dict[str, Entry] = field(default_factory=dict)

    def check_list(self, node: Node) -> tuple[Entry, ...]:
        """Return the entries."""
        if not isinstance(node.value, list) or not node.value:
            wanted = "must be a list of at least one gate, such as [{type: Linear}]"
            self.found.append(node.problem(f"{wanted}, not {shown(node.plain())}"))
            return ()
        last = max((index for index, item in enumerate(node.value) if self._has_width(item)), default=None)
        wires = []
        for index, item in enumerate(node.value):
            name, inputs = self._check_keys(item)
            wires.append((name or str(index), inputs))
            with collected(self.found):
                self.checked[name or str(index)] = self._entry(item, name, inputs, WIDTH if index == last else "")
        for item, (_, inputs) in zip(node.value, wires, strict=True):
            if inputs:
                self.found += self.unknown(inputs, item.entries["inputs"], "no input or gate")
        try:
            TopologicalSorter(dict(wires)).prepare()
        except CycleError as error:
            self.found.append(node.problem(f"the gates form a cycle: {' -> '.join(reversed(error.args[1]))}"))
        return tuple(self.checked.values())

    def claim(self, node: Node, name: str) -> None:
        """Note a name, which must be new and usable."""
        line = self.lines.get(name)
        self.lines.setdefault(name, node.place.line)
        if not name or "." in name or name.isdigit():
            raise InvalidConfig([node.problem(f"{name!r} cannot be a name here: no dots, and not only digits")])
        if line is not None:
            raise InvalidConfig([node.problem(f"{name!r} is already a name in line {line}: names must differ")])

    def unknown(self, names: Iterable[str], node: Node, what: str) -> list[Problem]:
        """Return a problem for each of the names in a node that no gate or input has."""
        items = node.value if isinstance(node.value, list) else [node]
        return [
            Problem(item.place, node.path, f"{what} of the graph is called {name!r}{did_you_mean(name, self.lines)}")
            for item, name in zip(items, names, strict=True)
            if name not in self.lines
        ]

    def _has_width(self, node: Node) -> bool:
        """Whether a gate has a width; the last one that has may leave it to the data."""
        named = node.entries["type"].value if "type" in node.entries else node.value
        factory = self.checker.registry.find("gate", named) if isinstance(named, str) else None
        return factory is not None and WIDTH in signature_of(factory)

    def _check_keys(self, node: Node) -> tuple[str | None, tuple[str, ...]]:
        """Return the name of an entry, and in a graph its inputs."""
        name: str | None = None
        inputs: tuple[str, ...] = ()
        keys = node.entries
        if "name" in keys:
            with collected(self.found):
                (text,) = _names(keys["name"], is_one=True)
                self.claim(keys["name"], text)
                name = text
        if self.is_graph and "inputs" in keys:
            with collected(self.found):
                inputs = _names(keys["inputs"])
        missing = [f"{key}: {example}" for key, example in (("name", "h"), ("inputs", "x")) if key not in keys]
        if self.is_graph and missing:
            self.found.append(node.problem(f"a gate in a graph needs a name and inputs: add {' and '.join(missing)}"))
        return name, inputs

    def _entry(self, node: Node, name: str | None, inputs: tuple[str, ...], spared: str) -> Entry:
        if "repeat" in node.entries and "type" not in node.entries:
            named = replace(node.entries["repeat"], value="Repeat")
            node = replace(node, value={"type": named, **node.entries})
        if "same_as" not in node.entries or "type" in node.entries:
            beside = ("name", "inputs") if self.is_graph else ("name",)
            return Entry(self.checker.element(node, "gate", beside, spared), name, inputs)
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


def _names(node: Node, is_one: bool = False) -> tuple[str, ...]:
    """Return the name or names that a node holds."""
    items = node.value if isinstance(node.value, list) and not is_one else [node]
    if not items:
        raise InvalidConfig([node.problem("must have at least one name")])
    if wrong := [item for item in items if not isinstance(item.value, str)]:
        raise InvalidConfig(item.problem(f"must be text, not {shown(item.plain())}") for item in wrong)
    return tuple(str(item.value) for item in items)


def _arrays(node: Node) -> dict[str, Any]:
    """Return the arrays of a graph by name."""
    if not isinstance(node.value, dict):
        raise InvalidConfig([node.problem(f"must be a mapping, not {shown(node.plain())}")])
    values: dict[str, Any] = node.plain()
    return values
