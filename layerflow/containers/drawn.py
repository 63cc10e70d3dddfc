"""Pictures of graphs and nodes, in files and in notebooks."""

import os
from pathlib import Path
from typing import Any


class Drawn:
    """What can be drawn. The drawing itself is done by `layerflow.report`, loaded when a picture is asked for."""

    __slots__ = ()

    def draw(self: Any, path: str | os.PathLike[str], values: bool = True) -> Path:
        """Draw the graph into a file; of a node, everything that it depends on.

        Args:
            path: `.svg`, `.png`, `.html` (a page that walks through both sweeps), `.dot`, `.mmd` (Mermaid) or `.txt`.
            values: whether values are written above the wires and gradients below, as far as there are any.

        Raises:
            LayerflowError: an unknown ending; what the format needs is not installed; the file cannot be written.
        """
        from layerflow.report.graph import draw

        return draw(self, path, values)

    def _repr_mimebundle_(self: Any, include: object = None, exclude: object = None) -> dict[str, str]:
        """What a notebook shows: the picture, where it can be laid out, and else the table."""
        from layerflow.report.graph import bundle

        return bundle(self)
