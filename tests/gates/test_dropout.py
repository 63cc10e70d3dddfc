"""Dropout: what is dropped, how it is scaled, and whose dice are thrown."""

import copy

import numpy as np
import pytest

import layerflow as lf


def built(dropout, seed=0):
    dropout.build(np.random.default_rng(seed), (4,))
    return dropout


def test_kept_elements_are_scaled_so_that_the_mean_stays():
    x = np.full(100_000, 2.0)
    y = lf.Dropout(0.3, seed=0).forward(x)
    np.testing.assert_allclose(np.unique(y), [0, 2 / 0.7])
    assert np.mean(y == 0) == pytest.approx(0.3, abs=0.005)


def test_backward_passes_exactly_what_forward_kept():
    dropout = lf.Dropout(0.5, seed=0)
    y = dropout.forward(np.ones(50))
    (grad,), _ = dropout.backward(np.full(50, 3.0))
    np.testing.assert_array_equal(grad, 3 * y)


def test_in_evaluation_it_is_the_identity_and_leaves_the_generator_alone():
    dropout = lf.Dropout(0.5, seed=0)
    dropout.training = False
    before, x = copy.deepcopy(dropout.rng.bit_generator.state), np.arange(5.0)
    np.testing.assert_array_equal(dropout.forward(x), x)
    np.testing.assert_array_equal(dropout.backward(x)[0][0], x)
    assert dropout.rng.bit_generator.state == before


def test_every_forward_draws_anew_and_a_seed_repeats_the_draws():
    first, second = lf.Dropout(0.5, seed=3), lf.Dropout(0.5, seed=3)
    draws = [first.forward(np.ones(40)) for _ in range(2)]
    assert (draws[0] != draws[1]).any()
    np.testing.assert_array_equal(draws, [second.forward(np.ones(40)) for _ in range(2)])


def test_without_a_seed_the_seed_of_the_model_decides():
    model = lf.Sequential(lf.Dropout(0.5), lf.Dropout(0.5))
    draws = []
    for seed in (0, 0, 1):
        again = lf.Sequential(lf.Dropout(0.5), lf.Dropout(0.5))
        again.build(np.random.default_rng(seed), (60,))
        draws.append(again.forward(np.ones(60)))
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()
    model.build(np.random.default_rng(0), (60,))
    first, second = model.named_generators().values()
    assert (first.random(9) != second.random(9)).any()


def test_a_second_build_keeps_the_generator():
    dropout = built(lf.Dropout(0.5))
    rng = dropout.rng
    assert built(dropout, seed=1).rng is rng


def test_both_precisions_drop_the_same_elements():
    single, double = (lf.Dropout(0.4, seed=1).forward(np.ones(99, dtype)) for dtype in (np.float32, np.float64))
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single == 0, double == 0)


def test_a_gate_that_was_never_built_has_no_dice_to_throw():
    with pytest.raises(lf.GateError, match=r"Dropout\(0.5\): it has no generator yet"):
        lf.Dropout(0.5).bare_forward(np.ones(3))
