"""Whatever graph is drawn, the sweeps give the derivative of what it computes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import layerflow as lf

WIDTH = 3

# One drawn gate: its kind, and which of the nodes so far it reads (taken modulo their number).
KINDS = ["add", "multiply", "linear", "shared", "block"]
GATES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99)),
    min_size=1,
    max_size=8,
)


def drawn(gates, add):
    """Build the drawn graph by `add(name, gate, names of inputs)`; every gate that nothing reads is summed up."""
    shared, block = lf.Linear(WIDTH), lf.Sequential(lf.Linear(WIDTH, bias=False), lf.Linear(WIDTH))
    nodes, unread = ["x", "y"], set()
    for index, (kind, first, second) in enumerate(gates):
        reads = [nodes[first % len(nodes)]]
        if kind in ("add", "multiply"):
            reads.append(nodes[second % len(nodes)])
        gate = {"add": lf.Add(), "multiply": lf.Multiply(), "shared": shared, "block": block}.get(kind)
        name = f"g{index}"
        add(name, gate or lf.Linear(WIDTH), reads)
        nodes.append(name)
        unread = (unread - set(reads)) | {name}
    total, *rest = sorted(unread)
    for name in rest:
        add(f"{total}+{name}", lf.Add(), [total, name])
        total = f"{total}+{name}"


def build(gates):
    graph = lf.ComputationalGraph()
    graph.inputs("x", "y")
    drawn(gates, graph.add)
    graph.build(np.random.default_rng(0), (2, WIDTH), (2, WIDTH))
    for parameter in graph.parameters():
        parameter.value *= 0.5
    return graph


def values_for(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (2, WIDTH)), rng.uniform(-1, 1, (2, WIDTH)), rng.normal(size=(2, WIDTH))


@given(GATES, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_gradients_are_those_of_the_differences(gates, seed):
    graph = build(gates)
    x, y, upstream = values_for(seed)
    graph.forward(x, y)
    inputs, _ = graph.backward(upstream)
    arrays = [x, y, *(parameter.value for parameter in graph.parameters())]
    grads = [*inputs, *(parameter.grad.copy() for parameter in graph.parameters())]
    rng = np.random.default_rng(seed)
    for array, grad in zip(arrays, grads, strict=True):
        direction, step = rng.normal(size=array.shape), 1e-6
        sides = []
        for sign in (1, -1):
            array += sign * step * direction
            sides.append(np.sum(graph.forward(x, y) * upstream))
            array -= sign * step * direction
        expected = (sides[0] - sides[1]) / (2 * step)
        actual = 0.0 if grad is None else np.sum(grad * direction)
        assert np.isclose(actual, expected, rtol=1e-5, atol=1e-6 * max(1.0, *np.abs(sides)))


@given(GATES, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_in_which_gates_are_added_does_not_matter(gates, random):
    graph = build(gates)
    calls = []
    drawn(gates, lambda *call: calls.append(call))
    random.shuffle(calls)
    other = lf.ComputationalGraph()
    for call in calls:
        other.add(*call)
    other.inputs("x", "y")
    x, y, upstream = values_for(0)
    other.forward(x, y)
    mine, theirs = graph.named_parameters(), other.named_parameters()
    shared = lambda name: name.split(".")[1:]  # noqa: E731 (the first use names a shared gate)
    assert sorted(map(shared, mine)) == sorted(map(shared, theirs))
    by_node = {name: node.gate for name, node in graph.nodes.items() if node.gate is not None}
    for name, gate in by_node.items():
        for parameter, same in zip(other[name].gate.parameters(), gate.parameters(), strict=True):
            parameter.value = same.value
    assert np.allclose(graph.forward(x, y), other.forward(x, y), rtol=1e-12)
    for a, b in zip(graph.backward(upstream)[0], other.backward(upstream)[0], strict=True):
        assert (a is None and b is None) or np.allclose(a, b, rtol=1e-10)
    for name, gate in by_node.items():
        for a, b in zip(gate.parameters(), other[name].gate.parameters(), strict=True):
            assert np.allclose(a.grad, b.grad, rtol=1e-10, atol=1e-12)


@given(GATES, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_computing_at_once_gives_what_a_sweep_gives(gates, seed):
    graph = build(gates)
    x, y, upstream = values_for(seed)
    expected = graph.forward(x, y)
    grads = graph.backward(upstream)[0]
    eager = lf.ComputationalGraph()
    eager.input("x", x)
    eager.input("y", y)
    drawn(gates, lambda name, _, reads: eager.add(name, graph[name].gate, [eager[read] for read in reads]))
    assert np.allclose(eager.nodes[list(eager.nodes)[-1]].value, expected, rtol=1e-12)
    for a, b in zip(eager.backward(upstream)[0], grads, strict=True):
        assert (a is None and b is None) or np.allclose(a, b, rtol=1e-12)
