"""A placed picture as shapes and words with their colors: what both SVG and PNG can draw."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from layerflow.parameter import Array
from layerflow.report.graph.layout import LINE, THUMBNAIL, Box, PlacedItem, PlacedWire, Placement, Point
from layerflow.report.graph.picture import GateItem
from layerflow.report.graph.wording import Summary, formula_of

SHADES = 5
BOXES = {  # fill and stroke of items by kind; the page has its own colors, for dark and light
    "gate": ("#ffffff", "#343a40"),
    "data": ("#e7f5ff", "#1c7ed6"),
    "parameter": ("#f3f0ff", "#7048e8"),
    "constant": ("#f1f3f5", "#868e96"),
    "output": ("#ebfbee", "#2f9e44"),
}
INKS = {
    "wire": "#8d99a6",
    "label": "#212529",
    "quiet": "#6c757d",
    "value": "#1864ab",
    "gradient": "#c2410c",
    "value negative": "#5f6b76",
    "gradient negative": "#5f6b76",
}
QUARTER = 0.45  # of the radius: there a cubic curve from side to side of a corner has its control points

Command = tuple[Literal["M", "L", "C", "z"], tuple[Point, ...]]


@dataclass(frozen=True)
class Shape:
    """A path, filled and stroked.

    Attributes:
        style: its CSS class.
        commands: letters of SVG paths with absolute points: move, line, cubic curve, close.
    """

    style: str
    commands: list[Command]
    fill: str = "none"
    stroke: str = "none"
    opacity: float = 1.0
    is_dashed: bool = False

    @property
    def path(self) -> str:
        """The commands as SVG writes them."""
        return "".join(letter + " ".join(f"{x:.1f} {y:.1f}" for x, y in points) for letter, points in self.commands)


@dataclass(frozen=True)
class Words:
    """One line of text, centered on x or starting there; y is the baseline; the role is its CSS class, and its ink."""

    x: float
    y: float
    text: str
    size: float
    role: str
    anchor: Literal["middle", "start"] = "middle"


Mark = Shape | Words


@dataclass(frozen=True)
class Group:
    """The marks that belong together, under the key of their item or wire."""

    key: str
    role: str
    marks: list[Mark]
    title: str = ""
    parts: "list[Group]" = field(default_factory=list)


def marks_of(placement: Placement) -> list[Group]:
    """Return wires first, so that items are drawn over them."""
    wires = [_wire(f"wire{index}", wire) for index, wire in enumerate(placement.wires)]
    return wires + [_item(item) for item in placement.items]


def _item(box: PlacedItem) -> Group:
    item, (fill, stroke) = box.item, BOXES[box.item.kind]
    radii = {"gate": 9.0, "parameter": 3.0, "constant": 3.0}
    radius = box.height / 2 if box.width == box.height else radii.get(item.kind, box.height / 2)
    marks: list[Mark] = [Shape("outline", _rounded(box, radius), fill, stroke, is_dashed=item.kind == "constant")]
    if len(item.lines) == 1:
        size = 17.0 if len(item.label) == 1 and item.kind == "gate" else 12.5
        marks.append(Words(box.x, box.y + 0.35 * size, item.label, size, "label"))
    else:
        marks.append(Words(box.x, box.y - 3, item.lines[0], 12.5, "label"))
        marks.append(Words(box.x, box.y + 12, item.lines[1], 10.0, "quiet"))
    title = f"{item.name}: {formula_of(item.gate) or repr(item.gate)}" if isinstance(item, GateItem) else item.name
    return Group(item.key, f"item {item.kind}", marks, title)


def _wire(key: str, placed: PlacedWire) -> Group:
    label, wire, parts = placed.label, placed.wire, []
    left = label.x - label.width / 2 + 5
    if placed.above is not None:
        up = 4.0 if placed.above.is_scalar else 2 * LINE + 2
        role = "quiet" if wire.value is None else "value"
        parts.append(Group("", "above", list(_summary(placed.above, label.x, left, label.y - up, role))))
    if placed.below is not None:
        down = LINE - 1 if placed.below.is_scalar else 3.0
        parts.append(Group("", "below", list(_summary(placed.below, label.x, left, label.y + down, "gradient"))))
    x, y = placed.points[-1]
    head: list[Command] = [("M", ((x - 7, y - 3.5),)), ("L", ((x, y), (x - 7, y + 3.5))), ("z", ())]
    line = Shape("line", list(_curve(placed.points)), stroke=INKS["wire"])
    return Group(key, f"wire from-{wire.source.kind}", [line, Shape("head", head, INKS["wire"])], parts=parts)


def _rounded(box: Box, radius: float) -> list[Command]:
    """A rectangle with round corners, clockwise from the end of the upper side."""
    radius = min(radius, box.width / 2, box.height / 2)
    bend = QUARTER * radius
    left, right = box.x - box.width / 2, box.x + box.width / 2
    top, bottom = box.y - box.height / 2, box.y + box.height / 2
    corners = [
        ((right - radius, top), (right - bend, top), (right, top + bend), (right, top + radius)),
        ((right, bottom - radius), (right, bottom - bend), (right - bend, bottom), (right - radius, bottom)),
        ((left + radius, bottom), (left + bend, bottom), (left, bottom - bend), (left, bottom - radius)),
        ((left, top + radius), (left, top + bend), (left + bend, top), (left + radius, top)),
    ]
    sides: list[Command] = [step for start, *curve in corners for step in (("L", (start,)), ("C", tuple(curve)))]
    return [("M", (corners[-1][-1],)), *sides, ("z", ())]


def _curve(points: list[Point]) -> Iterator[Command]:
    """A smooth line through points, horizontal at each of them."""
    yield "M", (points[0],)
    for (x0, y0), (x1, y1) in pairwise(points):
        half = (x0 + x1) / 2
        yield ("L", ((x1, y1),)) if abs(y1 - y0) < 0.05 else ("C", ((half, y0), (half, y1), (x1, y1)))


def _blocks(rectangles: Iterable[tuple[float, float, float, float]], role: str, opacity: float) -> Shape:
    """Rectangles (left, top, width, height) of one color as one shape."""
    commands: list[Command] = []
    for x, y, width, height in rectangles:
        corners = (x + width, y), (x + width, y + height), (x, y + height)
        commands += [("M", ((x, y),)), ("L", corners), ("z", ())]
    return Shape(role, commands, INKS[role], opacity=opacity)


def _summary(summary: Summary, x: float, left: float, y: float, role: str) -> Iterator[Mark]:
    """A scalar's number, centered on x, with baseline y; an array's thumbnail and lines, from the corner (left, y)."""
    if summary.is_scalar:
        yield Words(x, y, summary.lines[0], 11.0, role)
        return
    if summary.cells is not None:
        yield from _heat_map(summary.cells, left, y, role)
    elif summary.bars is not None:
        width = THUMBNAIL[0] / len(summary.bars)
        bars = [max(float(bar) * THUMBNAIL[1], 0.8) for bar in summary.bars]
        bottom = y + THUMBNAIL[1]
        yield _blocks([(left + width * i, bottom - bar, width * 0.86, bar) for i, bar in enumerate(bars)], role, 0.8)
    for row, line in enumerate(summary.lines):
        yield Words(left + THUMBNAIL[0] + 6, y + 10 + row * 12.5, line, 10.5, role, "start")


def _heat_map(cells: Array, left: float, top: float, role: str) -> Iterator[Mark]:
    """Positive elements in the color of the role, negative ones in the opposite color, the larger the stronger."""
    rows, columns = cells.shape
    side = min(THUMBNAIL[0] / columns, THUMBNAIL[1] / rows, 8.0)
    left += THUMBNAIL[0] - side * columns
    top += (THUMBNAIL[1] - side * rows) / 2
    shades = np.ceil(np.abs(cells) * SHADES).astype(int) * np.sign(cells).astype(int)
    for shade in range(-SHADES, SHADES + 1):
        places = np.argwhere(shades == shade).tolist()
        if places:
            squares = [(left + side * column, top + side * row, side, side) for row, column in places]
            yield _blocks(squares, f"{role} negative" if shade < 0 else role, max(abs(shade) / SHADES, 0.07))
