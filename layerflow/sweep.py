"""The two loops that run every network: forwards through its steps, and backwards again.

Values and gradients lie in lists indexed by slot; a step reads some slots and writes one, or one per output of its
gate. The backward rule, all of it: the gradients at a step's outputs go into its gate, zeros for an output that nobody
used; the first gradient that arrives at a slot or a parameter is borrowed, a later one is added into a fresh array;
nothing that arrived is ever changed in place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.contract import Shape, check_backward, check_forward, other_outputs
from layerflow.errors import Place, file_and_line
from layerflow.gate import Gate, Gradients, exchange, gates_in, remember
from layerflow.parameter import Array, Parameter, as_input, float_type


@dataclass(slots=True)
class Step:
    """One use of a gate.

    Attributes:
        name: unique in its container.
        gate: the gate, which may be used in other steps too.
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

    def __getstate__(self) -> Any:
        """What copies and pickles take along: all but the place, since code cannot be pickled."""
        state: Any = object.__getstate__(self)
        return None, state[1] | {"place": None}

    def plan(self, needed: list[bool]) -> bool:
        """Settle which inputs need a gradient, and whether the outputs do; note it in `needed` (by slot), return it.

        A slot needs a gradient when it depends on a parameter or on an input that needs one.
        """
        gate = self.gate
        self.needs_grad = tuple([gate.differentiable and needed[slot] for slot in self.reads])
        if not self.is_operator:
            self.gates = tuple(gates_in(gate)) if vars(gate) else (gate,)
            self.parameters = tuple(gate.parameters()) if vars(gate) else ()
        is_needed = bool(self.parameters) or True in self.needs_grad
        for slot in self.writes:
            needed[slot] = is_needed
        return is_needed

    def forward(self, inputs: Sequence[Any], training: bool) -> tuple[Any, Any]:
        """Run the gate's forward; return its output, a tuple for several, and what the gate keeps of it."""
        gate = self.gate
        for each in self.gates:
            each.training = training
        gate.needs_grad = self.needs_grad
        gate._ran = None
        try:
            output = gate.bare_forward(*inputs)
            if not hasattr(output, "shape"):
                outputs = tuple(map(as_input, check_forward(gate, output)))
                if self.writes and len(outputs) != len(self.writes):
                    raise other_outputs(gate, outputs, len(self.writes))
                output = outputs if len(outputs) > 1 else outputs[0]
            elif len(self.writes) > 1:
                raise other_outputs(gate, (output,), len(self.writes))
        except Exception as error:
            error.add_note(self.located("forward", map(np.shape, inputs)))
            raise
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
        present = [grad for grad in arrived if grad is not None]
        if len(present) == len(arrived) or not present:
            return present or None
        return [
            np.zeros(np.shape(values[slot]), float_type(values[slot]))[()] if grad is None else grad
            for slot, grad in zip(self.writes, arrived, strict=True)
        ]

    def located(self, doing: str, inputs: Iterable[Shape]) -> str:
        """Say which gate was doing what when an error came up, on inputs of which shapes, and where it was added."""
        shapes = ", ".join(map(str, inputs))
        added = f", added at {file_and_line(self.place)}" if self.place else ""
        return f"in gate {self.name!r} ({type(self.gate).__name__}), {doing}, input shapes {shapes}{added}"


def forward_sweep(steps: Iterable[Step], values: list[Any], memories: list[Any], training: bool) -> None:
    """Run the steps in order, each reading its inputs from `values` and writing its outputs there.

    What its gate keeps for backward goes into `memories`, at the step's first output.
    """
    for step in steps:
        output, memories[step.writes[0]] = step.forward([values[slot] for slot in step.reads], training)
        if len(step.writes) == 1:
            values[step.writes[0]] = output
        else:
            for slot, value in zip(step.writes, output, strict=True):
                values[slot] = value


def backward_sweep(
    steps: Iterable[Step], values: Sequence[Any], memories: Sequence[Any], grads: list[Any], reached: list[int]
) -> dict[Parameter, Array]:
    """Run the steps, given last first; `grads` holds the gradients of the outputs and receives those of every slot.

    The slots at which gradients arrive are appended to `reached`. Returns the gradient of each parameter that was
    reached.
    """
    learned: dict[Parameter, Array] = {}
    for step in steps:
        writes, needs_grad = step.writes, step.needs_grad
        upstream = (grads[writes[0]],) if len(writes) == 1 else step.upstream(values, grads)
        if upstream is None or upstream[0] is None or not (step.parameters or True in needs_grad):
            continue
        try:
            if step.is_operator:  # `step.backward` in short, for the millions of steps that scalars take
                gate = step.gate
                gate.needs_grad, gate._saved = needs_grad, memories[writes[0]]
                result = gate.bare_backward(upstream[0])
            else:
                result = step.backward(upstream, memories[writes[0]])
                if not _keeps_contract(step, result, values):
                    check_backward(step.gate, result, [np.shape(values[slot]) for slot in step.reads])
        except Exception as error:
            error.add_note(step.located("backward", [np.shape(values[slot]) for slot in step.reads]))
            raise
        for slot, needed, arrived in zip(step.reads, needs_grad, result[0]):  # noqa: B905 (lengths are checked)
            if needed and arrived is not None:
                present = grads[slot]
                if present is None:
                    grads[slot] = arrived
                    reached.append(slot)
                else:
                    grads[slot] = present + arrived
        if result[1]:
            for name, arrived in result[1].items():
                parameter = step.gate.__dict__.get(name) or step.gate.named_parameters()[name]
                learn(learned, parameter, arrived)
    return learned


def learn(learned: dict[Parameter, Array], parameter: Parameter, grad: Array) -> None:
    """A gradient arrives at a parameter."""
    learned[parameter] = learned[parameter] + grad if parameter in learned else grad


def write_gradients(parameters: Iterable[Parameter], learned: dict[Parameter, Array]) -> None:
    """Give every parameter its gradient of this sweep; one that was not reached gets zeros."""
    for parameter in parameters:
        value, grad = parameter.value, parameter.grad
        if grad is None or grad.shape != value.shape or grad.dtype != value.dtype:
            grad = parameter.grad = np.empty_like(value)
        grad[...] = learned.get(parameter, 0.0)


def _keeps_contract(step: Step, result: Any, values: Sequence[Any]) -> bool:
    """Whether `result` is right at a glance, as it nearly always is; otherwise the full check decides."""
    try:
        input_grads, param_grads = result
        if type(result) is not tuple or type(input_grads) is not tuple or type(param_grads) is not dict:
            return False
        if len(input_grads) != len(step.reads) or len(param_grads) != len(step.parameters):
            return False
        for slot, grad in zip(step.reads, input_grads):  # noqa: B905 (just checked, and this is the hot path)
            if grad is not None and grad.shape != values[slot].shape:
                return False
        for name, grad in param_grads.items():
            parameter = step.gate.__dict__[name]
            if type(parameter) is not Parameter or parameter.value.shape != grad.shape:
                return False
        return True
    except (TypeError, ValueError, AttributeError, KeyError):  # plain numbers, or the parameters of inner gates
        return False
