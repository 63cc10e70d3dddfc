"""One gate in numbers: what comes in and goes out, and upstream times local = downstream, element by element."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.parameter import Array
from layerflow.report.graph.flow import pull_back
from layerflow.report.graph.picture import Item, Picture
from layerflow.report.graph.reading import read
from layerflow.report.graph.words import formula_of, local_gradient_of, number, shape_text
from layerflow.sweep import Step


@dataclass(frozen=True)
class Share:
    """The chain rule at the output element whose upstream gradient is largest, for the input element it acts on most.

    Attributes:
        port: the input or parameter.
        upstream: the gradient at the output element `output_at`.
        local: the derivative of that output element by the input element `input_at`.
        downstream: the whole gradient of the input element: over all outputs, the sum of upstream times local.
    """

    port: str
    output_at: str
    input_at: str
    upstream: float
    local: float
    downstream: float

    @property
    def product(self) -> float:
        """Upstream times local."""
        return self.upstream * self.local

    @property
    def is_all(self) -> bool:
        """Whether no other output element contributes."""
        return bool(np.isclose(self.product, self.downstream, rtol=1e-6, atol=0.0))

    def __str__(self) -> str:
        product = f"{number(self.upstream)} × {number(self.local)} = {number(self.product)}"
        if self.is_all:
            return product
        return f"{product}, one term of {number(self.downstream)}, the sum over all elements of the output"


def shares(picture: Picture, item: Item, container: Container) -> list[Share]:
    """The chain rule in numbers for every input and parameter of a gate that a gradient reached."""
    step = step_of(item, container)
    upstream = container.grads[step.writes[0]]
    if upstream is None or not np.size(upstream):
        return []
    downstream = {wire.port: wire.grad for wire in picture.wires_into(item) if wire.grad is not None}
    at = _largest(upstream)
    unit = np.zeros_like(upstream)
    unit[at] = 1.0
    others = step.upstream(container.values, container.grads) or ()
    inputs, parameters = pull_back(container, step, [unit, *map(np.zeros_like, others[1:])])
    ports = [wire.port for wire in picture.wires_into(item)]
    found = []
    for port, local in [*zip(ports, inputs, strict=False), *parameters.items()]:
        if local is None or port not in downstream or not np.size(local):
            continue
        where = _largest(local)
        numbers = np.asarray(upstream)[at], np.asarray(local)[where], np.asarray(downstream[port])[where]
        found.append(Share(port, _index(at), _index(where), *map(float, numbers)))
    return found


def step_of(item: Item, container: Container) -> Step:
    """The step of a gate."""
    return container.steps[int(item.key.removeprefix("gate"))]


def explain(picture: Picture, item: Item, container: Container) -> str:
    """Everything about one gate, as text."""
    return "\n".join(_lines(picture, item, container)) + "\n"


def _lines(picture: Picture, item: Item, container: Container) -> Iterator[str]:
    gate = item.gate
    yield f"{item.name}: {gate!r}"
    if gate is not None and (formula := formula_of(gate)):
        yield f"  {formula}"
    if gate is not None and (local := local_gradient_of(gate)):
        yield f"  local gradient: {local}"
    yield "forward"
    step = step_of(item, container)
    rows = [(f"{wire.port} = {wire.source.name}", _words(wire.value, wire.shape)) for wire in picture.wires_into(item)]
    shape = container.shapes.get(step.writes[0])
    value = container.values[step.writes[0]] if picture.has_values else None
    rows.append(("output", _words(value, shape)))
    yield from _table(rows)
    if not picture.has_values:
        return
    yield "backward"
    upstream = container.grads[step.writes[0]]
    if upstream is None:
        yield "  no gradient arrived"
        return
    rows = [("upstream", _words(upstream, None))]
    for wire in picture.wires_into(item):
        rows.append((f"to {wire.port}", "no gradient wanted" if wire.grad is None else _words(wire.grad, None)))
    yield from _table(rows)
    chain = shares(picture, item, container)
    if chain:
        yield f"upstream × local = downstream{f', through output{chain[0].output_at}' if chain[0].output_at else ''}"
        yield from _table([(f"{share.port}{share.input_at}", str(share)) for share in chain])


def _table(rows: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name:<{width}}  {text}".rstrip()


def _words(value: Any, shape: tuple[int, ...] | None) -> str:
    if value is not None:
        return " · ".join(read(value).lines)
    return shape_text(shape) if shape else ""


def _largest(array: Array) -> tuple[int, ...]:
    """The index of the element of largest magnitude."""
    position = np.argmax(np.abs(np.nan_to_num(array)))
    return tuple(int(i) for i in np.unravel_index(position, np.shape(array)))


def _index(at: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, at))}]" if at else ""
