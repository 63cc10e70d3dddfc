"""Embeddings, recurrent layers and attention against plain loops, at extremes, and what they refuse."""

import numpy as np
import pytest

import layerflow as lf

RNG = np.random.default_rng(11)


def built(gate, *shapes):
    gate.build(np.random.default_rng(0), *shapes)
    return gate


def test_an_embedding_adds_the_gradients_of_a_token_that_occurs_twice():
    gate = built(lf.Embedding(4, 2), (3,))
    gate.forward(np.array([1, 3, 1]))
    (none,), grads = gate.backward(np.array([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]]))
    assert none is None
    np.testing.assert_array_equal(grads["weight"], [[0, 0], [11, 22], [0, 0], [3, 4]])


def test_the_padding_token_gives_zero_and_gets_no_gradient():
    gate = built(lf.Embedding(3, 2, padding_idx=1), (2,))
    gate.weight.value = np.ones((3, 2))
    np.testing.assert_array_equal(gate.forward(np.array([1, 2])), [[0, 0], [1, 1]])
    np.testing.assert_array_equal(gate.backward(np.ones((2, 2)))[1]["weight"], [[0, 0], [0, 0], [1, 1]])


def test_the_sinusoidal_encoding_has_sines_at_even_and_cosines_at_odd_features():
    y = lf.SinusoidalEncoding().forward(np.zeros((1, 3, 4)))
    np.testing.assert_allclose(y[0, 2], [np.sin(2), np.cos(2), np.sin(2 / 100), np.cos(2 / 100)])


PAIRS = [
    (lf.RNN(3), lf.RNNCell(3)),
    (lf.RNN(3, "relu"), lf.RNNCell(3, "relu")),
    (lf.GRU(3), lf.GRUCell(3)),
    (lf.LSTM(3), lf.LSTMCell(3)),
]


@pytest.mark.parametrize(("layer", "cell"), PAIRS, ids=lambda gate: repr(gate))
def test_a_layer_is_its_cell_at_every_step(layer, cell):
    x = RNG.normal(size=(2, 5, 4))
    states = [np.zeros((2, 3))] * cell.formula.states
    built(layer, x.shape)
    built(cell, (2, 4), *(state.shape for state in states))
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(cell, name).value = getattr(layer, name).value
    y = layer.forward(x)
    for t in range(5):
        new = cell.forward(x[:, t], *states)
        states = list(new) if isinstance(new, tuple) else [new]
        np.testing.assert_allclose(y[:, t], states[0], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("layer", [lf.RNN(3, bidirectional=True), lf.GRU(3), lf.LSTM(3, bidirectional=True)], ids=repr)
def test_what_stands_behind_the_mask_changes_nothing(layer):
    x, mask = RNG.normal(size=(2, 5, 4)), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    built(layer, x.shape, mask.shape)
    y = layer.forward(x, mask)
    (down, none), _ = layer.backward(np.ones_like(y))
    np.testing.assert_array_equal(down[0, 3:], 0)
    np.testing.assert_array_equal(y[0, 3:], 0)
    assert none is None
    np.testing.assert_allclose(y[0, :3], layer.forward(x[:1, :3])[0], rtol=1e-13)


def test_an_all_masked_sequence_has_the_state_zero():
    layer = built(lf.GRU(3, return_sequences=False), (1, 4, 2), (1, 4))
    np.testing.assert_array_equal(layer.forward(np.ones((1, 4, 2)), np.zeros((1, 4))), np.zeros((1, 3)))


@pytest.mark.parametrize("gate", [lf.RNN(4), lf.GRU(4), lf.LSTM(4), lf.MultiHeadAttention(2)], ids=repr)
def test_huge_inputs_stay_finite(gate):
    x = RNG.choice([-1e4, 1e4], (2, 5, 4))
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        y = built(gate, x.shape).forward(x)
        (down,), grads = gate.backward(np.ones_like(y))
    assert all(np.isfinite(array).all() for array in (y, down, *grads.values()))


def test_attention_equals_plain_loops():
    query, key, value = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 5, 4)), RNG.normal(size=(2, 5, 6))
    y = lf.ScaledDotProductAttention().forward(query, key, value)
    for n, t in np.ndindex(2, 3):
        e = [np.exp(query[n, t] @ key[n, s] / 2) for s in range(5)]
        np.testing.assert_allclose(y[n, t], sum(e[s] / sum(e) * value[n, s] for s in range(5)), rtol=1e-12)


def test_causal_attention_does_not_see_what_comes_later():
    gate, x = lf.MultiHeadAttention(2, causal=True), RNG.normal(size=(1, 4, 6))
    before = built(gate, x.shape).forward(x)
    x[0, 3] += 100
    np.testing.assert_array_equal(gate.forward(x)[0, :3], before[0, :3])


def test_a_query_that_may_look_nowhere_gives_zero():
    mask = np.array([[1, 1], [0, 0]])
    query, key = RNG.normal(size=(2, 1, 2, 3))
    gate = lf.ScaledDotProductAttention()
    y = gate.forward(query, key, key, mask)
    np.testing.assert_array_equal(y[0, 1], 0)
    grads, _ = gate.backward(np.ones_like(y))
    assert all(np.isfinite(grad).all() for grad in grads[:3])


def test_dropout_of_attention_keeps_the_mean_and_is_off_in_evaluation():
    plain, noisy = lf.MultiHeadAttention(1), lf.MultiHeadAttention(1, dropout=0.3)
    x = RNG.normal(size=(2, 6, 4))
    built(plain, x.shape)
    built(noisy, x.shape)
    noisy.training = True
    mean = np.mean([noisy.forward(x) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(mean, plain.forward(x), atol=0.05)
    assert np.abs(noisy.forward(x) - plain.forward(x)).max() > 0.05
    noisy.training = False
    np.testing.assert_array_equal(noisy.forward(x), plain.forward(x))


def test_a_recurrent_classifier_of_tokens_trains():
    tokens = RNG.integers(0, 5, (200, 8))
    labels = (tokens[:, 0] == tokens[:, -1]).astype(int) + (tokens[:, 0] == 0)
    model = lf.Sequential(lf.Embedding(5, 8), lf.GRU(24, return_sequences=False), lf.Linear(3))
    trainer = lf.Trainer(model, lf.SoftmaxCE(), lf.Adam(0.02), epochs=60, batch_size=32, seed=0, metrics=["accuracy"])
    history = trainer.fit(tokens, labels)
    assert history["train_loss"][-1] < 0.2 * history["train_loss"][0]


SERIES = np.zeros((2, 5, 4))
REFUSED = [
    (lambda: lf.Embedding(5, 2, padding_idx=5), "padding_idx must be a token from 0 to 4, or None, not 5"),
    (
        lambda: built(lf.Embedding(5, 2), (2, 2)).forward(np.array([[1, 2], [3, 7]])),
        r"the token at position \(1, 1\) is 7; tokens are whole numbers from 0 to 4",
    ),
    (lambda: built(lf.Embedding(5, 2), (2,)).forward(np.array([0, -1])), r"at position \(1,\) is -1"),
    (lambda: built(lf.Embedding(5, 2), (2,)).forward(np.array([0.5, 1])), r"at position \(0,\) is 0.5"),
    (lambda: built(lf.Embedding(5, 2), (2,)).forward(np.array([np.nan, 1])), "is nan"),
    (lambda: built(lf.PositionalEmbedding(4), SERIES.shape), "a sequence of 5 steps, more than max_length=4"),
    (lambda: lf.SinusoidalEncoding().forward(np.zeros((2, 3))), r"expected \(batch, time, features\)"),
    (lambda: lf.RNN(0), "hidden_size must be an integer, 1 or more, not 0"),
    (lambda: lf.RNN(2, "sigmoid"), "nonlinearity must be 'tanh' or 'relu', not 'sigmoid'"),
    (lambda: built(lf.GRU(2), (2, 4)), r"expected \(batch, time, 4\), time at least 1"),
    (lambda: built(lf.GRU(2), (2, 0, 4)), "time at least 1"),
    (lambda: built(lf.LSTM(2), SERIES.shape, (2, 6)), r"mask of shape \(2, 6\) for an input of shape \(2, 5, 4\)"),
    (lambda: built(lf.GRU(2), SERIES.shape).forward(SERIES[:, :, :3]), r"expected \(batch, time, 4\)"),
    (lambda: built(lf.LSTMCell(3), (2, 4), (2, 3)), r"2 x \(batch, 3\)"),
    (lambda: built(lf.GRUCell(3), (2, 4), (2, 4)), r"1 x \(batch, 3\)"),
    (lambda: lf.MultiHeadAttention(2, dropout=1.0), "dropout must be a probability below 1, not 1.0"),
    (lambda: built(lf.MultiHeadAttention(3), SERIES.shape), "num_heads=3 must divide the 4 features"),
    (lambda: built(lf.MultiHeadAttention(2), SERIES.shape, (2, 4)), r"perhaps a mask \(batch, keys\)"),
    (
        lambda: lf.ScaledDotProductAttention().forward(SERIES, SERIES, SERIES[:, :3]),
        r"inputs of shapes \(2, 5, 4\), \(2, 5, 4\), \(2, 3, 4\), expected",
    ),
]


@pytest.mark.parametrize(("act", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_fit_is_named(act, message):
    with pytest.raises(lf.GateError, match=message):
        act()


def test_attention_to_no_keys_is_an_error():
    query, none = np.zeros((2, 3, 4)), np.zeros((2, 0, 4))
    for gate in (lf.MultiHeadAttention(2), lf.ScaledDotProductAttention()):
        with pytest.raises(lf.GateError, match=r"\(2, 0, 4\)"):
            gate.forward(query, none, none)
