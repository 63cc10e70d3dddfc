"""The further activations, reductions, joins and noises: limits, extremes, and what they refuse."""

import numpy as np
import pytest

import layerflow as lf

RNG = np.random.default_rng(5)
EDGES = [-1e4, -90.0, -3.0, -1e-310, 0.0, 5e-324, 1.0, 6.0, 90.0, 1e4]
ACTIVATIONS = [
    *(lf.SELU(), lf.CELU(), lf.Mish(), lf.Softsign(), lf.LogSigmoid(), lf.GELU("tanh"), lf.GLU(), lf.PReLU()),
    *(lf.Hardtanh(), lf.ReLU6(), lf.Hardsigmoid(), lf.Hardswish(), lf.Threshold(0.0, 1.0), lf.Erf()),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gate", ACTIVATIONS, ids=repr)
def test_an_activation_stays_finite_at_the_edges(gate, dtype):
    twin = type(gate)(**gate.arguments).astype(dtype)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        y = twin.forward(np.array(EDGES, dtype))
        (grad,), _ = twin.backward(np.ones_like(y))
    assert np.isfinite(y).all()
    assert np.isfinite(grad).all()
    assert y.dtype == grad.dtype == dtype


def test_erf_is_accurate_near_zero_and_odd():
    x = np.array([1e-300, 1e-9, 0.3, 0.468, 0.469, 2.0, 30.0])
    expected = [1.1283791670955126e-300, 1.1283791670955126e-9, 0.3286267594591274, None, None, 0.9953222650189527, 1.0]
    y = lf.Erf().forward(x)
    for got, value in zip(y, expected, strict=True):
        assert value is None or got == pytest.approx(value, rel=4e-16, abs=0)
    assert abs((y[4] - y[3]) / 0.001 - 2 / np.sqrt(np.pi) * np.exp(-(0.4685**2))) < 1e-6
    np.testing.assert_array_equal(lf.Erf().forward(-x), -y)


def test_the_product_has_the_right_gradient_where_factors_are_zero():
    gate = lf.Prod(1)
    gate.forward(np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 4.0]]))
    (grad,), _ = gate.backward(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(grad, [[6, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize("gate", [lf.Std(1), lf.Norm(1)], ids=repr)
def test_where_a_root_is_zero_the_gradient_is_zero(gate):
    y = gate.forward(np.zeros((2, 3)))
    (grad,), _ = gate.backward(np.ones(2))
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_array_equal(grad, 0)


def test_log_sum_exp_of_huge_scores_is_their_maximum():
    gate = lf.LogSumExp(1)
    np.testing.assert_allclose(gate.forward(np.array([[1e4, -1e4], [-1e4, -1e4]])), [1e4, -1e4 + np.log(2)])


def test_an_output_of_a_split_that_nobody_used_sends_zeros():
    x = RNG.normal(size=(2, 5))
    first, second = lf.Split([2, 3]).forward(x)
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), x)
    report = lf.check_gradients(lf.Split([2, 3]), x)
    assert report.ok


def test_an_element_gathered_twice_gets_both_gradients():
    gate = lf.Gather()
    np.testing.assert_array_equal(gate.forward(np.array([[5.0, 6.0, 7.0]]), np.array([[2, 0, 2]])), [[7, 5, 7]])
    (grad, none), _ = gate.backward(np.array([[1.0, 2.0, 4.0]]))
    np.testing.assert_array_equal(grad, [[2, 0, 5]])
    assert none is None


def kept_of(gate, shape):
    gate.training = True
    return gate.forward(np.ones(shape))


def test_dropout2d_drops_whole_channels():
    kept = kept_of(lf.Dropout2d(0.5, seed=0), (40, 50, 2, 3))
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert (kept == kept[:, :, :1, :1]).all()
    assert abs(kept.mean() - 1) < 0.1


def test_drop_path_drops_whole_samples():
    kept = kept_of(lf.DropPath(0.25, seed=0), (2000, 3, 2))
    np.testing.assert_allclose(np.unique(kept), [0, 4 / 3])
    assert (kept == kept[:, :1, :1]).all()
    assert abs(kept.mean() - 1) < 0.1


def test_gaussian_noise_has_its_standard_deviation_and_is_off_in_evaluation():
    gate = lf.GaussianNoise(0.5, seed=0)
    assert abs(kept_of(gate, (100, 100)).std() - 0.5) < 0.02
    gate.training = False
    np.testing.assert_array_equal(gate.forward(np.ones(3)), np.ones(3))


X = np.zeros((2, 3))
REFUSED = [
    (lambda: lf.PReLU(0), "num_parameters must be an integer, 1 or more, not 0"),
    (lambda: lf.PReLU(4).forward(X), r"expected \(batch, 4, ...\)"),
    (lambda: lf.Hardtanh(1.0, 1.0), "max_val must be a number above min_val, not 1.0"),
    (lambda: lf.GELU("erf"), "approximate must be 'none' or 'tanh', not 'erf'"),
    (lambda: lf.CELU(0), "alpha must be a finite number above 0"),
    (lambda: lf.GLU().forward(X), "expected an even size along axis -1"),
    (lambda: lf.Clip(), "give min, max, or both"),
    (lambda: lf.Clip(2, 1), "max must be a number above min=2, not 1"),
    (lambda: lf.Threshold("a", 0), "threshold must be a finite number"),
    (lambda: lf.Min(0).forward(np.zeros((0, 3))), "there are no elements along the axis"),
    (lambda: lf.Norm(2).forward(X), "has no axis 2"),
    (lambda: lf.Var(0).forward(np.zeros((1, 3))), r"has 1 element\(s\) along the axis, and correction=1 needs more"),
    (lambda: lf.Stack().forward(X, X[:1]), "they must have one shape"),
    (lambda: lf.Stack().forward(), "inputs of shapes none"),
    (lambda: lf.Split(2).forward(X), "has size 3 along axis -1"),
    (lambda: lf.Split([]), "sections must be"),
    (lambda: lf.Gather().forward(X, np.array([[0], [3]])), r"the index at \(1, 0\) is 3, expected 0 to 2"),
    (lambda: lf.Gather().forward(X, np.array([0])), r"an index of shape \(1,\) for an input of shape \(2, 3\)"),
    (lambda: lf.Einsum("ij,jk"), "is not a formula such as 'ij,jk->ik'"),
    (lambda: lf.Einsum("ii->i"), "is not a formula"),
    (lambda: lf.Einsum("ij->k"), "is not a formula"),
    (lambda: lf.Einsum("ij,jk->ik").forward(X, X), "do not fit the letters ij, jk"),
    (lambda: lf.Dropout2d(0.5, seed=0).forward(np.zeros(3)), r"expected \(batch, channels, ...\)"),
    (lambda: lf.GaussianNoise(-1), "std must be a finite number, 0 or more, not -1"),
]


@pytest.mark.parametrize(("act", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_fit_is_named(act, message):
    with pytest.raises(lf.GateError, match=message):
        act()
