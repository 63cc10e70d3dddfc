"""One use of a gate in a container: what it reads, what it writes, and what it must remember between the sweeps.

A gate may be run by others between a step's forward and its backward: by hand, or in another container that holds it
too. Whoever runs its forward becomes its user; what the user before needs for backward is put aside first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from layerflow.errors import Place, Placed, file_and_line
from layerflow.gate import Gate, Memory, Shape, recall
from layerflow.walk import find


@dataclass(slots=True)
class Step(Placed):
    """One use of a gate.

    Attributes:
        name: unique in its container.
        gate: the gate; a container gives its second and later uses a gate of their own (`Gate.reuse`).
        reads, writes: the slots of its inputs, and of its output.
        needs_grad: one bool per input.
        parameter_count: how many parameters the gate has.
        inner: the gates inside the gate.
        is_claimed: whether `gate` is for this step alone, as far as this container goes.
        memory: what the gate held after this step's forward, once someone else has run it since.
        place: where in the user's code it was added, if it is known.
        is_proven: whether its results need no check: those of built-in gates are proven by the tests.
    """

    name: str
    gate: Gate
    reads: tuple[int, ...]
    writes: int
    needs_grad: tuple[bool, ...] = ()
    parameter_count: int = 0
    inner: tuple[Gate, ...] = ()
    is_claimed: bool = False
    memory: Memory | None = None
    place: Place | None = None
    is_proven: bool = False

    def renamed(self, name: str, reads: tuple[int, ...], writes: int) -> "Step":
        """The same use of the gate as a step of another container."""
        return Step(name, self.gate, reads, writes, place=self.place)

    def look_inside(self) -> None:
        """Count the gate's parameters, find the gates inside it, and see whether it is a built-in one."""
        self.is_proven = type(self.gate).__module__.startswith("layerflow.gates.")
        self.parameter_count = len(self.gate.named_parameters()) if vars(self.gate) else 0
        self.inner = tuple([gate for _, gate in find(self.gate, Gate)][1:])

    def forward(self, training: bool, inputs: Iterable[Any]) -> Any:
        """Run the gate's forward; what it held for someone else is put aside first."""
        gate = self.gate
        if gate._user is not self:
            gate.hand_over(self)
            self.memory = None
        gate.training = training
        gate.needs_grad = self.needs_grad
        for inner in self.inner:
            inner.training = training
        return gate.bare_forward(*inputs)

    def backward(self, grad: Any) -> Any:
        """Run the gate's backward on what this step's forward stored; the gate is left as it was found."""
        gate = self.gate
        gate.needs_grad = self.needs_grad
        if gate._user is self or self.memory is None:
            return gate.bare_backward(grad)
        found = gate.memory()
        recall(self.memory)
        try:
            return gate.bare_backward(grad)
        finally:
            recall(found)


class Operation(Placed):
    """A step whose gate keeps nothing but what it saves: one gate serves all uses, and the step keeps what was saved.

    So `a + b` on nodes costs no new gate. Built-in operators are used so; they have no parameters, and that their
    results have the right form is proven by the tests. It is used like a `Step`.
    """

    __slots__ = ("_name", "_own_gate", "gate", "needs_grad", "place", "reads", "saved", "writes")

    parameter_count = 0
    inner: tuple[Gate, ...] = ()
    is_claimed = True
    is_proven = True

    def __init__(
        self,
        gate: Gate,
        reads: tuple[int, ...],
        writes: int,
        needs_grad: tuple[bool, ...],
        saved: tuple[Any, ...] | None,
        place: Place | None,
    ) -> None:
        self.gate = gate
        self.reads = reads
        self.writes = writes
        self.needs_grad = needs_grad
        self.saved = saved
        self.place = place

    @property
    def name(self) -> str:
        """Its name in its container, empty as long as it has none."""
        return getattr(self, "_name", "")

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    def own_gate(self) -> Gate:
        """A gate for this operation alone, for use by hand: it holds what was saved here."""
        gate: Gate | None = getattr(self, "_own_gate", None)
        if gate is None:
            gate = self._own_gate = self.gate.reuse()
        gate._saved = self.saved
        return gate

    def renamed(self, name: str, reads: tuple[int, ...], writes: int) -> "Operation":
        """The same operation as a step of another container."""
        operation = Operation(self.gate, reads, writes, self.needs_grad, None, self.place)
        operation.name = name
        return operation

    def look_inside(self) -> None:
        """Nothing is inside."""

    def forward(self, training: bool, inputs: Iterable[Any]) -> Any:
        """Run the gate's forward and keep what it saved."""
        gate = self.gate
        gate.needs_grad = self.needs_grad
        output = gate.bare_forward(*inputs)
        self.saved = gate._saved
        return output

    def backward(self, grad: Any) -> Any:
        """Run the gate's backward on what was kept."""
        gate = self.gate
        gate.needs_grad = self.needs_grad
        gate._saved = self.saved
        return gate.bare_backward(grad)

    def restore(self, saved: Any, attributes: dict[str, Any]) -> None:
        """Bring back what was kept; see `recall`."""
        self.saved = saved


AnyStep = Step | Operation


def located(step: AnyStep, doing: str, inputs: Iterable[Shape]) -> str:
    """Say which gate was doing what when an error came up, on inputs of which shapes, and where it was added."""
    shapes = ", ".join(map(str, inputs))
    added = f", added at {file_and_line(step.place)}" if step.place else ""
    return f"in gate {step.name!r} ({type(step.gate).__name__}), {doing}, input shapes {shapes}{added}"
