"""The two loops that run every network: forwards through its steps, and backwards again.

Values and gradients live in lists indexed by slot; a step reads some slots and writes one. The backward rule, all of
it: the gradient at a step's output goes into its gate; the first gradient that arrives at a slot or a parameter is
borrowed, a later one is added into a fresh array; nothing that arrived is ever changed in place.

A gate may be run by others between a step's forward and its backward: by hand, or in another container that holds it
too. Whoever runs its forward becomes its user; what the user before needs for backward is put aside first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from layerflow.byhand import as_input
from layerflow.contract import check_backward, check_forward
from layerflow.errors import Place, Placed, file_and_line
from layerflow.gate import Gate, Memory, Shape, recall
from layerflow.parameter import Array, Parameter
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
        is_proven: whether its results need no check.
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

    is_proven: ClassVar = False

    def renamed(self, name: str, reads: tuple[int, ...], writes: int) -> "Step":
        """The same use of the gate as a step of another container."""
        return Step(name, self.gate, reads, writes, place=self.place)

    def look_inside(self) -> None:
        """Count the gate's parameters, and find the gates inside it."""
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


def plan_gradients(steps: Iterable[AnyStep], needed: dict[int, bool]) -> None:
    """Write into each step which of its inputs need a gradient, and extend `needed` (slot -> bool) by its output.

    A slot needs a gradient when it depends on a parameter or on an input that needs one.
    """
    for step in steps:
        step.needs_grad = tuple([needed.get(slot, False) for slot in step.reads])
        step.look_inside()
        needed[step.writes] = step.parameter_count > 0 or True in step.needs_grad


def forward_sweep(steps: Iterable[AnyStep], values: list[Any], training: bool) -> None:
    """Run the steps in order, each reading its inputs from `values` and writing its output there."""
    value_of = values.__getitem__
    for step in steps:
        try:
            output = values[step.writes] = step.forward(training, map(value_of, step.reads))
            if not hasattr(output, "shape"):
                check_forward(step.gate, output)
                values[step.writes] = as_input(output)
        except Exception as error:
            error.add_note(located(step, "forward", [np.shape(values[slot]) for slot in step.reads]))
            raise


def backward_sweep(steps: Sequence[AnyStep], values: list[Any], grads: list[Any]) -> dict[Parameter, Array]:
    """Run the steps in reverse; `grads` holds the gradients of the outputs and receives those of every slot.

    Returns the gradient of each parameter that was reached.
    """
    learned: dict[Parameter, Array] = {}
    for step in reversed(steps):
        grad = grads[step.writes]
        needs_grad = step.needs_grad
        if grad is None or not (step.parameter_count or True in needs_grad):
            continue
        try:
            result = step.backward(grad)
            if not (step.is_proven or _is_plainly_right(step, result, values)):
                check_backward(step.gate, result, [np.shape(values[slot]) for slot in step.reads])
        except Exception as error:
            error.add_note(located(step, "backward", [np.shape(values[slot]) for slot in step.reads]))
            raise
        for slot, needed, arrived in zip(step.reads, needs_grad, result[0]):  # noqa: B905 (lengths are checked)
            if needed and arrived is not None:
                present = grads[slot]
                grads[slot] = arrived if present is None else present + arrived
        for name, arrived in result[1].items() if result[1] else ():
            parameter = step.gate.__dict__.get(name) or step.gate.named_parameters()[name]
            learned[parameter] = learned[parameter] + arrived if parameter in learned else arrived
    return learned


def write_gradients(parameters: Iterable[Parameter], learned: dict[Parameter, Array]) -> None:
    """Give every parameter its gradient of this sweep; one that was not reached gets zeros."""
    for parameter in parameters:
        value, grad = parameter.value, parameter.grad
        if grad is None or grad.shape != value.shape or grad.dtype != value.dtype:
            grad = parameter.grad = np.empty_like(value)
        grad[...] = learned.get(parameter, 0.0)


def _is_plainly_right(step: AnyStep, result: Any, values: list[Any]) -> bool:
    """Whether the contract visibly holds: the quick look that spares the usual case the full check and its messages."""
    if type(result) is not tuple or len(result) != 2:
        return False
    input_grads, param_grads = result
    if type(input_grads) is not tuple or type(param_grads) is not dict:
        return False
    if len(input_grads) != len(step.reads) or len(param_grads) != step.parameter_count:
        return False
    try:
        for slot, grad in zip(step.reads, input_grads):  # noqa: B905 (just checked, and this is the hot path)
            if grad is not None and grad.shape != values[slot].shape:
                return False
        if param_grads:
            held = step.gate.__dict__
            for name, grad in param_grads.items():
                parameter = held[name]
                if type(parameter) is not Parameter or parameter.value.shape != grad.shape:
                    return False
    except (AttributeError, KeyError):  # plain numbers, or the parameters of inner gates
        return False
    return True


def located(step: AnyStep, doing: str, inputs: Iterable[Shape]) -> str:
    """Say which gate was doing what when an error came up, on inputs of which shapes, and where it was added."""
    shapes = ", ".join(map(str, inputs))
    added = f", added at {file_and_line(step.place)}" if step.place else ""
    return f"in gate {step.name!r} ({type(step.gate).__name__}), {doing}, input shapes {shapes}{added}"
