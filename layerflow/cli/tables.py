"""Text tables for people."""

from collections.abc import Sequence


def as_table(rows: Sequence[Sequence[str]], numbers: bool = True, indent: str = "") -> str:
    """Return rows of cells in columns two spaces apart; `numbers` aligns all columns but the first to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(indent + "  ".join(cells).rstrip())
    return "\n".join(lines)
