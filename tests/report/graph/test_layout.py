"""Nothing covers anything, and every wire runs from left to right, whichever engine laid the picture out."""

import importlib.util
import itertools
import shutil

import numpy as np
import pytest

import layerflow as lf
from layerflow.report.graph.layout import arrange_with_graphviz, arrange_with_igraph, place
from layerflow.report.graph.picture import picture_of

ENGINES = [
    pytest.param(
        arrange_with_graphviz,
        id="graphviz",
        marks=pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz (the program dot) is not installed"),
    ),
    pytest.param(
        arrange_with_igraph,
        id="igraph",
        marks=pytest.mark.skipif(importlib.util.find_spec("igraph") is None, reason="igraph is not installed"),
    ),
]


def random_graph(seed):
    """Up to twenty gates that read any earlier nodes, scalars and arrays mixed."""
    rng = np.random.default_rng(seed)
    graph = lf.ComputationalGraph()
    nodes = [graph.input(f"x{i}", rng.normal(size=(3, 4)) if i % 2 else 0.5) for i in range(rng.integers(1, 4))]
    nodes.append(graph.parameter("weight", rng.normal(size=(3, 4))))
    for _ in range(rng.integers(1, 20)):
        a, b = rng.choice(len(nodes), 2)
        nodes.append(nodes[a] * nodes[b] if rng.random() < 0.5 else (nodes[a] + nodes[b]).tanh())
    nodes[-1].sum().backward()
    return graph


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(8))
def test_no_box_and_no_number_covers_another(engine, seed):
    placement = place(picture_of(random_graph(seed)), engine)
    boxes = [(p.x, p.y, p.width, p.height) for p in placement.items]
    for wire in placement.wires:
        label, height = wire.label, 26.0 if wire.above and not wire.above.is_scalar else 13.0
        if wire.above or wire.below:
            boxes.append((label.x, label.y, label.width, 2 * height))
    for (x0, y0, w0, h0), (x1, y1, w1, h1) in itertools.combinations(boxes, 2):
        assert abs(x0 - x1) >= (w0 + w1) / 2 - 0.1 or abs(y0 - y1) >= (h0 + h1) / 2 - 0.1
    for x, y, width, height in boxes:
        assert 0 <= x - width / 2 <= x + width / 2 <= placement.width
        assert 0 <= y - height / 2 <= y + height / 2 <= placement.height


@pytest.mark.parametrize("engine", ENGINES)
def test_wires_run_to_the_right_from_border_to_border(engine, forked):
    placement = place(picture_of(forked), engine)
    items = {placed.item.key: placed for placed in placement.items}
    for wire in placement.wires:
        source, target = items[wire.wire.source.key], items[wire.wire.target.key]
        across = [x for x, _ in wire.points]
        assert across == sorted(across)
        assert across[0] == source.x + source.width / 2
        assert target.x - target.width / 2 <= across[-1] < target.x
        assert abs(wire.points[-1][1] - target.y) <= target.height / 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_graph_of_two_hundred_gates_is_laid_out(engine):
    graph = lf.ComputationalGraph()
    node = graph.input("x", 1.0)
    for _ in range(100):
        node = node * 0.5 + node
    placement = place(picture_of(graph), engine)
    assert len([placed for placed in placement.items if placed.item.kind == "gate"]) == 200
