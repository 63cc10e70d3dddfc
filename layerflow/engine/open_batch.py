"""Programs for batches of any size: recorded at several sizes, what differs follows the size."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from layerflow.engine.program import Node, Program
from layerflow.errors import RecordError

SIZES = 37, 41, 43  # no model has these sizes by chance


class Extent(NamedTuple):
    """A number that depends on the batch: fixed + each * the number of samples."""

    fixed: int
    each: int

    def __str__(self) -> str:
        product = "batch" if self.each == 1 else f"{self.each} * batch"
        return f"{self.fixed} + {product}" if self.fixed else product

    def __repr__(self) -> str:
        return str(self)


def open_program(recorded: Callable[[int], Program]) -> Program:
    """Return a program whose shapes and settings hold an `Extent` for every number that depends on the batch.

    A constant that has one element for each sample keeps the first one, under "value", and how much it grows from one
    to the next along "axis", under "slope"; one that is the number of something has an "extent".

    Args:
        recorded: returns the program for a batch of so many samples.

    Raises:
        RecordError: something depends on the batch in another way.
    """
    programs = [recorded(size) for size in SIZES]
    columns = [program.live() for program in programs]
    if len({len(column) for column in columns}) > 1:
        raise RecordError("the model does other operations for batches of other sizes, so that no program is for all")
    places = [{node.number: i for i, node in enumerate(column)} for column in columns]
    made: list[Node] = []
    for nodes in zip(*columns, strict=True):
        first = nodes[0]
        inputs = {tuple([place[each.number] for each in n.inputs]) for n, place in zip(nodes, places, strict=True)}
        if len({node.kind for node in nodes}) > 1 or len(inputs) > 1 or len({node.dtype for node in nodes}) > 1:
            raise RecordError(f"{first.origin}: another operation for batches of another size")
        shape = _followed([node.shape for node in nodes], first)
        if first.kind == "constant":
            settings = _constant([node.settings["value"] for node in nodes], first)
        else:
            settings = {key: _followed([node.settings[key] for node in nodes], first) for key in first.settings}
        arguments = tuple([made[i] for i in inputs.pop()])
        made.append(replace(first, number=len(made), inputs=arguments, settings=settings, shape=shape))
    first_program, place = programs[0], places[0]
    return Program(
        nodes=made,
        inputs={name: made[place[n.number]] for name, n in first_program.inputs.items() if n.number in place},
        outputs={name: made[place[node.number]] for name, node in first_program.outputs.items()},
        guards=[replace(guard, node=made[place[guard.node.number]]) for guard in first_program.guards],
        draws=first_program.draws,
    )


def _followed(values: list[Any], node: Node) -> Any:
    """The same number, tuple or other value of all sizes, or how it follows from the size."""
    first = values[0]
    if isinstance(first, tuple) and len({len(value) for value in values}) == 1:
        return tuple([_followed(list(column), node) for column in zip(*values, strict=True)])
    if all(value == first for value in values):
        return first
    if all(isinstance(value, int | np.integer) for value in values):
        each, rest = divmod(int(values[1]) - int(first), SIZES[1] - SIZES[0])
        extent = Extent(int(first) - each * SIZES[0], each)
        if not rest and all(extent.fixed + each * size == v for size, v in zip(SIZES, values, strict=True)):
            return extent
    raise _refused(node, f"{first} for {SIZES[0]} samples, {values[1]} for {SIZES[1]}")


def _constant(values: list[Any], node: Node) -> dict[str, Any]:
    """The settings of a constant: its value, or its first part along an axis and the slope."""
    first = values[0]
    if all(value.shape == first.shape for value in values):
        if all(np.array_equal(value, first, equal_nan=value.dtype.kind == "f") for value in values):
            return {"value": first}
        numbers = [value.item() if value.size == 1 else math.nan for value in values]
        if all(math.isfinite(number) and number == int(number) for number in numbers):
            return {"extent": _followed([int(number) for number in numbers], node)}
        raise _refused(
            node, f"a constant that is {first.ravel()[0]} for {SIZES[0]} samples, and {values[1].ravel()[0]}"
        )
    axes = [axis for axis in range(first.ndim) if len({value.shape[axis] for value in values}) > 1]
    if len(axes) == 1:
        (axis,) = axes
        start, second = first.take([0], axis), first.take([1], axis)
        is_same = np.array_equal(start, second, equal_nan=start.dtype.kind == "f")
        slope = np.zeros_like(start) if is_same else second - start
        for value in values:
            steps = np.arange(value.shape[axis]).reshape([-1 if i == axis else 1 for i in range(value.ndim)])
            linear = np.broadcast_to(start, value.shape) if is_same else start + steps * slope
            if not np.array_equal(linear, value, equal_nan=start.dtype.kind == "f"):
                break
        else:
            return {"value": start, "slope": slope, "axis": axis}
    raise _refused(node, "a constant with an element for each sample, which do not grow evenly")


def _refused(node: Node, what: str) -> RecordError:
    return RecordError(f"{node.origin}: depends on the batch in a way that no program for all sizes has: {what}")
