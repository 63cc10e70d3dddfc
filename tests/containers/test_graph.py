"""Graphs of gates: however they are written, they compute the same; what cannot be meant is named."""

import copy

import numpy as np
import pytest

import layerflow as lf


@pytest.fixture
def graph():
    return lf.ComputationalGraph()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# Three ways to write (x + y) * z --------------------------------------------------------------------------------


def by_operators():
    g = lf.ComputationalGraph()
    x, y, z = g.inputs("x", "y", "z")
    return g, (x + y) * z


def by_calls():
    g = lf.ComputationalGraph()
    x, y, z = g.inputs("x", "y", "z")
    return g, lf.Multiply()(lf.Add()(x, y), z)


def by_names_in_any_order():
    g = lf.ComputationalGraph()
    f = g.add("product", lf.Multiply(), ["sum", "z"])
    g.add("sum", lf.Add(), ["x", "y"])
    g.inputs("x", "y", "z")
    return g, f


@pytest.mark.parametrize("write", [by_operators, by_calls, by_names_in_any_order])
def test_the_lecture_example(write):
    g, f = write()
    assert g.forward(x=-2.0, y=5.0, z=-4.0) == -12.0
    (dx, dy, dz), grads = g.backward()
    assert (dx, dy, dz, grads) == (-4.0, -4.0, 3.0, {})
    assert (f.value, f.grad) == (-12.0, 1.0)
    assert [g[name].grad for name in "xyz"] == [-4.0, -4.0, 3.0]


def test_inputs_go_by_position_too():
    g, _ = by_operators()
    assert g.forward(-2.0, 5.0, z=-4.0) == -12.0


def test_a_sweep_is_repeated_with_new_values_and_the_others_stay():
    g, _ = by_operators()
    g.forward(x=-2.0, y=5.0, z=-4.0)
    assert g.forward(y=2.0) == 0.0
    assert g.backward()[0] == (-4.0, -4.0, 0.0)


def test_values_from_the_start_compute_at_once(graph):
    x, y = graph.input("x", -2.0), graph.input("y", 5.0)
    f = (x + y) * -4.0
    assert f.value == -12.0
    assert graph.backward()[0] == (-4.0, -4.0)
    assert graph.forward(x=1.0) == -24.0


@pytest.mark.parametrize("by_name", [False, True], ids=["nodes", "names"])
def test_an_added_gate_computes_at_once_too(graph, by_name):
    x = graph.input("x", 3.0)
    y = graph.add("y", lf.Multiply(), ["x", "x"] if by_name else [x, x])
    assert y.value == 9.0


def test_python_decides_what_is_computed(graph):
    x = graph.input("x", 3.0)
    node = x
    while node.value < 1000:
        node = node * x
    assert node.value == 3.0**7
    node.backward()
    assert x.grad == pytest.approx(7 * 3.0**6)


def test_nodes_may_be_added_after_a_sweep(graph):
    x = graph.input("x")
    y = x * x
    graph.forward(3.0)
    assert graph.backward()[0] == (6.0,)
    z = y * x
    assert z.value == 27.0
    assert graph.backward()[0] == (27.0,)
    assert graph.forward(2.0) == 8.0
    assert graph.backward()[0] == (12.0,)


def test_going_back_from_any_node(graph):
    x = graph.input("x", np.array([1.0, 2.0]))
    y = x * x
    z = y * 10.0
    y.backward(np.array([1.0, 1.0]))
    assert x.grad.tolist() == [2.0, 4.0]
    assert z.grad is None
    z.backward(np.array([1.0, 0.0]))
    assert x.grad.tolist() == [20.0, 0.0]


def test_arrays_and_numbers_on_either_side_become_constants(graph):
    x = graph.input("x", np.array([1.0, 2.0]))
    for node in (np.array([3.0, 4.0]) + x, x + np.array([3.0, 4.0]), 3 + x + [0.0, 1.0]):
        assert node.value.tolist() == [4.0, 6.0]
        assert node.graph is graph


OPERATORS = {
    "+": (lambda a, b: a + b, 5.0, (1.0, 1.0)),
    "-": (lambda a, b: a - b, -1.0, (1.0, -1.0)),
    "*": (lambda a, b: a * b, 6.0, (3.0, 2.0)),
    "/": (lambda a, b: a / b, 2 / 3, (1 / 3, -2 / 9)),
    "**": (lambda a, b: a**2 + 0 * b, 4.0, (4.0, 0.0)),
    "unary -": (lambda a, b: -a + 0 * b, -2.0, (-1.0, 0.0)),
    "number -": (lambda a, b: 1 - a - b, -4.0, (-1.0, -1.0)),
    "number /": (lambda a, b: 1 / a + 0 * b, 0.5, (-0.25, 0.0)),
}


@pytest.mark.parametrize(("operate", "value", "grads"), OPERATORS.values(), ids=OPERATORS)
def test_operators_are_gates(graph, operate, value, grads):
    node = operate(graph.input("a", 2.0), graph.input("b", 3.0))
    assert node.value == pytest.approx(value)
    node.backward()
    assert (graph["a"].grad, graph["b"].grad) == pytest.approx(grads)


ARRAY_METHODS = {
    "@": (lambda x: x @ np.eye(3), lambda x: x),
    "array @": (lambda x: np.eye(2) @ x, lambda x: x),
    "T": (lambda x: x.T, lambda x: x.T),
    "[]": (lambda x: x[:, 1:], lambda x: x[:, 1:]),
    "sum": (lambda x: x.sum(axis=0), lambda x: x.sum(axis=0)),
    "mean": (lambda x: x.mean(), lambda x: x.mean()),
    "max": (lambda x: x.max(axis=1), lambda x: x.max(axis=1)),
    "reshape": (lambda x: x.reshape(3, 2), lambda x: x.reshape(3, 2)),
}


@pytest.mark.parametrize(("on_node", "on_array"), ARRAY_METHODS.values(), ids=ARRAY_METHODS)
def test_a_node_is_used_like_an_array(graph, on_node, on_array):
    x = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(on_node(graph.input("x", x)).value, on_array(x))


def test_a_node_cannot_be_iterated_over(graph):
    with pytest.raises(TypeError, match="not iterable"):
        list(graph.input("x"))


def test_nodes_show_what_they_are(graph):
    x = graph.input("x")
    assert repr(x) == "<Node 'x': value>"
    assert repr(lf.Linear(3)(x)) == "<Node 'linear': Linear(3)>"


# Parameters and constants ---------------------------------------------------------------------------------------


def test_parameters_are_nodes_too(graph):
    w = graph.parameter("W", np.array([2.0, 3.0]))
    w * graph.input("x")
    graph.forward(np.array([5.0, 7.0]))
    (dx,), grads = graph.backward(np.ones(2))
    assert dx.tolist() == [2.0, 3.0]
    assert grads["W"].tolist() == w.grad.tolist() == [5.0, 7.0]


def test_a_parameter_node_shows_its_present_value(graph):
    w = graph.parameter("W", 2.0)
    graph.output(w * graph.input("x"))
    graph.forward(1.0)
    store = lf.ParameterStore(graph.parameters())
    store.values[:] = 5.0
    assert w.value == 5.0
    assert graph.forward(1.0) == 5.0


def test_a_node_may_hold_the_parameter_of_a_gate(graph, rng):
    linear = lf.Linear(1, bias=False, init="zeros")
    x = graph.input("x")
    y = linear(x)
    w = graph.parameter("W", linear.weight)
    graph.output(y, (w * w).sum())
    graph.build(rng, (1, 2))
    linear.weight.value = [[2.0, 3.0]]
    assert [value.tolist() for value in graph.forward(np.array([[1.0, 1.0]]))] == [[[5.0]], 13.0]
    _, grads = graph.backward(np.ones((1, 1)), 1.0)
    assert {name: grad.tolist() for name, grad in grads.items()} == {"linear.weight": [[5.0, 7.0]]}


def test_constants_get_no_gradient(graph):
    c = graph.constant(3.0, "c")
    c * graph.input("x")
    graph.forward(2.0)
    graph.backward()
    assert c.grad is None


# Outputs --------------------------------------------------------------------------------------------------------


def test_the_outputs_are_the_nodes_that_nothing_reads(graph):
    x = graph.input("x")
    x * 2.0, x * 3.0
    assert graph.forward(1.0) == (2.0, 3.0)
    assert graph.backward()[0] == (5.0,)
    assert graph.backward(1.0, 10.0)[0] == (32.0,)


@pytest.mark.parametrize("by_name", [False, True], ids=["nodes", "names"])
def test_outputs_are_chosen_in_order(graph, by_name):
    x = graph.input("x")
    first = graph.add("first", lf.Add(), [x, x])
    second = graph.add("second", lf.Multiply(), [first, x])
    graph.output(*(("second", "first") if by_name else (second, first)))
    assert graph.forward(3.0) == (18.0, 6.0)


def test_a_graph_without_gates_is_an_error(graph):
    graph.input("x")
    with pytest.raises(lf.GateError, match="no gate yet"):
        graph.forward(1.0)


# Errors ---------------------------------------------------------------------------------------------------------


def residual(graph):
    x = graph.input("x")
    hidden = graph.add("hidden", lf.Linear(3), x)
    graph.add("sum", lf.Add(), [hidden, x])
    return graph


def cycle(graph):
    graph.input("x")
    graph.add("a", lf.Add(), ["x", "c"])
    graph.add("b", lf.Multiply(), ["a", "x"])
    graph.add("c", lf.Add(), ["b", "x"])
    graph.forward(1.0)


def self_loop(graph):
    graph.add("a", lf.Add(), ["a", graph.input("x")])
    graph.forward(1.0)


def two_graphs(graph):
    graph.input("x") + lf.ComputationalGraph().input("y")


MISTAKES = {
    "a cycle": (cycle, r"the graph has a cycle: (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c); a gate cannot"),
    "a gate that reads itself": (self_loop, r"the graph has a cycle: a -> a;"),
    "a name twice": (lambda g: [g.input("x"), g.input("x")], r"already has a node 'x' .*; names must differ"),
    "a gate's name twice": (lambda g: residual(g).add("sum", lf.Add(), ["x", "x"]), r"already has a node 'sum'"),
    "an unknown wire": (
        lambda g: residual(g).add("out", lf.Linear(2), "hiden") and g.forward(np.ones((1, 3))),
        r"'out' reads 'hiden', but the graph has no such node, did you mean 'hidden'\?",
    ),
    "an unknown output": (
        lambda g: residual(g).output("summ") or g.forward(np.ones((1, 3))),
        r"'output' reads 'summ', but the graph has no such node, did you mean 'sum'\?",
    ),
    "an unknown node": (lambda g: residual(g)["hiden"], r"the graph has no node 'hiden', did you mean 'hidden'\?"),
    "an unknown input": (
        lambda g: residual(g).forward(xx=1.0),
        r"the graph has no input 'xx', did you mean 'x'\? Its inputs: x",
    ),
    "an input unlike any": (lambda g: residual(g).forward(banana=1.0), r"no input 'banana'\. Its inputs: x"),
    "an input given twice": (lambda g: residual(g).forward(1.0, x=1.0), r"'x' was given twice"),
    "too many inputs": (lambda g: residual(g).forward(1.0, 2.0), r"the graph has 1 inputs \(x\), 2 were given"),
    "a missing input": (
        lambda g: [g.input("x") * g.input("y"), g.forward(x=1.0)],
        r"forward needs a value for 'y' \(added at .*\): forward\(y=...\)",
    ),
    "nodes of two graphs": (
        two_graphs,
        r"'add' reads 'y' \(added at .*\), which is a node of another graph; build both in one graph",
    ),
    "an output of another graph": (
        lambda g: residual(g).output(lf.ComputationalGraph().input("y")) or g.forward(1.0),
        r"'output' reads 'y' \(added at .*\), which is a node of another graph",
    ),
    "an output twice": (
        lambda g: residual(g).output("sum", "sum") or g.forward(np.ones((1, 3))),
        "one node as output twice",
    ),
    "no gate": (lambda g: g.add("a", np.tanh, g.input("x")), r"'a' is <ufunc 'tanh'>, not a gate"),
    "backward before forward": (lambda g: residual(g).backward(), r"backward before forward"),
    "backward before the new forward": (
        lambda g: [residual(g).forward(np.ones((1, 3))), g.add("new", lf.Add(), ["sum", g.input("z")]), g.backward()],
        r"backward before forward",
    ),
    "backward from a node without a value": (
        lambda g: residual(g)["sum"].backward(),
        r"backward from 'sum' \(added at .*\), which has no value yet: run forward first",
    ),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(graph, make, message):
    with pytest.raises(lf.GateError, match=message):
        make(graph)


def snapshot(graph):
    return (
        list(graph.nodes),
        len(graph.values),
        len(graph.grads),
        [step.name for step in graph.steps],
        list(graph.sources),
        list(graph.constants),
        list(graph.needed),
        list(graph.named_parameters()),
    )


def inner_with_parameter_and_constant():
    inner = lf.ComputationalGraph()
    a = inner.input("a")
    (a * inner.parameter("w", 2.0) + 1.0) @ np.ones((9, 9))
    return inner


FAILING = {
    "a gate": lambda x: x @ np.ones((9, 9)),
    "a gate on a number": lambda x: lf.Linear(3, in_features=9)(x),
    "a gate with a constant": lambda x: x + np.ones(7),
    "a nested graph": lambda x: inner_with_parameter_and_constant()(x),
    "nodes of two graphs": lambda x: lf.Add()(x, 1.0 * lf.ComputationalGraph().input("y")),
    "a name twice": lambda x: x.graph.add("x", lf.Add(), [x, x]),
    "no gate": lambda x: x.graph.add("a", "no gate", [x]),
}


@pytest.mark.parametrize("fail", FAILING.values(), ids=FAILING)
def test_a_failed_addition_leaves_the_graph_as_it_was(graph, fail):
    x = graph.input("x", np.ones((2, 3)))
    y = x * graph.parameter("w", np.ones(3))
    before = snapshot(graph)
    with pytest.raises((lf.GateError, ValueError)):
        fail(x)
    assert snapshot(graph) == before
    assert (y + 1.0).value.tolist() == [[2.0] * 3] * 2
    assert graph.backward(np.ones((2, 3)))[0][0].tolist() == [[1.0] * 3] * 2


# Nesting and copies ---------------------------------------------------------------------------------------------


def test_a_graph_of_several_outputs_is_a_gate_of_several_outputs(graph):
    inner = lf.ComputationalGraph()
    a = inner.input("a")
    a * 2.0, a * 3.0
    double, triple = graph.add("inner", inner, graph.input("x"))
    graph.output(double * triple)
    assert graph.forward(2.0) == 24.0
    assert graph.backward()[0] == (24.0,)
    assert (graph["inner"].value, graph["inner.1"].value) == (4.0, 6.0)


def test_a_graph_whose_output_is_its_input_cannot_be_one_gate():
    inner = lf.ComputationalGraph()
    inner.output(inner.input("a"))
    with pytest.raises(lf.GateError, match="whose output no gate computes"):
        lf.Sequential(inner)


def test_constants_and_parameters_of_a_nested_graph_come_along():
    inner = lf.ComputationalGraph()
    inner.output(inner.input("a") * inner.parameter("w", 3.0) + 1.0)
    model = lf.Sequential(inner, inner)
    assert model.forward(2.0) == 22.0  # 3 * (3 * 2 + 1) + 1
    (dx,), grads = model.backward()
    assert (dx, grads) == (9.0, {"0.w": 13.0})


def test_a_gate_inside_a_nested_sequential_and_outside_is_one_gate(graph, rng):
    linear = lf.Linear(3)
    x = graph.input("x")
    graph.output(lf.Sequential(linear, linear)(x) + linear(x))
    graph.build(rng, (2, 3))
    x = rng.normal(size=(2, 3))
    weight, bias = linear.weight.value, linear.bias.value
    assert np.allclose(graph.forward(x), (x @ weight.T + bias) @ weight.T + bias + x @ weight.T + bias)
    assert list(graph.backward(np.ones((2, 3)))[1]) == ["sequential.0.weight", "sequential.0.bias"]


def test_a_copy_goes_on_by_itself(graph):
    gate = lf.Sequential(lf.Linear(2, bias=False))
    x = graph.input("x", np.ones((1, 2)))
    y = gate(x)
    other = copy.deepcopy(graph)
    z = other["sequential"].gate(other["sequential"])  # the copied gate once more
    assert z.graph is other
    assert len(graph.nodes) == 2
    weight = gate[0].weight.value
    assert np.allclose(z.value, np.ones((1, 2)) @ weight.T @ weight.T)
    z.backward(np.ones((1, 2)))
    assert np.allclose(other["x"].grad, np.ones((1, 2)) @ weight @ weight)
    assert x.grad is None
    assert y.grad is None


def test_the_summary_of_a_graph_that_computed_at_once(graph):
    lf.Linear(2)(graph.input("x", np.ones((4, 3))))
    assert [line.split() for line in graph.summary().splitlines()][1:] == [
        ["linear", "Linear(2)", "(4,", "2)", "8"],
        ["total", "8"],
    ]


def test_names_are_made_from_the_gates(graph):
    x = graph.input("add")
    (x + x) + (x + x)
    assert list(graph.nodes) == ["add", "add_2", "add_3", "add_4"]
