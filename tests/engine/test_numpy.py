"""The compiled step computes, bit by bit, what the ordinary sweeps compute."""

from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.engine.numpy import NumpyEngine
from layerflow.engine.rules import RULES
from layerflow.training.state import Objective


class Scale(lf.Gate):
    """y = gamma * x, in a gate of nobody's rules."""

    def __init__(self) -> None:
        self.gamma = lf.Parameter(1.5)

    def forward(self, x: Any) -> Any:
        self.save(x)
        return self.gamma.value * x

    def backward(self, grad: Any) -> Any:
        (x,) = self.saved
        return (self.gamma.value * grad,), {"gamma": np.sum(grad * x)}


class Centre(lf.Gate):
    """y = x - running mean: state in a buffer, written by every forward."""

    def __init__(self) -> None:
        self.mean = lf.Buffer(0.0)

    def forward(self, x: Any) -> Any:
        self.save()
        self.mean.value = 0.9 * self.mean.value + 0.1 * x.mean()
        return x - self.mean.value.astype(x.dtype)

    def backward(self, grad: Any) -> Any:
        return (grad,), {}


class Halves(lf.Gate):
    """Two outputs, the second of which nothing reads."""

    num_outputs = 2

    def forward(self, x: Any) -> Any:
        self.save(x.shape)
        middle = x.shape[1] // 2
        return x[:, :middle], x[:, middle:]

    def backward(self, first: Any, second: Any) -> Any:
        return (np.concatenate([first, second], axis=1),), {}


class Block(lf.Gate):
    """A gate around other gates."""

    def __init__(self, width: int) -> None:
        self.inner = lf.Sequential(lf.Linear(width), lf.Tanh())

    def build(self, rng: Any, shape: Any) -> Any:
        return self.inner.build(rng, shape)

    def forward(self, x: Any) -> Any:
        self.save()
        return self.inner.forward(x)

    def backward(self, grad: Any) -> Any:
        (grad_x,), grads = self.inner.backward(grad)
        return (grad_x,), {f"inner.{name}": value for name, value in grads.items()}


def residual() -> lf.Gate:
    graph = lf.ComputationalGraph()
    x = graph.input("x")
    h = graph.add("first", lf.Linear(6), x)
    r = graph.add("relu", lf.ReLU(), h)
    s = graph.add("second", lf.Linear(6), r)
    graph.output(graph.add("last", lf.Linear(3), s + h + r))
    return graph


def tied() -> lf.Gate:
    shared = lf.Linear(6)
    return lf.Sequential(lf.Linear(6), shared, lf.ReLU(), shared, lf.ReLU(), lf.Linear(3))


def halves() -> lf.Gate:
    graph = lf.ComputationalGraph()
    first, _ = graph.apply(Halves(), graph.input("x"))
    graph.output(graph.apply(lf.Linear(3), first))
    return graph


def tied_weight() -> lf.Gate:
    first, second = lf.Linear(6, in_features=6), lf.Linear(6, in_features=6)
    second.weight = first.weight
    return lf.Sequential(first, lf.ReLU(), second, lf.ReLU(), lf.Linear(3))


def weight_shared_with_the_inside() -> lf.Gate:
    block, before, after = Block(6), lf.Linear(6, in_features=6), lf.Linear(6, in_features=6)
    after.weight = before.weight = block.inner[0].weight
    return lf.Sequential(before, block, lf.Tanh(), after, lf.Linear(3))


MODELS: dict[str, Any] = {
    "linear": lambda: lf.Linear(3),
    "no bias": lambda: lf.Sequential(lf.Linear(4, bias=False), lf.ReLU(), lf.Linear(3, bias=False)),
    "two hidden layers": lambda: lf.Sequential(lf.Linear(8), lf.ReLU(), lf.Linear(8), lf.ReLU(), lf.Linear(3)),
    "two activations in a row": lambda: lf.Sequential(lf.Linear(8), lf.ReLU(), lf.ReLU(), lf.Linear(3)),
    "an activation at the start": lambda: lf.Sequential(lf.ReLU(), lf.Linear(3)),
    "an activation at the end": lambda: lf.Sequential(lf.Linear(3), lf.ReLU()),
    "activations without a rule": lambda: lf.Sequential(
        lf.Linear(8), lf.Tanh(), lf.Linear(8), lf.Sigmoid(), lf.Linear(3)
    ),
    "dropout": lambda: lf.Sequential(lf.Linear(8), lf.ReLU(), lf.Dropout(0.5, seed=3), lf.Linear(3)),
    "images": lambda: lf.Sequential(lf.Reshape([-1, 2, 3]), lf.Linear(4), lf.ReLU(), lf.Flatten(), lf.Linear(3)),
    "residual": residual,
    "the same gate twice": tied,
    "the same weight twice": tied_weight,
    "a gate of one's own": lambda: lf.Sequential(lf.Linear(8), Scale(), lf.ReLU(), Scale(), lf.Linear(3)),
    "a buffer": lambda: lf.Sequential(lf.Linear(8), Centre(), lf.ReLU(), lf.Linear(3)),
    "two outputs": halves,
    "a weight shared with a gate inside": weight_shared_with_the_inside,
    "a gate around gates": lambda: lf.Sequential(Block(8), lf.ReLU(), lf.Linear(3)),
}
LOSSES: dict[str, Any] = {
    "SoftmaxCE": (lf.SoftmaxCE, lambda rng, n: rng.integers(0, 3, n)),
    "weighted SoftmaxCE": (lambda: lf.SoftmaxCE(class_weight=[1.0, 2.0, 0.5]), lambda rng, n: rng.integers(0, 3, n)),
    "probabilities": (lf.SoftmaxCE, lambda rng, n: rng.dirichlet(np.ones(3), n).astype(np.float32)),
    "MulticlassSVM": (lf.MulticlassSVM, lambda rng, n: rng.integers(0, 3, n)),
    "SquaredError": (lf.SquaredError, lambda rng, n: rng.normal(size=(n, 3)).astype(np.float32)),
}


def prepared(model: lf.Gate, loss: lf.Gate, y: Any, regularizers: Any = (), dtype: Any = np.float32) -> Any:
    """An objective on 6 features, and the store of its parameters."""
    rng = np.random.default_rng(0)
    model.build(rng, (1, 6))
    objective = Objective(model, loss, regularizers)
    objective.build(rng, (1, 6), (1, *y.shape[1:]))
    objective.astype(dtype)
    return objective, lf.ParameterStore(model.parameters(), dtype)


def engine_for(objective: Any, store: lf.ParameterStore) -> NumpyEngine:
    return NumpyEngine(objective, store, (objective.output_slots[0], objective.scores_slot))


def assert_same_steps(make: Any, make_loss: Any, targets: Any, regularizers: Any = (), dtype: Any = np.float32) -> None:
    """Some steps of plain gradient descent, on batches of two sizes, with an engine and without one."""
    rng = np.random.default_rng(1)
    batches = [(rng.normal(size=(n, 6)).astype(dtype), targets(rng, n)) for n in (5, 5, 3, 5, 3, 3, 5, 1, 1)]
    ordinary, compiled = (prepared(make(), make_loss(), batches[0][1], regularizers, dtype) for _ in range(2))
    engine = engine_for(*compiled)
    kept = []
    for x, y in batches:
        expected = ordinary[0].forward(x, y), ordinary[0].scores
        ordinary[0].backward()
        found = engine.run(x, y)
        kept.append((found[1], expected[1].copy()))
        np.testing.assert_array_equal(found[0], expected[0], strict=True)
        np.testing.assert_array_equal(compiled[1].grads, ordinary[1].grads, strict=True)
        for _, store in (ordinary, compiled):
            store.values[...] -= dtype(0.01) * store.grads
    assert None not in engine.compiled.values(), "the function raised, and the ordinary sweeps ran instead"
    for found, expected in kept:  # what was returned is not overwritten by later steps
        np.testing.assert_array_equal(found, expected, strict=True)
    for one, two in zip(ordinary[0].named_buffers().values(), compiled[0].named_buffers().values(), strict=True):
        np.testing.assert_array_equal(one.value, two.value)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_a_step_has_the_same_bits_as_the_ordinary_sweeps(model: str, loss: str) -> None:
    assert_same_steps(MODELS[model], *LOSSES[loss])


@pytest.mark.parametrize("model", MODELS)
def test_regularizers_and_float64_have_the_same_bits_too(model: str) -> None:
    regularizers = [lf.L2Regularizer(0.1), lf.L1Regularizer(0.01)]
    assert_same_steps(MODELS[model], *LOSSES["SoftmaxCE"], regularizers, np.float64)


def test_every_rule_is_used_and_no_gate_is_called_where_one_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, store = prepared(MODELS["two hidden layers"](), lf.SoftmaxCE(), np.zeros(4, int))
    assert {type(step.gate) for step in objective.steps} == set(RULES)
    engine = engine_for(objective, store)
    x, y = np.ones((4, 6), np.float32), np.zeros(4, int)
    engine.run(x, y)
    for gate in RULES:
        monkeypatch.setattr(gate, "bare_forward", None)
        monkeypatch.setattr(gate, "bare_backward", None)
    engine.run(x, y)


def test_an_evaluation_in_between_does_not_turn_dropout_off() -> None:
    model = MODELS["dropout"]()
    objective, store = prepared(model, lf.SoftmaxCE(), np.zeros(4, int))
    engine = engine_for(objective, store)
    x, y = np.ones((4, 6), np.float32), np.zeros(4, int)
    values = set()
    for _ in range(6):
        values.add(float(engine.run(x, y)[0]))
        model.training = False
        model.forward(x)
        model.training = True
    assert len(values) == 6


class Moody(lf.Gate):
    """Draws a number, writes a buffer, and on the third forward breaks, once or for good."""

    def __init__(self, error: Exception, for_good: bool) -> None:
        self.rng = np.random.default_rng(5)
        self.count = lf.Buffer(0.0)
        self.error, self.for_good = [error], for_good

    def forward(self, x: Any) -> Any:
        self.save()
        self.count.value = self.count.value + 1
        y = x + self.rng.normal()
        if self.count.value >= 3 and self.error:
            raise self.error[0] if self.for_good else self.error.pop()
        return y

    def backward(self, grad: Any) -> Any:
        return (grad,), {}


def test_an_error_is_raised_by_the_ordinary_sweep_with_its_notes() -> None:
    objective, store = prepared(
        lf.Sequential(Moody(ValueError("no"), True), lf.Linear(3)), lf.SoftmaxCE(), np.zeros(4, int)
    )
    engine = engine_for(objective, store)
    x, y = np.ones((4, 6), np.float32), np.zeros(4, int)
    engine.run(x, y)
    engine.run(x, y)
    with pytest.raises(ValueError, match="no") as caught:
        engine.run(x, y)
    assert any("Moody" in note and "input shapes (4, 6)" in note for note in caught.value.__notes__)


def test_where_only_the_compiled_step_fails_the_ordinary_one_counts_from_the_same_state() -> None:
    states = []
    for use_engine in (False, True):
        gate = Moody(ValueError("no"), False)
        if not use_engine:
            gate.error.clear()
        objective, store = prepared(lf.Sequential(gate, lf.Linear(3)), lf.SoftmaxCE(), np.zeros(4, int))
        engine = engine_for(objective, store)
        x, y = np.ones((4, 6), np.float32), np.zeros(4, int)
        for _ in range(4):
            engine.run(x, y) if use_engine else (objective.forward(x, y), objective.backward())
        states.append((float(gate.count.value), gate.rng.bit_generator.state, store.grads.copy()))
    assert states[0][:2] == states[1][:2]
    np.testing.assert_array_equal(states[0][2], states[1][2])


def test_a_gate_that_changes_what_it_returns_is_found_out() -> None:
    class Shrinks(Scale):
        def backward(self, grad: Any) -> Any:
            (x,) = self.saved
            return (grad if x[0, 0] < 5 else grad[:1],), {"gamma": np.sum(grad * x)}

    objective, store = prepared(lf.Sequential(Shrinks(), lf.Linear(3)), lf.SoftmaxCE(), np.zeros(4, int))
    objective.needed[objective.input_slots[0]] = True
    for step in objective.steps:
        step.plan(objective.needed)
    engine = engine_for(objective, store)
    y = np.zeros(4, int)
    engine.run(np.ones((4, 6), np.float32), y)
    engine.run(np.ones((4, 6), np.float32), y)
    with pytest.raises(lf.GateError, match=r"Shrinks.*a gradient of shape \(1, 6\) for input 'x', expected \(4, 6\)"):
        engine.run(np.full((4, 6), 9, np.float32), y)


def test_labels_out_of_range_are_told_as_ever() -> None:
    objective, store = prepared(lf.Linear(3), lf.SoftmaxCE(), np.zeros(4, int))
    engine = engine_for(objective, store)
    x = np.ones((4, 6), np.float32)
    for _ in range(2):
        engine.run(x, np.zeros(4, int))
    with pytest.raises(lf.GateError, match="label 3 in row 1"):
        engine.run(x, np.array([0, 3, 0, 0]))


class Noisy(lf.Gate):
    """Draws in backward, and counts there in a buffer."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.count = lf.Buffer(0.0)

    def forward(self, x: Any) -> Any:
        self.save()
        return x

    def backward(self, grad: Any) -> Any:
        self.count.value = self.count.value + 1
        return (grad + self.rng.normal(size=grad.shape).astype(grad.dtype),), {}


class Once(lf.Gate):
    """Its backward can run only once after a forward."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def forward(self, x: Any) -> Any:
        self.save()
        self.kept = [x]
        return 2 * x

    def backward(self, grad: Any) -> Any:
        self.kept.pop()
        return (2 * grad,), {}


@pytest.mark.parametrize("gate", [Noisy, Once])
def test_compiling_leaves_no_trace_of_the_backward_that_it_runs(gate: type[lf.Gate]) -> None:
    found = []
    for use_engine in (False, True):
        model = lf.Sequential(lf.Linear(6), gate(), lf.Linear(3))
        objective, store = prepared(model, lf.SoftmaxCE(), np.zeros(4, int))
        engine = engine_for(objective, store)
        rng = np.random.default_rng(2)
        for _ in range(4):
            x, y = rng.normal(size=(4, 6)).astype(np.float32), rng.integers(0, 3, 4)
            engine.run(x, y) if use_engine else (objective.forward(x, y), objective.backward())
        states = [generator.bit_generator.state for generator in objective.named_generators().values()]
        found.append((store.grads.tolist(), states, [b.value.tolist() for b in objective.named_buffers().values()]))
    assert found[0] == found[1]
