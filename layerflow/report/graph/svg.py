"""SVG. Every shape carries its colours, so that any program shows it, and a class, so that a page may restyle it."""

from collections.abc import Iterator
from html import escape
from itertools import pairwise

from layerflow.report.graph.colours import FONTS, colours_of
from layerflow.report.graph.layout import Placement, Point
from layerflow.report.graph.marks import Blocks, Curve, Group, Mark, Outline, Words, marks_of


def to_svg(placement: Placement, background: bool = True) -> str:
    """Write a placed picture as an SVG document."""
    width, height = f"{placement.width:.0f}", f"{placement.height:.0f}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="{FONTS}" role="img" aria-label="computation graph">'
    ]
    if background:
        lines.append(f'<rect class="paper" width="{width}" height="{height}" rx="8" fill="#ffffff"/>')
    for group in marks_of(placement):
        lines.extend(_group(group))
    return "\n".join([*lines, "</svg>", ""])


def _group(group: Group) -> Iterator[str]:
    name = f' id="{group.key}"' if group.key else ""
    yield f'<g{name} class="{group.role}">'
    if group.title:
        yield f"<title>{escape(group.title)}</title>"
    yield from map(_mark, group.marks)
    for part in group.parts:
        yield from _group(part)
    yield "</g>"


def _mark(mark: Mark) -> str:
    fill, stroke = colours_of(mark.role)
    if isinstance(mark, Outline):
        left, top = mark.x - mark.width / 2, mark.y - mark.height / 2
        dashes = ' stroke-dasharray="4 3"' if mark.role == "constant" else ""
        return (
            f'<rect class="outline" x="{left:.1f}" y="{top:.1f}" width="{mark.width:.1f}" height="{mark.height:.1f}" '
            f'rx="{mark.radius:.1f}" fill="{fill}" stroke="{stroke}" stroke-width="1.4"{dashes}/>'
        )
    if isinstance(mark, Words):
        anchor = ' text-anchor="middle"' if mark.anchor == "middle" else ""
        return (
            f'<text class="{mark.role}" x="{mark.x:.1f}" y="{mark.y:.1f}" font-size="{mark.size:g}" '
            f'fill="{fill}"{anchor}>{escape(mark.text)}</text>'
        )
    if isinstance(mark, Curve):
        x, y = mark.points[-1]
        tip = f"M{x - 7:.1f} {y - 3.5:.1f}L{x:.1f} {y:.1f}L{x - 7:.1f} {y + 3.5:.1f}z"
        head = f'<path class="head" d="{tip}" fill="{stroke}"/>'
        return f'<path class="line" d="{_path(mark.points)}" fill="none" stroke="{stroke}" stroke-width="1.4"/>{head}'
    return f'<path class="{mark.role}" d="{_rectangles(mark)}" fill="{fill}" fill-opacity="{mark.opacity:.2f}"/>'


def _path(points: tuple[Point, ...]) -> str:
    """Cubic Bézier curves with horizontal tangents."""
    written = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in pairwise(points):
        if abs(y1 - y0) < 0.05:
            written += f"L{x1:.1f} {y1:.1f}"
        else:
            half = (x0 + x1) / 2
            written += f"C{half:.1f} {y0:.1f} {half:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    return written


def _rectangles(blocks: Blocks) -> str:
    return "".join(f"M{x:.1f} {y:.1f}h{w:.2f}v{h:.2f}h-{w:.2f}z" for x, y, w, h in blocks.rectangles)
