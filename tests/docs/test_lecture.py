"""Every page of the lecture: its script runs, prints what the page says, and draws the figures that the page shows."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

LECTURE = Path(__file__).parents[2] / "docs" / "lecture"
PAGES = sorted(LECTURE.glob("[0-9]*.md"))
SCRIPT = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PRINTED = re.compile(r"^```text\n(.*?)^```", re.DOTALL | re.MULTILINE)
FIGURE = re.compile(r"!\[[^]]+\]\(figures/([^)]+)\)")

needs_layout = pytest.mark.skipif(
    shutil.which("dot") is None and importlib.util.find_spec("igraph") is None,
    reason="neither graphviz nor igraph is installed",
)


@needs_layout
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_prints_and_draws_what_it_shows(page, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("agg")
    text = page.read_text("utf-8")
    (script,), (printed,) = SCRIPT.findall(text), PRINTED.findall(text)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, str(page), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == printed
    shown = FIGURE.findall(text)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(shown)
    for name in shown:
        assert (LECTURE / "figures" / name).stat().st_size > 0


def test_the_index_lists_every_page_and_no_figure_is_left_over():
    index = (LECTURE / "README.md").read_text("utf-8")
    assert re.findall(r"\]\((\d[^)]+)\)", index) == [page.name for page in PAGES]
    shown = {name for page in PAGES for name in FIGURE.findall(page.read_text("utf-8"))}
    assert {path.name for path in (LECTURE / "figures").iterdir()} == shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_to_look_at(page):
    text = page.read_text("utf-8")
    assert text.startswith("# ")
    assert "**Look at**" in text
