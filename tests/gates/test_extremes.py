"""Inputs at the edges: huge, tiny, one sample, none. Warnings are errors in this test suite."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.gates import GATES, LOSSES

EDGES = [-1e4, -750.0, -90.0, -1.0, -1e-310, -0.0, 0.0, 5e-324, 1e-310, 1.0, 90.0, 750.0, 1e4]
ACTIVATIONS = ["ReLU", "LeakyReLU", "ELU", "Sigmoid", "Tanh", "Softplus", "GELU", "SiLU", "Softmax", "LogSoftmax"]


def run(gate, *inputs):
    y = gate.forward(*inputs)
    grads, _ = gate.backward(np.ones(np.shape(y), inputs[0].dtype))
    return np.asarray(y), grads[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_stays_finite(name, dtype):
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        for x in (np.array(EDGES, dtype), np.array([EDGES, EDGES[::-1]], dtype)):
            y, grad = run(GATES[name](), x)
            assert np.isfinite(y).all()
            assert np.isfinite(grad).all()
            assert y.dtype == grad.dtype == dtype


LIMITS = [
    (lf.Sigmoid(), 0.0, 1.0),
    (lf.Tanh(), -1.0, 1.0),
    (lf.ELU(2.0), -2.0, 1e4),
    (lf.Softplus(), 0.0, 1e4),
    (lf.GELU(), 0.0, 1e4),
    (lf.SiLU(), 0.0, 1e4),
    (lf.LeakyReLU(0.1), -1e3, 1e4),
]


@pytest.mark.parametrize(("gate", "low", "high"), LIMITS, ids=lambda item: repr(item))
def test_far_out_an_activation_has_reached_its_limits(gate, low, high):
    y, grad = run(gate, np.array([-1e4, 1e4]))
    np.testing.assert_allclose(y, [low, high], atol=1e-300)
    slope = {"LeakyReLU(0.1)": (0.1, 1), "Sigmoid()": (0, 0), "Tanh()": (0, 0)}.get(repr(gate), (0, 1))
    np.testing.assert_allclose(grad, slope, atol=1e-300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_class_losses_of_huge_scores_are_their_differences(dtype):
    scores = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [5e-324, 0.0, -0.0]], dtype)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        loss, grad = run(lf.SoftmaxCE(), scores, np.array([1, 0, 2]))
        assert loss == pytest.approx((2e4 + 2e4 + np.log(2) + np.log(3)) / 3, rel=1e-6)
        np.testing.assert_allclose(grad * 3, [[1, -1, 0], [-1, 0.5, 0.5], [1 / 3, 1 / 3, -2 / 3]], rtol=1e-6)
        loss, grad = run(lf.MulticlassSVM(), scores, np.array([1, 0, 2]))
        assert loss == pytest.approx((20001 + 10001 + 2 * 20001 + 2) / 3, rel=1e-6)
        np.testing.assert_allclose(grad * 3, [[1, -2, 1], [-2, 1, 1], [1, 1, -2]], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_logistic_loss_of_huge_scores_is_the_score(dtype):
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        loss, grad = run(lf.SigmoidCE(), np.array([1e4, -1e4, 1e4, -1e4], dtype), np.array([1, 1, 0, 0]))
        assert loss == pytest.approx(5e3)
        np.testing.assert_allclose(grad, [0, -0.25, 0.25, 0])
        for gate in (lf.ClippedNLL(), lf.LogisticLikelihood(), lf.Huber(), lf.SquaredError(), lf.AbsoluteError()):
            loss, grad = run(gate, np.array(EDGES, dtype), np.arange(len(EDGES)) % 2)
            assert np.isfinite(loss)
            assert np.isfinite(grad).all()


def test_a_single_class_costs_nothing():
    for gate in (lf.SoftmaxCE(), lf.MulticlassSVM()):
        loss, grad = run(gate, np.array([[3.0], [-1e4]]), np.array([0, 0]))
        assert loss == 0
        np.testing.assert_array_equal(grad, [[0], [0]])


def test_a_single_sample_is_a_batch():
    scores = np.array([[1.0, 2.0, 0.5]])
    for gate in (lf.SoftmaxCE(), lf.MulticlassSVM()):
        once, grad = run(gate, scores, np.array([2]))
        twice, _ = run(gate, np.repeat(scores, 2, axis=0), np.array([2, 2]))
        assert once == pytest.approx(float(twice))
        assert grad.shape == (1, 3)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_no_samples_is_an_error(name):
    targets = np.zeros(0, int) if name in ("SoftmaxCE", "FocalCE", "MulticlassSVM") else np.zeros((0, 3))
    scores = np.zeros((0, 6 if name == "GaussianNLL" else 3))
    with pytest.raises(lf.GateError, match="the batch is empty"):
        GATES[name]().forward(scores, targets)


@pytest.mark.parametrize("gate", [lf.Mean(), lf.Max()], ids=repr)
def test_reducing_nothing_is_an_error_where_it_has_no_value(gate):
    with pytest.raises(lf.GateError, match=r"of no elements is undefined; the input has shape \(0, 3\)"):
        gate.forward(np.zeros((0, 3)))


def test_other_gates_pass_an_empty_batch_through():
    moving = [lf.Flatten(), lf.Reshape([-1, 3]), lf.BiasTrick()]
    for gate in [lf.Linear(2), lf.ReLU(), lf.GELU(), lf.Softmax(), lf.Dropout(0.5), *moving]:
        y, grad = run(gate, np.zeros((0, 3)))
        assert y.shape[0] == 0
        assert grad.shape == (0, 3)
    assert lf.Sum().forward(np.zeros((0, 3))) == 0
