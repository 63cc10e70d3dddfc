"""A placed picture as outlines, curves, words and blocks, with their colors: what both SVG and PNG can draw."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from layerflow.parameter import Array
from layerflow.report.graph.layout import LINE, THUMBNAIL, PlacedItem, PlacedWire, Placement, Point
from layerflow.report.graph.picture import GateItem
from layerflow.report.graph.wording import Summary, formula_of

SHADES = 5
FONTS = "DejaVu Sans, Verdana, Segoe UI, Helvetica, Arial, sans-serif"
COLORS = {  # fill and stroke by role; the page has its own, for dark and light
    "gate": ("#ffffff", "#343a40"),
    "data": ("#e7f5ff", "#1c7ed6"),
    "parameter": ("#f3f0ff", "#7048e8"),
    "constant": ("#f1f3f5", "#868e96"),
    "output": ("#ebfbee", "#2f9e44"),
    "wire": ("none", "#8d99a6"),
    "label": ("#212529", "none"),
    "quiet": ("#6c757d", "none"),
    "value": ("#1864ab", "none"),
    "gradient": ("#c2410c", "none"),
    "value negative": ("#5f6b76", "none"),
    "gradient negative": ("#5f6b76", "none"),
}


@dataclass(frozen=True)
class Outline:
    """A rounded rectangle around a center."""

    x: float
    y: float
    width: float
    height: float
    radius: float
    role: str


@dataclass(frozen=True)
class Words:
    """One line of text, centered on x or starting there; y is the baseline."""

    x: float
    y: float
    text: str
    size: float
    role: str
    anchor: Literal["middle", "start"] = "middle"


@dataclass(frozen=True)
class Curve:
    """A smooth line through points, horizontal at each of them, with an arrowhead at the end."""

    points: tuple[Point, ...]
    role: str

    @property
    def path(self) -> str:
        """An SVG path of cubic Bézier curves."""
        written = f"M{self.points[0][0]:.1f} {self.points[0][1]:.1f}"
        for (x0, y0), (x1, y1) in pairwise(self.points):
            if abs(y1 - y0) < 0.05:
                written += f"L{x1:.1f} {y1:.1f}"
            else:
                half = (x0 + x1) / 2
                written += f"C{half:.1f} {y0:.1f} {half:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        return written

    @property
    def head(self) -> tuple[Point, Point, Point]:
        """The corners of the arrowhead."""
        x, y = self.points[-1]
        return (x - 7, y - 3.5), (x, y), (x - 7, y + 3.5)


@dataclass(frozen=True)
class Blocks:
    """Rectangles (left, top, width, height) of one color and opacity: a shade of a heat map, a histogram's bars."""

    rectangles: tuple[tuple[float, float, float, float], ...]
    role: str
    opacity: float

    @property
    def path(self) -> str:
        """All rectangles as one SVG path."""
        return "".join(f"M{x:.1f} {y:.1f}h{w:.2f}v{h:.2f}h-{w:.2f}z" for x, y, w, h in self.rectangles)


Mark = Outline | Words | Curve | Blocks


@dataclass(frozen=True)
class Group:
    """The marks that belong together, under the key of their item or wire."""

    key: str
    role: str
    marks: list[Mark]
    title: str = ""
    parts: "list[Group]" = field(default_factory=list)


def marks_of(placement: Placement) -> list[Group]:
    """Wires first, so that items stand before them."""
    wires = [_wire(f"wire{index}", wire) for index, wire in enumerate(placement.wires)]
    return wires + [_item(item) for item in placement.items]


def _item(placed: PlacedItem) -> Group:
    item = placed.item
    radius = {"gate": 9.0, "parameter": 3.0, "constant": 3.0}.get(item.kind, placed.height / 2)
    if len(placed.lines) == 1 and item.kind == "gate" and placed.width == placed.height:
        radius = placed.width / 2
    marks: list[Mark] = [Outline(placed.x, placed.y, placed.width, placed.height, radius, item.kind)]
    size = 17.0 if len(item.label) == 1 and item.kind == "gate" else 12.5
    if len(placed.lines) == 1:
        marks.append(Words(placed.x, placed.y + 0.35 * size, item.label, size, "label"))
    else:
        marks.append(Words(placed.x, placed.y - 3, placed.lines[0], 12.5, "label"))
        marks.append(Words(placed.x, placed.y + 12, placed.lines[1], 10.0, "quiet"))
    title = f"{item.name}: {formula_of(item.gate) or repr(item.gate)}" if isinstance(item, GateItem) else item.name
    return Group(item.key, f"item {item.kind}", marks, title)


def _wire(key: str, placed: PlacedWire) -> Group:
    x, y = placed.middle
    parts = []
    role = "value" if placed.wire.value is not None else "quiet"
    left = x - placed.width / 2 + 5
    if placed.above is not None:
        up = 4.0 if placed.above.is_scalar else 2 * LINE + 2
        parts.append(Group("", "above", list(_summary(placed.above, x, left, y - up, role))))
    if placed.below is not None:
        down = LINE - 1 if placed.below.is_scalar else 3.0
        parts.append(Group("", "below", list(_summary(placed.below, x, left, y + down, "gradient"))))
    role = "wire from-" + placed.wire.source.kind
    return Group(key, role, [Curve(tuple(placed.points), "wire")], parts=parts)


def _summary(summary: Summary, x: float, left: float, y: float, role: str) -> Iterator[Mark]:
    """A scalar's number, centered on x, with baseline y; an array's thumbnail and lines, from the corner (left, y)."""
    if summary.is_scalar:
        yield Words(x, y, summary.lines[0], 11.0, role)
        return
    if summary.cells is not None:
        yield from _heat_map(summary.cells, left, y, role)
    elif summary.bars is not None:
        yield _histogram(summary.bars, left, y, role)
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
        where = np.argwhere(shades == shade)
        if len(where):
            rectangles = tuple((left + side * column, top + side * row, side, side) for row, column in where.tolist())
            yield Blocks(rectangles, f"{role} negative" if shade < 0 else role, max(abs(shade) / SHADES, 0.07))


def _histogram(bars: Array, left: float, top: float, role: str) -> Mark:
    width = THUMBNAIL[0] / len(bars)
    heights = [max(float(bar) * THUMBNAIL[1], 0.8) for bar in bars]
    bottom = top + THUMBNAIL[1]
    columns = [(left + width * i, bottom - height, width * 0.86, height) for i, height in enumerate(heights)]
    return Blocks(tuple(columns), role, 0.8)
