"""The files that `draw` writes."""

import importlib.util
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import LayerflowError
from layerflow.report.graph import draw
from layerflow.report.graph.formats import to_svg
from layerflow.report.graph.picture import picture_of

NAMESPACE = "{http://www.w3.org/2000/svg}"
needs_layout = pytest.mark.skipif(
    shutil.which("dot") is None and importlib.util.find_spec("igraph") is None,
    reason="neither graphviz nor igraph is installed",
)


def texts_of(svg, role):
    return [node for node in ElementTree.fromstring(svg).iter(f"{NAMESPACE}text") if node.get("class") == role]


@needs_layout
def test_values_stand_above_gradients_in_another_colour(lecture):
    svg = to_svg(picture_of(lecture))
    values, gradients = texts_of(svg, "value"), texts_of(svg, "gradient")
    assert [node.text for node in values] == ["-2", "5", "3", "-4", "-12"]
    assert [node.text for node in gradients] == ["-4", "-4", "-4", "3", "1"]
    for value, gradient in zip(values, gradients, strict=True):
        assert float(value.get("y")) < float(gradient.get("y"))
        assert value.get("x") == gradient.get("x")
        assert value.get("fill") != gradient.get("fill")


@needs_layout
def test_names_that_look_like_markup_stay_text(tmp_path):
    graph = lf.ComputationalGraph()
    graph.input("</script><b>&\"'", 1.0) * 2.0
    for ending in ("svg", "html", "dot", "mmd", "txt"):
        text = draw(graph, tmp_path / f"g.{ending}").read_text("utf-8")
        if ending == "svg":
            assert next(node.text for node in texts_of(text, "label")) == "</script><b>&\"'"
        if ending == "html":
            assert text.count("</script>") == 2


@needs_layout
def test_arrays_carry_a_heat_map_or_a_histogram(tmp_path):
    graph = lf.ComputationalGraph()
    small, large = graph.input("small", np.eye(4)), graph.input("large", np.linspace(0, 1, 2000).reshape(500, 4))
    (large @ small).sum().backward()
    pictures = [
        p for p in ElementTree.fromstring(to_svg(picture_of(graph))).iter(f"{NAMESPACE}path") if p.get("fill-opacity")
    ]
    assert {"value", "gradient"} <= {p.get("class") for p in pictures}


@needs_layout
def test_png_is_twice_the_size_of_the_screen_units(tmp_path, lecture):
    pytest.importorskip("matplotlib")
    header = draw(lecture, tmp_path / "g.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width = float(ElementTree.fromstring(to_svg(picture_of(lecture))).get("width"))
    assert abs(int.from_bytes(header[16:20]) - 2 * width) <= 2


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz (the program dot) is not installed")
def test_graphviz_reads_the_dot_file(tmp_path, forked):
    path = draw(forked, tmp_path / "g.dot")
    answer = subprocess.run(["dot", "-Tplain", path], capture_output=True, text=True, timeout=180)
    assert answer.returncode == 0, answer.stderr
    edges = [line for line in answer.stdout.splitlines() if line.startswith("edge ")]
    assert len(edges) == path.read_text("utf-8").count(" -> ")


def test_mermaid_lists_items_and_wires(tmp_path, lecture):
    lines = draw(lecture, tmp_path / "g.mmd").read_text("utf-8").splitlines()
    assert lines[0] == "flowchart LR"
    assert '  gate1("×"):::gate' in lines
    assert '  gate0 -->|"3 / -4"| gate1' in lines


def test_without_an_engine_the_message_names_the_extra_and_the_formats_that_do(tmp_path, lecture, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(LayerflowError, match=r"layerflow\[graph\].*\.dot, \.mmd"):
        draw(lecture, tmp_path / "g.svg")
    for ending in ("dot", "mmd", "txt"):
        assert draw(lecture, tmp_path / f"g.{ending}").stat().st_size > 0


@needs_layout
def test_a_notebook_shows_the_picture_and_the_table(lecture):
    for shown in (lecture, lecture["add"]):
        bundle = shown._repr_mimebundle_()
        assert bundle["image/svg+xml"].startswith("<svg")
        assert "a <- x (data)" in bundle["text/plain"]


def test_a_notebook_without_an_engine_shows_the_table(lecture, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "igraph", None)
    assert list(lecture._repr_mimebundle_()) == ["text/plain"]


def test_a_graph_and_a_node_draw_themselves(tmp_path, lecture):
    assert "multiply" in lecture.draw(tmp_path / "g.txt").read_text("utf-8")
    assert "multiply" not in lecture["add"].draw(tmp_path / "n.txt").read_text("utf-8")


@needs_layout
def test_without_matplotlib_png_names_the_extra(tmp_path, lecture, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(LayerflowError, match=r"layerflow\[plot\]"):
        draw(lecture, tmp_path / "g.png")


def test_an_unknown_ending_lists_the_known_ones(tmp_path, lecture):
    with pytest.raises(LayerflowError, match=r"'\.jpg'.*\.svg, \.png, \.html, \.dot, \.mmd, \.txt"):
        draw(lecture, tmp_path / "g.jpg")


def test_a_folder_that_is_missing_is_said(tmp_path, lecture):
    with pytest.raises(LayerflowError, match=r"none.g\.txt cannot be written: No such file"):
        draw(lecture, tmp_path / "none" / "g.txt")


def test_an_unset_input_is_an_error_not_a_picture(tmp_path):
    graph = lf.ComputationalGraph()
    graph.inputs("x")
    with pytest.raises(lf.GateError, match="no gate"):
        draw(graph, tmp_path / "g.txt")
