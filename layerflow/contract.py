"""What a gate must return, and the message for an author whose gate returns something else."""

import inspect
from typing import Any

import numpy as np

from layerflow.errors import GateError, did_you_mean
from layerflow.parameter import Parameter


def check_backward(gate: Any, result: Any, shapes: list[tuple[int, ...]]) -> None:
    """Raise `GateError` unless `result` is `(input_grads, param_grads)`, one gradient per input shape and parameter."""
    if type(result) is not tuple or len(result) != 2:
        raise GateError(_message(gate, shapes, f"returned {_describe(result)}, expected the pair (input_grads, param_grads)"))
    input_grads, param_grads = result
    if type(input_grads) is not tuple:
        raise GateError(_message(gate, shapes, f"returned {_describe(input_grads)} for the inputs, expected a tuple with one gradient per input"))
    if type(param_grads) is not dict:
        raise GateError(_message(gate, shapes, f"returned {_describe(param_grads)} for the parameters, expected a dict by parameter name"))
    if len(input_grads) != len(shapes):
        raise GateError(_message(gate, shapes, f"returned {len(input_grads)} input gradients, expected {len(shapes)}, one per input"))
    for name, grad, shape in zip(_input_names(gate, len(shapes)), input_grads, shapes, strict=True):
        if grad is not None and np.shape(grad) != shape:
            raise GateError(_message(gate, shapes, f"returned a gradient of shape {np.shape(grad)} for input {name!r}, expected {shape}, the shape of the input"))
    parameters = gate.named_parameters()
    for name, grad in param_grads.items():
        if name not in parameters:
            hint = did_you_mean(name, parameters) or f"; its parameters are {', '.join(parameters) or 'none'}"
            raise GateError(_message(gate, shapes, f"returned a gradient for {name!r}, which is no parameter of it{hint}"))
        if np.shape(grad) != parameters[name].value.shape:
            raise GateError(_message(gate, shapes, f"returned a gradient of shape {np.shape(grad)} for parameter {name!r}, expected {parameters[name].value.shape}"))
    if missing := [name for name in parameters if name not in param_grads]:
        raise GateError(_message(gate, shapes, f"returned no gradient for {', '.join(map(repr, missing))} (zeros, if that is what is meant)"))


def check_grad(gate: Any, grad: Any, shape: tuple[int, ...]) -> None:
    """Raise `GateError` unless the upstream gradient has the shape of the output."""
    if grad.shape != shape:
        raise GateError(f"{gate!r}: backward was given a gradient of shape {grad.shape}; forward's output has shape {shape}, and so must its gradient")


def check_build(gate: Any, name: str, before: Parameter, after: Any, shapes: tuple[Any, ...]) -> None:
    """Raise `GateError` when a second build asks for a parameter of another shape than the first one made."""
    if isinstance(after, Parameter) and after.has_value and after.value.shape != before.value.shape:
        raise GateError(
            f"{gate!r}: {name} has shape {before.value.shape} since it was first built, and input of shape "
            f"{', '.join(map(str, shapes))} needs {after.value.shape}; use a new gate, or input of the first width"
        )


def _message(gate: Any, shapes: list[tuple[int, ...]], problem: str) -> str:
    inputs = ", ".join(f"grad_{name}" for name in _input_names(gate, len(shapes)))
    parameters = ", ".join(f'"{name}": grad_{name.replace(".", "_")}' for name in gate.named_parameters())
    comma = "," if len(shapes) == 1 else ""
    return f"{gate!r}: backward {problem}. Write: return ({inputs}{comma}), {{{parameters}}}"


def _input_names(gate: Any, count: int) -> list[str]:
    """The names of forward's arguments, as its author wrote them; numbered where they are variadic."""
    parameters = inspect.signature(gate.forward).parameters.values()
    names = [item.name for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD][:count]
    return names + [f"input{i}" for i in range(len(names), count)]


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "nothing (None)" if value is None else f"a {type(value).__name__}"
