"""One gate in numbers: what goes in and out, and upstream times local = downstream, element by element.

`explain` writes it as text, `story` as the data of the page that steps through the sweeps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.parameter import Array
from layerflow.report.graph.picture import GateItem, Item, Picture, Wire
from layerflow.report.graph.wording import formula_of, local_gradient_of, number, words_of


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


def shares(picture: Picture, item: GateItem) -> list[Share]:
    """The chain rule in numbers for every input and parameter of a gate that a gradient reached."""
    upstream = item.upstream
    if upstream is None or not np.size(upstream):
        return []
    at = _largest(upstream)
    unit = np.zeros_like(upstream)
    unit[at] = 1.0
    found = []
    for wire, local in zip(picture.wires_into(item), item.pull_back(unit), strict=True):
        if local is None or wire.grad is None or not np.size(local):
            continue
        where = _largest(local)
        numbers = np.asarray(upstream)[at], np.asarray(local)[where], np.asarray(wire.grad)[where]
        found.append(Share(wire.port, _index(at), _index(where), *map(float, numbers)))
    return found


def explain(picture: Picture, item: GateItem) -> str:
    """Everything about one gate, as text."""
    return "\n".join(_lines(picture, item)) + "\n"


def story(picture: Picture) -> dict[str, Any]:
    """What the page shows: each gate with its numbers, and when the value and gradient of each wire appear."""
    before, after = -1, len(picture.gates)

    def position(item: Item, otherwise: int) -> int:
        return item.position if isinstance(item, GateItem) else otherwise

    return {
        "hasValues": picture.has_values,
        "ranBack": any(item.upstream is not None for item in picture.gates),
        "gates": [_chapter(picture, item) for item in picture.gates],
        "wires": [{"from": position(w.source, before), "to": position(w.target, after)} for w in picture.wires],
    }


def _chapter(picture: Picture, item: GateItem) -> dict[str, Any]:
    return {
        "key": item.key,
        "name": item.name,
        "gate": repr(item.gate),
        "formula": formula_of(item.gate),
        "local": local_gradient_of(item.gate),
        "inputs": [_entry(wire) for wire in picture.wires_into(item)],
        "output": words_of(item.output, item.shape),
        "upstream": words_of(item.upstream),
        "chain": [_link(share) for share in shares(picture, item)],
    }


def _entry(wire: Wire) -> dict[str, str]:
    return {
        "port": wire.port,
        "source": wire.source.name,
        "value": words_of(wire.value, wire.shape),
        "grad": words_of(wire.grad),
    }


def _link(share: Share) -> dict[str, str]:
    return {
        "port": share.port,
        "at": share.input_at,
        "through": share.output_at,
        "upstream": number(share.upstream),
        "local": number(share.local),
        "product": number(share.product),
        "whole": "" if share.is_all else number(share.downstream),
    }


def _lines(picture: Picture, item: GateItem) -> Iterator[str]:
    wires = picture.wires_into(item)
    yield f"{item.name}: {item.gate!r}"
    if formula := formula_of(item.gate):
        yield f"  {formula}"
    if local := local_gradient_of(item.gate):
        yield f"  local gradient: {local}"
    yield "forward"
    rows = [(f"{wire.port} = {wire.source.name}", words_of(wire.value, wire.shape)) for wire in wires]
    yield from _table([*rows, ("output", words_of(item.output, item.shape))])
    if not picture.has_values:
        return
    yield "backward"
    if item.upstream is None:
        yield "  no gradient arrived"
        return
    rows = [(f"to {wire.port}", words_of(wire.grad) or "no gradient needed") for wire in wires]
    yield from _table([("upstream", words_of(item.upstream)), *rows])
    chain = shares(picture, item)
    if chain:
        yield f"upstream × local = downstream{f', through output{chain[0].output_at}' if chain[0].output_at else ''}"
        yield from _table([(f"{share.port}{share.input_at}", str(share)) for share in chain])


def _table(rows: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield f"  {name:<{width}}  {text}".rstrip()


def _largest(array: Array) -> tuple[int, ...]:
    """The index of the element of largest magnitude."""
    position = np.argmax(np.abs(np.nan_to_num(array)))
    return tuple(int(i) for i in np.unravel_index(position, np.shape(array)))


def _index(at: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, at))}]" if at else ""
