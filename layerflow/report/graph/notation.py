"""The formats without a layout: DOT, Mermaid, and plain text for the terminal."""

from collections.abc import Iterator

from layerflow.report.graph.marks import COLORS
from layerflow.report.graph.picture import GateItem, Item, Picture, Wire
from layerflow.report.graph.wording import words_of

_DOT_SHAPES = {"gate": "box", "data": "ellipse", "parameter": "box", "constant": "box", "output": "ellipse"}
_MERMAID_SHAPES = {
    "gate": ("(", ")"),
    "data": ("([", "])"),
    "parameter": ("[[", "]]"),
    "constant": ("[", "]"),
    "output": ("([", "])"),
}


def to_dot(picture: Picture) -> str:
    """Graphviz's language; values stand above the gradients in each label."""
    lines = ["digraph layerflow {", "  rankdir=LR", '  node [fontname="Helvetica" fontsize=12 style="filled,rounded"]']
    lines.append('  edge [fontname="Helvetica" fontsize=10 color="#8d99a6"]')
    for item in picture.items:
        fill, stroke = COLORS[item.kind]
        look = f'shape={_DOT_SHAPES[item.kind]} fillcolor="{fill}" color="{stroke}"'
        lines.append(f"  {item.key} [label={_quoted(_title(item))} {look}]")
    for wire in picture.wires:
        texts = zip(("value", "gradient"), _label(wire, picture), strict=True)
        rows = [f'<font color="{COLORS[role][0]}">{_entities(text)}</font>' for role, text in texts if text]
        label = f" [label=<{'<br/>'.join(rows)}>]" if rows else ""
        lines.append(f"  {wire.source.key} -> {wire.target.key}{label}")
    return "\n".join([*lines, "}", ""])


def to_mermaid(picture: Picture) -> str:
    """Mermaid's flowchart language, which GitHub and many editors draw."""
    lines = ["flowchart LR"]
    for item in picture.items:
        opening, closing = _MERMAID_SHAPES[item.kind]
        lines.append(f'  {item.key}{opening}"{_entities(_title(item))}"{closing}:::{item.kind}')
    for wire in picture.wires:
        text = " / ".join(filter(None, _label(wire, picture)))
        label = f'|"{_entities(text)}"|' if text else ""
        lines.append(f"  {wire.source.key} -->{label} {wire.target.key}")
    for kind in _MERMAID_SHAPES:
        fill, stroke = COLORS[kind]
        lines.append(f"  classDef {kind} fill:{fill},stroke:{stroke},color:#212529")
    return "\n".join([*lines, ""])


def to_text(picture: Picture) -> str:
    """A table for the terminal: every gate in forward order, what it reads below it, values before gradients."""
    rows: list[tuple[str, str, str]] = [("", "value", "gradient")] if picture.has_values else []
    rows += [row for item in picture.items if item.kind in ("gate", "output") for row in _rows(item, picture)]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    return "\n".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {grad}".rstrip() for name, value, grad in rows) + "\n"


def _rows(item: Item, picture: Picture) -> Iterator[tuple[str, str, str]]:
    title = f"{item.name}: {item.gate!r}" if isinstance(item, GateItem) else item.name
    yield title if item.kind == "gate" else f"{title} (output)", "", ""
    for wire in picture.wires_into(item):
        kind = "" if wire.source.kind == "gate" else f" ({wire.source.kind})"
        port = f"{wire.port} <- " if wire.port else "<- "
        yield f"    {port}{wire.source.name}{kind}", *_label(wire, picture)


def _title(item: Item) -> str:
    has_both = item.kind == "gate" and item.is_named and item.name != item.label
    return f"{item.label}\n{item.name}" if has_both else item.label


def _label(wire: Wire, picture: Picture) -> tuple[str, str]:
    """What is written above and below a wire."""
    return (words_of(wire.value), words_of(wire.grad)) if picture.has_values else (words_of(None, wire.shape), "")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _entities(text: str) -> str:
    for sign, entity in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;"), ("\n", "<br/>")):
        text = text.replace(sign, entity)
    return text
