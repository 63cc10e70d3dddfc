"""Residual, Parallel and tied weights."""

import numpy as np
import pytest

import layerflow as lf

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 4))


def test_a_residual_adds_its_input():
    inner = lf.Sequential(lf.Linear(6), lf.Tanh(), lf.Linear(4))
    model = lf.Residual(*inner)
    y = model.forward(X)
    np.testing.assert_array_equal(y, X + inner.forward(X))
    assert lf.check_gradients(model, X).ok


def test_a_residual_whose_gates_return_another_shape_is_an_error_even_where_it_would_broadcast():
    with pytest.raises(lf.GateError, match=r"summed have the shapes \(3, 4\), \(3, 1\); they must be the same"):
        lf.Residual(lf.Linear(1)).forward(X)


def test_branches_are_concatenated_or_summed():
    first, second = lf.Linear(2), lf.Sequential(lf.Linear(2), lf.ReLU())
    joined = lf.Parallel(first, second).forward(X)
    np.testing.assert_array_equal(joined, np.hstack([first.forward(X), second.forward(X)]))
    summed = lf.Parallel(first, second, join="sum").forward(X)
    np.testing.assert_array_equal(summed, first.forward(X) + second.forward(X))
    images = RNG.normal(size=(2, 3, 4, 4))
    model = lf.Parallel(lf.Conv2d(2, 1), lf.Conv2d(5, 3, padding="same"), axis=1)
    assert model.forward(images).shape == (2, 7, 4, 4)
    assert lf.check_gradients(model, images).ok


def test_branches_may_have_inputs_of_their_own():
    model = lf.Parallel(image=lf.Linear(2), table=lf.Linear(3), shared=False)
    table = RNG.normal(size=(3, 5))
    assert model.forward(X, table).shape == (3, 5)
    assert sorted(model.named_parameters()) == ["image.bias", "image.weight", "table.bias", "table.weight"]
    assert lf.check_gradients(model, X, table).ok


def test_wrong_branches_are_named():
    with pytest.raises(lf.GateError, match="join is 'mean', expected 'concatenate' or 'sum'"):
        lf.Parallel(lf.Linear(2), join="mean")
    with pytest.raises(lf.GateError, match=r"Parallel needs at least one gate: Parallel\(Linear\(10\)\)"):
        lf.Parallel()
    with pytest.raises(lf.GateError, match=r"Residual: '0' is <class .*>, not a gate: write ReLU\(...\), with paren"):
        lf.Residual(lf.ReLU)
    with pytest.raises(lf.GateError, match="summed have the shapes"):
        lf.Parallel(lf.Linear(2), lf.Linear(3), join="sum").forward(X)


def test_blocks_nest_in_each_other_and_in_graphs_and_keep_their_names():
    model = lf.Sequential(lf.Residual(lf.LayerNorm(), lf.Parallel(lf.Linear(1), lf.Linear(3))), lf.Linear(2))
    assert lf.check_gradients(model, X).ok
    assert list(model.named_parameters()) == [
        "0.0.weight", "0.0.bias", "0.1.0.weight", "0.1.0.bias", "0.1.1.weight", "0.1.1.bias", "1.weight", "1.bias",
    ]  # fmt: skip
    graph = lf.ComputationalGraph()
    x = graph.input("x")
    lf.Residual(lf.Linear(4))(x)
    assert graph.forward(X).shape == (3, 4)


def test_tied_weights_are_one_parameter_that_both_gates_teach():
    embedding = lf.Embedding(7, 4)
    model = lf.Sequential(embedding, lf.Linear(4), lf.TiedLinear(embedding))
    tokens = RNG.integers(0, 7, (2, 5))
    assert model.forward(tokens).shape == (2, 5, 7)
    assert list(model.named_parameters()) == ["0.weight", "1.weight", "1.bias", "2.bias"]
    assert lf.check_gradients(model, tokens).ok
    encoder = lf.Linear(2, bias=False)
    autoencoder = lf.Sequential(encoder, lf.TiedLinear(encoder, transposed=True))
    assert autoencoder.forward(X).shape == (3, 4)
    assert lf.check_gradients(autoencoder, X).ok


def test_a_tied_gate_without_a_matrix_to_share_says_so():
    with pytest.raises(lf.GateError, match=r"ReLU\(\) has no parameter called weight"):
        lf.TiedLinear(lf.ReLU())
    with pytest.raises(lf.GateError, match="it must come before this gate"):
        lf.Sequential(lf.TiedLinear(late := lf.Linear(3)), late).forward(X)
    source = lf.Linear(3)
    source.forward(X)
    with pytest.raises(lf.GateError, match=r"input of shape \(3, 5\), expected \(..., 4\)"):
        lf.TiedLinear(source).forward(np.zeros((3, 5)))


def test_saved_blocks_come_back_with_their_wiring(tmp_path):
    embedding, shared = lf.Embedding(7, 4), lf.Linear(4)
    model = lf.Sequential(
        embed=embedding,
        block=lf.Residual(shared, lf.ReLU(), shared),
        branches=lf.Parallel(lf.Linear(2), lf.Linear(2), axis=-1),
        cell=lf.Recurrent(lf.LSTMCell(4), learned_states=True),
        scores=lf.TiedLinear(embedding),
    )
    tokens = RNG.integers(0, 7, (2, 5))
    expected = model.forward(tokens)
    lf.save_model(model, tmp_path / "model.npz")
    loaded = lf.load_model(tmp_path / "model.npz")
    assert list(loaded.named_parameters()) == list(model.named_parameters())
    np.testing.assert_array_equal(loaded.forward(tokens), expected)
