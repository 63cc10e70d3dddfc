"""The graphs that the pictures are tested on."""

import numpy as np
import pytest

import layerflow as lf


@pytest.fixture
def lecture():
    """F = (x + y) z at -2, 5, -4, swept forwards and backwards."""
    graph = lf.ComputationalGraph()
    x, y, z = graph.inputs("x", "y", "z")
    (x + y) * z
    graph.forward(x=-2.0, y=5.0, z=-4.0)
    graph.backward()
    return graph


@pytest.fixture
def forked():
    """An array that three gates read, one Linear used twice, its weight regularized; returns the last node."""
    rng = np.random.default_rng(0)
    graph = lf.ComputationalGraph()
    x = graph.input("x", rng.normal(size=(8, 5)), needs_grad=False)
    linear = lf.Linear(5)
    first = linear(x)
    second = linear(first * 0.5)
    weight = graph.parameter("W", linear.weight)
    loss = (second * first + first).mean() + (weight * weight).sum()
    loss.backward()
    return loss
