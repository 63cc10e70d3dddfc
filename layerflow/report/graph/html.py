"""One self-contained page: the picture, and a walk through both sweeps, gate by gate."""

import json
import re
from html import escape
from importlib.resources import files
from typing import Any

from layerflow.containers.container import Container
from layerflow.report.graph.explain import Share, shares, step_of
from layerflow.report.graph.layout import place
from layerflow.report.graph.picture import Item, Picture, Wire
from layerflow.report.graph.reading import read
from layerflow.report.graph.svg import to_svg
from layerflow.report.graph.words import formula_of, local_gradient_of, number, shape_text


def to_html(picture: Picture, container: Container, title: str) -> str:
    """Write the page; nothing in it is loaded from anywhere."""
    folder = files("layerflow.report.graph").joinpath("page")
    page, style, script = (folder.joinpath(f"page.{ending}").read_text("utf-8") for ending in ("html", "css", "js"))
    story = json.dumps(_story(picture, container), ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    drawing = to_svg(place(picture), background=False)
    parts = {"TITLE": escape(title), "STYLE": style, "SCRIPT": script, "STORY": story, "DRAWING": drawing}
    return re.sub("<!--([A-Z]+)-->", lambda found: parts[found[1]], page)


def _story(picture: Picture, container: Container) -> dict[str, Any]:
    """What the page tells: each gate with its numbers, and when each wire's value and gradient appear."""
    before, after = -1, len(picture.gates)
    wires = [
        {
            "from": before if wire.source.step is None else wire.source.step,
            "to": after if wire.target.step is None else wire.target.step,
        }
        for wire in picture.wires
    ]
    return {
        "hasValues": picture.has_values,
        "ranBack": any(grad is not None for grad in container.grads) and picture.has_values,
        "gates": [_chapter(item, picture, container) for item in picture.gates],
        "wires": wires,
    }


def _chapter(item: Item, picture: Picture, container: Container) -> dict[str, Any]:
    gate, step = item.gate, step_of(item, container)
    assert gate is not None
    value = container.values[step.writes[0]] if picture.has_values else None
    upstream = container.grads[step.writes[0]] if picture.has_values else None
    return {
        "key": item.key,
        "name": item.name,
        "gate": repr(gate),
        "formula": formula_of(gate),
        "local": local_gradient_of(gate),
        "inputs": [_entry(wire) for wire in picture.wires_into(item)],
        "output": _words(value) or shape_text(container.shapes.get(step.writes[0], ())),
        "upstream": _words(upstream),
        "chain": [_link(share) for share in shares(picture, item, container)] if picture.has_values else [],
    }


def _entry(wire: Wire) -> dict[str, Any]:
    return {
        "port": wire.port,
        "source": wire.source.name,
        "kind": wire.source.kind,
        "value": _words(wire.value) or shape_text(wire.shape or ()),
        "grad": _words(wire.grad),
    }


def _words(value: Any) -> str:
    return "" if value is None else " · ".join(read(value).lines)


def _link(share: Share) -> dict[str, Any]:
    return {
        "port": share.port,
        "at": share.input_at,
        "through": share.output_at,
        "upstream": number(share.upstream),
        "local": number(share.local),
        "product": number(share.product),
        "whole": "" if share.is_all else number(share.downstream),
    }
