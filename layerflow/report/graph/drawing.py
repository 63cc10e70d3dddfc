"""`draw(graph, path)`: the entry to all pictures; the suffix of the file selects the format."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.containers.node import Node
from layerflow.errors import GateError, LayerflowError, did_you_mean
from layerflow.parameter import Parameter
from layerflow.report.graph.explain import explain, story
from layerflow.report.graph.layout import place
from layerflow.report.graph.marks import COLORS, FONTS, marks_of
from layerflow.report.graph.notation import to_dot, to_mermaid, to_text
from layerflow.report.graph.picture import Picture, find_gate, picture_of
from layerflow.report.graph.png import write_png
from layerflow.report.pages import render

Writer = Callable[[Picture, Path], None]


def draw(drawn: Container | Node, path: str | os.PathLike[str], values: bool = True) -> Path:
    """Draw a container, or everything that a node depends on, into a file.

    Args:
        drawn: the container or node.
        path: the file to write: `.svg`, `.png`, `.html` (a page that steps through the sweeps), `.dot` (graphviz),
            `.mmd` (Mermaid) or `.txt`.
        values: whether the wires show values above and gradients below, if there are any, or only their shapes.

    Raises:
        LayerflowError: unknown suffix; a program or package that the format needs is not installed; the file cannot be
            written.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        guess = did_you_mean(path.suffix, WRITERS)
        raise LayerflowError(f"{path}: unsupported file type {path.suffix!r}{guess}; supported: {', '.join(WRITERS)}")
    try:
        WRITERS[path.suffix](picture_of(drawn, values), path)
    except OSError as error:
        raise LayerflowError(f"{path} cannot be written: {error.strerror}") from None
    return path


def svg_text(drawn: Container | Node) -> str:
    """The picture of a container, or of what a node depends on, as SVG."""
    return _svg(picture_of(drawn))


def bundle(drawn: Container | Node) -> dict[str, str]:
    """What a notebook shows, by MIME type: the table, and the picture if a layout engine is installed."""
    texts = {"text/plain": f"{drawn!r}\n{plain_text(drawn)}"}
    try:
        return texts | {"image/svg+xml": svg_text(drawn)}
    except LayerflowError:
        return texts


def plain_text(drawn: Container | Node, values: bool = True) -> str:
    """The graph as a table for the terminal."""
    return to_text(picture_of(drawn, values))


def explain_gate(container: Container, name: str, values: bool = True) -> str:
    """One gate of a container as text: formula, values in and out, local gradient, upstream times local.

    Raises:
        GateError: there is no gate of that name.
    """
    picture = picture_of(container, values)
    return explain(picture, find_gate(picture, name))


def _svg(picture: Picture) -> str:
    return render("graph.svg", **_drawing(picture), background=True)


def _page(picture: Picture, title: str) -> str:
    return render("graph.html", title=title, story=story(picture), **_drawing(picture), background=False)


def _drawing(picture: Picture) -> dict[str, Any]:
    placement = place(picture)
    return {"placement": placement, "groups": marks_of(placement), "fonts": FONTS, "colors": COLORS}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


WRITERS: dict[str, Writer] = {
    ".svg": lambda picture, path: _write(path, _svg(picture)),
    ".png": lambda picture, path: write_png(place(picture), path),
    ".html": lambda picture, path: _write(path, _page(picture, path.stem)),
    ".dot": lambda picture, path: _write(path, to_dot(picture)),
    ".mmd": lambda picture, path: _write(path, to_mermaid(picture)),
    ".txt": lambda picture, path: _write(path, to_text(picture)),
}


def summary(container: Container) -> str:
    """Return a table of the steps: name, gate, output shape, number of parameters (shared ones counted once)."""
    if not container._is_built:
        raise GateError(
            f"{type(container).__name__}: shapes are known after build(rng, shape) or the first forward; "
            "summary comes after"
        )
    counted: set[Parameter] = set()
    rows = [("name", "gate", "output shape", "parameters")]
    for step in container.steps:
        fresh = set(step.gate.parameters()) - counted
        counted |= fresh
        outputs = [(container.values[slot], slot) for slot in step.writes]
        shapes = ", ".join(str(container.shapes[slot] if y is None else np.shape(y)) for y, slot in outputs)
        rows.append((step.name, repr(step.gate), shapes, f"{sum(p.value.size for p in fresh):,}"))
    rows.append(("total", "", "", f"{sum(p.value.size for p in container.parameters()):,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join([*map(str.ljust, row[:3], widths), row[3].rjust(widths[3])]) for row in rows)
