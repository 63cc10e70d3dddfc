"""Pictures of computation graphs, with values and gradients on the wires."""

import os
from pathlib import Path

import numpy as np

from layerflow.containers.container import Container
from layerflow.containers.node import Node
from layerflow.errors import GateError, LayerflowError, did_you_mean
from layerflow.parameter import Parameter
from layerflow.report.graph.explain import explain
from layerflow.report.graph.formats import FORMATS, to_svg, to_text
from layerflow.report.graph.picture import find_gate, picture_of


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
    if path.suffix not in FORMATS:
        guess = did_you_mean(path.suffix, FORMATS)
        raise LayerflowError(f"{path}: unsupported file type {path.suffix!r}{guess}; supported: {', '.join(FORMATS)}")
    picture = picture_of(drawn, values)
    picture.title = path.stem
    content = FORMATS[path.suffix](picture)
    try:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise LayerflowError(f"{path} cannot be written: {error.strerror}") from None
    return path


def plain_text(drawn: Container | Node, values: bool = True) -> str:
    """Return the graph as a table for the terminal."""
    return to_text(picture_of(drawn, values))


def bundle(drawn: Container | Node) -> dict[str, str]:
    """Return what a notebook shows, by MIME type: the table, and the picture if a layout engine is installed."""
    picture = picture_of(drawn)
    texts = {"text/plain": f"{drawn!r}\n{to_text(picture)}"}
    try:
        return texts | {"image/svg+xml": to_svg(picture)}
    except LayerflowError:
        return texts


def explain_gate(container: Container, name: str) -> str:
    """Return one gate as text: formula, values in and out, local gradient, upstream times local.

    Raises:
        GateError: there is no gate of that name.
    """
    picture = picture_of(container)
    return explain(picture, find_gate(picture, name))


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
