"""One gate in numbers."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.report.graph import explain_gate, plain_text
from layerflow.report.graph.explain import shares
from layerflow.report.graph.picture import find_gate, picture_of


def test_a_scalar_gate_shows_upstream_times_local(lecture):
    assert explain_gate(lecture, "multiply").splitlines()[-3:] == [
        "upstream × local = downstream",
        "  a  1 × -4 = -4",
        "  b  1 × 3 = 3",
    ]


def test_the_local_gradient_of_a_linear_gate_is_its_weight_and_its_input(forked):
    graph = forked.graph
    picture = picture_of(forked)
    for share in shares(picture, find_gate(picture, "linear")):
        upstream = graph["linear"].grad
        row, column = np.unravel_index(np.argmax(np.abs(upstream)), upstream.shape)
        assert share.upstream == upstream[row, column]
        x, weight = graph["x"].value, graph.parameters()[0].value
        expected = {"x": np.abs(weight[column]).max(), "weight": np.abs(x[row]).max(), "bias": 1.0}
        assert abs(share.local) == pytest.approx(expected[share.port])


def test_before_any_sweep_there_is_the_formula_and_no_numbers():
    text = explain_gate(lf.Sequential(lf.Linear(3)), "0")
    assert text.startswith("0: Linear(3)\n  s = x W^T + b")
    assert "backward" not in text


def test_after_forward_alone_it_says_that_no_gradient_arrived():
    model = lf.Sequential(lf.Linear(3))
    model.forward(np.ones((2, 2)))
    assert "no gradient arrived" in explain_gate(model, "0")


def test_the_whole_graph_as_a_table(lecture):
    assert plain_text(lecture) == (
        "                      value  gradient\n"
        "add: Add()\n"
        "    a <- x (data)     -2     -4\n"
        "    b <- y (data)     5      -4\n"
        "multiply: Multiply()\n"
        "    a <- add          3      -4\n"
        "    b <- z (data)     -4     3\n"
        "multiply (output)\n"
        "    <- multiply       -12    1\n"
    )
