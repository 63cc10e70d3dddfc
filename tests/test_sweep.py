"""The two loops: what they write before a sweep, what they add up, and what they never touch."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.sweep import Step, backward_sweep, forward_sweep


class Scale(lf.Gate):
    def __init__(self, start=2.0):
        self.gamma = lf.Parameter(start)

    def forward(self, x):
        self.save(x)
        return self.gamma.value * x

    def backward(self, grad):
        (x,) = self.saved
        return (self.gamma.value * grad,), {"gamma": np.sum(grad * x)}


class Keeping(lf.Gate):
    """y = x**2; keeps its input in an attribute."""

    def forward(self, x):
        self.x = x
        return x * x

    def backward(self, grad):
        return (2 * self.x * grad,), {}


class Inside(lf.Gate):
    """A gate around another gate."""

    def __init__(self):
        self.inner = Keeping()

    def forward(self, x):
        return self.inner.forward(x)

    def backward(self, grad):
        return self.inner.backward(grad)


class Identity(lf.Gate):
    """Hands on the very arrays it is given."""

    def forward(self, x):
        return x

    def backward(self, grad):
        return (grad,), {}


class Watching(Identity):
    """Records what the container writes."""

    def __init__(self):
        self.seen = []

    def forward(self, x):
        self.seen.append((self.training, self.needs_grad))
        return x


def frozen(array):
    array = np.array(array, dtype=float)
    array.flags.writeable = False
    return array


# What is written before a sweep ---------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_training_is_written_before_each_sweep(training):
    gate = Watching()
    model = lf.Sequential(lf.Sequential(gate))
    model.build(np.random.default_rng(0), (2,))
    model.training = training
    model.forward(np.ones(2))
    assert gate.seen == [(training, (True,))]


def test_needs_grad_follows_inputs_and_parameters():
    graph = lf.ComputationalGraph()
    data, other = graph.input("data", needs_grad=False), graph.input("other")
    gates = [Watching() for _ in range(4)]
    before = gates[0](data)
    after = gates[1](Scale()(before))
    graph.output(gates[2](other), after, gates[3](graph.constant(1.0)) * other)
    graph.forward(data=1.0, other=1.0)
    assert [gate.seen[-1][1] for gate in gates] == [(False,), (True,), (True,), (False,)]


@pytest.mark.parametrize("needs_grad", [True, False])
def test_the_first_layer_skips_the_input_gradient_nobody_wants(needs_grad):
    graph = lf.ComputationalGraph()
    x = graph.input("x", needs_grad=needs_grad)
    first, second = lf.Linear(3), lf.Linear(2)
    second(first(x))
    graph.forward(np.ones((2, 4)))
    (dx,), grads = graph.backward(np.ones((2, 2)))
    assert (first.needs_grad, second.needs_grad) == ((needs_grad,), (True,))
    assert (dx is not None) is needs_grad
    assert all(np.any(grad) for grad in grads.values())


def test_a_gate_that_nothing_learned_feeds_is_not_run_backwards():
    class NoWayBack(Identity):
        def backward(self, grad):
            raise AssertionError("nobody asked")

    graph = lf.ComputationalGraph()
    Scale()(NoWayBack()(graph.input("x", needs_grad=False)))
    graph.forward(3.0)
    assert graph.backward()[1] == {"scale.gamma": 3.0}


# What is added up -----------------------------------------------------------------------------------------------


def test_gradients_add_up_where_a_value_forks():
    graph = lf.ComputationalGraph()
    x = graph.input("x")
    graph.output(x * 2.0 + x * 3.0 + x)
    graph.forward(1.0)
    assert graph.backward()[0] == (6.0,)


def test_one_value_read_twice_by_one_gate_gets_both_gradients():
    graph = lf.ComputationalGraph()
    x = graph.input("x")
    x * x
    graph.forward(3.0)
    assert graph.backward()[0] == (6.0,)


def test_a_shared_parameter_sums_its_gradients_and_is_counted_and_named_once():
    first, second = Scale(2.0), Scale()
    second.gamma = first.gamma
    model = lf.Sequential(first, second)
    model.forward(3.0)
    _, grads = model.backward()
    assert grads == {"0.gamma": 12.0}  # d(gamma**2 * 3) / d(gamma)
    assert first.gamma.grad == 12.0
    assert len(model.parameters()) == 1


def test_sharing_after_building_is_seen_too():
    first, second = Scale(2.0), Scale(5.0)
    model = lf.Sequential(first, second)
    model.forward(3.0)
    model.backward()
    second.gamma = first.gamma
    model.forward(3.0)
    assert model.backward()[1] == {"0.gamma": 12.0}
    assert first.gamma.grad == 12.0


def test_a_parameter_swapped_for_another_receives_the_gradient():
    gate = Scale(2.0)
    model = lf.Sequential(gate)
    model.forward(3.0)
    model.backward()
    gate.gamma = lf.Parameter(7.0)
    model.forward(3.0)
    model.backward()
    assert gate.gamma.grad == 3.0


def test_a_second_sweep_assigns_and_does_not_add():
    model = lf.Sequential(Scale())
    for _ in range(3):
        model.forward(3.0)
        model.backward()
    assert model[0].gamma.grad == 3.0


class Gated(lf.Gate):
    """Passes its first or its second input on, as `self.use` says."""

    def __init__(self):
        self.use = 0

    def forward(self, a, b):
        return (a, b)[self.use]

    def backward(self, grad):
        return (grad, None) if self.use == 0 else (None, grad), {}


def test_a_parameter_that_is_no_longer_reached_gets_zeros():
    graph = lf.ComputationalGraph()
    x, gates, switch = graph.input("x"), [Scale(), Scale()], Gated()
    switch(gates[0](x), gates[1](x))
    graph.forward(3.0)
    graph.backward()
    assert [gate.gamma.grad for gate in gates] == [3.0, 0.0]
    switch.use = 1
    graph.forward(3.0)
    _, grads = graph.backward()
    assert [gate.gamma.grad for gate in gates] == [0.0, 3.0]
    assert grads == {"scale.gamma": 0.0, "scale_2.gamma": 3.0}


@pytest.mark.parametrize("reached", [True, False])
def test_a_nan_in_an_old_gradient_does_not_survive(reached):
    graph = lf.ComputationalGraph()
    x, gate, switch = graph.input("x"), Scale(), Gated()
    switch(gate(x), x)
    graph.forward(float("nan"))
    graph.backward()
    assert np.isnan(gate.gamma.grad)
    switch.use = 0 if reached else 1
    graph.forward(3.0)
    graph.backward()
    assert gate.gamma.grad == (3.0 if reached else 0.0)


def test_gradients_take_the_type_of_the_parameters():
    model = lf.Sequential(lf.Linear(2))
    model.forward(np.ones((1, 3), np.float32))
    model.backward(np.ones((1, 2), np.float32))
    assert {parameter.grad.dtype for parameter in model.parameters()} == {np.dtype(np.float32)}
    model.astype(np.float64)
    model.forward(np.ones((1, 3)))
    model.backward(np.ones((1, 2)))
    assert {parameter.grad.dtype for parameter in model.parameters()} == {np.dtype(np.float64)}


# What is never touched ------------------------------------------------------------------------------------------


class ReadOnly(Scale):
    """Every array that it returns is read-only."""

    def forward(self, x):
        return frozen(super().forward(x))

    def backward(self, grad):
        (dx,), grads = super().backward(grad)
        return (frozen(dx),), {name: frozen(value) for name, value in grads.items()}


def test_a_whole_sweep_works_on_read_only_arrays():
    shared = ReadOnly(frozen(2.0))
    graph = lf.ComputationalGraph()
    x = graph.input("x")
    h = shared(x)
    graph.output(Identity()(h) + Identity()(h) + h + shared(h))
    graph.forward(frozen([1.0, 2.0]))
    (dx,), grads = graph.backward(frozen([1.0, 1.0]))
    assert dx.tolist() == [10.0, 10.0]  # y = 3 gamma x + gamma^2 x
    assert grads == {"readonly.gamma": 21.0}


def test_the_gradients_that_arrived_are_what_they_were_when_they_fork():
    upstream = np.ones(2)
    graph = lf.ComputationalGraph()
    x = graph.input("x")
    graph.output(Identity()(x) + Identity()(x))
    graph.forward(np.ones(2))
    (dx,), _ = graph.backward(upstream)
    assert dx.tolist() == [2.0, 2.0]
    assert upstream.tolist() == [1.0, 1.0]


def test_the_returned_gradient_is_still_there_after_the_next_sweep():
    model = lf.Sequential(Scale())
    model.forward(np.ones(2))
    _, grads = model.backward(np.ones(2))
    model.forward(np.ones(2))
    model.backward(np.zeros(2))
    assert grads["0.gamma"] == 2.0


# Others who run the same gate -----------------------------------------------------------------------------------

MEMORIES = {"save": Scale, "own attribute": Keeping, "inner gate": Inside}


@pytest.mark.parametrize("make", MEMORIES.values(), ids=MEMORIES)
def test_a_forward_by_hand_between_forward_and_backward_spoils_nothing(make):
    gate = make()
    model = lf.Sequential(gate)
    model.forward(3.0)
    expected = model.backward()[0][0]
    model.forward(3.0)
    gate.forward(100.0)
    assert model.backward()[0][0] == expected


@pytest.mark.parametrize("make", MEMORIES.values(), ids=MEMORIES)
def test_what_was_run_by_hand_can_still_be_run_back_by_hand_after_the_sweep(make):
    gate = make()
    model = lf.Sequential(gate)
    model.forward(3.0)
    gate.forward(100.0)
    expected = gate.backward(1.0)[0][0]
    model.backward()
    assert gate.backward(1.0)[0][0] == expected


@pytest.mark.parametrize("make", MEMORIES.values(), ids=MEMORIES)
def test_two_containers_of_the_same_gate_do_not_spoil_each_other(make):
    gate = make()
    models = lf.Sequential(gate), lf.Sequential(lf.Sequential(gate), Identity())
    expected = []
    for model, x in zip(models, (3.0, 5.0), strict=True):
        model.forward(x)
        expected.append(model.backward()[0][0])
    for model, x in zip(models, (3.0, 5.0), strict=True):
        model.forward(x)
    for _ in range(2):  # and backward can be repeated, in any order
        assert [model.backward()[0][0] for model in models] == expected
        assert [model.backward()[0][0] for model in reversed(models)] == expected[::-1]


def test_what_is_changed_on_a_gate_after_a_use_by_hand_stays_changed():
    gate = Keeping()
    model = lf.Sequential(gate)
    model.forward(3.0)
    gate.forward(100.0)
    gate.rate = 0.5
    model.backward()
    assert gate.rate == 0.5


@pytest.mark.parametrize("make", MEMORIES.values(), ids=MEMORIES)
def test_a_gate_at_several_places_stores_its_inputs_at_each(make):
    gate = make()
    model = lf.Sequential(gate, gate, gate)
    separate = lf.Sequential(make(), make(), make())
    assert model.forward(1.5) == separate.forward(1.5)
    assert model.backward()[0] == separate.backward()[0]


# The loops themselves -------------------------------------------------------------------------------------------


def test_the_sweeps_run_any_list_of_steps():
    steps = [Step("a", Scale(2.0), (0,), (1,)), Step("b", lf.Multiply(), (0, 1), (2,))]
    values, memories, grads = [np.float64(3.0), None, None], [None] * 3, [None, None, np.float64(1.0)]
    needed = [True, False, False]
    for step in steps:
        step.plan(needed)
    forward_sweep(steps, values, memories, training=True)
    assert values == [3.0, 6.0, 18.0]
    reached = []
    learned = backward_sweep(reversed(steps), values, memories, grads, reached)
    assert grads == [12.0, 3.0, 1.0]
    assert reached == [0, 1]
    assert list(learned.values()) == [9.0]
