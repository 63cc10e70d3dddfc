"""What a gate must return: every breach is named, by hand and inside containers, with the line to write."""

import re

import numpy as np
import pytest

import layerflow as lf


class Scale(lf.Gate):
    """y = gamma * x, whose backward returns whatever a case wants."""

    def __init__(self, result=None):
        self.gamma = lf.Parameter(np.ones(3))
        self.result = result

    def forward(self, x):
        self.save(x)
        return self.gamma.value * x

    def backward(self, grad):
        return self.result(grad)


X = np.ones((2, 3))
GAMMA = np.ones(3)

BREACHES = {
    "an array": (lambda g: g, "returned an array of shape (2, 3), expected the pair (input_grads, param_grads)"),
    "nothing": (lambda g: None, "returned nothing (None), expected the pair"),
    "a tuple of one": (lambda g: (g,), "returned a tuple of 1, expected the pair"),
    "a list": (lambda g: [(g,), {}], "returned a list of 2, expected the pair"),
    "two stacked arrays": (lambda g: np.stack([g, g]), "returned an array of shape (2, 2, 3), expected the pair"),
    "an array for the tuple": (
        lambda g: (g, {"gamma": GAMMA}),
        "returned an array of shape (2, 3) for the inputs, expected a tuple with one gradient per input",
    ),
    "a list for the dict": (
        lambda g: ((g,), [GAMMA]),
        "returned a list of 1 for the parameters, expected a dict by parameter name",
    ),
    "too many": (lambda g: ((g, g), {"gamma": GAMMA}), "returned 2 input gradients, expected 1, one per input"),
    "too few": (lambda g: ((), {"gamma": GAMMA}), "returned 0 input gradients, expected 1"),
    "a wrong input shape": (
        lambda g: ((g.sum(axis=0),), {"gamma": GAMMA}),
        "returned a gradient of shape (3,) for input 'x', expected (2, 3), the shape of the input",
    ),
    "a list for an array": (
        lambda g: ((g.tolist(),), {"gamma": GAMMA}),
        "returned a list of 2 for input 'x', expected (2, 3)",
    ),
    "a wrong parameter shape": (
        lambda g: ((g,), {"gamma": g}),
        "returned a gradient of shape (2, 3) for parameter 'gamma', expected (3,)",
    ),
    "no value for a parameter": (
        lambda g: ((g,), {"gamma": None}),
        "returned nothing (None) for parameter 'gamma', expected (3,)",
    ),
    "a misspelt parameter": (
        lambda g: ((g,), {"gama": GAMMA}),
        "returned a gradient for 'gama', which is no parameter of it, did you mean 'gamma'?",
    ),
    "an unknown parameter": (
        lambda g: ((g,), {"gamma": GAMMA, "zzz": GAMMA}),
        "returned a gradient for 'zzz', which is no parameter of it; its parameters are gamma",
    ),
    "no gradient for a parameter": (
        lambda g: ((g,), {}),
        "returned no gradient for 'gamma' (zeros, if that is what is meant)",
    ),
}
WRITE = 'Write: return (grad_x,), {"gamma": grad_gamma}'
CONTAINERS = {
    "by hand": lambda gate: gate,
    "Sequential": lambda gate: lf.Sequential(scale=gate),
    "nested": lambda gate: lf.Sequential(outer=lf.Sequential(scale=gate)),
}


@pytest.mark.parametrize("wrap", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize(("result", "message"), BREACHES.values(), ids=BREACHES)
def test_a_breach_is_named_with_the_gate_and_the_line_to_write(result, message, wrap):
    model = wrap(Scale(result))
    model.forward(X)
    with pytest.raises(lf.GateError) as caught:
        model.backward(np.ones((2, 3)))
    assert str(caught.value).startswith("Scale(")
    assert message in str(caught.value)
    assert str(caught.value).endswith(WRITE)


def test_a_scalar_parameter_without_gradient_is_an_error_too():
    gate = Scale(lambda grad: ((grad,), {"gamma": None}))
    gate.gamma = lf.Parameter(1.0)
    model = lf.Sequential(gate)
    model.forward(X)
    with pytest.raises(lf.GateError, match=r"returned nothing \(None\) for parameter 'gamma', expected \(\)"):
        model.backward(np.ones((2, 3)))


def test_a_buffer_is_no_parameter():
    gate = Scale(lambda grad: ((grad,), {"mean": GAMMA}))
    gate.mean = lf.Buffer(GAMMA)
    model = lf.Sequential(gate)
    model.forward(X)
    with pytest.raises(lf.GateError, match="a gradient for 'mean', which is no parameter of it"):
        model.backward(np.ones((2, 3)))


def test_a_plain_number_is_a_gradient_for_a_scalar():
    gate = Scale(lambda grad: ((grad,), {"gamma": 2.0}))
    gate.gamma = lf.Parameter(1.0)
    model = lf.Sequential(gate)
    model.forward(X)
    model.backward(np.ones((2, 3)))
    assert gate.gamma.grad == 2.0


def test_the_line_to_write_uses_the_names_of_the_author_and_of_inner_gates():
    class Pair(lf.Gate):
        def __init__(self):
            self.inner = Scale()

        def forward(self, left, right):
            self.save(left)
            return left + right

        def backward(self, grad):
            return grad

    gate = Pair()
    gate.forward(X, X)
    with pytest.raises(lf.GateError) as caught:
        gate.backward(X)
    assert str(caught.value).endswith('return (grad_left, grad_right), {"inner.gamma": grad_inner_gamma}')


def test_the_note_says_where_gate_type_direction_and_input_shapes():
    model = lf.Sequential(first=lf.Linear(3), scale=Scale(lambda grad: grad))
    model.forward(np.ones((2, 5)))
    with pytest.raises(lf.GateError) as caught:
        model.backward(np.ones((2, 3)))
    assert caught.value.__notes__ == ["in gate 'scale' (Scale), backward, input shapes (2, 3)"]


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_any_error_inside_a_sweep_is_located(direction):
    def fail(*_):
        raise ZeroDivisionError("on purpose")

    gate = type("Failing", (Scale,), {direction: fail, "build": lambda self, rng, shape: shape})()
    graph = lf.ComputationalGraph()
    graph.add("inner", lf.Sequential(failing=gate), graph.input("x"))
    with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
        graph.forward(X)
        graph.backward(X)
    (note,) = caught.value.__notes__
    assert note.startswith(f"in gate 'inner.failing' (Failing), {direction}, input shapes (2, 3), added at ")


def test_an_error_in_build_is_located():
    with pytest.raises(lf.GateError) as caught:
        lf.Sequential(hidden=lf.Linear(4, in_features=7)).build(np.random.default_rng(0), (2, 3))
    assert caught.value.__notes__ == ["in gate 'hidden' (Linear), build, input shapes (2, 3)"]


RETURNS = {
    "nothing": (None, "nothing (None)"),
    "a tuple of one": ((X,), "a tuple of 1"),
    "a list": ([X], "a list of 1"),
}


@pytest.mark.parametrize("wrap", [lambda gate: gate, lf.Sequential], ids=["by hand", "in a container"])
@pytest.mark.parametrize("has_build", [False, True], ids=["no build", "own build"])
@pytest.mark.parametrize(("returned", "described"), RETURNS.values(), ids=RETURNS)
def test_a_forward_that_returns_no_array_is_an_error(returned, described, has_build, wrap):
    body = {"forward": lambda self, x: returned} | ({"build": lambda self, rng, shape: shape} if has_build else {})
    gate = type("Wrong", (lf.Gate,), body)()
    expected = f"Wrong(): forward returned {described}, expected one array. Write: return y"
    with pytest.raises(lf.GateError, match=re.escape(expected)):
        wrap(gate).forward(X)


@pytest.mark.parametrize("wrap", [lambda gate: gate, lf.Sequential], ids=["by hand", "in a container"])
def test_an_upstream_gradient_of_the_wrong_shape_is_an_error(wrap):
    gate = wrap(lf.Linear(3))
    gate.forward(np.ones((2, 5)))
    with pytest.raises(lf.GateError, match=r"gradient of shape \(3,\); forward's output has shape \(2, 3\)"):
        gate.backward(np.ones(3))


def test_no_gradient_for_an_input_is_allowed():
    class Labelled(lf.Gate):
        def forward(self, scores, labels):
            self.save(scores)
            return scores.sum() + 0.0 * labels.sum()

        def backward(self, grad):
            return (grad * np.ones_like(self.saved[0]), None), {}

    gate = Labelled()
    gate.forward(X, np.array([0, 1]))
    assert gate.backward(1.0)[0][1] is None


def test_a_forward_may_return_a_plain_number_which_the_next_gate_sees_as_an_array():
    class Total(lf.Gate):
        def forward(self, x):
            return float(x.sum())

        def backward(self, grad):
            return (grad * np.ones((2, 3)),), {}

    graph = lf.ComputationalGraph()
    total = Total()(graph.input("x"))
    graph.output(total * total)
    assert graph.forward(X) == 36.0
    assert graph.backward()[0][0].tolist() == [[12.0] * 3] * 2
