"""Where everything goes: a layered layout from left to right, the direction in which values flow.

A wire has a box in every layer that it passes. The last of them holds its numbers, so that nothing is ever drawn over a
number. The layers are assigned here (as far to the left as the inputs allow; items without inputs go right before their
first reader); order and heights within the layers come from a layout engine: graphviz, or else igraph.
"""

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from layerflow.errors import LayerflowError
from layerflow.report.graph.picture import Item, Picture, Wire
from layerflow.report.graph.wording import Summary, is_sign, shape_text, summarize

CHARACTER = 7.4
NUMBER = 6.6
LINE = 13.0
THUMBNAIL = (46.0, 24.0)
THINNEST = 10.0
BETWEEN_LAYERS = 22.0
MARGIN = 18.0

GAP = 10.0
POINTS_PER_INCH = 72.0
PATIENCE = 60.0  # seconds

Point = tuple[float, float]
Link = tuple[int, int]


@dataclass
class Box:
    """A rectangle in a layer; x and y are its center, in pixels from the upper left corner."""

    layer: int
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0


@dataclass
class PlacedItem(Box):
    """The box of an item."""

    item: Item = field(kw_only=True)


@dataclass
class PlacedWire:
    """A wire with the boxes that it passes, the points of its curve, and what is written above and below it."""

    wire: Wire
    boxes: list[Box]
    above: Summary | None
    below: Summary | None
    points: list[Point] = field(default_factory=list)

    @property
    def label(self) -> Box:
        """The box of the numbers."""
        return self.boxes[-2]


@dataclass
class Placement:
    """Everything placed, and the size of the whole."""

    items: list[PlacedItem]
    wires: list[PlacedWire]
    width: float
    height: float


Engine = Callable[[Sequence[Box], Sequence[Link]], list[float]]


def arrange(boxes: Sequence[Box], links: Sequence[Link]) -> list[float]:
    """Return the vertical center of every box, downwards; a link joins two boxes, by index, in successive layers.

    Raises:
        LayerflowError: neither graphviz nor igraph is installed.
    """
    return arrange_with_graphviz(boxes, links) if shutil.which("dot") else arrange_with_igraph(boxes, links)


def arrange_with_graphviz(boxes: Sequence[Box], links: Sequence[Link]) -> list[float]:
    """Gansner et al. 1993, `A technique for drawing directed graphs`, by the program `dot`."""
    lines = ['digraph { rankdir=LR; ordering=in; node [shape=box fixedsize=true label=""]']
    lines.append(f"nodesep={GAP / POINTS_PER_INCH:.4f}; ranksep=0.2")
    for index, box in enumerate(boxes):
        width, height = max(box.width, 1.0) / POINTS_PER_INCH, box.height / POINTS_PER_INCH
        lines.append(f"b{index} [width={width:.4f} height={height:.4f}]")
    lines += [f"b{source} -> b{target}" for source, target in links]
    answer = subprocess.run(
        ["dot", "-Tplain"], input="\n".join([*lines, "}"]), capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    heights = [0.0] * len(boxes)
    for line in answer.stdout.splitlines():
        if line.startswith("node "):
            _, name, _, y, *_ = line.split()
            heights[int(name[1:])] = -float(y) * POINTS_PER_INCH
    return heights


def arrange_with_igraph(boxes: Sequence[Box], links: Sequence[Link]) -> list[float]:
    """Sugiyama, Tagawa and Toda 1981, coordinates by Brandes and Köpf 2002, in igraph."""
    try:
        import igraph
    except ImportError:
        raise LayerflowError(
            "this format needs a layout engine: install graphviz (the program `dot`), or pip install "
            "'layerflow[graph]'; the formats .dot, .mmd (Mermaid) and .txt need neither"
        ) from None
    graph = igraph.Graph(n=len(boxes), edges=links, directed=True)
    step = max(box.height for box in boxes) + GAP
    layout = graph.layout_sugiyama(layers=[box.layer for box in boxes], hgap=step, maxiter=200)
    return [x for x, _ in layout.coords[: len(boxes)]]


def place(picture: Picture, engine: Engine = arrange) -> Placement:
    """Lay out a picture."""
    items = _place_items(picture)
    wires = [_route(wire, picture, items) for wire in picture.wires]
    boxes = [*items.values(), *(box for wire in wires for box in wire.boxes[1:-1])]
    index = {id(box): position for position, box in enumerate(boxes)}
    heights = engine(boxes, [(index[id(a)], index[id(b)]) for wire in wires for a, b in pairwise(wire.boxes)])
    top = min((y - box.height / 2 for box, y in zip(boxes, heights, strict=True)), default=0.0) - MARGIN
    columns = defaultdict(list)
    for box, y in zip(boxes, heights, strict=True):
        box.y = y - top
        columns[box.layer].append(box)
    widths, edge = {}, MARGIN
    for layer, column in sorted(columns.items()):
        widths[layer] = max(box.width for box in column)
        for box in column:
            box.x = edge + widths[layer] / 2
        edge += widths[layer] + BETWEEN_LAYERS
    for wire in wires:
        source, *passed, target = wire.boxes
        # Straight through a layer: wires bend only between layers, where no numbers are.
        through = [(box.x + half * widths[box.layer], box.y) for box in passed for half in (-0.5, 0.5)]
        wire.points = [(source.x + source.width / 2, source.y), *through, (target.x - target.width / 2, target.y)]
    _spread_ports(wires, items)
    bottom = max((box.y + box.height / 2 for box in boxes), default=MARGIN)
    return Placement(list(items.values()), wires, edge - BETWEEN_LAYERS + MARGIN, bottom + MARGIN)


def _place_items(picture: Picture) -> dict[str, PlacedItem]:
    """The boxes of the items, in even layers; the numbers of the wires go into the odd layers between them."""
    sources, readers = defaultdict(list), defaultdict(list)
    for wire in picture.wires:
        sources[wire.target.key].append(wire.source.key)
        readers[wire.source.key].append(wire.target.key)
    layers: dict[str, int] = {}
    for item in picture.items:
        layers[item.key] = max((layers[source] + 1 for source in sources[item.key]), default=0)
    for item in picture.items:
        if not sources[item.key] and readers[item.key]:
            layers[item.key] = min(layers[reader] for reader in readers[item.key]) - 1
    return {item.key: _box_of(item, 2 * layers[item.key], len(sources[item.key])) for item in picture.items}


def _box_of(item: Item, layer: int, ports: int) -> PlacedItem:
    """A box that its text and the wires into it fit; that of an operator sign is a square, drawn as a circle."""
    if is_sign(item.label) and item.kind == "gate" and not item.is_named:
        return PlacedItem(layer, max(34.0, CHARACTER * len(item.label) + 12), max(34.0, 12.0 * ports), item=item)
    width = max(CHARACTER * len(item.label), 6.0 * len(item.lines[-1])) + 22
    return PlacedItem(layer, max(width, 34.0), max(12.0 + 17.0 * len(item.lines), 10.0 * ports), item=item)


def _route(wire: Wire, picture: Picture, items: dict[str, PlacedItem]) -> PlacedWire:
    source, target = items[wire.source.key], items[wire.target.key]
    above = below = None
    if not picture.has_values:
        above = Summary((shape_text(wire.shape),)) if wire.shape else None
    else:
        is_plain = wire.source.kind == "constant" and not wire.shape  # its label is the value
        above = None if wire.value is None or is_plain else summarize(wire.value)
        below = None if wire.grad is None else summarize(wire.grad)
    passed = [Box(layer, 0.0, THINNEST) for layer in range(source.layer + 1, target.layer - 1)]
    label = Box(target.layer - 1, *_label_size([summary for summary in (above, below) if summary]))
    return PlacedWire(wire, [source, *passed, label, target], above, below)


def _label_size(summaries: list[Summary]) -> tuple[float, float]:
    if not summaries:
        return 12.0, THINNEST
    widths = [NUMBER * max(map(len, each.lines)) + (0 if each.is_scalar else THUMBNAIL[0] + 6) for each in summaries]
    return max(widths) + 10, 2 * max(LINE if each.is_scalar else 2 * LINE for each in summaries) + 8


def _spread_ports(wires: list[PlacedWire], items: dict[str, PlacedItem]) -> None:
    """End the wires into an item one below the other, in the order in which they arrive, so that none cross."""
    arriving = defaultdict(list)
    for wire in wires:
        arriving[wire.wire.target.key].append(wire)
    for key, group in arriving.items():
        item = items[key]
        gap = min(13.0, item.height / (len(group) + 0.6))
        group.sort(key=lambda wire: wire.points[-2][1])
        for position, wire in enumerate(group):
            wire.points[-1] = (wire.points[-1][0], item.y + gap * (position - (len(group) - 1) / 2))
