"""Pages and pictures stay whole whatever things are called, read by an HTML5 parser as browsers specify it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import html5lib
import numpy as np
import pytest

import layerflow as lf
from layerflow.cli import main
from layerflow.report import render
from layerflow.report.charts import chart
from layerflow.report.graph import draw

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_layout = pytest.mark.skipif(
    shutil.which("dot") is None and find_spec("igraph") is None, reason="neither graphviz nor igraph is installed"
)
NAMES = [
    "<!-- <script",
    "</script>",
    "</script><script>document.title='taken'</script>",
    "--> ]]> <![CDATA[ </style> </title>",
    '"onclick="x',
    "' onload='x",
    "a\u2028b\u2029c",
    "&amp; &lt;",
    "{{ 7 * 7 }} {% raw %}",
    "größer 中文 العربية",
]


def parsed(text: str) -> Any:
    """Parse a page the way browsers do."""
    return html5lib.parse(text, namespaceHTMLElements=False)


def texts(page: Any) -> str:
    """Return the text of a page outside scripts and styles."""
    for element in page.iter():
        if element.tag in ("script", "style"):
            element.text = ""
    return " ".join("".join(page.itertext()).split())


def handlers(page: Any) -> list[str]:
    """Return the attributes that would run something."""
    return [name for element in page.iter() for name in element.attrib if str(name).startswith("on")]


@pytest.fixture
def hostile_graph() -> lf.ComputationalGraph:
    """A graph whose nodes have all those names."""
    graph = lf.ComputationalGraph()
    nodes = [graph.input(name, float(place)) for place, name in enumerate(NAMES)]
    total = nodes[0]
    for name, node in zip(NAMES, nodes, strict=True):
        total = graph.apply(lf.Add(), total, node, name=f"gate {name}")
    total.backward()
    return graph


@needs_layout
def test_a_graph_page_stays_whole(tmp_path: Path, hostile_graph: lf.ComputationalGraph) -> None:
    page = parsed(draw(hostile_graph, tmp_path / "<!-- <script.html").read_text("utf-8"))
    assert page.find("head/title").text == "<!-- <script"
    story, _ = list(page.iter("script"))
    assert [gate["name"] for gate in json.loads(story.text)["gates"]] == [f"gate {name}" for name in NAMES]
    assert not handlers(page)
    shown = texts(page)
    for name in NAMES:
        assert " ".join(name.split()) in shown


@needs_layout
def test_a_graph_picture_stays_well_formed(tmp_path: Path, hostile_graph: lf.ComputationalGraph) -> None:
    picture = ElementTree.fromstring(draw(hostile_graph, tmp_path / "g.svg").read_text("utf-8"))
    labels = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "label"]
    assert set(NAMES) <= set(labels)


@needs_layout
@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
def test_a_graph_page_runs_in_a_browser(tmp_path: Path, hostile_graph: lf.ComputationalGraph) -> None:
    path = draw(hostile_graph, tmp_path / "g.html")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([str(BROWSER), *flags, f"{path.as_uri()}#2"], capture_output=True, text=True, timeout=120)
    page = parsed(done.stdout)
    assert page.find("head/title").text == "g"
    (panel,) = (element for element in page.iter("aside"))
    assert panel.find("h2").text == "gate </script>"


@pytest.fixture
def hostile_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Train on a file whose classes, column and configuration have those names; return the run folder."""
    monkeypatch.chdir(tmp_path)

    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def train() -> Path:
        numbers = np.random.default_rng(0).normal(size=(200, 2))
        rows = [f"{x:.3f},{y:.3f},{quoted(NAMES[n % len(NAMES)])}" for n, (x, y) in enumerate(numbers)]
        header = f"{quoted(NAMES[0])},{quoted(NAMES[4])},kind"
        Path("t.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")
        Path("<!-- <script.yaml").write_text(
            "data: {source: {type: CSV, path: t.csv, target: kind}}\nmodel: [Linear]\nloss: SoftmaxCE\n"
            "optimizer: {type: SGD, lr: 0.1}\ntrain: {epochs: 2}\n"
        )
        assert main(["train", "<!-- <script.yaml", "--quiet", "--no-preflight"]) == 0
        (folder,) = Path("runs").glob("*/*")
        return folder

    return train


def test_a_run_page_and_its_pictures_stay_whole(hostile_run: Callable[[], Path]) -> None:
    folder = hostile_run()
    page = parsed((folder / "report.html").read_text("utf-8"))
    assert len(list(page.iter("script"))) == 1
    assert len(list(page.iter("main"))) == 1
    assert not handlers(page)
    shown = texts(page)
    for name in NAMES:
        assert " ".join(name.split()) in shown
    for file in ("curves.svg", "confusion.svg"):
        ElementTree.fromstring((folder / file).read_text("utf-8"))


def test_what_no_file_can_hold_is_replaced() -> None:
    picture = render("curves.svg", title="a\x00\x1b\ud800b", charts=[chart("loss", [1, 2], [])])
    assert picture.encode().decode() == picture
    assert "a\ufffd\ufffd\ufffdb" in "".join(ElementTree.fromstring(picture).itertext())


def test_jinja_is_loaded_when_a_page_is_written_and_not_before() -> None:
    code = "import sys, layerflow.report.run_page, layerflow.report.graph; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
