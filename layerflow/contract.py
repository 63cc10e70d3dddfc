"""What a gate must return, and the message for an author whose gate returns something else."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError, did_you_mean
from layerflow.parameter import Array, Parameter, floating

Shape = tuple[int, ...]


def check_forward(gate: Any, output: Any) -> tuple[Any, ...]:
    """Return the outputs; raise `GateError` unless they are one array or number, or a tuple of two or more of them."""
    outputs = output if isinstance(output, tuple) and len(output) > 1 else (output,)
    for index, item in enumerate(outputs):
        if _shape(item) is None:
            place = f" as output {index}" if len(outputs) > 1 else ""
            raise GateError(
                f"{gate!r}: forward returned {_describe(item)}{place}, expected one array. Write: return y"
                + (", or for several outputs: return y, z" if isinstance(output, tuple | list) else "")
            )
    return outputs


def other_outputs(gate: Any, outputs: tuple[Any, ...], count: int) -> GateError:
    """The error for a forward that returned another number of outputs than `build` has announced."""
    shapes = ", ".join(str(np.shape(item)) for item in outputs)
    return GateError(
        f"{gate!r}: forward returned {_count(len(outputs), 'output')}, of shape {shapes}; build returned "
        f"{_count(count, 'shape')}. Write in build: return {shapes if len(outputs) == 1 else f'({shapes})'}, with "
        "one shape per output"
    )


def check_build(gate: Any, returned: Any, shapes: Sequence[Shape]) -> Any:
    """Return the output shape, or a tuple of them; raise `GateError` unless `build` returned that."""
    if _is_shape(returned):
        return tuple(returned)
    if isinstance(returned, tuple | list) and len(returned) > 1 and all(map(_is_shape, returned)):
        return tuple(map(tuple, returned))
    raise GateError(
        f"{gate!r}: build returned {_describe(returned)} for input of shape {', '.join(map(str, shapes))}, expected "
        "the output shape. Write: return shape, or the tuple of integers that forward's output has for shape; for "
        "several outputs, a tuple of shapes"
    )


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(isinstance(size, int | np.integer) for size in value)


def check_rebuild(
    gate: Any,
    parameters: Mapping[str, Parameter],
    again: Mapping[str, Parameter],
    attributes: Mapping[str, Any],
    shapes: Sequence[Shape],
) -> None:
    """Raise `GateError` when a second build asks for something else than the first, which the gate's other uses need.

    The parameters, before and `again` after it, must agree in shape; the plain ones of the attributes that the gate had
    before must not have changed.
    """
    given = ", ".join(map(str, shapes))
    for name, parameter in parameters.items():
        other = again.get(name, parameter)
        if parameter.has_value and other.has_value and other.value.shape != parameter.value.shape:
            raise GateError(
                f"{gate!r}: {name} has shape {parameter.value.shape} since it was first built, and input of shape "
                f"{given} needs {other.value.shape}; use a new gate, or input of the first width"
            )
    for name, old in attributes.items():
        new = vars(gate).get(name, old)
        if new is not old and _is_plain(old) and _is_plain(new) and not _is_equal(old, new):
            vars(gate).update(attributes)
            raise GateError(
                f"{gate!r}: build sets {name} to {new!r} for input of shape {given}; an earlier build has set it to "
                f"{old!r}, and a gate used at several places has only one. Use a new gate, or take it from x.shape in "
                "forward"
            )


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, int | float | str | np.generic | np.ndarray)


def _is_equal(old: Any, new: Any) -> bool:
    if isinstance(old, tuple | list) and isinstance(new, tuple | list):
        return len(old) == len(new) and all(map(_is_equal, old, new))
    return np.array_equal(old, new)


def changed(gate: Any, parameter: Parameter) -> GateError:
    """The error for a parameter that is no longer what it was in forward."""
    name = next((name for name, other in gate.named_parameters().items() if other is parameter), parameter.name)
    return GateError(
        f"{type(gate).__name__}: parameter {name!r} of shape {parameter.value.shape} was changed between forward and "
        "backward, so the gradient would be wrong. Call backward before the change, or forward again after it"
    )


def as_upstreams(place: str, grads: Sequence[Any], outputs: Sequence[tuple[Shape, np.dtype[Any]]]) -> list[Array]:
    """Return one upstream gradient per output, each as an array; `None` for one of several outputs means zeros.

    Raises:
        GateError: another number of gradients than of outputs; a gradient that hasn't the shape of its output.
    """
    if len(grads) != len(outputs):
        raise GateError(
            f"{place}: backward takes one gradient per output, {len(outputs)} here; {len(grads)} were given"
        )
    return [
        np.zeros(shape, dtype)[()] if grad is None and len(outputs) > 1 else as_upstream(place, grad, shape, dtype)
        for grad, (shape, dtype) in zip(grads, outputs, strict=True)
    ]


def as_upstream(place: str, grad: Any, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return the upstream gradient as an array; a bare number takes the output's floating-point type.

    Raises:
        GateError: it hasn't the shape of the output.
    """
    if grad is None:
        raise GateError(f"{place}: backward was given None instead of a gradient of shape {shape}")
    array = np.asarray(grad, dtype) if isinstance(grad, int | float) else floating(grad)
    if array.shape != shape:
        raise GateError(
            f"{place}: backward was given a gradient of shape {array.shape}; forward's output has shape {shape}, "
            "and so must its gradient"
        )
    return array


def check_backward(gate: Any, result: Any, shapes: Sequence[Shape]) -> None:
    """Raise `GateError` unless `result` is `(input_grads, param_grads)`, one gradient per input shape and parameter."""
    names, parameters = input_names(gate, len(shapes)), gate.named_parameters()
    if problem := _problem(result, dict(zip(names, shapes, strict=True)), parameters):
        inputs = ", ".join(f"grad_{name}" for name in names) + ("," if len(shapes) == 1 else "")
        grads = ", ".join(f'"{name}": grad_{name.replace(".", "_")}' for name in parameters)
        raise GateError(f"{gate!r}: backward returned {problem}. Write: return ({inputs}), {{{grads}}}")


def input_names(gate: Any, count: int) -> list[str]:
    """The names of forward's arguments, as its author wrote them; numbered where they are variadic."""
    parameters = inspect.signature(gate.forward).parameters.values()
    names = [item.name for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD][:count]
    return names + [f"input{i}" for i in range(len(names), count)]


def _problem(result: Any, inputs: Mapping[str, Shape], parameters: Mapping[str, Parameter]) -> str:
    """Say what is wrong with the result of a backward, given the shapes of the inputs; nothing if it is right."""
    if type(result) is not tuple or len(result) != 2:
        return f"{_describe(result)}, expected the pair (input_grads, param_grads)"
    input_grads, param_grads = result
    if type(input_grads) is not tuple:
        return f"{_describe(input_grads)} for the inputs, expected a tuple with one gradient per input"
    if type(param_grads) is not dict:
        return f"{_describe(param_grads)} for the parameters, expected a dict by parameter name"
    if len(input_grads) != len(inputs):
        return f"{len(input_grads)} input gradients, expected {len(inputs)}, one per input"
    for (name, shape), grad in zip(inputs.items(), input_grads, strict=True):
        if grad is not None and _shape(grad) != shape:
            return f"{_gradient(grad)} for input {name!r}, expected {shape}, the shape of the input"
    for name, grad in param_grads.items():
        if name not in parameters:
            hint = did_you_mean(name, parameters) or f"; its parameters are {', '.join(parameters) or 'none'}"
            return f"a gradient for {name!r}, which is no parameter of it{hint}"
        if _shape(grad) != parameters[name].value.shape:
            return f"{_gradient(grad)} for parameter {name!r}, expected {parameters[name].value.shape}"
    missing = [repr(name) for name in parameters if name not in param_grads]
    return f"no gradient for {', '.join(missing)} (zeros, if that is what is meant)" if missing else ""


def _shape(value: Any) -> Shape | None:
    """The shape of an array or a number; of anything else, none."""
    return np.shape(value) if isinstance(value, np.ndarray | np.generic | int | float) else None


def _gradient(grad: Any) -> str:
    return _describe(grad) if _shape(grad) is None else f"a gradient of shape {np.shape(grad)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "nothing (None)" if value is None else f"a value of type {type(value).__name__}"
