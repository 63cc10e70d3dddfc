"""Where everything goes: a layered layout from left to right, values flowing with the reading direction.

Every wire is cut into links of one layer each. Half-way, where its numbers are written, stands an invisible box as
large as they are, so that nothing is ever drawn over a number. Which layer a box stands in is settled here (as far to
the left as its inputs allow; what has no inputs stands right before its first reader); the order and the heights within
the layers come from a layout engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from layerflow.report.graph.engines import Box, Link, arrange
from layerflow.report.graph.picture import Item, Picture, Wire
from layerflow.report.graph.reading import Reading, read
from layerflow.report.graph.words import is_sign, shape_text

CHARACTER = 7.4
NUMBER = 6.6
LINE = 13.0
THUMBNAIL = (46.0, 24.0)
BETWEEN_LAYERS = 22.0
MARGIN = 18.0

Point = tuple[float, float]


@dataclass
class PlacedItem:
    """An item with its centre and size, and the lines of text in it."""

    item: Item
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]


@dataclass
class PlacedWire:
    """A wire with the points that it passes through and the readings that are written on its middle one."""

    wire: Wire
    points: list[Point]
    middle: Point
    width: float
    above: Reading | None
    below: Reading | None


@dataclass
class Placement:
    """Everything placed, in units of one screen pixel; the origin is the upper left corner."""

    items: list[PlacedItem]
    wires: list[PlacedWire]
    width: float
    height: float


def place(picture: Picture, engine: Callable[[list[Box], list[Link]], list[float]] = arrange) -> Placement:
    """Lay a picture out."""
    layers = _layers(picture)
    boxes: list[Box] = []
    centres: dict[str, int] = {}
    for item in picture.items:
        width, height, _ = _extent(item, picture)
        centres[item.key] = len(boxes)
        boxes.append(Box(2 * layers[item.key], width, height))
    links, chains, readings = [], [], []
    for wire in picture.wires:
        above, below = _readings(wire, picture)
        first, last = 2 * layers[wire.source.key], 2 * layers[wire.target.key]
        chain = []
        for layer in range(first + 1, last):
            width, height = _label_extent(above, below) if layer == last - 1 else (0.0, 0.0)
            chain.append(len(boxes))
            boxes.append(Box(layer, width, max(height, 10.0)))
        stations = [centres[wire.source.key], *chain, centres[wire.target.key]]
        links += [Link(a, b) for a, b in pairwise(stations)]
        chains.append(stations)
        readings.append((above, below))
    heights = engine(boxes, links)
    columns, widths, total = _columns(boxes)
    top = min((y - box.height / 2 for y, box in zip(heights, boxes, strict=True)), default=0.0) - MARGIN
    bottom = max((y + box.height / 2 for y, box in zip(heights, boxes, strict=True)), default=0.0) + MARGIN

    def point(index: int) -> Point:
        return columns[boxes[index].layer], heights[index] - top

    items = []
    for item in picture.items:
        x, y = point(centres[item.key])
        width, height, lines = _extent(item, picture)
        items.append(PlacedItem(item, x, y, width, height, lines))
    by_key = {placed.item.key: placed for placed in items}
    wires = []
    for wire, stations, (above, below) in zip(picture.wires, chains, readings, strict=True):
        middle = point(stations[-2])
        inner = [at for index in stations[1:-1] for at in _through(point(index), widths[boxes[index].layer])]
        source, target = by_key[wire.source.key], by_key[wire.target.key]
        start = (source.x + source.width / 2, source.y)
        points = [start, *inner, (target.x - target.width / 2, target.y)]
        wires.append(PlacedWire(wire, points, middle, boxes[stations[-2]].width, above, below))
    _spread_ports(wires, by_key)
    return Placement(items, wires, total, bottom - top)


def _layers(picture: Picture) -> dict[str, int]:
    """The layer of each item: the longest path to it, and for what has no inputs, right before its first reader."""
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


def _extent(item: Item, picture: Picture) -> tuple[float, float, tuple[str, ...]]:
    """Width, height and lines of an item's box; operator signs stand in a circle of their own."""
    if is_sign(item.label) and item.kind == "gate" and not item.is_named:
        ports = len(picture.wires_into(item))
        side = max(34.0, 12.0 * ports)
        return max(34.0, CHARACTER * len(item.label) + 12), side, (item.label,)
    lines = (item.label,) if item.name == item.label or not item.is_named else (item.label, item.name)
    if item.kind != "gate":
        lines = (item.label,)
    width = max(CHARACTER * len(lines[0]), 6.0 * len(lines[-1])) + 22
    return max(width, 34.0), max(12.0 + 17.0 * len(lines), 10.0 * len(picture.wires_into(item))), lines


def _readings(wire: Wire, picture: Picture) -> tuple[Reading | None, Reading | None]:
    """What is written above and below a wire: value and gradient, or the shape alone where no values are wanted."""
    if not picture.has_values:
        return (Reading((shape_text(wire.shape),)) if wire.shape else None), None
    is_plain = wire.source.kind == "constant" and not wire.shape
    above = None if wire.value is None or is_plain else read(wire.value)
    return above, None if wire.grad is None else read(wire.grad)


def _label_extent(above: Reading | None, below: Reading | None) -> tuple[float, float]:
    extents = [_reading_extent(reading) for reading in (above, below) if reading is not None]
    if not extents:
        return 12.0, 10.0
    return max(width for width, _ in extents) + 10, 2 * max(height for _, height in extents) + 8


def _reading_extent(reading: Reading) -> tuple[float, float]:
    text = NUMBER * max(len(line) for line in reading.lines)
    if reading.is_scalar:
        return text, LINE
    return text + THUMBNAIL[0] + 6, 2 * LINE


def _columns(boxes: list[Box]) -> tuple[list[float], list[float], float]:
    """The centre and the width of each layer, and the width of the whole."""
    widths = [0.0] * (max((box.layer for box in boxes), default=-1) + 1)
    for box in boxes:
        widths[box.layer] = max(widths[box.layer], box.width)
    centres, edge = [], MARGIN
    for width in widths:
        centres.append(edge + width / 2)
        edge += width + BETWEEN_LAYERS
    return centres, widths, edge - BETWEEN_LAYERS + MARGIN if widths else 2 * MARGIN


def _through(centre: Point, width: float) -> list[Point]:
    """Straight through a layer, so that wires bend between layers only, where no numbers are."""
    x, y = centre
    return [(x - width / 2, y), (x + width / 2, y)]


def _spread_ports(wires: list[PlacedWire], items: dict[str, PlacedItem]) -> None:
    """Let the wires into an item end one below the other, in the order in which they arrive, so that none cross."""
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
