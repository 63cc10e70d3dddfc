"""The two loops that run every network: forwards through its steps, and backwards again.

Values and gradients live in lists indexed by slot; a step reads some slots and writes one. The backward rule, all of
it: the gradient at a step's output goes into its gate; the first gradient that arrives at a slot or a parameter is
borrowed, a later one is added into a fresh array; nothing that arrived is ever changed in place.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from layerflow.byhand import as_input
from layerflow.contract import check_backward, check_forward
from layerflow.parameter import Array, Parameter
from layerflow.step import AnyStep, located


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
