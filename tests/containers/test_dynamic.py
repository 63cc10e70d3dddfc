"""Python builds the graph as the data demands: numbers, arrays, recurrences, training, and what goes wrong."""

import gc
import math
import pickle
import weakref

import numpy as np
import pytest

import layerflow as lf


@pytest.fixture
def graph():
    return lf.ComputationalGraph()


# Expressions of numbers, against PyTorch --------------------------------------------------------------------------
# The same functions run on layerflow's nodes and on PyTorch's tensors. The numbers recorded beside them are what
# PyTorch 2.13 computes in float64 (value, gradient by a, gradient by b); the test marked `torch` computes them anew.


def kinked(a, b):
    """Products, a number on either side, both sides of relu's kink, and one value read many times."""
    c = 3 * a + 1.5 + a
    d = c.relu() + c * a
    e = (d * d - 4).relu()
    return e + b * d + d * a - (-c).relu() * b


def accumulated(a, b):
    """Every operator there is, powers with positive and negative exponents, and sums that grow in place."""
    c = a - b
    d = a * b + b**2
    c += c * 0.5 + 2
    c += 1 - c + (-a)
    d += d * 3 + (b - a).relu()
    d -= 0.25 * d / (1 + b**2)
    e = d - c
    f = e**3 / 8
    g = f / 4.0
    g += 7.0 / f
    g += (a + e**-1) * 0.5
    return g


def smooth(a, b):
    """The functions that are smooth everywhere, one in the other."""
    c = (a * b).tanh() + (a - b).sigmoid()
    return (c**2 + 1).log() * (0.3 * b).exp() / (2 - c)


EXPRESSIONS = {
    "kinked": (kinked, (-2.5, 0.75), (404.0, -729.625, 12.75)),
    "accumulated": (accumulated, (-1.5, 2.25), (12.985456811455276, 46.5219409542295, 67.8659601477248)),
    "smooth": (smooth, (0.8, -0.6), (0.060604283954329076, -0.11517409551274405, 0.19067609850670045)),
}


@pytest.mark.parametrize(("write", "at", "expected"), EXPRESSIONS.values(), ids=EXPRESSIONS)
@pytest.mark.parametrize("as_array", [False, True], ids=["numbers", "arrays"])
def test_an_expression_has_the_recorded_value_and_gradients(graph, write, at, expected, as_array):
    a, b = (
        graph.input(name, np.full((2, 3), value) if as_array else value) for name, value in zip("ab", at, strict=True)
    )
    result = write(a, b)
    result.backward(np.ones((2, 3)) if as_array else None)
    for found, wanted in zip((result.value, a.grad, b.grad), expected, strict=True):
        np.testing.assert_allclose(found, np.full(np.shape(found), wanted), rtol=1e-14)


@pytest.mark.torch
@pytest.mark.parametrize(("write", "at", "expected"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_the_recorded_numbers_are_those_of_pytorch(write, at, expected):
    torch = pytest.importorskip("torch")
    a, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in at)
    result = write(a, b)
    result.backward()
    assert (result.item(), a.grad.item(), b.grad.item()) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("write", "at", "expected"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_swept_anew_with_other_numbers_it_is_the_same_graph(graph, write, at, expected):
    result = write(graph.input("a", 0.3), graph.input("b", 0.4))
    graph.output(result)
    assert graph.forward(*at) == pytest.approx(expected[0], rel=1e-14)
    assert graph.backward()[0] == pytest.approx(expected[1:], rel=1e-14)


# Recurrence -------------------------------------------------------------------------------------------------------


def test_the_recurrent_step_works_as_it_is_written(graph):
    rng = np.random.default_rng(0)
    x, prev_h = graph.input("x", rng.normal(size=(1, 10))), graph.input("h", rng.normal(size=(1, 20)))
    W_h, W_x = graph.parameter("W_h", rng.normal(size=(20, 20))), graph.parameter("W_x", rng.normal(size=(20, 10)))

    i2h = W_x @ x.T
    h2h = W_h @ prev_h.T
    next_h = (i2h + h2h).tanh()
    next_h.backward(np.ones((20, 1)))

    slope = 1 - np.tanh(W_x.value @ x.value.T + W_h.value @ prev_h.value.T) ** 2
    np.testing.assert_allclose(W_x.grad, slope @ x.value)
    np.testing.assert_allclose(W_h.grad, slope @ prev_h.value)
    np.testing.assert_allclose(x.grad, (W_x.value.T @ slope).T)


@pytest.mark.parametrize("steps", [1, 7, 60])
def test_an_unrolled_loop_sums_the_gradients_of_its_weights_over_time(graph, steps):
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(steps, 3, 1))
    W_h, W_x = rng.normal(size=(4, 4)) / 3, rng.normal(size=(4, 3))
    nodes = graph.parameter("W_h", W_h), graph.parameter("W_x", W_x)
    h = graph.input("h", np.zeros((4, 1)), needs_grad=False)
    for x in inputs:
        h = (nodes[0] @ h + nodes[1] @ x).tanh()
    h.sum().backward()

    states = [np.zeros((4, 1))]
    for x in inputs:
        states.append(np.tanh(W_h @ states[-1] + W_x @ x))
    grad, grad_h, grad_x = np.ones((4, 1)), np.zeros((4, 4)), np.zeros((4, 3))
    for before, after, x in zip(states[-2::-1], states[:0:-1], inputs[::-1], strict=True):
        slope = grad * (1 - after**2)
        grad_h, grad_x, grad = grad_h + slope @ before.T, grad_x + slope @ x.T, W_h.T @ slope
    np.testing.assert_allclose(nodes[0].grad, grad_h, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(nodes[1].grad, grad_x, rtol=1e-12, atol=1e-15)


def test_gradients_are_computed_then_nodes_are_added_and_again(graph):
    x = graph.input("x", 0.9)
    node, power = x, 1
    for _ in range(5):
        node = node * x
        power += 1
        node.backward()
        assert x.grad == pytest.approx(power * 0.9 ** (power - 1))


def test_graphs_that_are_dropped_are_freed():
    def build():
        graph = lf.ComputationalGraph()
        x = graph.input("x", 0.5)
        node = x
        for _ in range(10):
            node = (node * x + 1.0).tanh()
        node.backward()
        return graph

    kept = weakref.WeakSet()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(10_000):
        kept.add(build())
    gc.collect()
    assert len(kept) == 0
    assert len(gc.get_objects()) - before < 1_000


# Training, one number at a time -----------------------------------------------------------------------------------


def moons(count, rng):
    """Two interleaving half circles with some noise, labelled -1 and 1."""
    angles = rng.uniform(0, math.pi, count)
    labels = np.where(np.arange(count) % 2, 1.0, -1.0)
    upper, lower = [np.cos(angles), np.sin(angles)], [1 - np.cos(angles), 0.5 - np.sin(angles)]
    return np.where(labels > 0, upper, lower).T + rng.normal(0, 0.1, (count, 2)), labels


def test_two_moons_are_told_apart_by_a_network_of_numbers(graph):
    """2-16-16-1 with ReLU, max-margin loss, L2 penalty 1e-4, 100 steps of plain gradient descent, rate 1 to 0.1.

    The graph is built once, one node per number of the network, over all samples at a time.
    """
    rng = np.random.default_rng(1337)
    points, labels = moons(100, rng)
    widths, parameters = (2, 16, 16, 1), []

    def number(value):
        parameters.append(graph.parameter(f"p{len(parameters)}", value))
        return parameters[-1]

    values = [graph.input(f"x{i}", points[:, i], needs_grad=False) for i in range(2)]
    for depth, fan_out in enumerate(widths[1:]):
        sums = []
        for _ in range(fan_out):
            total = number(0.0)
            for value in values:
                total = total + number(rng.uniform(-1, 1)) * value
            sums.append(total if depth == len(widths) - 2 else total.relu())
        values = sums
    (score,) = values
    loss = (1 - score * labels).relu().mean()
    for parameter in parameters:
        loss = loss + 1e-4 * parameter * parameter
    graph.output(loss)
    assert len(parameters) == 337

    for step in range(100):
        graph.forward()
        graph.backward()
        for parameter in parameters:
            parameter.value -= (1.0 - 0.9 * step / 100) * parameter.grad
    graph.forward()
    assert np.mean(np.sign(score.value) == labels) == 1.0


# Nodes ------------------------------------------------------------------------------------------------------------


def test_comparisons_are_about_values_and_leave_no_trace(graph):
    x, y = graph.input("x", 2.0), graph.input("y", 3.0)
    assert (x < y, x <= 2.0, x > y, y >= 3) == (True, True, False, True)
    assert [number > x for number in (1.5, 2.5)] == [False, True]
    assert not graph.steps


def test_a_parameter_takes_a_new_value_and_what_is_computed_from_it_follows(graph):
    w = graph.parameter("w", 2.0)
    y = w * w
    y.backward()
    w.value -= 0.25 * w.grad
    assert w.value == 1.0
    assert graph.forward() == 1.0
    assert (w * 3.0).value == 3.0


def test_the_gate_of_a_node_can_be_run_by_hand(graph):
    x, y = graph.input("x", 2.0), graph.input("y", 5.0)
    first, second = x * y, x * x
    assert first.gate.backward(1.0)[0] == (5.0, 2.0)
    assert second.gate.backward(1.0)[0] == (2.0, 2.0)
    first.gate.forward(100.0, 100.0)
    first.backward()
    assert (x.grad, y.grad) == (5.0, 2.0)


def test_operators_of_one_kind_keep_apart_what_they_saved(graph):
    x = graph.input("x", 2.0)
    y = graph.input("y", 7.0)
    a, b = x * y, y * y
    other = lf.ComputationalGraph()
    z = other.input("z", 100.0)
    z * z
    (a + b).backward()
    assert (x.grad, y.grad) == (7.0, 2.0 + 14.0)


def test_names_of_results_come_when_they_are_asked_for(graph):
    x = graph.input("x", 2.0)
    y = x * x + x * 3.0
    assert y.name == "add"
    assert list(graph.nodes) == ["x", "multiply", "constant", "multiply_2", "add"]


def test_numbers_take_the_type_of_the_array_that_they_meet(graph):
    x = graph.input("x", np.ones(3, np.float32))
    y = (2 * x + 1.5) / 3 - 1
    y.backward(np.ones(3, np.float32))
    assert (y.value.dtype, x.grad.dtype) == (np.float32, np.float32)


def test_a_graph_survives_a_pickle(graph):
    x = graph.input("x", np.ones(3))
    lf.Linear(2)(x * 2.0 + 1)
    again = pickle.loads(pickle.dumps(graph))
    np.testing.assert_array_equal(again.forward(np.full(3, 5.0)), graph.forward(np.full(3, 5.0)))
    np.testing.assert_array_equal(again.backward(np.ones(2))[0], graph.backward(np.ones(2))[0])


def test_an_input_keeps_its_value_whatever_becomes_of_the_original(graph):
    original = np.array([1.0, 2.0])
    x = graph.input("x", original)
    y = x * x
    original[:] = 100.0
    y.backward(np.ones(2))
    assert x.grad.tolist() == [2.0, 4.0]


# Mistakes ---------------------------------------------------------------------------------------------------------


def here():
    """A pattern for the place where the mistakes below add their nodes."""
    return r"\(added at .*test_dynamic\.py:\d+\)"


def change_in_place(node):
    node.value[0] = 5.0


def add_in_place(node):
    value = node.value
    value += 1.0


MISTAKES = {
    "nodes of two graphs": (
        lambda x: x + lf.ComputationalGraph().input("other", 1.0),
        rf"'add' reads 'other' {here()}, which is a node of another graph",
    ),
    "no gradient for an array": (
        lambda x: x.backward(),
        rf"backward from 'x' {here()} of shape \(3,\) needs the upstream gradient",
    ),
    "a gradient of another shape": (
        lambda x: (x * 2.0).backward(np.ones(4)),
        rf"from 'multiply' {here()}.*gradient of shape \(4,\).*output has shape \(3,\)",
    ),
    "a name twice": (lambda x: x.graph.input("x", 1.0), rf"already has a node 'x' {here()}"),
    "a constant output": (
        lambda x: [x.graph.output(x.graph.constant(2.0, "c")), x * x, x.graph.forward()],
        rf"no input and no parameter reaches the output 'c' {here()}",
    ),
    "a missing value": (
        lambda x: [x * x.graph.input("y"), x.graph.forward()],
        rf"forward needs a value for 'y' {here()}: forward\(y=",
    ),
    "an element set": (change_in_place, rf"the value of node 'x' {here()} cannot be changed in place"),
    "an addition in place": (add_in_place, rf"the value of node 'x' {here()} cannot be changed in place"),
    "a value assigned": (
        lambda x: setattr(x, "value", 1.0),
        rf"the value of 'x' {here()} cannot be set: give it to forward",
    ),
    "a result assigned": (lambda x: setattr(x * 2.0, "value", 1.0), r"cannot be set: its gate computes it"),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_the_line_that_added_the_node(graph, make, message):
    x = graph.input("x", np.array([1.0, 2.0, 3.0]))
    with pytest.raises(lf.GateError, match=message):
        make(x)


def test_a_gate_that_fails_later_names_the_line_that_added_it(graph):
    product = graph.input("a") * graph.input("b")
    with pytest.raises(lf.GateError, match="broadcast") as caught:
        graph.forward(np.ones(3), np.ones(4))
    assert product.name == "multiply"
    graph.forward(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="broadcast") as again:
        graph.forward(np.ones(3), np.ones(4))
    for error, doing in ((caught, "build"), (again, "forward")):
        (note,) = error.value.__notes__
        assert f"in gate 'multiply' (Multiply), {doing}, input shapes (3,), (4,), added at" in note
        assert "test_dynamic.py" in note


OPERATIONS = {
    "x * y": lambda x, y: x * y,
    "number - x": lambda x, y: 1.0 - x,
    "x ** 2": lambda x, y: x**2,
    "x ** y": lambda x, y: x**y,
    "2 ** x": lambda x, y: 2.0**x,
    "abs": lambda x, y: abs(x),
    "x.abs": lambda x, y: x.abs(),
    "exp": lambda x, y: x.exp(),
    "T": lambda x, y: x.T,
    "sum": lambda x, y: x.sum(),
    "index": lambda x, y: x[0],
    "detach": lambda x, y: x.detach(),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_every_operation_knows_the_line_that_wrote_it(graph, operation):
    node = operation(graph.input("x", np.ones(2)), graph.input("y", np.ones(2)))
    assert f"test_dynamic.py:{operation.__code__.co_firstlineno})" in str(node)


def test_what_is_computed_from_a_value_is_a_plain_array(graph):
    x = graph.input("x", np.arange(3.0))
    for computed in (x.value + 1, np.exp(x.value), x.value.copy() * 2):
        computed[0] = 7.0
    assert x.value.tolist() == [0.0, 1.0, 2.0]
