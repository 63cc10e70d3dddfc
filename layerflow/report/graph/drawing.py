"""`draw(graph, path)`: the one entry to all pictures; the file's ending says the format."""

import os
from collections.abc import Callable
from pathlib import Path

from layerflow.containers.container import Container
from layerflow.containers.node import Node
from layerflow.errors import LayerflowError, did_you_mean
from layerflow.report.graph.explain import explain
from layerflow.report.graph.html import to_html
from layerflow.report.graph.layout import place
from layerflow.report.graph.notation import to_dot, to_mermaid, to_text
from layerflow.report.graph.picture import Picture, find_gate, picture_of
from layerflow.report.graph.png import write_png
from layerflow.report.graph.svg import to_svg

Writer = Callable[[Picture, Container, Path], None]


def draw(drawn: Container | Node, path: str | os.PathLike[str], values: bool = True) -> Path:
    """Draw a container, or everything that a node depends on, into a file.

    Args:
        drawn: the container or node.
        path: where to: `.svg`, `.png`, `.html` (a page that steps through the sweeps), `.dot` (graphviz), `.mmd`
            (Mermaid) or `.txt`.
        values: whether the wires show values above and gradients below, as far as there are any, or their shapes alone.

    Raises:
        LayerflowError: an unknown ending; what the format needs is not installed; the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        guess = did_you_mean(path.suffix, WRITERS)
        raise LayerflowError(
            f"{path}: no picture format ends in {path.suffix!r}{guess}; there are {', '.join(WRITERS)}"
        )
    container = drawn.graph if isinstance(drawn, Node) else drawn
    try:
        WRITERS[path.suffix](picture_of(drawn, values), container, path)
    except OSError as error:
        raise LayerflowError(f"{path} cannot be written: {error.strerror}") from None
    return path


def svg_text(drawn: Container | Node) -> str:
    """The picture of a container, or of what a node depends on, as SVG."""
    return to_svg(place(picture_of(drawn)))


def bundle(drawn: Container | Node) -> dict[str, str]:
    """What a notebook shows, by MIME type: the picture where there is a layout engine, and the table."""
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
    return explain(picture, find_gate(picture, name), container)


def _textual(write: Callable[[Picture], str]) -> Writer:
    return lambda picture, container, path: _write(path, write(picture))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


WRITERS: dict[str, Writer] = {
    ".svg": _textual(lambda picture: to_svg(place(picture))),
    ".png": lambda picture, container, path: write_png(place(picture), path),
    ".html": lambda picture, container, path: _write(path, to_html(picture, container, path.stem)),
    ".dot": _textual(to_dot),
    ".mmd": _textual(to_mermaid),
    ".txt": _textual(to_text),
}
