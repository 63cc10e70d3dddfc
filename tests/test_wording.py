"""Messages, docstrings and pages are written in plain English: phrases that readers stumbled over stay out."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEMPLATES = [path for path in sorted((ROOT / "layerflow").rglob("*")) if path.suffix in {".html", ".js", ".jinja"}]
SOURCES = sorted((ROOT / "layerflow").rglob("*.py"))
BANNED = re.compile(
    r"finite numbers|by heart|to look at\b|can be had|had again|stands? in for|what stands|stands first|\bmend|"
    r"don't tell|doesn't tell|does not tell|\b(is|are|was|were) told\b|taken for\b|numerics reach|most wrong|"
    r"what chose|\bwhoever\b|doesn't say what|\ban own\b|of one's own",
    re.IGNORECASE,
)


def texts(path: Path) -> list[tuple[int, str]]:
    """Every piece of text in a file, with its line: string constants of Python, or the lines of a page."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return list(enumerate(content.splitlines(), 1))
    strings = [node for node in ast.walk(ast.parse(content)) if isinstance(node, ast.Constant)]
    return [(node.lineno, node.value) for node in strings if isinstance(node.value, str)]


def found(path: Path) -> list[str]:
    hits = ((line, BANNED.search(" ".join(text.split()))) for line, text in texts(path))
    return [f"{path.relative_to(ROOT)}:{line}: {hit.group()!r}" for line, hit in hits if hit]


@pytest.mark.parametrize("path", [*SOURCES, *PAGES, *TEMPLATES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_has_none_of_the_banned_phrases(path: Path) -> None:
    assert not found(path), "write it as the documentation of PyTorch or scikit-learn would"


def test_the_search_sees_docstrings_messages_and_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    module, page = tmp_path / "module.py", tmp_path / "page.md"
    module.write_text('"""What stands first."""\nraise ValueError(f"{1} step left the\\nfinite numbers")\n')
    page.write_text("All good here.\nLearn it by heart.\n")
    assert [hit.split(": ")[1] for hit in found(module)] == ["'What stands'", "'finite numbers'"]
    assert found(page) == ["page.md:2: 'by heart'"]
