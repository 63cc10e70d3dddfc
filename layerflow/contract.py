"""What a gate must return, and the message for an author whose gate returns something else."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError, did_you_mean
from layerflow.parameter import Array, Parameter, floating

Shape = tuple[int, ...]


def check_forward(gate: Any, output: Any) -> None:
    """Raise `GateError` unless `output` is one array (or one number)."""
    if not isinstance(output, np.ndarray | np.generic | int | float):
        raise GateError(f"{gate!r}: forward returned {_describe(output)}, expected one array. Write: return y")


def check_build(gate: Any, returned: Any, shapes: Sequence[Shape]) -> None:
    """Raise `GateError` unless `build` returned a shape."""
    if not isinstance(returned, tuple | list) or not all(isinstance(size, int | np.integer) for size in returned):
        given = ", ".join(map(str, shapes))
        raise GateError(
            f"{gate!r}: build returned {_describe(returned)} for input of shape {given}, expected the output shape. "
            "Write: return shape, or the tuple of integers that forward's output has for shape"
        )


def check_rebuild(
    gate: Any, before: Mapping[str, Parameter], after: Mapping[str, Parameter], shapes: Sequence[Shape]
) -> None:
    """Raise `GateError` when a second build asks for a parameter of another shape than the first one made."""
    for name, parameter in before.items():
        again = after.get(name, parameter)
        if parameter.has_value and again.has_value and again.value.shape != parameter.value.shape:
            given = ", ".join(map(str, shapes))
            raise GateError(
                f"{gate!r}: {name} has shape {parameter.value.shape} since it was first built, and input of shape "
                f"{given} needs {again.value.shape}; use a new gate, or input of the first width"
            )


def as_upstream(place: str, grad: Any, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return the upstream gradient as an array; a bare number takes the output's floating-point type.

    Raises:
        GateError: it hasn't the shape of the output.
    """
    array = np.asarray(grad, dtype) if isinstance(grad, int | float) else floating(grad)
    if array.shape != shape:
        raise GateError(
            f"{place}: backward was given a gradient of shape {array.shape}; forward's output has shape {shape}, "
            "and so must its gradient"
        )
    return array


def check_backward(gate: Any, result: Any, shapes: Sequence[Shape]) -> None:
    """Raise `GateError` unless `result` is `(input_grads, param_grads)`, one gradient per input shape and parameter."""
    if problem := _problem(gate, result, shapes):
        inputs = ", ".join(f"grad_{name}" for name in input_names(gate, len(shapes)))
        comma = "," if len(shapes) == 1 else ""
        parameters = ", ".join(f'"{name}": grad_{name.replace(".", "_")}' for name in gate.named_parameters())
        raise GateError(f"{gate!r}: backward returned {problem}. Write: return ({inputs}{comma}), {{{parameters}}}")


def input_names(gate: Any, count: int) -> list[str]:
    """The names of forward's arguments, as its author wrote them; numbered where they are variadic."""
    parameters = inspect.signature(gate.forward).parameters.values()
    names = [item.name for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD][:count]
    return names + [f"input{i}" for i in range(len(names), count)]


def _problem(gate: Any, result: Any, shapes: Sequence[Shape]) -> str:
    if type(result) is not tuple or len(result) != 2:
        return f"{_describe(result)}, expected the pair (input_grads, param_grads)"
    input_grads, param_grads = result
    if type(input_grads) is not tuple:
        return f"{_describe(input_grads)} for the inputs, expected a tuple with one gradient per input"
    if type(param_grads) is not dict:
        return f"{_describe(param_grads)} for the parameters, expected a dict by parameter name"
    if len(input_grads) != len(shapes):
        return f"{len(input_grads)} input gradients, expected {len(shapes)}, one per input"
    for name, grad, shape in zip(input_names(gate, len(shapes)), input_grads, shapes, strict=True):
        if grad is not None and _shape(grad) != shape:
            return f"{_gradient(grad)} for input {name!r}, expected {shape}, the shape of the input"
    return _parameter_problem(gate.named_parameters(), param_grads)


def _parameter_problem(parameters: Mapping[str, Parameter], grads: Mapping[str, Any]) -> str:
    for name, grad in grads.items():
        if name not in parameters:
            hint = did_you_mean(name, parameters) or f"; its parameters are {', '.join(parameters) or 'none'}"
            return f"a gradient for {name!r}, which is no parameter of it{hint}"
        if _shape(grad) != parameters[name].value.shape:
            return f"{_gradient(grad)} for parameter {name!r}, expected {parameters[name].value.shape}"
    missing = [repr(name) for name in parameters if name not in grads]
    return f"no gradient for {', '.join(missing)} (zeros, if that is what is meant)" if missing else ""


def _shape(grad: Any) -> Shape | None:
    """The shape of an array or a number; of anything else, none."""
    return np.shape(grad) if isinstance(grad, np.ndarray | np.generic | int | float) else None


def _gradient(grad: Any) -> str:
    return _describe(grad) if _shape(grad) is None else f"a gradient of shape {np.shape(grad)}"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "nothing (None)" if value is None else f"a value of type {type(value).__name__}"
