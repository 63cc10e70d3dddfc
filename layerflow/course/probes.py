"""What is done with a solution, and with the reference: both return arrays by name, which are then compared."""

from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow.course.exercises import Case
from layerflow.gate import Gate
from layerflow.parameter import Array, Parameter
from layerflow.store import ParameterStore

Results = dict[str, Array]


def gate_results(gate: Gate, case: Case, upstream: Array | None) -> Results:
    """Forward and backward of a gate on one case."""
    inputs = [np.array(x) for x in case.inputs]
    found: Results = {"output": np.asarray(gate.forward(*inputs))}
    grad = np.ones(found["output"].shape) if upstream is None else upstream
    given = np.array(grad)
    grads, learned = gate.backward(given)
    for i, (each, x) in enumerate(zip(grads, case.inputs, strict=True)):
        if each is not None and x.dtype.kind == "f":
            found[f"gradient of input {i + 1}"] = np.array(each)
    found |= {f"gradient of {name}": np.array(each) for name, each in learned.items()}
    same = all(np.array_equal(x, before) for x, before in zip(inputs, case.inputs, strict=True))
    found["inputs and gradient unchanged"] = np.array(same and np.array_equal(given, grad))
    again, _ = gate.backward(np.array(grad))
    pairs = [(a, b) for a, b in zip(again, grads, strict=True) if a is not None and b is not None]
    gate.forward(*[np.array(x) for x in case.inputs])
    found["same result twice"] = np.array(all(np.array_equal(a, b) for a, b in pairs))
    return found


def optimizer_results(optimizer: Any, case: Case, upstream: Array | None) -> Results:
    """The values after each step."""
    store = ParameterStore([Parameter(np.array(case.inputs[0]))])
    found: Results = {}
    for i, grads in enumerate(case.steps):
        store.grads[...] = grads
        optimizer.step(store)
        found[f"values after step {i + 1}" if i in (0, 1, 5) else f"step {i + 1}"] = store.values.copy()
    return {name: value for name, value in found.items() if name.startswith("values")}


def order_results(function: Callable[..., Any], case: Case, upstream: Array | None) -> Results:
    """The places of a graph's nodes in the order that a function gives."""
    graph = {name: list(reads) for name, reads in case.arguments["graph"].items()}
    order = list(function(graph))
    places = [order.index(name) if order.count(name) == 1 else -1 for name in sorted(case.arguments["graph"])]
    return {"order": np.array([*places, len(order)])}


def expression(a: Any, b: Any, c: Any) -> Any:
    """A formula in which numbers are used more than once."""
    d = a * b + c
    e = d.tanh() if hasattr(d, "tanh") else np.tanh(d)
    return e * a + b * b * 0.5 + 2 * e + e * e


def differentiated(function: Callable[..., Any], x: Array) -> Array:
    """The gradient by complex steps, which are exact (Squire and Trapp 1998)."""
    grad = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[place] += 1e-150j
        grad[place] = function(moved).imag / 1e-150
    return grad


def engine_results(value: Any, case: Case, upstream: Array | None) -> Results:
    """The value and gradients of an expression of scalars; the reference is the expression itself."""
    (numbers,) = case.inputs
    if value is expression:
        return {"value": np.array(expression(*numbers)),
                "gradients": differentiated(lambda x: expression(*x), numbers)}  # fmt: skip
    leaves = [value(float(number)) for number in numbers]
    result = expression(*leaves)
    found: Results = {"value": np.array(float(result.data))}
    result.backward()
    return found | {"gradients": np.array([float(leaf.grad) for leaf in leaves])}


def sample_function(x: Any) -> Any:
    """A function of an array, whose gradient is known."""
    return np.sin(x).sum() + (x * x).sum() * 0.3 + x.ravel()[0] * x.ravel()[-1]


def difference_results(function: Callable[..., Any], case: Case, upstream: Array | None) -> Results:
    """The gradient of a function by somebody's differences."""
    x = np.array(case.inputs[0])
    found = np.array(function(lambda z: float(sample_function(z)), x))
    return {"gradient": found, "x is unchanged": np.array(np.array_equal(x, case.inputs[0]))}


PROBES: dict[str, Callable[[Any, Case, Array | None], Results]] = {
    "gate": gate_results, "optimizer": optimizer_results, "function": order_results, "engine": engine_results,
    "differences": difference_results,
}  # fmt: skip


def made(kind: str, target: Any, case: Case) -> Any:
    """The object that a probe takes: an instance of a gate or optimizer, or the class or function itself."""
    if kind in ("gate", "optimizer"):
        return target(**case.arguments)
    return target
