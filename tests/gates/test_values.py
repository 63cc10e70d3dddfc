"""Outputs and gradients against references written as plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import layerflow as lf
from layerflow.gates import initializers
from layerflow.gates.arithmetic import sum_to
from layerflow.gates.shared import erfc, sigmoid


def forward_backward(gate, *inputs, grad=None):
    y = gate.forward(*inputs)
    return y, *gate.backward(np.ones_like(y) if grad is None else grad)


def test_linear_is_a_dot_product_per_row_and_output():
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
    linear = lf.Linear(2)
    linear.build(rng, x.shape)
    linear.bias.value = rng.normal(size=2)
    W, b = linear.weight.value, linear.bias.value
    y, (dx,), grads = forward_backward(linear, x, grad=g)
    for n in range(3):
        for k in range(2):
            assert y[n, k] == pytest.approx(b[k] + sum(W[k, d] * x[n, d] for d in range(4)))
        for d in range(4):
            assert dx[n, d] == pytest.approx(sum(g[n, k] * W[k, d] for k in range(2)))
    for k in range(2):
        assert grads["bias"][k] == pytest.approx(sum(g[n, k] for n in range(3)))
        for d in range(4):
            assert grads["weight"][k, d] == pytest.approx(sum(g[n, k] * x[n, d] for n in range(3)))


def test_the_bias_trick_makes_the_last_column_of_the_weights_the_bias():
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(5, 3)), rng.normal(size=(2, 3)), rng.normal(size=2)
    np.testing.assert_allclose(lf.BiasTrick().forward(x) @ np.column_stack([W, b]).T, x @ W.T + b)


SCORES, LABELS = np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]]), np.array([0, 1, 2])


def test_the_multiclass_svm_of_three_pictures_is_worked_out_by_hand():
    loss, (grad, _), _ = forward_backward(lf.MulticlassSVM(), SCORES, LABELS)
    assert loss == pytest.approx((2.9 + 0.0 + 12.9) / 3)  # (5.1 - 3.2 + 1) + 0; 0; (2.2 + 3.1 + 1) + (2.5 + 3.1 + 1)
    np.testing.assert_allclose(grad * 3, [[-1, 1, 0], [0, 0, 0], [1, 1, -2]])


def test_softmax_cross_entropy_is_the_negative_log_of_the_labels_probability():
    loss, (grad, _), _ = forward_backward(lf.SoftmaxCE(), SCORES, LABELS)
    expected = 0.0
    for n, (scores, label) in enumerate(zip(SCORES, LABELS, strict=True)):
        total = sum(math.exp(s) for s in scores)
        expected -= math.log(math.exp(scores[label]) / total) / 3
        for c, s in enumerate(scores):
            assert grad[n, c] == pytest.approx((math.exp(s) / total - (c == label)) / 3)
    assert loss == pytest.approx(expected)


@pytest.mark.parametrize("make", [lf.SoftmaxCE, lf.MulticlassSVM])
def test_weights_make_a_weighted_mean(make):
    own, per_class = np.array([0.5, 0.0, 4.0]), [2.0, 7.0, 3.0]
    each = [make().forward(SCORES[i : i + 1], LABELS[i : i + 1]) for i in range(3)]
    both = [own[i] * per_class[LABELS[i]] for i in range(3)]
    assert make().forward(SCORES, LABELS, own) == pytest.approx(np.dot(own, each) / sum(own))
    assert make(class_weight=per_class).forward(SCORES, LABELS, own) == pytest.approx(np.dot(both, each) / sum(both))


@pytest.mark.parametrize("weights", [None, np.array([0.5, 0.0, 4.0])])
@pytest.mark.parametrize("class_weight", [None, [2.0, 7.0, 3.0]])
def test_one_hot_probabilities_count_as_labels(class_weight, weights):
    extra = () if weights is None else (weights,)
    by_label = forward_backward(lf.SoftmaxCE(class_weight), SCORES, LABELS, *extra)
    one_hot = forward_backward(lf.SoftmaxCE(class_weight), SCORES, np.eye(3)[LABELS], *extra)
    assert by_label[0] == pytest.approx(one_hot[0])
    np.testing.assert_allclose(by_label[1][0], one_hot[1][0], atol=1e-16)


ELEMENT_LOSSES = [
    (lf.SquaredError(), lambda s, t: (s - t) ** 2),
    (lf.AbsoluteError(), lambda s, t: abs(s - t)),
    (lf.Huber(1.5), lambda s, t: (s - t) ** 2 / 2 if abs(s - t) <= 1.5 else 1.5 * (abs(s - t) - 0.75)),
    (lf.SigmoidCE(), lambda s, t: -math.log(1 / (1 + math.exp(-s if t else s)))),
    (lf.ClippedNLL(0.01), lambda s, t: -math.log(min(max((1 + (s if t else -s)) / 2, 0.01), 1))),
    (lf.LogisticLikelihood(), lambda s, t: 1 - 1 / (1 + math.exp(-s if t else s))),
]


@pytest.mark.parametrize(("gate", "of_one"), ELEMENT_LOSSES, ids=lambda item: type(item).__name__)
def test_an_element_loss_is_summed_over_outputs_and_averaged_over_the_batch(gate, of_one):
    scores = np.array([[0.3, -2.0], [4.0, 0.0], [-0.6, 0.9]])
    targets, weights = np.array([[1, 1], [0, 1], [0, 0]]), np.array([1.0, 2.0, 0.5])
    rows = [sum(of_one(s, t) for s, t in zip(*row, strict=True)) for row in zip(scores, targets, strict=True)]
    assert gate.forward(scores, targets) == pytest.approx(sum(rows) / 3)
    assert gate.forward(scores, targets, weights) == pytest.approx(np.dot(weights, rows) / 3.5)


def test_a_column_of_scores_takes_targets_without_the_column():
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(5, 1)), np.array([0, 1, 1, 0, 1])
    for gate, _ in ELEMENT_LOSSES:
        plain, column = (forward_backward(gate, scores, t) for t in (targets, targets[:, None]))
        assert plain[0] == column[0]
        np.testing.assert_array_equal(plain[1][0], column[1][0])


def test_the_three_bases_differ_in_who_guides_a_confidently_wrong_classifier():
    bases = lf.SigmoidCE(), lf.ClippedNLL(), lf.LogisticLikelihood()
    logistic, clipped, likelihood = (forward_backward(gate, np.array([-9.0]), np.array([1]))[1][0] for gate in bases)
    assert logistic == pytest.approx(-1, abs=1e-3)
    assert clipped == 0
    assert -2e-4 < likelihood < 0


def test_class_weights_of_a_yes_or_no_question_weigh_the_samples():
    scores, answers = np.array([0.5, -1.0, 2.0]), np.array([1, 0, 0])
    weighed = forward_backward(lf.SigmoidCE(class_weight=[1.0, 3.0]), scores, answers)
    by_hand = forward_backward(lf.SigmoidCE(), scores, answers, np.array([3.0, 1.0, 1.0]))
    assert weighed[0] == by_hand[0]
    np.testing.assert_array_equal(weighed[1][0], by_hand[1][0])


def test_regularizers_sum_over_all_weights_and_do_not_average():
    W, b = np.array([[1.0, -2.0], [0.0, 3.0]]), np.array([-4.0])
    y, grads, _ = forward_backward(lf.L2Regularizer(0.5), W, b)
    assert y == 0.5 * (1 + 4 + 9 + 16)
    np.testing.assert_array_equal(grads[0], W)
    np.testing.assert_array_equal(grads[1], b)
    y, grads, _ = forward_backward(lf.L1Regularizer(0.5), W, b)
    assert y == 0.5 * (1 + 2 + 3 + 4)
    np.testing.assert_array_equal(grads[0], [[0.5, -0.5], [0.0, 0.5]])


def test_the_error_function_is_accurate_far_into_the_tail():
    x = np.concatenate([np.linspace(-6, 6, 4001), np.linspace(6, 26, 500), [0.46875, 4.0, -0.46875, -4.0, 0.0]])
    expected = np.array([math.erfc(value) for value in x])
    np.testing.assert_allclose(erfc(x), expected, rtol=1e-13)
    near = np.abs(x) < 4
    np.testing.assert_allclose(erfc(x[near]), expected[near], rtol=1e-14)


def test_the_sigmoid_is_accurate_to_rounding_on_both_sides():
    for x in (-700.0, -40.0, -1.0, 0.0, 1.0, 40.0, 700.0):
        assert sigmoid(x) == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-15)


def test_a_vanishing_loss_keeps_its_leading_digits():
    tiny = math.exp(-40)  # ln(1 + e^-40), to rounding
    assert lf.Softplus().forward(np.array([-40.0]))[0] == pytest.approx(tiny, rel=1e-14)
    assert lf.SigmoidCE().forward(np.array([40.0]), np.array([1])) == pytest.approx(tiny, rel=1e-14)


TIED_A, TIED_B = np.array([1.0, 2.0, 3.0, -0.0]), np.array([2.0, 2.0, 1.0, 0.0])


@pytest.mark.parametrize(("gate", "to_a"), [(lf.Maximum(), [0, 0.5, 1, 0.5]), (lf.Minimum(), [1, 0.5, 0, 0.5])])
def test_a_router_splits_ties_evenly(gate, to_a):
    _, (grad_a, grad_b), _ = forward_backward(gate, TIED_A, TIED_B)
    np.testing.assert_array_equal(grad_a, to_a)
    np.testing.assert_array_equal(grad_b, 1 - np.array(to_a))


def test_the_maximum_of_an_axis_splits_ties_evenly():
    _, (grad,), _ = forward_backward(lf.Max(axis=1), np.array([[3.0, 3.0, 1.0], [0.0, 5.0, 2.0], [4.0, 4.0, 4.0]]))
    np.testing.assert_allclose(grad, [[1 / 2, 1 / 2, 0], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3]])


def test_a_power_of_zero_is_flat_even_at_zero():
    y, (grad,), _ = forward_backward(lf.Power(0), np.array([0.0, 2.0]))
    np.testing.assert_array_equal(y, [1, 1])
    np.testing.assert_array_equal(grad, [0, 0])


@settings(max_examples=60, deadline=None)
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), st.integers(0, 2**32 - 1))
def test_the_gradient_of_a_broadcast_value_is_the_sum_over_its_copies(shapes, seed):
    shape, _ = shapes.input_shapes
    grad = np.random.default_rng(seed).normal(size=shapes.result_shape)
    expected = np.zeros(shape)
    origin = np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), shapes.result_shape)
    for index in np.ndindex(shapes.result_shape):
        expected.flat[origin[index]] += grad[index]
    got = sum_to(grad, shape)
    assert got.shape == shape
    np.testing.assert_allclose(got, expected, atol=1e-14)


MATMUL_SHAPES = hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3)


@settings(max_examples=60, deadline=None)
@given(MATMUL_SHAPES, st.integers(0, 2**32 - 1))
def test_the_matrix_product_of_any_ranks_has_the_gradients_of_its_definition(shapes, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=shape) for shape in shapes.input_shapes)
    y = np.matmul(a, b)
    grad = rng.normal(size=y.shape)
    got, (grad_a, grad_b), _ = forward_backward(lf.MatMul(), a, b, grad=grad)
    np.testing.assert_array_equal(got, y)
    for value, derivative, product in ((a, grad_a, lambda d: d @ b), (b, grad_b, lambda d: a @ d)):
        assert derivative.shape == value.shape
        for index in np.ndindex(value.shape):  # the product is linear in each factor
            unit = np.zeros(value.shape)
            unit[index] = 1.0
            assert derivative[index] == pytest.approx(np.sum(grad * product(unit)), abs=1e-12)


def test_a_model_reshapes_batches_of_any_size():
    model = lf.Sequential(lf.Reshape([-1, 2, 3]), lf.Transpose([0, 2, 1]), lf.Flatten())
    for batch in (1, 4):
        x = np.arange(6.0 * batch).reshape(batch, 6)
        np.testing.assert_array_equal(model.forward(x), x.reshape(batch, 2, 3).transpose(0, 2, 1).reshape(batch, 6))


KEYS = [
    ("1:3, 0", (slice(1, 3), 0)),
    (":", (slice(None),)),
    ("-1", (-1,)),
    ("..., None, ::-2", (..., None, slice(None, None, -2))),
    (" 0 ,newaxis", (0, None)),
    ((1, slice(None, 2)), (1, slice(None, 2))),
    (np.int64(2), (2,)),
    (None, (None,)),
]


@pytest.mark.parametrize(("key", "meaning"), KEYS, ids=str)
def test_a_slice_key_means_what_it_means_between_brackets(key, meaning):
    x = np.arange(24.0).reshape(4, 3, 2)
    y, (grad,), _ = forward_backward(lf.Slice(key), x)
    np.testing.assert_array_equal(y, x[meaning])
    expected = np.zeros_like(x)
    expected[meaning] = 1
    np.testing.assert_array_equal(grad, expected)


def test_concatenated_inputs_get_their_own_part_of_the_gradient():
    a, b, c = np.zeros((2, 1)), np.zeros((2, 3)), np.zeros((2, 0))
    _, grads, _ = forward_backward(lf.Concatenate(), a, b, c, grad=np.arange(8.0).reshape(2, 4))
    np.testing.assert_array_equal(grads[0], [[0], [4]])
    np.testing.assert_array_equal(grads[1], [[1, 2, 3], [5, 6, 7]])
    assert grads[2].shape == (2, 0)


@pytest.mark.parametrize("init", ["he", "xavier", "normal", "uniform", "zeros"])
def test_initial_weights_have_the_spread_that_the_papers_ask_for(init):
    linear = lf.Linear(300, init=init)
    linear.build(np.random.default_rng(0), (1, 200))
    spread = {"he": (2 / 200) ** 0.5, "xavier": (2 / 500) ** 0.5, "normal": 0.01, "uniform": 0.01 / 3**0.5, "zeros": 0}
    assert linear.weight.value.std() == pytest.approx(spread[init], rel=0.02)
    assert not linear.bias.value.any()


def test_initializers_draw_what_they_say():
    rng = np.random.default_rng(0)
    wide, tall = initializers.Orthogonal()(rng, (3, 8)), initializers.Orthogonal(2.0)(rng, (8, 3))
    np.testing.assert_allclose(wide @ wide.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(tall.T @ tall, 4 * np.eye(3), atol=1e-14)
    assert initializers.Orthogonal()(rng, (4, 2, 3)).shape == (4, 2, 3)
    drawn = initializers.TruncatedNormal(0.5)(rng, (200, 100))
    assert np.abs(drawn).max() <= 1.0 and drawn.std() == pytest.approx(0.5 * 0.8796, rel=0.02)
    assert initializers.LeCun()(rng, (400, 100)).std() == pytest.approx(0.1, rel=0.02)
    assert (initializers.Constant(3.0)(rng, (2, 2)) == 3).all()
    with pytest.raises(lf.GateError, match=r"Orthogonal: shape \(3,\); only a matrix can be orthogonal"):
        initializers.Orthogonal()(rng, (3,))
