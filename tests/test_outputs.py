"""Gates of several outputs: by hand, in a row, as nodes, nested; and what an author may get wrong."""

import numpy as np
import pytest

import layerflow as lf

X = np.arange(12.0).reshape(3, 4)


class Halves(lf.Gate):
    """The two halves of the features."""

    def forward(self, x):
        self.save(x.shape[1] // 2)
        return x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]

    def backward(self, left, right):
        return (np.concatenate([left, right], axis=1),), {}


class Built(Halves):
    """The same with a build of its own and a parameter."""

    def build(self, rng, shape):
        self.scale = lf.Parameter(2.0)
        half = (shape[0], shape[1] // 2)
        return [half, half]

    def forward(self, x):
        left, right = super().forward(x)
        self.save(*self.saved, left)
        return left * self.scale.value, right

    def backward(self, left, right):
        self.save(self.saved[0], half := self.saved[1])
        grad = np.concatenate([left * self.scale.value, right], axis=1)
        return (grad,), {"scale": np.sum(left * half)}


def test_by_hand_backward_takes_one_gradient_per_output():
    gate = Halves()
    left, right = gate.forward(X)
    assert (left.tolist(), right.tolist()) == (X[:, :2].tolist(), X[:, 2:].tolist())
    (dx,), _ = gate.backward(np.ones((3, 2)), np.full((3, 2), 5.0))
    assert dx.tolist() == [[1.0, 1.0, 5.0, 5.0]] * 3


@pytest.mark.parametrize("wrap", [lambda gate: gate, lf.Sequential], ids=["by hand", "in a container"])
def test_an_output_that_nobody_used_sends_zeros(wrap):
    gate = wrap(Halves())
    gate.forward(X)
    (dx,), _ = gate.backward(None, np.ones((3, 2)))
    assert dx.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 3


@pytest.mark.parametrize("make", [Halves, Built])
def test_in_a_row_all_outputs_are_the_inputs_of_the_next_gate(
    make,
):
    model = lf.Sequential(make(), lf.Multiply(), lf.Sum())
    assert model.build(np.random.default_rng(0), (3, 4)) == ()
    value = model.forward(X)
    factor = 2.0 if make is Built else 1.0
    assert value == factor * (X[:, :2] * X[:, 2:]).sum()
    (dx,), grads = model.backward()
    np.testing.assert_array_equal(dx, factor * X[:, [2, 3, 0, 1]])
    assert list(grads.values()) == ([(X[:, :2] * X[:, 2:]).sum()] if make is Built else [])


def test_nested_and_at_the_end_they_are_the_outputs_of_the_container():
    inner = lf.Sequential(lf.Sequential(lf.Linear(4), Halves()))
    model = lf.Sequential(inner, lf.Subtract())
    expected = inner.forward(X)
    np.testing.assert_array_equal(model.forward(X), expected[0] - expected[1])
    (through,), _ = model.backward(np.ones((3, 2)))
    (direct,), _ = inner.backward(np.ones((3, 2)), -np.ones((3, 2)))
    np.testing.assert_array_equal(through, direct)


def test_a_custom_gate_may_hold_one():
    class Around(lf.Gate):
        def __init__(self):
            self.inner = lf.Sequential(lf.Linear(4), Halves(), lf.Multiply())

        def forward(self, x):
            return self.inner.forward(x)

        def backward(self, grad):
            (dx,), grads = self.inner.backward(grad)
            return (dx,), {f"inner.{name}": grad for name, grad in grads.items()}

    model = lf.Sequential(Around())
    assert model.build(np.random.default_rng(0), (3, 4)) == (3, 2)
    model.forward(X)
    assert model.backward(np.ones((3, 2)))[0][0].shape == (3, 4)


def test_called_on_nodes_it_gives_a_tuple_of_nodes():
    graph = lf.ComputationalGraph()
    x = graph.input("x", X)
    left, right = Halves()(x)
    assert (left.name, right.name) == ("halves", "halves.1")
    right.sum().backward()
    assert x.grad.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 3
    graph.output((left * right).sum())
    graph.forward(2 * X)
    np.testing.assert_array_equal(graph.backward()[0][0], 2 * X[:, [2, 3, 0, 1]])


def test_before_there_are_values_the_class_says_how_many_there_are():
    class Declared(Halves):
        num_outputs = 2

    graph = lf.ComputationalGraph()
    left, right = Declared()(graph.input("x"))
    graph.output((left * right).sum())
    assert graph.forward(X) == (X[:, :2] * X[:, 2:]).sum()
    np.testing.assert_array_equal(graph.backward()[0][0], X[:, [2, 3, 0, 1]])


def test_where_it_is_not_said_the_node_stands_for_all_outputs():
    graph = lf.ComputationalGraph()
    graph.add("halves", Halves(), graph.input("x"))
    graph.add("product", lf.Multiply(), "halves")
    np.testing.assert_array_equal(graph.forward(X), X[:, :2] * X[:, 2:])


def test_a_chosen_output_that_stands_for_several_does_so_in_every_sweep():
    graph = lf.ComputationalGraph()
    graph.add("halves", Halves(), graph.input("x"))
    graph.output("halves")
    for _ in range(2):
        assert [half.tolist() for half in graph.forward(X)] == [X[:, :2].tolist(), X[:, 2:].tolist()]


class Short(Halves):
    def build(self, rng, shape):
        return shape


MISTAKES = {
    "too few gradients": (
        lambda: (gate := Halves(), gate.forward(X), gate.backward(np.ones((3, 2)))),
        r"Halves\(\): backward takes one gradient per output, 2 here; 1 were given",
    ),
    "a gradient of a wrong shape": (
        lambda: (gate := Halves(), gate.forward(X), gate.backward(np.ones((3, 2)), np.ones(2))),
        r"Halves\(\): backward was given a gradient of shape \(2,\); forward's output has shape \(3, 2\)",
    ),
    "too many inputs for the next gate": (
        lambda: lf.Sequential(Halves(), lf.ReLU()).forward(X),
        r"'1' is ReLU\(\), whose forward does not take 2 inputs",
    ),
    "a build that says less": (
        lambda: lf.Sequential(Short()).forward(X),
        r"Short\(\): forward returned 2 outputs, of shape \(3, 2\), \(3, 2\); build returned 1 shape\. "
        r"Write in build: return \(\(3, 2\), \(3, 2\)\)",
    ),
    "a list": (
        lambda: type("Listed", (Halves,), {"forward": lambda self, x: [x, x]})().forward(X),
        r"forward returned a list of 2, expected one array\. Write: return y, or for several outputs: return y, z",
    ),
    "no array among the outputs": (
        lambda: type("Holed", (Halves,), {"forward": lambda self, x: (x, None)})().forward(X),
        r"forward returned nothing \(None\) as output 1, expected one array",
    ),
}


@pytest.mark.parametrize(("make", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_the_line_to_write(make, message):
    with pytest.raises(lf.GateError, match=message):
        make()
