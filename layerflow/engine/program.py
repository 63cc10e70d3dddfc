"""A recorded computation: nodes in single assignment, with shapes and types that are settled.

Kinds of nodes, by what `Node.kind` says; `settings` in brackets:

    input [name]                    an array that is given for each run
    constant [value]                an array that never changes
    elementwise [function]          a NumPy ufunc by its name, `where`, or `cast`; the inputs are broadcast
    reduce [function, axes]         sum, prod, max, min, all or any over axes, which disappear
    arg [function, axis]            argmax or argmin, the first of several equal ones
    cumulate [function, axis]       sum or prod of an element and all before it
    dot                             matrix products of the last two axes; the axes before them are equal
    reshape, transpose [axes],      views: the same numbers at other indices. A slice has a start and a step for each
    broadcast, slice [starts,       axis; `windows` appends one axis of `sizes` for each of `axes`, as
    steps], windows [axes, sizes]   `sliding_window_view` does
    update [starts, steps]          the first input with the second one in the place of a slice
    gather                          the elements of the first input at the indices, one array for each leading axis
    scatter [mode]                  the first input with the second one at such indices: "set" it there, or "add" it
    concatenate [axis]              the inputs one after the other

Nothing is changed in place: what the recorded code did to its arrays are new values here.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from layerflow.parameter import Array

VIEWS = ("reshape", "transpose", "broadcast", "slice", "windows")


class Origin(NamedTuple):
    """Where a node comes from: a line of somebody's code, and the gate that it belongs to."""

    file: str
    line: int
    gate: str

    def __str__(self) -> str:
        return f"{self.gate or 'the recorded function'}, {self.file.removeprefix(os.getcwd() + os.sep)}:{self.line}"


@dataclass(eq=False, slots=True)
class Node:
    """One value of a program, and how it is computed from others."""

    number: int
    kind: str
    inputs: "tuple[Node, ...]"
    settings: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    origin: Origin | None = None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __repr__(self) -> str:
        settings = {key: value for key, value in self.settings.items() if key != "value"}
        if self.kind == "constant":
            shown = np.array2string(self.settings["value"], threshold=4, edgeitems=1, precision=4)
            settings = {"value": " ".join(shown.split())}
        arguments = [f"%{node.number}" for node in self.inputs] + [f"{key}={item}" for key, item in settings.items()]
        return f"%{self.number} = {self.kind}({', '.join(arguments)}) : {self.dtype}{list(self.shape)}"


@dataclass(frozen=True, eq=False)
class Guard:
    """A condition that must hold, else the program's results mean nothing: the host runs the NumPy code instead.

    Attributes:
        node: one truth value.
        expected: what it must be.
        origin: the `if`, or the indexing, that it comes from.
        is_implied: whether it is the check of an index, which NumPy makes by itself.
    """

    node: Node
    expected: bool
    origin: Origin | None
    is_implied: bool = False


@dataclass(frozen=True)
class Draw:
    """A call of a random generator, which the host repeats before each run; its result is the input `name`."""

    name: str
    generator: str
    method: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]


@dataclass(eq=False)
class Program:
    """Nodes in an order in which they can be computed; inputs and outputs by name."""

    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, Node] = field(default_factory=dict)
    outputs: dict[str, Node] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    draws: list[Draw] = field(default_factory=list)
    starts: dict[str, float] = field(default_factory=dict)  # what the optimizer's vectors are at first

    def live(self, guards: bool = True) -> list[Node]:
        """The nodes that outputs and, unless left out, guards need, in order."""
        needed = set(map(id, behind([*self.outputs.values(), *[guard.node for guard in self.guards if guards]])))
        return [node for node in self.nodes if id(node) in needed]

    def __str__(self) -> str:
        lines = [repr(node) for node in self.live()]
        lines += [f"guard %{guard.node.number} is {guard.expected}  ({guard.origin})" for guard in self.guards]
        return "\n".join([*lines, *[f"{name} = %{node.number}" for name, node in self.outputs.items()]])


def behind(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield nodes and all nodes that they are computed from, each once."""
    seen: set[int] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting += node.inputs


def slices(starts: Iterable[int], steps: Iterable[int], sizes: Iterable[int]) -> tuple[slice, ...]:
    """The Python slices of a `slice` or `update` node."""
    found = []
    for start, step, size in zip(starts, steps, sizes, strict=True):
        stop = start + step * size
        found.append(slice(start, stop if stop >= 0 else None, step))
    return tuple(found)


def viewed(kind: str, settings: dict[str, Any], shape: tuple[int, ...], array: Array) -> Array:
    """Return the NumPy view that a node of this kind, settings and shape stands for."""
    if kind == "reshape":
        return array.reshape(shape)
    if kind == "transpose":
        return array.transpose(settings["axes"])
    if kind == "broadcast":
        return np.broadcast_to(array, shape)
    if kind == "windows":
        return np.lib.stride_tricks.sliding_window_view(array, settings["sizes"], settings["axes"])
    return array[slices(settings["starts"], settings["steps"], shape)]
