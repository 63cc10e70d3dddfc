"""The formats of a picture: SVG, PNG, the page, and without a layout DOT, Mermaid and text for the terminal."""

import html
import io
import json
from collections.abc import Callable, Iterator

from layerflow.errors import LayerflowError
from layerflow.report import render
from layerflow.report.graph.explain import story
from layerflow.report.graph.layout import place
from layerflow.report.graph.marks import BOXES, INKS, Shape, marks_of
from layerflow.report.graph.picture import GateItem, Item, Picture, Wire
from layerflow.report.graph.wording import words_of

PIXELS_PER_UNIT = 2.0
LARGEST_SIDE = 16_000.0
UNITS_PER_INCH = 72.0
DOT_SHAPES = {"gate": "box", "data": "ellipse", "parameter": "box", "constant": "box", "output": "ellipse"}
MERMAID_SHAPES = {
    "gate": ("(", ")"), "data": ("([", "])"), "parameter": ("[[", "]]"), "constant": ("[", "]"), "output": ("([", "])"),
}  # fmt: skip


def to_svg(picture: Picture) -> str:
    """A picture on a white background."""
    placement = place(picture)
    return render("graph.svg", placement=placement, groups=marks_of(placement), inks=INKS, background=True)


def to_page(picture: Picture) -> str:
    """A page that steps through the sweeps."""
    placement = place(picture)
    drawing = {"placement": placement, "groups": marks_of(placement), "inks": INKS, "background": False}
    return render("graph.html", title=picture.title, story=story(picture), **drawing)


def to_png(picture: Picture) -> bytes:
    """PNG by matplotlib, two pixels per unit unless that would be enormous.

    Raises:
        LayerflowError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.collections import PathCollection
        from matplotlib.figure import Figure
        from matplotlib.path import Path
    except ImportError:
        raise LayerflowError("a .png picture needs matplotlib: pip install 'layerflow[plot]'; .svg does not") from None
    codes = {"M": Path.MOVETO, "L": Path.LINETO, "C": Path.CURVE4, "z": Path.CLOSEPOLY}

    def path_of(shape: Shape) -> Path:
        steps = [(codes[letter], at) for letter, points in shape.commands for at in points or [(0.0, 0.0)]]
        return Path([at for _, at in steps], [code for code, _ in steps])

    placement = place(picture)
    figure = Figure(figsize=(placement.width / UNITS_PER_INCH, placement.height / UNITS_PER_INCH), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, placement.width), ylim=(placement.height, 0))
    axes.axis("off")
    marks = [mark for group in marks_of(placement) for part in (group, *group.parts) for mark in part.marks]
    shapes = [mark for mark in marks if isinstance(mark, Shape)]
    all_shapes = PathCollection(  # one by one, thousands of them would take a minute
        [path_of(shape) for shape in shapes],
        facecolors=[(shape.fill, shape.opacity) for shape in shapes],
        edgecolors=[shape.stroke for shape in shapes],
        linestyles=[(0, (4, 3)) if shape.is_dashed else "-" for shape in shapes],
        linewidths=1.4,
    )
    axes.add_collection(all_shapes, autolim=False)
    for mark in marks:
        if not isinstance(mark, Shape):
            text, across = mark.text.replace("$", r"\$"), "center" if mark.anchor == "middle" else "left"
            axes.text(mark.x, mark.y, text, size=mark.size, color=INKS[mark.role], ha=across, va="baseline", zorder=3)
    file = io.BytesIO()
    scale = min(PIXELS_PER_UNIT, LARGEST_SIDE / max(placement.width, placement.height))
    figure.savefig(file, dpi=UNITS_PER_INCH * scale)
    return file.getvalue()


def to_dot(picture: Picture) -> str:
    """Graphviz's language; values are above the gradients in each label."""
    lines = ["digraph layerflow {", "  rankdir=LR", '  node [fontname="Helvetica" fontsize=12 style="filled,rounded"]']
    lines.append(f'  edge [fontname="Helvetica" fontsize=10 color="{INKS["wire"]}"]')
    for item in picture.items:
        fill, stroke = BOXES[item.kind]
        label = json.dumps("\n".join(item.lines), ensure_ascii=False)
        look = f'shape={DOT_SHAPES[item.kind]} fillcolor="{fill}" color="{stroke}"'
        lines.append(f"  {item.key} [label={label} {look}]")
    for wire in picture.wires:
        texts = zip(("value", "gradient"), _label(wire, picture), strict=True)
        rows = [f'<font color="{INKS[role]}">{_escaped(text)}</font>' for role, text in texts if text]
        label = f" [label=<{'<br/>'.join(rows)}>]" if rows else ""
        lines.append(f"  {wire.source.key} -> {wire.target.key}{label}")
    return "\n".join([*lines, "}", ""])


def to_mermaid(picture: Picture) -> str:
    """Mermaid's flowchart language, which GitHub and many editors draw."""
    lines = ["flowchart LR"]
    for item in picture.items:
        opening, closing = MERMAID_SHAPES[item.kind]
        lines.append(f'  {item.key}{opening}"{"<br/>".join(map(_escaped, item.lines))}"{closing}:::{item.kind}')
    for wire in picture.wires:
        text = " / ".join(filter(None, _label(wire, picture)))
        label = f'|"{_escaped(text)}"|' if text else ""
        lines.append(f"  {wire.source.key} -->{label} {wire.target.key}")
    for kind, (fill, stroke) in BOXES.items():
        lines.append(f"  classDef {kind} fill:{fill},stroke:{stroke},color:{INKS['label']}")
    return "\n".join([*lines, ""])


def to_text(picture: Picture) -> str:
    """A table for the terminal: every gate in forward order, what it reads below it, values before gradients."""
    rows: list[tuple[str, str, str]] = [("", "value", "gradient")] if picture.has_values else []
    rows += [row for item in picture.items if item.kind in ("gate", "output") for row in _rows(item, picture)]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    return "\n".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {grad}".rstrip() for name, value, grad in rows) + "\n"


FORMATS: dict[str, Callable[[Picture], str | bytes]] = {
    ".svg": to_svg, ".png": to_png, ".html": to_page, ".dot": to_dot, ".mmd": to_mermaid, ".txt": to_text,
}  # fmt: skip


def _rows(item: Item, picture: Picture) -> Iterator[tuple[str, str, str]]:
    yield f"{item.name}: {item.gate!r}" if isinstance(item, GateItem) else f"{item.name} (output)", "", ""
    for wire in picture.wires_into(item):
        kind = "" if wire.source.kind == "gate" else f" ({wire.source.kind})"
        port = f"{wire.port} <- " if wire.port else "<- "
        yield f"    {port}{wire.source.name}{kind}", *_label(wire, picture)


def _label(wire: Wire, picture: Picture) -> tuple[str, str]:
    """What is written above and below a wire."""
    return (words_of(wire.value), words_of(wire.grad)) if picture.has_values else (words_of(None, wire.shape), "")


def _escaped(text: str) -> str:
    return html.escape(text, quote=False).replace('"', "&quot;").replace("\n", "<br/>")
