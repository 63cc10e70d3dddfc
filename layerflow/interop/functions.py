"""A gate of two functions."""

from collections.abc import Callable
from typing import Any

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients


class FunctionGate(Gate):
    """y = forward(*inputs); see `gate_from`."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any], name: str | None = None) -> None:
        for role, function in (("forward", forward), ("backward", backward)):
            if not callable(function):
                raise GateError(f"gate_from: {role} is {function!r}, not a function")
        self._forward, self._backward = forward, backward
        self.name = str(name or getattr(forward, "__name__", "function"))

    def forward(self, *inputs: Any) -> Any:
        self.save(*inputs)
        return self._forward(*inputs)

    def backward(self, *grads: Any) -> Gradients:
        found = self._backward(*grads, *self.saved)
        return (tuple(found) if isinstance(found, tuple | list) else (found,)), {}

    def __repr__(self) -> str:
        return self.name


def gate_from(forward: Callable[..., Any], backward: Callable[..., Any], name: str | None = None) -> Gate:
    """Return a gate of two functions, to be checked, or to be used like any other.

        square = lf.gate_from(lambda x: x * x, lambda grad, x: 2 * x * grad)
        lf.check_gradients(square, x)

    Args:
        forward: takes the inputs and returns the output, or a tuple of outputs.
        backward: takes the upstream gradient of each output, then the inputs, and returns the gradient of the input, or
            a tuple with one for each; None where there is none, as for labels.
        name: what messages call it; by default the name of `forward`.

    Raises:
        GateError: one of the two is not a function.
    """
    return FunctionGate(forward, backward, name)
