"""Optimizers: their trajectories against PyTorch's, their state, and what a subclass may rely on."""

import copy
import importlib.util
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from layerflow.errors import ConfigError
from layerflow.parameter import Parameter
from layerflow.store import ParameterStore
from layerflow.training.adaptive import OPTIMIZERS, Adadelta, Adagrad, Adamax, Lion, NAdam, RAdam
from layerflow.training.optimizers import BLOCK, SGD, Adam, AdamW, Optimizer, RMSprop

ROOT = Path(__file__).parents[2]
RECORDED = np.load(ROOT / "tests" / "recorded" / "optimizers.npz")
SETTINGS = json.loads(str(RECORDED["optimizers"]))
KINDS = [
    SGD(lr=0.1, weight_decay=0.1),
    SGD(lr=0.1, momentum=0.9, dampening=0.2),
    SGD(lr=0.1, momentum=0.9, nesterov=True),
    Adam(weight_decay=0.1),
    AdamW(),
    RMSprop(centered=True, momentum=0.9),
    Adagrad(lr_decay=0.1, initial_accumulator_value=0.5),
    Adam(amsgrad=True),
    NAdam(weight_decay=0.1),
    RAdam(),
    Adamax(),
    Lion(weight_decay=0.1),
    Adadelta(),
]


def name_of(optimizer):
    return type(optimizer).__name__


def fresh(optimizer):
    """Return a new optimizer with the same hyperparameters."""
    new = type(optimizer).__new__(type(optimizer))
    new.__dict__.update({key: value for key, value in vars(optimizer).items() if not key.startswith("_")})
    new.steps = 0
    return new


def store_of(size, dtype=np.float64, decay_share=0.5, seed=0):
    values = np.random.default_rng(seed).normal(size=size).astype(dtype)
    first = int(size * decay_share)
    return ParameterStore([Parameter(values[first:], decay=False), Parameter(values[:first])])


def walk(optimizer, store, steps, seed=1):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        store.grads[:] = rng.normal(size=store.size)
        optimizer.step(store)


def trajectory(optimizer, steps=100):
    """Minimise the recorded function (scripts/record_optimizers.py has its formula), b given first and undecayed."""
    b, W, x = Parameter(RECORDED["b"], decay=False), Parameter(RECORDED["W"]), RECORDED["x"]
    store = ParameterStore([b, W])
    points = []
    for _ in range(steps):
        w, slope = W.value, np.cos(W.value @ x + b.value)
        W.grad[:] = 3 * np.cos(3 * w) * np.cos(w) - np.sin(3 * w) * np.sin(w) + w / 2 + np.outer(slope, x)
        b.grad[:] = slope + b.value / 4
        optimizer.step(store)
        points.append(store.values.copy())
    return np.array(points)


@pytest.mark.parametrize("index", range(len(SETTINGS)), ids=[f"{name}-{settings}" for name, settings in SETTINGS])
def test_a_trajectory_equals_the_recorded_one_of_torch(index):
    name, settings = SETTINGS[index]
    points = trajectory(OPTIMIZERS[name](**settings))[RECORDED["kept_steps"] - 1]
    np.testing.assert_allclose(points, RECORDED["trajectories"][index], rtol=0, atol=1e-9)
    assert np.ptp(points, axis=0).max() > 0.01


@pytest.mark.torch
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_a_trajectory_equals_that_of_the_installed_torch(name, settings):
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("record_optimizers", ROOT / "scripts" / "record_optimizers.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    np.testing.assert_allclose(
        trajectory(OPTIMIZERS[name](**settings)), script.trajectory(name, settings), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_resumed_optimizer_continues_bit_for_bit(kind, dtype):
    whole, optimizer = store_of(9, dtype), fresh(kind)
    walk(optimizer, whole, 7)
    optimizer.lr *= 0.5
    saved, values = optimizer.state(), whole.values.copy()
    walk(optimizer, whole, 5, seed=2)
    resumed, again = store_of(9, dtype), fresh(kind)
    resumed.values[:] = values
    again.load_state(saved)
    walk(again, resumed, 5, seed=2)
    assert resumed.values.tobytes() == whole.values.tobytes()
    assert {key: value.tobytes() for key, value in again.state().items()} == {
        key: value.tobytes() for key, value in optimizer.state().items()
    }


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_a_step_keeps_the_type_and_the_gradients(kind):
    store, optimizer = store_of(9, np.float32), fresh(kind)
    store.grads[:] = np.arange(9) - 4
    before, values = store.grads.copy(), store.values.copy()
    optimizer.step(store)
    assert store.values.dtype == np.float32
    assert not np.array_equal(store.values, values)
    assert store.grads.tobytes() == before.tobytes()
    assert {array.dtype for key, array in optimizer.state().items() if key.startswith("slot.")} <= {
        np.dtype(np.float32)
    }


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_blocks_change_nothing(kind, monkeypatch):
    store, blocked = store_of(1000, np.float32, decay_share=0.37), store_of(1000, np.float32, decay_share=0.37)
    walk(fresh(kind), store, 3)
    monkeypatch.setattr("layerflow.training.optimizers.BLOCK", 64)
    walk(fresh(kind), blocked, 3)
    assert blocked.values.tobytes() == store.values.tobytes()


OPTIONS = {"SGD": {"momentum": 0.9, "nesterov": True}, "RMSprop": {"momentum": 0.5, "centered": True}}


@pytest.mark.parametrize("kind", [kind for kind in OPTIMIZERS if kind != "LBFGS"])  # whose steps are few
def test_a_step_allocates_no_vectors(kind):
    parameter = Parameter(np.linspace(-1, 1, 3 * BLOCK + 7, dtype=np.float32))
    store = ParameterStore([parameter])
    optimizer = OPTIMIZERS[kind](lr=0.01, weight_decay=0.1, **OPTIONS.get(kind, {}))
    store.grads[...] = 0.5
    optimizer.step(store)
    tracemalloc.start()
    optimizer.step(store)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < BLOCK


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_copy_continues_on_another_store(kind):
    """The vectors of the first store are not those of the copy, although the optimizer has been used with them."""
    stores = [ParameterStore([Parameter(np.linspace(-1, 1, 50))]) for _ in range(2)]
    for store in stores:
        store.grads[...] = np.linspace(2, 3, 50)
    first = OPTIMIZERS[kind](lr=0.01, **OPTIONS.get(kind, {}))
    first.step(stores[0])
    stores[1].load(stores[0].values)
    second = copy.deepcopy(first)
    for _ in range(3):
        first.step(stores[0])
        second.step(stores[1])
    np.testing.assert_array_equal(stores[0].values, stores[1].values)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [(SGD(0.5, weight_decay=0.2), [0.9, 0.9, 1, 1]), (AdamW(0.5, weight_decay=0.2), [0.9, 0.9, 1, 1])],
    ids=["SGD", "AdamW"],
)
def test_weight_decay_spares_parameters_that_do_not_decay(optimizer, expected):
    store = ParameterStore([Parameter(np.ones(2), decay=False), Parameter(np.ones(2))])
    optimizer.step(store)
    np.testing.assert_allclose(store.values, expected)


def test_lion_takes_the_sign_of_the_momentum():
    store, optimizer = ParameterStore([Parameter(np.array([1.0, 1.0, 1.0]))]), Lion(0.1, (0.5, 0.75), weight_decay=0.5)
    store.grads[:] = [3.0, -2.0, 0.0]
    optimizer.step(store)
    np.testing.assert_allclose(store.values, [0.85, 1.05, 0.95])
    store.grads[:] = [-0.7, 0.6, -1.0]  # m is 0.75, -0.5, 0
    optimizer.step(store)
    np.testing.assert_allclose(store.values, [0.85 * 0.95 - 0.1, 1.05 * 0.95 - 0.1, 0.95 * 0.95 + 0.1])


def test_centered_rmsprop_survives_a_gradient_that_never_changes():
    store, optimizer = store_of(50, np.float32), RMSprop(lr=1e-6, alpha=0.9, centered=True, eps=1e-3)
    store.grads[:] = np.linspace(0.1, 1, 50)
    for _ in range(500):
        optimizer.step(store)
    assert np.isfinite(store.values).all()


class Momentum(Optimizer):
    """The example of the module's docstring, which also records what it was given."""

    def __init__(self, lr, momentum=0.9):
        self.lr, self.momentum, self.sizes = lr, momentum, []

    def update(self, values, grads):
        velocity = self.slot("velocity")
        velocity *= self.momentum
        velocity += grads
        values -= self.lr * velocity
        self.sizes.append(values.size)


def test_a_subclass_is_its_formula_and_sees_whole_vectors():
    size = BLOCK + 10
    store, reference = store_of(size), store_of(size)
    optimizer = Momentum(0.1)
    walk(optimizer, store, 3)
    walk(SGD(0.1, momentum=0.9), reference, 3)
    np.testing.assert_array_equal(store.values, reference.values)
    assert optimizer.sizes == [size] * 3
    assert set(optimizer.state()) == {"optimizer", "steps", "lr", "slot.velocity"}


def test_a_subclass_of_an_elementwise_optimizer_sees_whole_vectors_unless_it_promises_anew():
    sizes = []

    class Scaled(Adam):
        def update(self, values, grads):
            sizes.append(values.size)
            super().update(values, grads / np.linalg.norm(grads))

    walk(Scaled(), store_of(BLOCK + 10), 1)
    assert sizes == [BLOCK + 10]


def test_a_subclass_cannot_change_the_gradients():
    class Careless(Optimizer):
        lr = 0.1

        def update(self, values, grads):
            grads *= self.lr

    with pytest.raises(ValueError, match="read-only"):
        Careless().step(store_of(3))


def test_an_empty_store_is_no_problem():
    store = ParameterStore([])
    Adam().step(store)
    assert store.values.size == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(lr=-0.1), r"SGD: lr is -0.1, expected a number in \[0, inf\)"),
        (lambda: SGD(lr="1e-3"), "SGD: lr is '1e-3', expected a number"),
        (lambda: SGD(lr=True), "SGD: lr is True"),
        (lambda: SGD(lr=float("nan")), "SGD: lr is nan"),
        (lambda: SGD(lr=0.1, nesterov=True), "SGD: nesterov needs momentum > 0 and dampening 0, got 0.0 and 0.0"),
        (lambda: SGD(lr=0.1, momentum=0.9, dampening=0.5, nesterov=True), "nesterov needs"),
        (lambda: Adam(betas=(0.9, 1.0)), r"Adam: betas\[1\] is 1.0, expected a number in \[0, 1\)"),
        (lambda: AdamW(betas=0.9), "AdamW: betas is 0.9, expected two numbers"),
        (lambda: AdamW(weight_decay=-1), "AdamW: weight_decay is -1"),
        (lambda: RMSprop(alpha=1.5), "RMSprop: alpha is 1.5"),
        (lambda: Adagrad(eps=-1e-3), "Adagrad: eps is -0.001"),
        (lambda: Adamax(eps=0), r"Adamax: eps is 0, expected a number in \(0, inf\)"),
        (lambda: Adadelta(rho=1.5), "Adadelta: rho is 1.5"),
        (lambda: NAdam(momentum_decay=-1), "NAdam: momentum_decay is -1"),
        (lambda: Lion(betas=[0.9]), "Lion: betas is"),
    ],
)
def test_an_impossible_hyperparameter_is_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_state_fits_one_type_of_optimizer_and_one_model():
    optimizer = Adam()
    walk(optimizer, store_of(4), 1)
    with pytest.raises(ConfigError, match="the state of Adam cannot be loaded into AdamW"):
        AdamW().load_state(optimizer.state())
    with pytest.raises(ConfigError, match="not the state of an optimizer: 'steps' is missing"):
        Adam().load_state({"optimizer": np.array("Adam")})
    with pytest.raises(ConfigError, match="'first_moment' holds 4 numbers of float64, but the model has 5 parameters"):
        optimizer.step(store_of(5))


def test_a_state_is_a_copy():
    optimizer, store = SGD(0.1, momentum=0.9), store_of(4)
    walk(optimizer, store, 1)
    state = optimizer.state()
    kept = state["slot.velocity"].copy()
    walk(optimizer, store, 1)
    optimizer.load_state(state)
    walk(optimizer, store, 1)
    np.testing.assert_array_equal(state["slot.velocity"], kept)


def test_the_defaults_are_those_of_torch():
    defaults = {
        "Adam": 1e-3, "AdamW": 1e-3, "NAdam": 2e-3, "RAdam": 1e-3, "Adamax": 2e-3, "RMSprop": 1e-2, "Adagrad": 1e-2,
        "Adadelta": 1.0, "LBFGS": 1.0,
    }  # fmt: skip
    assert {name: OPTIMIZERS[name]().lr for name in defaults} == defaults
    assert (AdamW().weight_decay, NAdam().momentum_decay, RMSprop().alpha, OPTIMIZERS["LBFGS"]().history_size) == (
        1e-2, 4e-3, 0.99, 100,
    )  # fmt: skip
    for kind in (Adam, AdamW, NAdam, RAdam, Adamax):
        assert (kind().betas, kind().eps) == ((0.9, 0.999), 1e-8)
