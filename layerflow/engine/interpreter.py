"""Runs a program in NumPy, one node after the other: what every other way to run it is measured against."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from layerflow.engine.program import VIEWS, Guard, Node, Program, slices, viewed
from layerflow.errors import LayerflowError
from layerflow.parameter import Array


class GuardError(LayerflowError):
    """A guard of a program does not hold for these inputs; the NumPy code has to run instead."""

    def __init__(self, guard: Guard) -> None:
        super().__init__(
            f"recorded where a condition was {guard.expected}, which it is not for these inputs: {guard.origin}"
        )


def interpret(program: Program, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Return the outputs of a program by name.

    Raises:
        GuardError: a guard does not hold.
        KeyError: an input is missing. ValueError: one has another shape than when the program was recorded.
    """
    values: dict[int, Array] = {}
    guards: dict[int, list[Guard]] = {}
    for guard in program.guards:
        guards.setdefault(guard.node.number, []).append(guard)
    with np.errstate(all="ignore"):
        for node in program.live():
            if node.kind == "input":
                values[node.number] = given = np.asarray(inputs[node.settings["name"]])
                if given.shape != node.shape or given.dtype != node.dtype:
                    raise ValueError(
                        f"input {node.settings['name']!r} is {given.dtype} {given.shape}; the program was recorded "
                        f"for {node.dtype} {node.shape}"
                    )
            else:
                operands = [values[each.number] for each in node.inputs]
                values[node.number] = np.asarray(computed(node, operands), node.dtype)
            for guard in guards.get(node.number, ()):
                if bool(values[node.number]) is not guard.expected:
                    raise GuardError(guard)
    return {name: values[node.number] for name, node in program.outputs.items()}


def computed(node: Node, operands: list[Array]) -> Any:
    """The value of a node, given those of its inputs."""
    if node.kind in VIEWS:
        return viewed(node.kind, node.settings, node.shape, operands[0])
    return KINDS[node.kind](node, *operands)


def _elementwise(node: Node, *operands: Array) -> Any:
    function = node.settings["function"]
    if function == "cast":
        return operands[0].astype(node.dtype)
    return np.where(*operands) if function == "where" else getattr(np, function)(*operands)


def _update(node: Node, base: Array, value: Array) -> Array:
    result = base.copy()
    result[slices(node.settings["starts"], node.settings["steps"], value.shape)] = value
    return result


def _scatter(node: Node, base: Array, value: Array, *indices: Array) -> Array:
    result = base.copy()
    if node.settings["mode"] == "add":
        np.add.at(result, indices, value)
    else:
        result[indices] = value
    return result


KINDS: dict[str, Callable[..., Any]] = {
    "constant": lambda node: node.settings["value"],
    "elementwise": _elementwise,
    "reduce": lambda node, x: getattr(np, node.settings["function"])(x, axis=node.settings["axes"]),
    "arg": lambda node, x: getattr(np, node.settings["function"])(x, axis=node.settings["axis"]),
    "cumulate": lambda node, x: getattr(np, f"cum{node.settings['function']}")(x, axis=node.settings["axis"]),
    "dot": lambda node, a, b: np.matmul(a, b),
    "update": _update,
    "gather": lambda node, base, *indices: base[indices],
    "scatter": _scatter,
    "concatenate": lambda node, *parts: np.concatenate(parts, axis=node.settings["axis"]),
}
