"""The two loops that run every network: forwards through its steps, and backwards again.

Values and gradients live in lists indexed by slot; a step reads some slots and writes one. The backward rule, all of
it: the gradient at a step's output goes into its gate; the first gradient that arrives at a slot or a parameter is
borrowed, a later one is added into a fresh array; nothing that arrived is ever changed in place.

A gate may be run by others between a step's forward and its backward: by hand, or in another container that holds it
too. Whoever runs its forward becomes its user; what the user before needs for backward is put aside first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.contract import check_backward, check_forward
from layerflow.gate import Gate, Memory, as_input, find, recall
from layerflow.parameter import Array, Parameter


@dataclass(slots=True)
class Step:
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


def plan_gradients(steps: Iterable[Step], needed: dict[int, bool]) -> None:
    """Write into each step which of its inputs need a gradient, and extend `needed` (slot -> bool) by its output.

    A slot needs a gradient when it depends on a parameter or on an input that needs one.
    """
    for step in steps:
        step.needs_grad = tuple([needed.get(slot, False) for slot in step.reads])
        step.parameter_count = len(step.gate.named_parameters()) if vars(step.gate) else 0
        step.inner = tuple([gate for _, gate in find(step.gate, Gate)][1:])
        needed[step.writes] = step.parameter_count > 0 or True in step.needs_grad


def forward_sweep(steps: Iterable[Step], values: list[Any], training: bool) -> None:
    """Run the steps in order, each reading its inputs from `values` and writing its output there."""
    value_of = values.__getitem__
    for step in steps:
        gate = step.gate
        if gate._user is not step:
            gate.hand_over(step)
            step.memory = None
        gate.training = training
        gate.needs_grad = step.needs_grad
        for inner in step.inner:
            inner.training = training
        try:
            output = values[step.writes] = gate.bare_forward(*map(value_of, step.reads))
            if not hasattr(output, "shape"):
                check_forward(gate, output)
                values[step.writes] = as_input(output)
        except Exception as error:
            error.add_note(_where(step, "forward", values))
            raise


def backward_sweep(steps: Sequence[Step], values: list[Any], grads: list[Any]) -> dict[Parameter, Array]:
    """Run the steps in reverse; `grads` holds the gradients of the outputs and receives those of every slot.

    Returns the gradient of each parameter that was reached.
    """
    learned: dict[Parameter, Array] = {}
    for step in reversed(steps):
        grad = grads[step.writes]
        needs_grad = step.needs_grad
        if grad is None or not (step.parameter_count or True in needs_grad):
            continue
        gate = step.gate
        try:
            if gate._user is step:
                gate.needs_grad = needs_grad
                result = gate.bare_backward(grad)
            else:
                result = step.backward(grad)
            if not _is_plainly_right(step, result, values):
                check_backward(gate, result, [np.shape(values[slot]) for slot in step.reads])
        except Exception as error:
            error.add_note(_where(step, "backward", values))
            raise
        for slot, needed, arrived in zip(step.reads, needs_grad, result[0]):  # noqa: B905 (lengths are checked)
            if needed and arrived is not None:
                present = grads[slot]
                grads[slot] = arrived if present is None else present + arrived
        for name, arrived in result[1].items():
            parameter = gate.__dict__.get(name) or gate.named_parameters()[name]
            learned[parameter] = learned[parameter] + arrived if parameter in learned else arrived
    return learned


def write_gradients(parameters: Iterable[Parameter], learned: dict[Parameter, Array]) -> None:
    """Give every parameter its gradient of this sweep; one that was not reached gets zeros."""
    for parameter in parameters:
        value, grad = parameter.value, parameter.grad
        if grad is None or grad.shape != value.shape or grad.dtype != value.dtype:
            grad = parameter.grad = np.empty_like(value)
        grad[...] = learned.get(parameter, 0.0)


def _is_plainly_right(step: Step, result: Any, values: list[Any]) -> bool:
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


def _where(step: Step, direction: str, values: list[Any]) -> str:
    shapes = ", ".join(str(np.shape(values[slot])) for slot in step.reads)
    return f"in gate {step.name!r} ({type(step.gate).__name__}), {direction}, input shapes {shapes}"
