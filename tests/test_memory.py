"""One gate, several places: settings hold everywhere, each backward sees what its own forward left."""

import numpy as np
import pytest

import layerflow as lf

X = np.ones((2, 4))
RNG = np.random.default_rng(0)


class Block(lf.Gate):
    """A gate around a container, which it runs by hand."""

    def __init__(self):
        self.inner = lf.Sequential(lf.Linear(4), lf.Tanh())

    def forward(self, x):
        return self.inner.forward(x) + x

    def backward(self, grad):
        (dx,), grads = self.inner.backward(grad)
        return (dx + grad,), {f"inner.{name}": grad for name, grad in grads.items()}


class Single(lf.Gate):
    """A gate around a gate that is built only when it runs."""

    def __init__(self):
        self.linear = lf.Linear(3)

    def forward(self, x):
        return self.linear.forward(x)

    def backward(self, grad):
        (dx,), grads = self.linear.backward(grad)
        return (dx,), {f"linear.{name}": grad for name, grad in grads.items()}


def test_a_setting_changed_on_a_gate_holds_at_all_its_places():
    dropout = lf.Dropout(0.5, seed=0)
    model = lf.Sequential(dropout, lf.Sequential(dropout, lf.ReLU()), dropout)
    model.forward(np.ones((50, 4)))
    dropout.rate = 0.0
    assert model.forward(X).tolist() == X.tolist()
    assert dropout.rate == 0.0
    model.backward(X)
    assert dropout.rate == 0.0


def test_a_setting_changed_between_forward_and_backward_stays_changed():
    class Power(lf.Gate):
        factor = 2.0

        def __init__(self):
            self.factor = 2.0

        def forward(self, x):
            self.x = x
            return self.factor * x

        def backward(self, grad):
            return (self.factor * grad,), {}

    gate = Power()
    model = lf.Sequential(gate, lf.Tanh(), gate)
    model.forward(X)
    gate.factor = 5.0
    model.backward(X)
    assert gate.factor == 5.0
    assert model.forward(np.zeros(1)).tolist() == [0.0]
    assert gate.x is not X


@pytest.mark.parametrize("other", [np.ones((7, 4)), np.full((2, 4), 3.0)], ids=["another batch size", "the same"])
@pytest.mark.parametrize("run_back", [False, True])
def test_a_custom_gate_around_a_container_run_by_hand_in_between_spoils_nothing(other, run_back):
    block = Block()
    model = lf.Sequential(block, lf.Linear(2))
    model.build(np.random.default_rng(0), (2, 4))
    x = RNG.normal(size=(2, 4))
    model.forward(x)
    (expected,), expected_grads = model.backward(np.ones((2, 2)))
    model.forward(x)
    block.forward(other)
    if run_back:
        block.backward(np.ones_like(other))
    (found,), grads = model.backward(np.ones((2, 2)))
    np.testing.assert_array_equal(found, expected)
    assert all(np.array_equal(grads[name], grad) for name, grad in expected_grads.items())
    if not run_back:
        assert block.backward(np.ones_like(other))[0][0].shape == other.shape


class Wide(lf.Gate):
    """Stores a width, which is right for one place alone."""

    def build(self, rng, shape):
        self.width = shape[-1]
        return shape

    def forward(self, x):
        return x / self.width

    def backward(self, grad):
        return (grad / self.width,), {}


def test_a_gate_that_stores_a_width_is_refused_at_two_widths():
    wide = Wide()
    model = lf.Sequential(wide, lf.Linear(5), wide)
    with pytest.raises(
        lf.GateError, match=r"Wide\(\): build sets width to 5 .*an earlier build has set it to 4.*new gate"
    ):
        model.build(np.random.default_rng(0), (2, 4))
    assert wide.width == 4
    lf.Sequential(wide, lf.Linear(4), wide).build(np.random.default_rng(0), (9, 4))


# Inner gates that are still to be built ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Block, Single])
def test_building_on_zeros_builds_the_inner_gates_once_and_from_the_given_generator(make):
    first, second = make(), make()
    first.build(np.random.default_rng(3), (2, 4))
    second.build(np.random.default_rng(3), (2, 4))
    weights = [next(iter(gate.named_parameters().values())).value for gate in (first, second)]
    np.testing.assert_array_equal(*weights)
    assert set(vars(first)) == set(vars(make()))
    first.build(np.random.default_rng(4), (7, 4))
    assert next(iter(first.named_parameters().values())).value is weights[0]


@pytest.mark.parametrize("make", [Block, Single])
def test_a_gate_with_an_unbuilt_inner_gate_is_checked_and_trained(make):
    lf.assert_gradients(make(), RNG.normal(size=(3, 4)))
    model = lf.Sequential(make(), lf.Linear(2))
    x, y = RNG.normal(size=(64, 4)), (np.arange(64) % 2)
    x[:, 0] += 4.0 * y
    history = lf.Trainer(model, loss=lf.SoftmaxCE(), optimizer=lf.SGD(lr=0.5), epochs=5).fit(x, y)
    assert history.records[-1]["train_accuracy"] > 0.9


def test_a_subclass_of_a_built_in_gate_is_checked():
    class Mine(lf.ReLU):
        def backward(self, grad):
            return grad

    model = lf.Sequential(Mine())
    model.forward(X)
    with pytest.raises(lf.GateError, match=r"Mine\(\): backward returned an array"):
        model.backward(X)
