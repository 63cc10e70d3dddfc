"""Writes docs/catalogue.md, the list of all built-in gates, from their docstrings.

python scripts/write_catalogue.py
"""

import inspect
import re
from pathlib import Path

import layerflow as lf
from layerflow import blocks
from layerflow.gates import FAMILIES, GATES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "catalogue.md"
HEADER = """# Catalogue of gates

{count} gates, by family, with the formula and the local gradient of each; `help(lf.Conv2d)` shows the whole
description: arguments, shapes, errors and source. The page is written by `python scripts/write_catalogue.py`. Every
gate passes the gradient check (`layerflow gradcheck`), and its values and gradients are compared with PyTorch's where
PyTorch has it.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [HEADER.format(count=len(GATES))]
    for family, names in {**FAMILIES, "blocks": tuple(blocks.__all__)}.items():
        rows = [
            f"## {family.capitalize()}\n",
            "| gate | formula | local gradient |",
            "|---|---|---|",
            *map(_row, names),
        ]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(name: str) -> str:
    text = inspect.getdoc(getattr(lf, name)) or ""
    formula = text.split("\n\n")[0]
    gradient = re.search(r"Local gradient: (.*?)(?=\n\S+: |\n\n|\Z)", text, re.DOTALL)
    cells = f"`{name}{_arguments(name)}`", formula, gradient.group(1) if gradient else ""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _arguments(name: str) -> str:
    parameters = inspect.signature(getattr(lf, name)).parameters.values()
    taken = [item for item in parameters if item.name not in ("args", "kwargs", "named")]
    shown = [
        str(item).partition(":")[0] if item.default is item.empty else f"{item.name}={item.default!r}" for item in taken
    ]
    return f"({', '.join(shown)})"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(GATES)} gates")
