"""Where everything goes: a layered layout from left to right, the direction in which values flow.

Every wire is cut into links of one layer each. Its numbers get an invisible box of their size, so that nothing is ever
drawn over a number. The layers are assigned here (as far to the left as the inputs allow; items without inputs go right
before their first reader); order and heights within the layers come from a layout engine: graphviz, or else igraph.
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from layerflow.errors import LayerflowError
from layerflow.report.graph.picture import Item, Picture, Wire
from layerflow.report.graph.wording import Summary, is_sign, shape_text, summarize

CHARACTER = 7.4
NUMBER = 6.6
LINE = 13.0
THUMBNAIL = (46.0, 24.0)
BETWEEN_LAYERS = 22.0
MARGIN = 18.0

GAP = 10.0
POINTS_PER_INCH = 72.0
PATIENCE = 60.0  # seconds

Point = tuple[float, float]
Extent = tuple[float, float, tuple[str, ...]]  # width, height, lines of text


@dataclass(frozen=True)
class Box:
    """A rectangle in a layer."""

    layer: int
    width: float
    height: float


@dataclass(frozen=True)
class Link:
    """A connection from a box to one in the next layer, both by index."""

    source: int
    target: int


@dataclass
class PlacedItem:
    """An item with its center, size and lines of text."""

    item: Item
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]


@dataclass
class PlacedWire:
    """A wire with the points that it passes through, and what is written at its middle."""

    wire: Wire
    points: list[Point]
    middle: Point
    width: float
    above: Summary | None
    below: Summary | None


@dataclass
class Placement:
    """Everything placed, in pixels; the origin is the upper left corner."""

    items: list[PlacedItem]
    wires: list[PlacedWire]
    width: float
    height: float


def arrange(boxes: list[Box], links: list[Link]) -> list[float]:
    """The vertical center of every box, downwards; boxes of a layer never overlap.

    Raises:
        LayerflowError: neither graphviz nor igraph is installed.
    """
    if shutil.which("dot"):
        return arrange_with_graphviz(boxes, links)
    return arrange_with_igraph(boxes, links)


def arrange_with_graphviz(boxes: list[Box], links: list[Link]) -> list[float]:
    """Gansner et al. 1993, `A technique for drawing directed graphs`, by the program `dot`."""
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
    """Sugiyama, Tagawa and Toda 1981, coordinates by Brandes and Köpf 2002, in igraph."""
    try:
        import igraph
    except ImportError:
        raise LayerflowError(
            "this format needs a layout engine: install graphviz (the program `dot`), or pip install "
            "'layerflow[graph]'; the formats .dot, .mmd (Mermaid) and .txt need neither"
        ) from None
    graph = igraph.Graph(n=len(boxes), edges=[(link.source, link.target) for link in links], directed=True)
    step = max(box.height for box in boxes) + GAP
    layout = graph.layout_sugiyama(layers=[box.layer for box in boxes], hgap=step, maxiter=200)
    return [x for x, _ in layout.coords[: len(boxes)]]


def place(picture: Picture, engine: Callable[[list[Box], list[Link]], list[float]] = arrange) -> Placement:
    """Lay out a picture."""
    extents = [_extent(item, picture) for item in picture.items]
    summaries = [_summaries(wire, picture) for wire in picture.wires]
    boxes, stations = _boxes(picture, extents, summaries)
    heights = engine(boxes, [Link(a, b) for chain in stations for a, b in pairwise(chain)])
    columns, widths, total = _columns(boxes)
    top = min((y - box.height / 2 for y, box in zip(heights, boxes, strict=True)), default=0.0) - MARGIN
    bottom = max((y + box.height / 2 for y, box in zip(heights, boxes, strict=True)), default=0.0) + MARGIN

    def point(index: int) -> Point:
        return columns[boxes[index].layer], heights[index] - top

    by_key = {}
    for index, (item, (width, height, lines)) in enumerate(zip(picture.items, extents, strict=True)):
        by_key[item.key] = PlacedItem(item, *point(index), width, height, lines)
    wires = []
    for wire, chain, (above, below) in zip(picture.wires, stations, summaries, strict=True):
        inner = [at for index in chain[1:-1] for at in _through(point(index), widths[boxes[index].layer])]
        source, target = by_key[wire.source.key], by_key[wire.target.key]
        points = [(source.x + source.width / 2, source.y), *inner, (target.x - target.width / 2, target.y)]
        wires.append(PlacedWire(wire, points, point(chain[-2]), boxes[chain[-2]].width, above, below))
    _spread_ports(wires, by_key)
    return Placement(list(by_key.values()), wires, total, bottom - top)


def _boxes(
    picture: Picture, extents: list[Extent], summaries: list[tuple[Summary | None, Summary | None]]
) -> tuple[list[Box], list[list[int]]]:
    """A box for every item and for every layer that a wire passes; and the boxes of each wire, from end to end."""
    layers = _layers(picture)
    index = {item.key: place for place, item in enumerate(picture.items)}
    sizes = zip(picture.items, extents, strict=True)
    boxes = [Box(2 * layers[item.key], width, height) for item, (width, height, _) in sizes]
    stations = []
    for wire, (above, below) in zip(picture.wires, summaries, strict=True):
        first, last = 2 * layers[wire.source.key], 2 * layers[wire.target.key]
        chain = range(len(boxes), len(boxes) + last - first - 1)
        for layer in range(first + 1, last):
            width, height = _label_extent(above, below) if layer == last - 1 else (0.0, 0.0)
            boxes.append(Box(layer, width, max(height, 10.0)))
        stations.append([index[wire.source.key], *chain, index[wire.target.key]])
    return boxes, stations


def _layers(picture: Picture) -> dict[str, int]:
    """The layer of each item: the longest path to it; for items without inputs, right before their first reader."""
    layers = {item.key: 0 for item in picture.items}
    order = picture.gates + [item for item in picture.items if item.kind == "output"]
    into: dict[str, list[Wire]] = {item.key: [] for item in picture.items}
    readers: dict[str, list[str]] = {item.key: [] for item in picture.items}
    for wire in picture.wires:
        into[wire.target.key].append(wire)
        readers[wire.source.key].append(wire.target.key)
    for item in order:
        layers[item.key] = max((layers[wire.source.key] + 1 for wire in into[item.key]), default=1)
    for item in picture.items:
        if not into[item.key] and readers[item.key]:
            layers[item.key] = min(layers[reader] for reader in readers[item.key]) - 1
    return layers


def _extent(item: Item, picture: Picture) -> Extent:
    """Width, height and lines of an item's box; operator signs get a circle."""
    if is_sign(item.label) and item.kind == "gate" and not item.is_named:
        ports = len(picture.wires_into(item))
        side = max(34.0, 12.0 * ports)
        return max(34.0, CHARACTER * len(item.label) + 12), side, (item.label,)
    lines = (item.label,) if item.name == item.label or not item.is_named else (item.label, item.name)
    if item.kind != "gate":
        lines = (item.label,)
    width = max(CHARACTER * len(lines[0]), 6.0 * len(lines[-1])) + 22
    return max(width, 34.0), max(12.0 + 17.0 * len(lines), 10.0 * len(picture.wires_into(item))), lines


def _summaries(wire: Wire, picture: Picture) -> tuple[Summary | None, Summary | None]:
    """What is written above and below a wire: value and gradient, or only the shape if no values are wanted."""
    if not picture.has_values:
        return (Summary((shape_text(wire.shape),)) if wire.shape else None), None
    is_plain = wire.source.kind == "constant" and not wire.shape
    above = None if wire.value is None or is_plain else summarize(wire.value)
    return above, None if wire.grad is None else summarize(wire.grad)


def _label_extent(above: Summary | None, below: Summary | None) -> tuple[float, float]:
    extents = [_summary_extent(summary) for summary in (above, below) if summary is not None]
    if not extents:
        return 12.0, 10.0
    return max(width for width, _ in extents) + 10, 2 * max(height for _, height in extents) + 8


def _summary_extent(summary: Summary) -> tuple[float, float]:
    text = NUMBER * max(len(line) for line in summary.lines)
    if summary.is_scalar:
        return text, LINE
    return text + THUMBNAIL[0] + 6, 2 * LINE


def _columns(boxes: list[Box]) -> tuple[list[float], list[float], float]:
    """The center and the width of each layer, and the width of the whole."""
    widths = [0.0] * (max((box.layer for box in boxes), default=-1) + 1)
    for box in boxes:
        widths[box.layer] = max(widths[box.layer], box.width)
    centers, edge = [], MARGIN
    for width in widths:
        centers.append(edge + width / 2)
        edge += width + BETWEEN_LAYERS
    return centers, widths, edge - BETWEEN_LAYERS + MARGIN if widths else 2 * MARGIN


def _through(center: Point, width: float) -> list[Point]:
    """Straight through a layer, so that wires bend only between layers, where no numbers are."""
    x, y = center
    return [(x - width / 2, y), (x + width / 2, y)]


def _spread_ports(wires: list[PlacedWire], items: dict[str, PlacedItem]) -> None:
    """End the wires into an item one below the other, in the order in which they arrive, so that none cross."""
    arriving: dict[str, list[PlacedWire]] = {}
    for wire in wires:
        arriving.setdefault(wire.wire.target.key, []).append(wire)
    for key, group in arriving.items():
        item = items[key]
        gap = min(13.0, item.height / (len(group) + 0.6))
        group.sort(key=lambda wire: wire.points[-2][1])
        for position, wire in enumerate(group):
            offset = gap * (position - (len(group) - 1) / 2)
            inset = _circle_inset(item, offset) if len(item.lines) == 1 and item.width == item.height else 0.0
            wire.points[-1] = (wire.points[-1][0] + inset, item.y + offset)


def _circle_inset(item: PlacedItem, offset: float) -> float:
    radius = item.width / 2
    return float(radius - (radius**2 - offset**2) ** 0.5) if abs(offset) < radius else 0.0
