"""A parameter that changes between forward and backward is an error, however it was changed."""

import numpy as np
import pytest

import layerflow as lf

X = np.ones((2, 3))


class Scale(lf.Gate):
    def __init__(self):
        self.gamma = lf.Parameter(np.full(3, 2.0))

    def forward(self, x):
        self.save(x)
        return self.gamma.value * x

    def backward(self, grad):
        return (self.gamma.value * grad,), {"gamma": np.sum(grad * self.saved[0], axis=0)}


class Around(lf.Gate):
    def __init__(self):
        self.inner = Scale()

    def forward(self, x):
        return self.inner.forward(x)

    def backward(self, grad):
        (dx,), grads = self.inner.backward(grad)
        return (dx,), {"inner.gamma": grads["gamma"]}


def by_hand(gate):
    return gate.parameters()[0], lambda: gate.forward(X), lambda: gate.backward(np.ones((2, 3)))


def as_node(gate):
    graph, made = lf.ComputationalGraph(), []
    x = graph.input("x", X)
    forward = lambda: made.append(gate(x))  # noqa: E731
    return gate.parameters()[0], forward, lambda: made[-1].backward(np.ones((2, 3)))


def as_parameter_node(gate):
    graph, made = lf.ComputationalGraph(), []
    w = graph.parameter("w", gate.parameters()[0])
    return gate.parameters()[0], lambda: made.append((w * w).sum()), lambda: made[-1].backward()


def assigned(parameter):
    parameter.value = parameter.value + 1.0


def subtracted(parameter):
    parameter.value -= 1.0


def in_place(parameter):
    parameter.value[0] += 7.0


def multiplied_in_place(parameter):
    value = parameter.value
    value *= 2.0


def optimized(parameter):
    store = lf.ParameterStore([parameter])
    store.grads[...] = 1.0
    lf.SGD(lr=0.1).step(store)


USES = {
    "by hand": lambda: by_hand(Scale()),
    "an inner gate": lambda: by_hand(Around()),
    "Sequential": lambda: by_hand(lf.Sequential(Scale(), lf.ReLU())),
    "nested": lambda: by_hand(lf.Sequential(lf.Sequential(Around()))),
    "a node": lambda: as_node(Scale()),
    "the node of a container": lambda: as_node(lf.Sequential(Scale())),
    "a parameter as a node": lambda: as_parameter_node(Scale()),
}
CHANGES = [assigned, subtracted, in_place, multiplied_in_place, optimized]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_change_in_between_is_an_error_and_one_before_or_after_is_not(use, change):
    parameter, forward, backward = use()
    forward()
    backward()
    change(parameter)
    forward()
    change(parameter)
    with pytest.raises(lf.GateError, match=r"parameter '.*' of shape \(3,\) was changed between forward and backward"):
        backward()
    forward()
    backward()


def test_steps_that_read_an_older_value_are_not_mixed_with_later_ones():
    graph = lf.ComputationalGraph()
    w = graph.parameter("w", 3.0)
    before = w * w
    w.value -= 1.0
    after = w * 2.0
    after.backward()
    assert w.grad == 2.0
    with pytest.raises(lf.GateError, match=r"parameter .w. of shape \(\) was changed"):
        (before + after).backward()


def test_a_value_that_is_no_number_is_not_taken_for_a_change():
    gate = Scale()
    gate.gamma.value = [np.nan, 1.0, 2.0]
    model = lf.Sequential(gate)
    model.forward(X)
    model.backward(np.ones((2, 3)))


def test_a_training_objective_copies_no_parameters():
    from layerflow.training.state import Objective

    model = lf.Sequential(Scale(), Around())
    model.build(np.random.default_rng(0), (2, 3))
    objective = Objective(model, lf.SquaredError())
    objective.build(np.random.default_rng(0), (2, 3), (2, 3))
    objective.forward(X, X)
    assert not objective._seen
    assert not model[1].inner._ran.parameters
