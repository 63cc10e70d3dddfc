"""Checks the `model` section: a list of gates, or a graph `{inputs: [x], gates: [...], output: scores}`."""

from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from layerflow.config.document import Node
from layerflow.config.hints import shown
from layerflow.config.model import WIDTH, Entry, ModelPlan, last_with_width
from layerflow.config.problems import InvalidConfig, Path
from layerflow.errors import GateError, did_you_mean

if TYPE_CHECKING:
    from layerflow.config.checking import Checker

_GRAPH_KEYS = ("inputs", "constants", "parameters", "gates", "output")


def check_model(checker: "Checker", node: Node, path: Path) -> ModelPlan | None:
    """Return the checked model, or None once its problems are noted."""
    if isinstance(node.value, list) or (isinstance(node.value, dict) and "gates" in node.value):
        plan = _check_list(checker, node, path) if isinstance(node.value, list) else _check_graph(checker, node, path)
        return None if plan is None or not _can_be_built(checker, plan, node, path) else plan
    hint = ": begin the line with '- '" if isinstance(node.value, dict) and "type" in node.value else ""
    wanted = "must be a list of gates, or a graph {inputs: [x], gates: [...], output: name}"
    checker.problems.add(node.place, path, f"{wanted}, not {shown(node.plain())}{hint}")
    return None


def _can_be_built(checker: "Checker", plan: ModelPlan, node: Node, path: Path) -> bool:
    """Build the model once, without weights, to see whether a container objects."""
    try:
        plan.with_width(1).build()
    except InvalidConfig as error:
        checker.problems.found += error.found
    except (GateError, ValueError, TypeError) as error:
        checker.problems.add(node.place, path, " ".join(str(error).split()))
    else:
        return True
    return False


def _check_list(checker: "Checker", node: Node, path: Path) -> ModelPlan | None:
    entries = _Entries(checker, path).check(node)
    return None if entries is None else ModelPlan(tuple(entries))


def _check_graph(checker: "Checker", node: Node, path: Path) -> ModelPlan | None:
    assert isinstance(node.value, dict)
    before = len(checker.problems.found)
    for key in node.value:
        if key not in _GRAPH_KEYS:
            hint = did_you_mean(key, _GRAPH_KEYS) or f"; known keys: {', '.join(_GRAPH_KEYS)}"
            checker.problems.add(node.keys[key], (*path, key), f"unknown key{hint}")
    arrays = {key: _arrays(checker, node, key, path) for key in ("constants", "parameters")}
    entries = _Entries(checker, (*path, "gates"), is_graph=True)
    inputs = _names(checker, node, "inputs", path)
    if "inputs" not in node.value:
        checker.problems.add(node.place, path, "the graph's inputs are missing: write inputs: [x]")
    for key, names in (("inputs", inputs), *arrays.items()):
        for name in names:
            entries.claim(node.value[key], name, (*path, key))
    plan = entries.check(node.value["gates"])
    outputs = _names(checker, node, "output", path)
    for name in outputs:
        if name not in entries.lines:
            message = f"no gate of the graph is called {name!r}{did_you_mean(name, entries.lines)}"
            checker.problems.add(node.value["output"].place, (*path, "output"), message)
    if plan is None or len(checker.problems.found) > before:
        return None
    return ModelPlan(tuple(plan), inputs, outputs, **arrays)


@dataclass
class _Entries:
    """The gates of one model while they are checked; `lines` has the line of every name."""

    checker: "Checker"
    path: Path
    is_graph: bool = False
    lines: dict[str, int] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    wires: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def check(self, node: Node) -> list[Entry] | None:
        """Return the entries, or None when one has a problem."""
        if not isinstance(node.value, list) or not node.value:
            wanted = "must be a list of at least one gate, such as [{type: Linear}]"
            self.checker.problems.add(node.place, self.path, f"{wanted}, not {shown(node.plain())}")
            return None
        last = last_with_width(self._factory(item) for item in node.value)
        checked = [self._entry(item, index, WIDTH if index == last else "") for index, item in enumerate(node.value)]
        if self.is_graph:
            self._check_wires(node)
        return None if None in checked else [entry for entry in checked if entry is not None]

    def claim(self, node: Node, name: str, path: Path) -> None:
        """Note a name, which must be new and usable."""
        if not name or "." in name or name.isdigit():
            self.checker.problems.add(node.place, path, f"{name!r} cannot be a name here: no dots, and not only digits")
        elif name in self.lines:
            message = f"{name!r} is already a name in line {self.lines[name]}: names must differ"
            self.checker.problems.add(node.place, path, message)
        self.lines.setdefault(name, node.place.line)

    def _factory(self, node: Node) -> Any:
        named = node.value.get("type", node).value if isinstance(node.value, dict) else node.value
        return self.checker.registry.find("gate", named) if isinstance(named, str) else None

    def _entry(self, node: Node, index: int, spared: str) -> Entry | None:
        path = (*self.path, index)
        name = self._name(node, path)
        fields = node.value if isinstance(node.value, dict) else {}
        inputs = _names(self.checker, node, "inputs", path) if self.is_graph else ()
        self.wires[name or str(index)] = inputs
        if self.is_graph and not ("name" in fields and "inputs" in fields):
            missing = [example for example in ("name: h", "inputs: x") if example.split(":")[0] not in fields]
            message = f"a gate in a graph needs a name and inputs: add {' and '.join(missing)}"
            self.checker.problems.add(node.place, path, message)
        if "same_as" in fields and "type" not in fields:
            entry = self._same_as(node, name, inputs, path)
        else:
            beside = ("name", "inputs") if self.is_graph else ("name",)
            element = self.checker.element(node, "gate", path, beside, spared)
            entry = None if element is None else Entry(element, name, inputs)
        if entry is not None:
            self.entries[name or str(index)] = entry
        return entry

    def _same_as(self, node: Node, name: str | None, inputs: tuple[str, ...], path: Path) -> Entry | None:
        assert isinstance(node.value, dict)
        for key in node.value:
            if key not in ("name", "inputs", "same_as"):
                message = "unknown key: a gate that is used again has its settings where it stands first"
                self.checker.problems.add(node.keys[key], (*path, key), message)
        other = node.value["same_as"]
        first = self.entries.get(str(other.value))
        if first is None:
            message = f"no gate before this one is called {other.value!r}{did_you_mean(other.value, self.entries)}"
            self.checker.problems.add(other.place, (*path, "same_as"), message)
            return None
        return Entry(first.element, name, inputs, first.same_as or str(other.value))

    def _name(self, node: Node, path: Path) -> str | None:
        if not isinstance(node.value, dict) or "name" not in node.value:
            return None
        name = self.checker.value(node.value["name"], str, (*path, "name"))
        if not isinstance(name, str):
            return None
        self.claim(node.value["name"], name, (*path, "name"))
        return name

    def _check_wires(self, node: Node) -> None:
        assert isinstance(node.value, list)
        for index, (item, wires) in enumerate(zip(node.value, self.wires.values(), strict=False)):
            for number, wire in enumerate(wires):
                if wire not in self.lines:
                    message = f"no input or gate of the graph is called {wire!r}{did_you_mean(wire, self.lines)}"
                    place = item.place_of(("inputs", number))
                    self.checker.problems.add(place, (*self.path, index, "inputs"), message)
        try:
            TopologicalSorter(self.wires).prepare()
        except CycleError as error:
            ring = " -> ".join(reversed(error.args[1]))
            self.checker.problems.add(node.place, self.path, f"the gates form a cycle: {ring}")


def _names(checker: "Checker", node: Node, key: str, path: Path) -> tuple[str, ...]:
    """Return the name or names under a key of a mapping."""
    if not isinstance(node.value, dict) or key not in node.value:
        return ()
    names = checker.value(node.value[key], list[str] | str, (*path, key))
    if names == []:
        checker.problems.add(node.value[key].place, (*path, key), "must have at least one name")
    return (names,) if isinstance(names, str) else tuple(names) if isinstance(names, list) else ()


def _arrays(checker: "Checker", node: Node, key: str, path: Path) -> dict[str, Any]:
    assert isinstance(node.value, dict)
    if key not in node.value:
        return {}
    values = checker.value(node.value[key], dict[str, Any], (*path, key))
    return values if isinstance(values, dict) else {}
