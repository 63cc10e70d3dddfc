"""PNG, drawn by matplotlib."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from layerflow.errors import LayerflowError
from layerflow.report.graph.layout import Placement
from layerflow.report.graph.marks import COLORS, Blocks, Curve, Group, Mark, Outline, Words, marks_of

PIXELS_PER_UNIT = 2.0
LARGEST_SIDE = 16_000.0
UNITS_PER_INCH = 72.0


def write_png(placement: Placement, path: Path) -> None:
    """Draw a placed picture into a PNG file, two pixels per unit unless that would be enormous.

    Raises:
        LayerflowError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise LayerflowError("a .png picture needs matplotlib: pip install 'layerflow[plot]'; .svg does not") from None
    figure = Figure(figsize=(placement.width / UNITS_PER_INCH, placement.height / UNITS_PER_INCH), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, placement.width), ylim=(placement.height, 0))
    axes.axis("off")
    blocks: dict[tuple[str, float], list[Blocks]] = {}
    for mark in _all_marks(marks_of(placement)):
        if isinstance(mark, Blocks):
            blocks.setdefault((mark.role, mark.opacity), []).append(mark)
        else:
            _draw_mark(axes, mark)
    for (role, opacity), alike in blocks.items():
        _draw_blocks(axes, role, opacity, alike)
    scale = min(PIXELS_PER_UNIT, LARGEST_SIDE / max(placement.width, placement.height))
    figure.savefig(path, dpi=UNITS_PER_INCH * scale)


def _all_marks(groups: list[Group]) -> Iterator[Mark]:
    for group in groups:
        yield from group.marks
        yield from _all_marks(group.parts)


def _draw_blocks(axes: Any, role: str, opacity: float, alike: list[Blocks]) -> None:
    """Draw all blocks of one color at once; thousands of single ones would take matplotlib a minute."""
    from matplotlib.collections import PolyCollection

    corners = [
        [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        for blocks in alike
        for x, y, width, height in blocks.rectangles
    ]
    axes.add_collection(
        PolyCollection(corners, facecolor=COLORS[role][0], edgecolor="none", alpha=opacity, zorder=1), autolim=False
    )


def _draw_mark(axes: Any, mark: Outline | Words | Curve) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path as Curves

    fill, stroke = COLORS[mark.role]
    if isinstance(mark, Outline):
        corner = (mark.x - mark.width / 2, mark.y - mark.height / 2)
        radius = min(mark.radius, mark.width / 2, mark.height / 2)
        style = f"round,pad=0,rounding_size={radius}"
        line = (0, (4, 3)) if mark.role == "constant" else "-"
        is_circle = mark.width == mark.height == 2 * radius
        box = FancyBboxPatch(corner, mark.width, mark.height, style)
        shape = Circle((mark.x, mark.y), radius) if is_circle else box
        shape.set(facecolor=fill, edgecolor=stroke, linewidth=1.4, linestyle=line, zorder=2)
        axes.add_patch(shape)
    elif isinstance(mark, Words):
        place = "center" if mark.anchor == "middle" else "left"
        text = mark.text.replace("$", r"\$")
        axes.text(mark.x, mark.y, text, size=mark.size, color=fill, ha=place, va="baseline", zorder=3)
    else:
        points, codes = [mark.points[0]], [Curves.MOVETO]
        for (x0, y0), (x1, y1) in pairwise(mark.points):
            half = (x0 + x1) / 2
            points += [(half, y0), (half, y1), (x1, y1)]
            codes += [Curves.CURVE4] * 3
        axes.add_patch(PathPatch(Curves(points, codes), fc="none", ec=stroke, lw=1.4, zorder=1))
        axes.add_patch(Polygon(mark.head, closed=True, fc=stroke, ec="none", zorder=1))
