"""docs/catalogue.md lists every gate as its docstring has it."""

import importlib.util
from pathlib import Path

from layerflow.gates import GATES

ROOT = Path(__file__).parents[2]


def test_the_catalogue_is_what_the_docstrings_say():
    spec = importlib.util.spec_from_file_location("write_catalogue", ROOT / "scripts" / "write_catalogue.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8")
    assert text == script.page(), "run scripts/write_catalogue.py again"
    assert all(f"| `{name}(" in text for name in GATES)
    assert "|  |" not in text
