"""What is recorded of gates, which code is refused, and that nothing outside changes."""

import copy
import sys
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.engine.interpreter import GuardError, interpret
from layerflow.engine.program import Program
from layerflow.engine.recorder import record, record_gate
from layerflow.errors import GateError, RecordError
from layerflow.gradcheck.recorded import same_result_when_recorded

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4))
MADE = np.zeros((3, 4))


def on_x(function: Any) -> Program:
    return record(lambda active: {"y": function(active.input("x", X.copy()))}, [sys.modules[__name__]])


def inputs_of(gate: Any, *inputs: Any) -> dict[str, Any]:
    state = {f"input.{i}": x for i, x in enumerate(inputs)}
    state |= {f"parameter.{name}": cell.value for name, cell in gate.named_parameters().items()}
    return state | {f"buffer.{name}": cell.value for name, cell in gate.named_buffers().items()}


REFUSED = {
    "x[mask], whose size depends on the numbers; np.where(mask, x, 0) keeps the shape": lambda x: x[x > 0],
    "float() of an array; keep it an array": lambda x: float(x.max()) * x,
    "int() of an array; keep it an array; x.astype(int) makes it whole": lambda x: x * int(x[0, 0]),
    "an array as the bound of a slice or range; index with the array itself": lambda x: x[: x[0, 0].astype(int)],
    "x.item(); keep it an array": lambda x: x.sum().item() * x,
    "x.tolist(); write the loop in NumPy": lambda x: np.array(x.tolist()),
    "an `if` on the numbers of an array, and both ways lead on; choose with np.where": lambda x: (
        x if x.sum() > 0 else -x
    ),
    "np.unique; count with (x[:, None] == values).sum(axis=0)": lambda x: np.unique(x),
    "np.sort; np.max, np.min and np.argmax can be recorded": lambda x: np.sort(x),
    "np.nonzero; keep the shape, and use np.where(mask, x, 0)": lambda x: np.nonzero(x)[0],
    "np.where(mask), whose size depends on the numbers": lambda x: np.where(x > 0)[0],
    "np.median; it is not among the functions that can be recorded": lambda x: np.median(x),
    "np.fill_diagonal; assign with x[...] =": lambda x: np.fill_diagonal(x, 0),
    "np.random.normal; a gate keeps its own np.random.Generator in an attribute": lambda x: x + np.random.normal(),
    "x.strides; there is no such thing in a recorded program": lambda x: x.strides,
    "the array is handed to a function that needs the numbers themselves": lambda x: np.vectorize(abs)(x),
    "np.add writes into an array that was made before": lambda x: np.add(x, 1, out=MADE),
    "np.multiply.at; np.add.at can be recorded": lambda x: np.multiply.at(x, 0, 2.0),
    "np.clip with casting=; leave this argument out": lambda x: np.clip(x, 0, 1, casting="unsafe"),
    "an array is written through a view of kind broadcast": lambda x: np.broadcast_to(x, (2, 3, 4)).fill(0.0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_code_that_cannot_be_recorded_is_refused_with_line_and_cure(message: str) -> None:
    with pytest.raises(RecordError) as caught:
        on_x(REFUSED[message])
    assert message in str(caught.value)
    assert "test_recorder.py:" in str(caught.value)


def test_an_if_whose_other_branch_raises_becomes_a_guard() -> None:
    def checked(x: Any) -> Any:
        if x.max() > 100:
            raise ValueError(f"too large: {float(x.max()):.1f} in {x.tolist()} at {int(np.argmax(x))}")
        return 2 * x

    program = on_x(checked)
    assert np.array_equal(interpret(program, {"x": X + 1})["y"], 2 * X + 2)
    with pytest.raises(GuardError, match=r"recorded where a condition was False, .*test_recorder\.py:\d+"):
        interpret(program, {"x": 200 + X})


def test_an_index_is_guarded() -> None:
    program = record(
        lambda active: {"y": active.input("x", X)[np.arange(3), active.input("t", np.array([0, 1, 3]))]}, []
    )
    found = interpret(program, {"x": X, "t": np.array([-1, 0, -4])})["y"]
    assert np.array_equal(found, X[np.arange(3), [-1, 0, -4]])
    for bad in (4, -5):
        with pytest.raises(GuardError):
            interpret(program, {"x": X, "t": np.array([0, bad, 0])})


def test_an_error_of_the_code_itself_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="matmul"):
        on_x(lambda x: x @ x)
    with pytest.raises(IndexError, match="out of bounds"):
        on_x(lambda x: x[7])
    with pytest.raises(AttributeError, match="an array has no attribute 'colour'"):
        on_x(lambda x: x.colour)


def test_numbers_that_no_input_decides_may_be_looked_at() -> None:
    program = on_x(lambda x: x * float(np.arange(4).sum()) if np.zeros(3).any() else x[: int(np.array(2))])
    assert np.array_equal(interpret(program, {"x": X})["y"], X[:2])
    assert not program.guards


def test_the_gate_and_its_line_are_named() -> None:
    class Masks(lf.Gate):
        def forward(self, x: Any) -> Any:
            self.save(x)
            return x - x[x >= 0].mean()

        def backward(self, grad: Any) -> Any:
            return (grad,), {}

    model = lf.Sequential(lf.Linear(2), Masks())
    model.build(RNG, (3, 4))
    with pytest.raises(RecordError, match=r"^Masks, .*test_recorder\.py:\d+: x\[mask\]"):
        record_gate(model, [X], [X[:, :2]])


def test_state_in_an_array_that_is_no_buffer_is_refused() -> None:
    class Counts(lf.Gate):
        def __init__(self) -> None:
            self.seen = np.zeros(1)

        def forward(self, x: Any) -> Any:
            self.seen += 1
            return x

    with pytest.raises(RecordError, match=r"Counts\.seen is changed in place; .*lf\.Buffer"):
        record_gate(Counts(), [X], None)


def test_a_parameter_that_is_changed_by_its_gate_is_refused() -> None:
    class Shrinks(lf.Gate):
        def __init__(self) -> None:
            self.gamma = lf.Parameter(np.ones(4))

        def forward(self, x: Any) -> Any:
            self.gamma.value[...] = 0.5 * self.gamma.value
            return x * self.gamma.value

    with pytest.raises(RecordError, match="parameter 'gamma' is changed in place"):
        record_gate(Shrinks(), [X], None)


def test_draws_are_repeated_by_the_host() -> None:
    gate = lf.Sequential(lf.Dropout(0.5, seed=1), lf.GaussianNoise(0.1, seed=2))
    gate.build(RNG, X.shape)
    before = copy.deepcopy([generator.bit_generator.state for generator in gate.named_generators().values()])
    program = record_gate(gate, [X], [X])
    assert [(draw.generator, draw.method) for draw in program.draws] == [("0.rng", "random"), ("1.rng", "normal")]
    assert before == [generator.bit_generator.state for generator in gate.named_generators().values()]
    generators = copy.deepcopy(gate.named_generators())
    drawn = {d.name: getattr(generators[d.generator], d.method)(*d.arguments, **d.named) for d in program.draws}
    found = interpret(program, inputs_of(gate, 2 * X) | {"upstream.0": X} | drawn)
    gate.training = True
    assert np.array_equal(found["output.0"], gate.forward(2 * X))
    assert np.array_equal(found["input_grad.0"], gate.backward(X)[0][0])


def test_a_draw_that_depends_on_the_inputs_is_refused() -> None:
    class Draws(lf.Gate):
        def __init__(self, method: str) -> None:
            self.method, self.rng = method, np.random.default_rng(0)

        def forward(self, x: Any) -> Any:
            return getattr(self.rng, self.method)(x)

    with pytest.raises(RecordError, match=r"generator\.normal with arguments that depend on the inputs"):
        record_gate(Draws("normal"), [X], None)
    with pytest.raises(RecordError, match=r"generator\.shuffle cannot be recorded"):
        record_gate(Draws("shuffle"), [X], None)


def test_buffers_are_inputs_and_those_that_change_are_outputs() -> None:
    gate = lf.BatchNorm()
    gate.build(RNG, X.shape)
    program = record_gate(gate, [X], [X])
    assert {"buffer.running_mean", "buffer.running_var"} <= set(program.outputs)
    found = interpret(program, inputs_of(gate, X) | {"upstream.0": X})
    gate.forward(X)
    assert np.array_equal(found["buffer.running_mean"], gate.running_mean.value)
    gate.training = False
    assert not [name for name in record_gate(gate, [X], [X]).outputs if name.startswith("buffer")]


def test_recording_leaves_the_model_as_it_was() -> None:
    model = lf.Sequential(lf.Linear(5), lf.BatchNorm(), lf.Dropout(0.5), lf.Linear(2))
    model.build(RNG, X.shape)
    store = lf.ParameterStore(model.parameters())
    model.forward(X)
    values, memories = list(model.values), list(model.memories)
    grads, weights = [p.grad for p in model.parameters()], store.values.copy()
    record_gate(model, [X], [X[:, :2]])
    assert all(a is b for a, b in zip(values, model.values, strict=True))
    assert all(a is b for a, b in zip(memories, model.memories, strict=True))
    assert all(a is p.grad for a, p in zip(grads, model.parameters(), strict=True))
    assert np.array_equal(store.values, weights)
    assert model.backward(X[:, :2])[1]  # what the forward before left is still there
    assert sys.modules[lf.Linear.__module__].np is np  # type: ignore[attr-defined]


def test_a_whole_objective_is_recorded_with_the_slots_wanted() -> None:
    model = lf.Sequential(lf.Linear(6), lf.ReLU(), lf.Linear(3))
    trainer = lf.Trainer(
        model, lf.SoftmaxCE(), lf.SGD(0.1), regularizer=lf.L2Regularizer(0.1), batch_size=8, dtype="float64"
    )
    x, y = RNG.normal(size=(8, 4)), RNG.integers(0, 3, 8)
    trainer.prepare(x, y)
    objective = trainer.state.objective
    program = record_gate(objective, [x, y], (), wanted=[objective.scores_slot])
    other, labels = RNG.normal(size=(8, 4)), RNG.integers(0, 3, 8)
    found = interpret(program, inputs_of(objective, other, labels))
    value = objective.forward(other, labels)
    _, grads = objective.backward()
    assert np.isclose(found["output.0"], value, rtol=1e-14)
    assert np.allclose(found["slot.0"], objective.scores, rtol=1e-14)
    for name, grad in grads.items():
        assert np.allclose(found[f"grad.{name}"], grad, rtol=1e-12), name
    with pytest.raises(GuardError):
        interpret(program, inputs_of(objective, other, labels + 3))


@pytest.mark.parametrize(
    "gate",
    [
        lf.Recurrent(lf.GRUCell(5)),
        lf.Recurrent(lf.LSTMCell(5), return_sequences=False, learned_states=True),
        lf.Residual(lf.Linear(4), lf.Tanh()),
        lf.Parallel(lf.Linear(2), lf.Linear(3)),
        lf.MultiHeadAttention(2, causal=True, dropout=0.2),
    ],
    ids=lambda gate: type(gate).__name__,
)
def test_blocks_are_recorded(gate: Any) -> None:
    same_result_when_recorded(gate, [RNG.normal(size=(2, 3, 4))])


def test_operations_are_noted_once() -> None:
    program = on_x(lambda x: np.exp(x) + np.exp(x) * (x.T @ np.ones(3)))
    assert [node.kind for node in program.live()].count("elementwise") == 3


def test_a_program_can_be_read() -> None:
    text = str(on_x(lambda x: np.tanh(x).sum(axis=0)))
    assert text.splitlines() == [
        "%0 = input(name=x) : float64[3, 4]",
        "%1 = elementwise(%0, function=tanh) : float64[3, 4]",
        "%2 = reduce(%1, function=sum, axes=(0,)) : float64[4]",
        "y = %2",
    ]


def test_the_interpreter_names_an_input_of_another_shape() -> None:
    with pytest.raises(
        ValueError, match=r"input 'x' is float64 \(2, 4\); the program was recorded for float64 \(3, 4\)"
    ):
        interpret(on_x(lambda x: x + 1), {"x": X[:2]})


def test_a_program_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerflow.engine.recorder.MOST_NODES", 50)

    def long(x: Any) -> Any:
        for i in range(60):
            x = np.tanh(x) + i
        return x

    with pytest.raises(RecordError, match=r"more than 50 operations; .*use shorter sequences, or engine numpy"):
        on_x(long)


def test_a_gate_that_is_not_built_says_so() -> None:
    with pytest.raises(GateError, match="has no value yet"):
        record_gate(lf.Linear(3), [X], [X[:, :3]])
