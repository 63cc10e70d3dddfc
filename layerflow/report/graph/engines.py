"""The two engines that order the boxes in each layer and give them heights: graphviz, or igraph where there is none."""

import shutil
import subprocess
from dataclasses import dataclass

from layerflow.errors import LayerflowError

GAP = 10.0
POINTS_PER_INCH = 72.0
PATIENCE = 60.0


@dataclass(frozen=True)
class Box:
    """Something that takes up room in a layer."""

    layer: int
    width: float
    height: float


@dataclass(frozen=True)
class Link:
    """A connection from a box to one in the next layer, both by index."""

    source: int
    target: int


def arrange(boxes: list[Box], links: list[Link]) -> list[float]:
    """The vertical centre of every box, downwards; boxes of a layer never overlap.

    Raises:
        LayerflowError: neither graphviz nor igraph is installed.
    """
    if shutil.which("dot"):
        return arrange_with_graphviz(boxes, links)
    return arrange_with_igraph(boxes, links)


def arrange_with_graphviz(boxes: list[Box], links: list[Link]) -> list[float]:
    """Gansner et al. 1993, `A technique for drawing directed graphs`, as the program `dot` does it."""
    lines = ['digraph { rankdir=LR; ordering=in; node [shape=box fixedsize=true label=""]']
    lines.append(f"nodesep={GAP / POINTS_PER_INCH:.4f}; ranksep=0.2")
    for index, box in enumerate(boxes):
        width, height = max(box.width, 1.0) / POINTS_PER_INCH, box.height / POINTS_PER_INCH
        lines.append(f"b{index} [width={width:.4f} height={height:.4f}]")
    lines += [f"b{link.source} -> b{link.target}" for link in links]
    answer = subprocess.run(
        ["dot", "-Tplain"], input="\n".join([*lines, "}"]), capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    heights = [0.0] * len(boxes)
    for line in answer.stdout.splitlines():
        if line.startswith("node "):
            _, name, _, y, *_ = line.split()
            heights[int(name[1:])] = -float(y) * POINTS_PER_INCH
    return heights


def arrange_with_igraph(boxes: list[Box], links: list[Link]) -> list[float]:
    """Sugiyama, Tagawa and Toda 1981, with the coordinates of Brandes and Köpf 2002, as igraph does it."""
    try:
        import igraph
    except ImportError:
        raise LayerflowError(
            "this picture needs a layout: install graphviz (the program `dot`), or pip install 'layerflow[graph]'; "
            "the formats .dot, .mmd (Mermaid) and .txt need neither"
        ) from None
    graph = igraph.Graph(n=len(boxes), edges=[(link.source, link.target) for link in links], directed=True)
    step = max(box.height for box in boxes) + GAP
    layout = graph.layout_sugiyama(layers=[box.layer for box in boxes], hgap=step, maxiter=200)
    return [x for x, _ in layout.coords[: len(boxes)]]
