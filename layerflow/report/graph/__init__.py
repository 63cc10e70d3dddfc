"""Pictures of computation graphs, with values and gradients on the wires."""

import os
from pathlib import Path

from layerflow.containers.container import Container
from layerflow.containers.node import Node
from layerflow.errors import LayerflowError, did_you_mean
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
