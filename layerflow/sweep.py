"""The two loops that run every network: forwards through its steps, and backwards again.

Values and gradients live in lists indexed by slot; a step reads some slots and writes one. The backward rule, all of it:
the gradient at a step's output goes into its gate; the first gradient that arrives at a slot or a parameter is borrowed,
a later one is added into a fresh array; nothing that arrived is ever changed in place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.contract import check_backward
from layerflow.gate import Gate
from layerflow.parameter import Array, Parameter


@dataclass(slots=True)
class Step:
    """One use of a gate: the slots it reads, the slot it writes, and what a sweep must know about it."""

    name: str
    gate: Gate
    reads: tuple[int, ...]
    writes: int
    needs_grad: tuple[bool, ...] = ()
    parameter_count: int = 0
    is_ready: bool = False
    saved: tuple[Any, ...] | None = None


def plan_gradients(steps: Iterable[Step], needed: dict[int, bool]) -> None:
    """Write into each step which of its inputs need a gradient, and extend `needed` (slot -> bool) by its output.

    A slot needs a gradient when it depends on a parameter or on an input that needs one.
    """
    for step in steps:
        step.needs_grad = tuple([needed.get(slot, False) for slot in step.reads])
        step.parameter_count = len(step.gate.named_parameters()) if vars(step.gate) else 0
        step.is_ready = True
        needed[step.writes] = step.parameter_count > 0 or True in step.needs_grad


def forward_sweep(steps: Iterable[Step], values: list[Any], training: bool) -> None:
    """Run the steps in order, each reading its inputs from `values` and writing its output there."""
    for step in steps:
        gate = step.gate
        gate.training = training
        gate.needs_grad = step.needs_grad
        gate._ran = None
        try:
            values[step.writes] = gate.bare_forward(*[values[slot] for slot in step.reads])
        except Exception as error:
            error.add_note(_where(step, "forward", values))
            raise
        step.saved = gate._saved


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
        gate.needs_grad = needs_grad
        gate._saved = step.saved  # whatever ran the gate by hand since the forward sweep
        try:
            result = gate.bare_backward(grad)
            if not _is_plainly_right(step, result, values):
                check_backward(gate, result, [np.shape(values[slot]) for slot in step.reads])
        except Exception as error:
            error.add_note(_where(step, "backward", values))
            raise
        for slot, needed, arrived in zip(step.reads, needs_grad, result[0], strict=True):
            if needed and arrived is not None:
                grads[slot] = arrived if grads[slot] is None else grads[slot] + arrived
        for name, arrived in result[1].items():
            parameter = vars(gate).get(name) or gate.named_parameters()[name]
            learned[parameter] = learned[parameter] + arrived if parameter in learned else arrived
    return learned


def write_gradients(parameters: Iterable[Parameter], learned: dict[Parameter, Array]) -> None:
    """Give every parameter its gradient of this sweep; one that was not reached gets zeros."""
    for parameter in parameters:
        if parameter.grad is None or parameter.grad.shape != parameter.value.shape:
            parameter.grad = np.empty_like(parameter.value)
        parameter.grad[...] = learned.get(parameter, 0.0)


def _is_plainly_right(step: Step, result: Any, values: list[Any]) -> bool:
    """Whether the contract visibly holds: the quick look that spares the usual case the full check and its messages."""
    if type(result) is not tuple or len(result) != 2:
        return False
    input_grads, param_grads = result
    if type(input_grads) is not tuple or type(param_grads) is not dict:
        return False
    if len(input_grads) != len(step.reads) or len(param_grads) != step.parameter_count:
        return False
    for slot, grad in zip(step.reads, input_grads, strict=True):
        if grad is not None and getattr(grad, "shape", ()) != getattr(values[slot], "shape", ()):
            return False
    held = vars(step.gate)
    for name, grad in param_grads.items():
        parameter = held.get(name)
        if type(parameter) is not Parameter or parameter.value.shape != getattr(grad, "shape", ()):
            return False
    return True


def _where(step: Step, direction: str, values: list[Any]) -> str:
    shapes = ", ".join(str(np.shape(values[slot])) for slot in step.reads)
    return f"in gate {step.name!r} ({type(step.gate).__name__}), {direction}, input shapes {shapes}"
