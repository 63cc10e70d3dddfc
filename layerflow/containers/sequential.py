"""Gates in a row."""

from collections.abc import Iterator
from typing import Any, overload

from layerflow.containers.container import Container
from layerflow.errors import GateError, did_you_mean
from layerflow.gate import Gate
from layerflow.sweep import Step


class Sequential(Container, checked=False):
    """Feeds each gate's output to the next: `Sequential(Linear(32), ReLU(), Linear(10))`.

    Gates are named by position ("0", "1", ...) or by keyword: `Sequential(hidden=Linear(32), act=ReLU())`. `model[0]`,
    `model["hidden"]` give a gate, `model[:2]` a `Sequential` of the same gates, iteration all of them. All outputs of a
    gate that has several are the inputs of the next.

    Raises:
        GateError: no gate at all, or something that is no gate.
    """

    def __init__(self, *gates: Gate, **named: Gate) -> None:
        super().__init__()
        self.gates = named_gates(self, gates, named)
        self.input_slots = (self.new_slot(needs_grad=True),)
        self.output_slots = lay_row(self, self.gates, self.input_slots)

    def members(self) -> dict[str, Any]:
        """The gates by name."""
        return dict(self.gates)

    @overload
    def __getitem__(self, key: int | str) -> Gate: ...
    @overload
    def __getitem__(self, key: slice) -> "Sequential": ...
    def __getitem__(self, key: int | str | slice) -> Gate:
        if isinstance(key, slice):
            return Sequential(**dict(list(self.gates.items())[key]))
        if isinstance(key, int):
            return list(self.gates.values())[key]
        if key not in self.gates:
            hint = did_you_mean(key, self.gates) or "."
            raise GateError(f"Sequential has no gate {key!r}{hint} It has: {', '.join(self.gates)}")
        return self.gates[key]

    def __iter__(self) -> Iterator[Gate]:
        return iter(self.gates.values())

    def __len__(self) -> int:
        return len(self.gates)


def named_gates(container: Container, gates: tuple[Gate, ...], named: dict[str, Gate]) -> dict[str, Gate]:
    """Return the gates that a container was given, by name; those without one are called by their position."""
    kind = type(container).__name__
    found = {str(index): gate for index, gate in enumerate(gates)}
    if twice := found.keys() & named.keys():
        raise GateError(f"{kind}: the name {min(twice)!r} is given to two gates; positions are names too")
    found |= named
    if not found:
        raise GateError(f"{kind} needs at least one gate: {kind}(Linear(10))")
    for name, gate in found.items():
        if not isinstance(gate, Gate):
            raise GateError(f"{kind}: {name!r} is {gate!r}, not a gate{_remedy(kind, gate)}")
    return found


def lay_row(container: Container, gates: dict[str, Gate], slots: tuple[int, ...]) -> tuple[int, ...]:
    """Lay gates one after another, the first reading `slots`; return the slots that the last one writes."""
    for name, gate in gates.items():
        following = container.slots_for(gate)
        container.lay(Step(name, gate, slots, following))
        slots = following
    return slots


def _remedy(kind: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return f": write {kind}(*gates)"
    return f": write {value.__name__}(...), with parentheses" if isinstance(value, type) else ""
