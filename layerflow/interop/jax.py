"""JAX's functions as gates, so that the gradient check works on a `custom_vjp`. Needs JAX, imported here only."""

from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients

try:
    import jax
except ImportError as error:
    raise ImportError("layerflow.interop.jax needs JAX: pip install jax") from error


class _Function:
    """A function that copies of a gate share: JAX's cannot be copied."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __deepcopy__(self, memo: Any) -> "_Function":
        return self


class JaxGate(Gate):
    """y = function(*inputs), computed and differentiated by JAX; see `from_jax`."""

    def __init__(self, function: _Function, name: str) -> None:
        self.function, self.name = function, name

    def forward(self, *inputs: Any) -> Any:
        with jax.enable_x64(True):
            arrays = [jax.numpy.asarray(np.asarray(x)) for x in inputs]
            outputs, pull_back = jax.vjp(self.function.call, *arrays)
        several = outputs if isinstance(outputs, tuple | list) else (outputs,)
        self.save(pull_back, inputs, isinstance(outputs, tuple | list), [output.dtype for output in several])
        found = tuple([np.asarray(output) for output in several])
        return found if len(found) > 1 else found[0]

    def backward(self, *grads: Any) -> Gradients:
        pull_back, inputs, is_several, dtypes = self.saved
        with jax.enable_x64(True):
            upstream = tuple([jax.numpy.asarray(np.asarray(g), dtype) for g, dtype in zip(grads, dtypes, strict=True)])
            found = pull_back(upstream if is_several else upstream[0])
        is_real = [np.asarray(x).dtype.kind == "f" for x in inputs]
        return tuple([np.asarray(g) if real else None for g, real in zip(found, is_real, strict=True)]), {}

    def __repr__(self) -> str:
        return self.name


def from_jax(function: Callable[..., Any]) -> Gate:
    """Return a function of JAX arrays, such as one with a `custom_vjp`, as a gate in float64.

        report = lf.check_gradients(from_jax(my_function), x)

    Raises:
        GateError: it is not a function.
    """
    if not callable(function):
        raise GateError(f"from_jax: {function!r} is not a function")
    return JaxGate(_Function(function), getattr(function, "__name__", "function"))
