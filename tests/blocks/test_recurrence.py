"""`Recurrent`: any gate as the step of a recurrence."""

import numpy as np
import pytest

import layerflow as lf

RNG = np.random.default_rng(6)
X = RNG.normal(size=(3, 5, 4))
MASK = np.arange(5) < np.array([[5], [2], [0]])
CELLS = {"RNN": (lf.RNNCell, lf.RNN), "GRU": (lf.GRUCell, lf.GRU), "LSTM": (lf.LSTMCell, lf.LSTM)}


class Leaky(lf.Gate):
    """y = x h, h' = (h + w x) / 2: a cell with an output beside its state, and a parameter."""

    def __init__(self):
        self.w = lf.Parameter(0.7)

    def forward(self, x, h):
        self.save(x, h)
        return x * h, 0.5 * (h + self.w.value * x)

    def backward(self, grad_y, grad_h):
        x, h = self.saved
        w = self.w.value
        return (grad_y * h + 0.5 * w * grad_h, grad_y * x + 0.5 * grad_h), {"w": 0.5 * np.sum(grad_h * x)}


@pytest.mark.parametrize("mask", [(), (MASK,)], ids=["whole", "masked"])
@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("kind", CELLS)
def test_a_built_in_cell_gives_what_its_layer_gives(kind, return_sequences, mask):
    cell, layer = CELLS[kind]
    recurrent = lf.Recurrent(cell(6), return_sequences=return_sequences)
    expected = layer(6, return_sequences=return_sequences)
    for gate in (recurrent, expected):
        gate.build(np.random.default_rng(1), X.shape, *(item.shape for item in mask))
    y, z = recurrent.forward(X, *mask), expected.forward(X, *mask)
    np.testing.assert_allclose(y, z, atol=1e-14)
    upstream = RNG.normal(size=y.shape)
    (grad_x, *_), grads = recurrent.backward(upstream)
    (expected_x, *_), expected_grads = expected.backward(upstream)
    np.testing.assert_allclose(grad_x, expected_x, atol=1e-13)
    for name, grad in expected_grads.items():
        np.testing.assert_allclose(grads[f"cell.{name}"], grad, atol=1e-12)


def test_a_cell_of_your_own_with_an_output_beside_its_state_is_run_over_time():
    y = lf.Recurrent(Leaky()).forward(X)
    h = np.zeros((3, 4))
    for t in range(5):
        np.testing.assert_array_equal(y[:, t], X[:, t] * h)
        h = 0.5 * (h + 0.7 * X[:, t])


@pytest.mark.parametrize("options", [{}, {"learned_states": True}, {"return_sequences": False}], ids=str)
@pytest.mark.parametrize("mask", [(), (MASK,)], ids=["whole", "masked"])
def test_gradients_of_a_cell_of_your_own_are_right(options, mask):
    assert lf.check_gradients(lf.Recurrent(Leaky(), **options), X, *mask).ok


def test_a_graph_is_a_cell_and_its_state_may_have_another_width_than_the_input():
    graph = lf.ComputationalGraph()
    x, h = graph.inputs("x", "h")
    state = lf.Tanh()(lf.Linear(7)(lf.Concatenate()(x, h)))
    graph.output(lf.Linear(2)(state), state)
    recurrent = lf.Recurrent(graph, learned_states=True)
    assert recurrent.forward(X).shape == (3, 5, 2)
    assert recurrent.named_parameters()["initial.0"].value.shape == (7,)
    assert lf.check_gradients(recurrent, X).ok


def test_a_recurrent_gate_learns_in_a_model_and_its_parameters_move():
    model = lf.Sequential(lf.Recurrent(lf.GRUCell(8), return_sequences=False), lf.Linear(1))
    x = RNG.normal(size=(64, 6, 2))
    y = (x[:, 0, 0] > 0).astype(int)  # the answer stands at the beginning of the sequence
    trainer = lf.Trainer(model, lf.SigmoidCE(), lf.Adam(0.05), epochs=40, batch_size=16, seed=0)
    assert trainer.fit(x, y).records[-1]["train_accuracy"] > 0.95


def test_tokens_are_an_input_without_gradient():
    cell = lf.ComputationalGraph()
    token, h = cell.inputs("token", "h")
    both = cell.add("both", lf.Concatenate(), [cell.add("row", lf.Embedding(5, 3), token), h])
    cell.output(cell.add("state", lf.Tanh(), cell.add("sum", lf.Linear(4), both)))
    model = lf.Recurrent(cell, state_shapes=[[4]])
    tokens = RNG.integers(0, 5, (2, 6))
    assert model.forward(tokens).shape == (2, 6, 4)
    assert lf.check_gradients(model, tokens).ok


def test_states_of_different_ranks_are_built_twice_without_complaint():
    cell = lf.ComputationalGraph()
    x, h, memory = cell.inputs("x", "h", "memory")
    rows = lf.Multiply()(lf.Reshape([-1, 1, 4])(x), memory)
    cell.output(lf.Add()(h, x), rows)
    recurrent = lf.Recurrent(cell, state_shapes=[[4], [3, 4]], learned_states=[False, True])
    assert list(recurrent.named_parameters()) == ["initial.1"]
    for batch in (2, 5):
        assert recurrent.build(np.random.default_rng(0), (batch, 6, 4)) == (batch, 6, 4)
    assert lf.check_gradients(recurrent, X).ok


class Stateless(lf.Gate):
    def forward(self, x):
        return x

    def backward(self, grad):
        return (grad,), {}


class Growing(lf.Gate):
    def forward(self, x, h):
        return np.concatenate([h, x], axis=-1)

    def backward(self, grad):
        raise NotImplementedError


class Many(Growing):
    def forward(self, x, h):
        return x, h, h


BAD = [
    (
        lambda: lf.Recurrent(Leaky(), learned_states=[True, False]),
        "learned_states has 2 entries, for a cell of 1 states",
    ),
    (lambda: lf.Recurrent("GRU"), "the cell is 'GRU', not a gate"),
    (lambda: lf.Recurrent(Stateless()).forward(X), "must take the input and one state or more; it takes no state"),
    (lambda: lf.Recurrent(Growing()).forward(X), "returns states of other shapes than it is given"),
    (lambda: lf.Recurrent(Growing(), [[2]]).forward(X), r"returns states of shapes \[\(3, 6\)\], but takes \[\(3, 2\)"),
    (lambda: lf.Recurrent(Many()).forward(X), "takes 1 states and returns 3 arrays; expected 1 states, or an output"),
    (lambda: lf.Recurrent(Leaky()).forward(X[:, :0]), "time at least 1"),
    (
        lambda: lf.Recurrent(Leaky()).forward(X, MASK[:, :2]),
        r"mask of shape \(3, 2\) for an input of shape \(3, 5, 4\)",
    ),
]


@pytest.mark.parametrize(("use", "message"), BAD, ids=range(len(BAD)))
def test_a_cell_or_input_that_does_not_fit_is_named(use, message):
    with pytest.raises(lf.GateError, match=message):
        use()
