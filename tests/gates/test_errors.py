"""What is given wrongly is named: what it was, where it was, and what to write instead."""

import numpy as np
import pytest

import layerflow as lf

SETTINGS = [
    (lambda: lf.Dropout(1.0), r"Dropout\(1.0\): rate must be a probability below 1, 0 <= rate < 1, not 1.0"),
    (lambda: lf.Dropout(rate=-0.1), "rate must be"),
    (lambda: lf.Dropout("0.5"), "not '0.5'"),
    (lambda: lf.Dropout(float("nan")), "not nan"),
    (lambda: lf.L2Regularizer(-1), r"L2Regularizer\(-1\): strength must be a finite number, 0 or more, not -1"),
    (lambda: lf.L1Regularizer(float("inf")), "not inf"),
    (lambda: lf.L1Regularizer(True), "not True"),
    (lambda: lf.MulticlassSVM(margin=-1), "margin must be a finite number, 0 or more, not -1"),
    (lambda: lf.Huber(0), "delta must be a finite number above 0, not 0"),
    (lambda: lf.ClippedNLL(1), "floor must be a number between 0 and 1, not 1"),
    (lambda: lf.LeakyReLU(None), "negative_slope must be a finite number, not None"),
    (lambda: lf.ELU(float("nan")), "alpha must be a finite number, not nan"),
    (lambda: lf.Power("2"), "exponent must be a finite number, such as 2 or -0.5, not '2'"),
    (lambda: lf.Linear(0), "out_features must be an integer, 1 or more, not 0"),
    (lambda: lf.Linear(2, in_features=1.5), "in_features must be an integer, 1 or more, not 1.5"),
    (lambda: lf.Linear(2, init="hee"), "init='hee': no such initializer, did you mean 'he'"),
    (lambda: lf.Linear(2, init="?"), "no such initializer; there are he, xavier, normal, uniform, zeros"),
    (lambda: lf.SoftmaxCE([1, -1]), "class_weight must be 'balanced' or a list with one number, 0 or more, per class"),
    (lambda: lf.SoftmaxCE([[1, 2]]), "class_weight must be"),
    (lambda: lf.MulticlassSVM(class_weight="ab"), "class_weight must be"),
    (lambda: lf.SigmoidCE([1, 2, 3]), "class_weight must be two numbers, for targets 0 and 1"),
    (lambda: lf.Sum("0"), "axis must be an integer, a list of integers, or None for all axes, not '0'"),
    (lambda: lf.Mean([0.5]), "axis must be an integer"),
    (lambda: lf.Reshape([-1, -1]), "one of them may be -1"),
    (lambda: lf.Reshape("ab"), "shape must be a list of integers"),
    (lambda: lf.Slice("1:b"), r"Slice\('1:b'\): '1:b' is not a basic index"),
    (lambda: lf.Slice([True, False]), "True is not a basic index"),
    (lambda: lf.Slice(np.array([1.0, 2.0])), "is not a basic index"),
    (lambda: lf.Slice("1:2:3:4"), "is not a basic index"),
    (lambda: lf.Slice("1,,2"), "'' is not a basic index"),
]


@pytest.mark.parametrize(("make", "message"), SETTINGS, ids=[message for _, message in SETTINGS])
def test_a_setting_out_of_range_is_named(make, message):
    with pytest.raises(lf.GateError, match=message):
        make()


X = np.zeros((2, 3))
INPUTS = [
    (lf.Linear(2, in_features=4), (X,), r"input of shape \(2, 3\), expected \(..., 4\)"),
    (lf.Linear(2), (np.zeros(()),), r"input of shape \(\), expected \(..., in_features\)"),
    (lf.Flatten(), (np.zeros(()),), r"input of shape \(\), expected \(batch, ...\)"),
    (lf.BiasTrick(), (np.zeros(()),), r"expected \(..., features\)"),
    (lf.Reshape([-1, 4]), (X,), r"input of shape \(2, 3\) has 6 elements, which do not fill the shape \(-1, 4\)"),
    (lf.Transpose([0, 2]), (X,), "axes must hold each of 0 to 1 once"),
    (lf.Concatenate(), (X, np.zeros((3, 3))), r"inputs of shapes \(2, 3\), \(3, 3\)"),
    (lf.Concatenate(), (), "inputs of shapes none; they must be one or more"),
    (lf.Slice("5"), (X,), r"does not fit an input of shape \(2, 3\)"),
    (lf.Slice("::0"), (X,), "does not fit"),
    (lf.L2Regularizer(0.1), (), "no weights were given"),
]


@pytest.mark.parametrize(("gate", "inputs", "message"), INPUTS, ids=[f"{gate!r}-{m}" for gate, _, m in INPUTS])
def test_an_input_that_does_not_fit_is_named(gate, inputs, message):
    with pytest.raises(lf.GateError, match=message):
        gate.forward(*inputs)


def test_a_linear_gate_keeps_to_its_first_width():
    linear = lf.Linear(2)
    linear.forward(X)
    with pytest.raises(lf.GateError, match=r"Linear\(2\): input of shape \(2, 4\), expected \(..., 3\)"):
        linear.forward(np.zeros((2, 4)))


S = np.zeros((4, 3))
LABELS = [
    (np.array([0, 1, 3, 2]), "label 3 in row 2; the scores have 3 columns, so labels go from 0 to 2"),
    (np.array([0, -1, 3, 5]), "label -1 in row 1; the scores have 3 columns"),
    (np.array([0, 1, 2, -128], np.int8), "label -128 in row 3"),
    (np.array([0, 1, 255, 2], np.uint8), "label 255 in row 2"),
    (np.array([0, 1, 2, -2], ">i4"), "label -2 in row 3"),
    (np.array([1.0, 0.0, 2.0, 1.0]), "labels are float64, first label 1.0; .* labels.astype"),
    (np.array([True, False, True, True]), "labels are bool, first label True"),
    (np.array(["a", "b", "c", "a"]), "labels are <U1, first label a; expected integers from 0 to 2"),
    (np.array([[0], [1], [2], [0]]), r"labels of shape \(4, 1\), expected \(4,\), .*; write labels\[:, 0\]"),
    (np.array([0, 1, 2]), r"labels of shape \(3,\), expected \(4,\), .* the batch has 4 rows"),
    (np.array(1), r"labels of shape \(\), expected \(4,\)"),
]


@pytest.mark.parametrize("loss", [lf.SoftmaxCE, lf.MulticlassSVM])
@pytest.mark.parametrize(("labels", "message"), LABELS, ids=[message for _, message in LABELS])
def test_a_bad_label_is_named_with_its_row(loss, labels, message):
    with pytest.raises(lf.GateError, match=message):
        loss().forward(S, labels)


VALUES = [
    (lf.SquaredError(), np.zeros(4), np.zeros((4, 1)), r"targets of shape \(4, 1\), .*; write targets\[:, 0\]"),
    (lf.SquaredError(), np.zeros((4, 1)), np.zeros(3), r"shape \(3,\), expected \(4, 1\), .* 4 rows of scores"),
    (lf.Huber(), np.zeros((4, 3)), np.zeros(4), r"targets of shape \(4,\), expected \(4, 3\)"),
    (lf.Huber(), np.zeros((4, 3)), np.zeros((4, 1)), r"targets of shape \(4, 1\), expected \(4, 3\)"),
    (lf.AbsoluteError(), np.zeros((1, 3)), np.zeros(3), r"targets of shape \(3,\), expected \(1, 3\)"),
    (lf.AbsoluteError(), np.zeros((4, 1, 1)), np.zeros(4), r"targets of shape \(4,\), expected \(4, 1, 1\)"),
    (lf.AbsoluteError(), np.zeros(()), np.zeros(()), r"scores of shape \(\), expected \(batch,\) or"),
    (lf.SquaredError(), np.zeros(2), np.array(["a", "b"]), "targets are <U1, expected numbers"),
    (lf.SigmoidCE(), np.zeros(3), np.array([0, 1, 2]), "target 2.0 in row 2; targets go from 0 to 1"),
    (lf.SigmoidCE(), np.zeros((2, 2)), np.array([[0, 1], [-1, 1]]), r"target -1.0 in row 1, column 0; .*\(y \+ 1\)"),
    (lf.SigmoidCE(), np.zeros(2), np.array([0, np.nan]), "target nan in row 1"),
    (lf.ClippedNLL(), np.zeros(2), np.array([0, 0.5]), "targets must be exactly 0 or 1"),
    (lf.LogisticLikelihood(), np.zeros(2), np.array([0, 0.5]), "targets must be exactly 0 or 1"),
    (lf.SigmoidCE([1, 2]), np.zeros((4, 2)), np.zeros((4, 2)), r"class_weight needs one score per sample; .*\(4, 2\)"),
    (lf.SigmoidCE([1, 2]), np.zeros(2), np.array([0, 0.5]), "targets must be exactly 0 or 1"),
    (lf.SoftmaxCE(), np.zeros(3), np.zeros(3, int), r"scores of shape \(3,\), expected \(batch, classes\)"),
    (lf.SoftmaxCE(), np.zeros((2, 3)), np.full((2, 3), 0.5), r"row 0 is \[0.5 0.5 0.5\]; .* sum to 1"),
    (lf.SoftmaxCE(), np.zeros((2, 3)), np.array([[1, 0, 0], [2, -1, 0]]), "row 1 is"),
    (lf.SoftmaxCE(), np.zeros((2, 3)), np.array([[1, 0, 0], [np.nan, 1, 0]]), "row 1 is"),
    (lf.SoftmaxCE(), np.zeros((2, 3)), np.zeros((2, 4)), r"labels of shape \(2, 4\), expected \(2,\)"),
    (lf.SoftmaxCE([1, 2]), np.zeros((2, 3)), np.array([0, 1]), "class_weight has 2 entries; the scores have 3 columns"),
]


@pytest.mark.parametrize(("gate", "scores", "targets", "message"), VALUES, ids=[f"{g!r}-{m}" for g, _, _, m in VALUES])
def test_targets_that_do_not_fit_are_named(gate, scores, targets, message):
    with pytest.raises(lf.GateError, match=message):
        gate.forward(scores, targets)


WEIGHTS = [
    (np.ones((2, 1)), r"sample weights of shape \(2, 1\), expected \(2,\)"),
    (np.ones(3), r"sample weights of shape \(3,\), expected \(2,\)"),
    (np.array([1.0, -1.0]), "the weight in row 1 is -1.0; weights are finite and 0 or more"),
    (np.array([np.nan, 1.0]), "the weight in row 0 is nan"),
    (np.array([1.0, np.inf]), "the weight in row 1 is inf"),
    (np.zeros(2), "all weights of this batch are 0"),
]


@pytest.mark.parametrize("gate", [lf.SoftmaxCE(), lf.SigmoidCE(), lf.SquaredError()], ids=repr)
@pytest.mark.parametrize(("weights", "message"), WEIGHTS, ids=[message for _, message in WEIGHTS])
def test_bad_sample_weights_are_named(gate, weights, message):
    with pytest.raises(lf.GateError, match=message):
        gate.forward(np.zeros((2, 2)), np.array([[0, 1], [1, 0]]), weights)


def test_a_loss_checks_the_shapes_before_any_data_is_there():
    rng = np.random.default_rng(0)
    assert lf.SoftmaxCE().build(rng, (8, 3), (8,)) == ()
    assert lf.SoftmaxCE().build(rng, (8, 3), (8, 3), (8,)) == ()
    with pytest.raises(lf.GateError, match=r"labels of shape \(8, 2\)"):
        lf.SoftmaxCE().build(rng, (8, 3), (8, 2))
    with pytest.raises(lf.GateError, match=r"sample weights of shape \(3,\), expected \(8,\)"):
        lf.SquaredError().build(rng, (8, 1), (8,), (3,))


SINGLE = [lf.Sum(0), lf.Mean(0), lf.Max(0), lf.Max((0,)), lf.Sum(-1)]


@pytest.mark.parametrize("x", [3.0, np.array(3.0)], ids=["number", "0-d array"])
@pytest.mark.parametrize("gate", SINGLE, ids=repr)
def test_a_reduction_along_an_axis_that_is_not_there_is_an_error(gate, x):
    with pytest.raises(lf.GateError, match=r"an input of shape \(\) has no axis (0|-1); write axis=None"):
        gate.forward(x)


@pytest.mark.parametrize("gate", [lf.Softmax(), lf.Softmax(0), lf.LogSoftmax()], ids=repr)
def test_softmax_over_nothing_is_an_error(gate):
    with pytest.raises(lf.GateError, match=r"an input of shape \(0, 0\) has no elements along axis"):
        gate.forward(np.empty((0, 0)))


def test_softmax_of_no_samples_is_empty():
    gate = lf.Softmax()
    assert gate.forward(np.empty((0, 3))).shape == (0, 3)
    assert gate.backward(np.empty((0, 3)))[0][0].shape == (0, 3)
