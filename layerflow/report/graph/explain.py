"""One gate in numbers: what goes in and out, and upstream times local = downstream, element by element.

`explain` writes it as text, `story` as the data of the page that steps through the sweeps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.parameter import Array
from layerflow.report.graph.picture import GateItem, Picture
from layerflow.report.graph.wording import formula_of, local_gradient_of, number, words_of


@dataclass(frozen=True)
class Share:
    """The chain rule at the output element whose upstream gradient is largest, for the input element it acts on most.

    Attributes:
        port: the input or parameter.
        output_at, input_at: the indices of the two elements.
        upstream: the gradient at the output element.
        local: the derivative of the output element by the input element.
        downstream: the whole gradient of the input element: over all outputs, the sum of upstream times local.
    """

    port: str
    output_at: tuple[int, ...]
    input_at: tuple[int, ...]
    upstream: float
    local: float
    downstream: float

    def words(self) -> dict[str, str]:
        """Return everything as text; `whole` is empty if no other output element contributes."""
        product = self.upstream * self.local
        is_all = np.isclose(product, self.downstream, rtol=1e-6, atol=0.0)
        return {
            "port": self.port,
            "at": _index(self.input_at),
            "through": _index(self.output_at),
            "upstream": number(self.upstream),
            "local": number(self.local),
            "product": number(product),
            "whole": "" if is_all else number(self.downstream),
        }


def shares(picture: Picture, item: GateItem) -> list[Share]:
    """Return the chain rule in numbers for every input and parameter of a gate that a gradient reached."""
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
        found.append(Share(wire.port, at, where, *map(float, numbers)))
    return found


def story(picture: Picture) -> dict[str, Any]:
    """Return what the page shows: each gate in numbers, and when the value and gradient of each wire appear."""
    gates = picture.gates
    order = {item.key: position for position, item in enumerate(gates)}
    return {
        "hasValues": picture.has_values,
        "ranBack": any(item.upstream is not None for item in gates),
        "gates": [_chapter(picture, item) for item in gates],
        "wires": [
            {"from": order.get(wire.source.key, -1), "to": order.get(wire.target.key, len(gates))}
            for wire in picture.wires
        ],
    }


def explain(picture: Picture, item: GateItem) -> str:
    """Return everything about one gate as text."""
    about = _chapter(picture, item)
    lines = [f"{item.name}: {about['gate']}"]
    if about["formula"]:
        lines.append(f"  {about['formula']}")
    if about["local"]:
        lines.append(f"  local gradient: {about['local']}")
    values = [(f"{wire['port']} = {wire['source']}", wire["value"]) for wire in about["inputs"]]
    lines += ["forward", *_table([*values, ("output", about["output"])])]
    if picture.has_values and item.upstream is None:
        lines += ["backward", "  no gradient arrived"]
    elif picture.has_values:
        grads = [(f"to {wire['port']}", wire["grad"] or "no gradient needed") for wire in about["inputs"]]
        lines += ["backward", *_table([("upstream", about["upstream"]), *grads])]
    if chain := about["chain"]:
        through = f", through output{chain[0]['through']}" if chain[0]["through"] else ""
        lines.append(f"upstream × local = downstream{through}")
        lines += _table([(link["port"] + link["at"], _product(link)) for link in chain])
    return "\n".join(lines) + "\n"


def _chapter(picture: Picture, item: GateItem) -> dict[str, Any]:
    return {
        "key": item.key,
        "name": item.name,
        "gate": repr(item.gate),
        "formula": formula_of(item.gate),
        "local": local_gradient_of(item.gate),
        "inputs": [
            {"port": w.port, "source": w.source.name, "value": words_of(w.value, w.shape), "grad": words_of(w.grad)}
            for w in picture.wires_into(item)
        ],
        "output": words_of(item.output, item.shape),
        "upstream": words_of(item.upstream),
        "chain": [share.words() for share in shares(picture, item)],
    }


def _product(link: dict[str, str]) -> str:
    rest = f", one term of {link['whole']}, the sum over all elements of the output" if link["whole"] else ""
    return f"{link['upstream']} × {link['local']} = {link['product']}{rest}"


def _table(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {text}".rstrip() for name, text in rows]


def _largest(array: Array) -> tuple[int, ...]:
    """The index of the element of largest magnitude."""
    position = np.argmax(np.abs(np.nan_to_num(array)))
    return tuple(int(i) for i in np.unravel_index(position, np.shape(array)))


def _index(at: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, at))}]" if at else ""
