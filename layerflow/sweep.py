"""The two loops that run every network: forwards through its steps, and backwards again.

Values and gradients lie in lists indexed by slot; a step reads some slots and writes one, or one per output of its
gate. The backward rule, all of it: the gradients at a step's outputs go into its gate, zeros for an output that nobody
used; the first gradient that arrives at a slot or a parameter is borrowed, a later one is added into a fresh array;
nothing that arrived is ever changed in place.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.contract import Shape, check_backward, check_forward, check_outputs
from layerflow.errors import Place, Placed, file_and_line
from layerflow.gate import Gate, Gradients, exchange, gates_in, remember
from layerflow.parameter import Array, Parameter, as_input, float_type


@dataclass(slots=True)
class Step(Placed):
    """One use of a gate.

    Attributes:
        name: unique in its container.
        gate: the gate, which may stand at other places too.
        reads, writes: the slots of its inputs, and of its outputs.
        needs_grad: one bool per input.
        place: where in the user's code it was added, if it is known.
        is_operator: whether the gate is a built-in operator that saves values and keeps nothing else, so that one gate
            serves all steps of its kind; what it returns needs no check.
        gates: the gate and those inside it.
        parameters: those of the gate.
    """

    name: str
    gate: Gate
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    needs_grad: tuple[bool, ...] = ()
    place: Place | None = None
    is_operator: bool = False
    gates: tuple[Gate, ...] = ()
    parameters: tuple[Parameter, ...] = ()

    def plan(self, needed: dict[int, bool]) -> None:
        """Settle which inputs need a gradient, and extend `needed` (slot -> bool) by the outputs.

        A slot needs a gradient when it depends on a parameter or on an input that needs one.
        """
        gate = self.gate
        self.needs_grad = tuple([gate.differentiable and needed.get(slot, False) for slot in self.reads])
        if not self.is_operator:
            self.gates = tuple(gates_in(gate)) if vars(gate) else (gate,)
            self.parameters = tuple(gate.parameters()) if vars(gate) else ()
        is_needed = bool(self.parameters) or True in self.needs_grad
        for slot in self.writes:
            needed[slot] = is_needed

    def forward(self, inputs: Sequence[Any], training: bool) -> tuple[Any, Any]:
        """Run the gate's forward; return its output, a tuple for several, and what the gate keeps of it."""
        gate = self.gate
        for each in self.gates:
            each.training = training
        gate.needs_grad = self.needs_grad
        gate._ran = None
        output = gate.bare_forward(*inputs)
        if not hasattr(output, "shape"):
            outputs = check_forward(gate, output)
            output = tuple(map(as_input, outputs)) if len(outputs) > 1 else as_input(output)
        return output, gate._saved if self.is_operator or not gate.__dict__ else remember(self.gates)

    def backward(self, grads: Sequence[Any], memory: Any) -> Gradients:
        """Run the gate's backward on what its forward left at this step; the gate is left as it was found."""
        gate = self.gate
        gate.needs_grad = self.needs_grad
        if type(memory) is not list:
            found, gate._saved = gate._saved, memory
            try:
                return gate.bare_backward(*grads)
            finally:
                gate._saved = found
        if all(entry[0]._memory is memory for entry in memory):  # nothing has run these gates since
            return gate.bare_backward(*grads)
        held = exchange(memory)
        try:
            return gate.bare_backward(*grads)
        finally:
            exchange(held)

    def upstream(self, values: Sequence[Any], grads: Sequence[Any]) -> list[Any] | None:
        """The gradient of each output, zeros where none arrived; `None` where none arrived at all."""
        arrived = [grads[slot] for slot in self.writes]
        if all(grad is None for grad in arrived):
            return None
        return [
            np.zeros(np.shape(values[slot]), float_type(values[slot]))[()] if grad is None else grad
            for slot, grad in zip(self.writes, arrived, strict=True)
        ]

    def located(self, doing: str, inputs: Iterable[Shape]) -> str:
        """Say which gate was doing what when an error came up, on inputs of which shapes, and where it was added."""
        shapes = ", ".join(map(str, inputs))
        added = f", added at {file_and_line(self.place)}" if self.place else ""
        return f"in gate {self.name!r} ({type(self.gate).__name__}), {doing}, input shapes {shapes}{added}"


def forward_sweep(
    steps: Iterable[Step],
    values: list[Any],
    memories: list[Any],
    training: bool,
    widen: Callable[[Step, int], None] | None = None,
) -> None:
    """Run the steps in order, each reading its inputs from `values` and writing its outputs there.

    What its gate keeps for backward goes into `memories`, at the step's first output. `widen` gets the number of
    outputs that a gate has returned, where that is not known from a build.
    """
    for step in steps:
        try:
            output, memory = step.forward([values[slot] for slot in step.reads], training)
            if type(output) is not tuple and len(step.writes) == 1:
                values[step.writes[0]] = output
            else:
                outputs = output if type(output) is tuple else (output,)
                if widen is not None:
                    widen(step, len(outputs))
                check_outputs(step.gate, outputs, len(step.writes))
                for slot, value in zip(step.writes, outputs, strict=True):
                    values[slot] = value
            memories[step.writes[0]] = memory
        except Exception as error:
            error.add_note(step.located("forward", [np.shape(values[slot]) for slot in step.reads]))
            raise


def backward_sweep(
    steps: Iterable[Step], values: Sequence[Any], memories: Sequence[Any], grads: list[Any]
) -> dict[Parameter, Array]:
    """Run the steps, given last first; `grads` holds the gradients of the outputs and receives those of every slot.

    Returns the gradient of each parameter that was reached.
    """
    learned: dict[Parameter, Array] = {}
    for step in steps:
        writes, needs_grad = step.writes, step.needs_grad
        upstream: Sequence[Any] | None
        if len(writes) == 1:
            grad = grads[writes[0]]
            upstream = None if grad is None else (grad,)
        else:
            upstream = step.upstream(values, grads)
        if upstream is None or not (step.parameters or True in needs_grad):
            continue
        try:
            if step.is_operator:  # `step.backward` without the call, for the millions of steps that scalars take
                gate = step.gate
                gate.needs_grad, gate._saved = needs_grad, memories[writes[0]]
                result = gate.bare_backward(grad)
            else:
                result = step.backward(upstream, memories[writes[0]])
                if not _is_plainly_right(step, result, values):
                    check_backward(step.gate, result, [np.shape(values[slot]) for slot in step.reads])
        except Exception as error:
            error.add_note(step.located("backward", [np.shape(values[slot]) for slot in step.reads]))
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


def _is_plainly_right(step: Step, result: Any, values: Sequence[Any]) -> bool:
    """Whether the contract visibly holds: the quick look that spares the usual case the full check and its messages."""
    if type(result) is not tuple or len(result) != 2:
        return False
    input_grads, param_grads = result
    if type(input_grads) is not tuple or type(param_grads) is not dict:
        return False
    if len(input_grads) != len(step.reads) or len(param_grads) != len(step.parameters):
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
