"""What a node can do, and what a backward from it costs."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.gates.arithmetic import Multiply


@pytest.fixture
def graph():
    return lf.ComputationalGraph()


A, B = np.array([[4.0, 0.25], [9.0, 1.0]]), np.array([[2.0, -1.0], [0.5, 3.0]])
OPERATIONS = {
    "sqrt": (lambda a, b: a.sqrt() * b, lambda a, b: np.sqrt(a) * b),
    "min": (lambda a, b: b.min(axis=0) * a, lambda a, b: b.min(axis=0) * a),
    "min of all": (lambda a, b: b.min() + a, lambda a, b: b.min() + a),
    "abs": (lambda a, b: abs(b) * a + b.abs(), lambda a, b: abs(b) * a + abs(b)),
    "node ** node": (lambda a, b: a**b, lambda a, b: a**b),
    "number ** node": (lambda a, b: 2**b + a, lambda a, b: 2.0**b + a),
    "array ** node": (lambda a, b: A**b + a, lambda a, b: A**b + a),
    "node ** array": (lambda a, b: a ** np.array([2.0, 3.0]) * b, lambda a, b: a ** np.array([2.0, 3.0]) * b),
    "integer array": (lambda a, b: a[np.array([1, 0, 1])] * b[[0, 0, 1]], lambda a, b: a[[1, 0, 1]] * b[[0, 0, 1]]),
    "arrays on two axes": (lambda a, b: a[[0, 1], [1, 1]] + b[0], lambda a, b: a[[0, 1], [1, 1]] + b[0]),
}


@pytest.mark.parametrize(("on_nodes", "on_arrays"), OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_has_numpys_value_and_the_gradient_of_differences(graph, on_nodes, on_arrays):
    a, b = graph.input("a", A), graph.input("b", B)
    node = on_nodes(a, b)
    np.testing.assert_allclose(node.value, on_arrays(A, B), rtol=1e-14)
    upstream = np.random.default_rng(0).normal(size=node.shape)
    node.backward(upstream)
    for index, (at, grad) in enumerate(((A, a.grad), (B, b.grad))):
        expected = np.zeros_like(at)
        for position in np.ndindex(at.shape):
            step = np.zeros_like(at)
            step[position] = 1e-6
            ends = [[A, B], [A, B]]
            ends[0][index], ends[1][index] = at + step, at - step
            high, low = (on_arrays(*end) for end in ends)
            expected[position] = np.sum(upstream * (high - low)) / 2e-6
        np.testing.assert_allclose(np.zeros_like(at) if grad is None else grad, expected, rtol=1e-6, atol=1e-8)


def test_a_power_at_zero_has_a_gradient(graph):
    a, b = graph.input("a", np.zeros(2)), graph.input("b", np.array([0.0, 2.0]))
    (a**b).backward(np.ones(2))
    assert (a.grad.tolist(), b.grad.tolist()) == ([0.0, 0.0], [0.0, 0.0])


def test_shape_and_float(graph):
    x = graph.input("x", np.ones((2, 3)))
    assert (x.shape, x.sum().shape, float(x.sum())) == ((2, 3), (), 6.0)
    y = graph.input("y")
    with pytest.raises(lf.GateError, match=r"the shape of 'y' .* is not known yet"):
        y.shape  # noqa: B018


# What a backward visits -------------------------------------------------------------------------------------------


@pytest.fixture
def visits(monkeypatch):
    """How many steps any graph has passed a gradient through."""
    seen = []
    passing = lf.ComputationalGraph._passing

    def counted(self, slot):
        for step in passing(self, slot):
            seen.append(step)
            yield step

    monkeypatch.setattr(lf.ComputationalGraph, "_passing", counted)
    return seen


def test_a_backward_visits_the_ancestors_of_its_node_and_nothing_else(graph, visits):
    w, x = graph.parameter("w", 2.0), graph.input("x", 3.0)
    for _ in range(300):
        w * x
    for step in range(20):
        loss = (w * x - 1.0) ** 2
        loss.backward()
        assert len(visits) == 3 * (step + 1)
        assert w.grad == 2 * (2.0 * 3.0 - 1) * 3.0
    early = w * x
    for _ in range(50):
        w * x
    visits.clear()
    (early * 2.0).backward()
    assert len(visits) == 2


def test_gradients_of_the_backward_before_are_gone(graph):
    x, y = graph.input("x", 2.0), graph.input("y", 3.0)
    first, second = x * x, y * y
    first.backward()
    second.backward()
    assert (x.grad, first.grad, y.grad) == (None, None, 6.0)


def test_each_step_passes_its_gradient_on_once_it_is_complete(graph, visits):
    x = graph.input("x", 3.0)
    a = x * x
    b = a * 2.0
    c = b + a
    (c * a).backward()
    assert len(visits) == 4
    assert x.grad == pytest.approx(12 * 27.0)  # 3 x^4


# Forgetting -------------------------------------------------------------------------------------------------------


def test_a_detached_node_passes_no_gradient_and_follows_new_values(graph, visits):
    x = graph.input("x", 2.0)
    square = x * x
    held = square.detach()
    assert held.value == 4.0
    (held * x).backward()
    assert (x.grad, square.grad, len(visits)) == (4.0, None, 1)
    graph.output(held * x)
    assert graph.forward(3.0) == 27.0
    assert graph.backward()[0] == (9.0,)


def test_a_node_is_detached_before_there_are_values_too(graph):
    x = graph.input("x")
    graph.output((x * x).detach() * x)
    assert graph.forward(3.0) == 27.0
    assert graph.backward()[0] == (9.0,)


def test_clear_keeps_parameters_and_forgets_the_rest(graph):
    graph.input("start")
    w = graph.parameter("w", 2.0)
    for step in range(3):
        x = graph.input("x", float(step))
        loss = w * x
        loss.backward()
        assert (w.grad, len(graph.steps), list(graph.nodes)[-3:]) == (step, 1, ["w", "x", "multiply"])
        graph.clear()
    assert (list(graph.nodes), graph.steps, len(graph.values)) == (["w"], [], 1)
    for use in (lambda: loss * 2.0, lambda: 2.0 * loss, lambda: Multiply()(w, loss), lambda: w + loss, loss.backward):
        with pytest.raises(lf.GateError, match="node 'multiply' is no longer there: its graph was cleared"):
            use()
