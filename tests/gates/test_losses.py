"""Losses with options: smoothing, labels to ignore, several labels per sample, pairs, triplets, distributions."""

import math

import numpy as np
import pytest

import layerflow as lf
from layerflow import GateError

RNG = np.random.default_rng(7)
SCORES, TOKENS = RNG.normal(size=(3, 4, 5)), RNG.integers(0, 5, (3, 4))


def value_and_grad(gate, *inputs):
    value = gate.forward(*inputs)
    grads, _ = gate.backward(np.ones_like(value))
    return float(value), grads[0]


@pytest.mark.parametrize("loss", [lf.SoftmaxCE, lf.MulticlassSVM, lf.FocalCE])
def test_labels_at_several_positions_count_like_labels_of_as_many_samples(loss):
    value, grad = value_and_grad(loss(), SCORES, TOKENS)
    flat, flat_grad = value_and_grad(loss(), SCORES.reshape(12, 5), TOKENS.reshape(12))
    assert value == flat
    np.testing.assert_array_equal(grad.reshape(12, 5), flat_grad)


def test_labels_to_ignore_change_nothing_and_get_no_gradient():
    labels = np.where(np.arange(4) < [[4], [1], [2]], TOKENS, -100)
    value, grad = value_and_grad(lf.SoftmaxCE(ignore_index=-100), SCORES, labels)
    kept = labels != -100
    expected, expected_grad = value_and_grad(lf.SoftmaxCE(), SCORES[kept], labels[kept])
    assert value == pytest.approx(expected, rel=1e-14)
    assert not grad[~kept].any()
    np.testing.assert_allclose(grad[kept], expected_grad, rtol=1e-14)


def test_a_batch_without_a_label_that_counts_is_named():
    with pytest.raises(GateError, match="all labels of this batch are -1, the one to ignore"):
        lf.SoftmaxCE(ignore_index=-1).forward(SCORES, np.full((3, 4), -1))


def test_smoothing_is_cross_entropy_with_smoothed_probabilities():
    labels = TOKENS[:, 0]
    smooth = 0.7 * np.eye(5)[labels] + 0.3 / 5
    value, grad = value_and_grad(lf.SoftmaxCE(label_smoothing=0.3), SCORES[:, 0], labels)
    expected, expected_grad = value_and_grad(lf.SoftmaxCE(), SCORES[:, 0], smooth)
    assert value == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-13)


def test_focal_loss_without_gamma_is_cross_entropy_and_survives_certainty():
    value, grad = value_and_grad(lf.FocalCE(0.0), SCORES, TOKENS)
    expected, expected_grad = value_and_grad(lf.SoftmaxCE(), SCORES, TOKENS)
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-12, atol=1e-16)
    sure = np.array([[1e4, 0.0, 0.0], [0.0, 1e4, 0.0]])
    for gamma in (0.0, 0.5, 2.0):
        value, grad = value_and_grad(lf.FocalCE(gamma), sure, np.array([0, 0]))
        assert value == pytest.approx(5e3)  # right: 0; wrong by 1e4: (1 - 0)^gamma * 1e4
        np.testing.assert_allclose(grad, [[0, 0, 0], [-0.5, 0.5, 0]], atol=1e-300)


def test_a_positive_weight_counts_the_term_of_yes_only():
    scores, targets = np.array([[2.0, -1.0], [0.5, 3.0]]), np.array([[1, 0], [0, 1]])

    def softplus(z):
        return math.log1p(math.exp(z))

    by_hand = (3 * softplus(-2.0) + softplus(-1.0) + softplus(0.5) + 0.5 * softplus(-3.0)) / 2
    assert float(lf.SigmoidCE(pos_weight=[3.0, 0.5]).forward(scores, targets)) == pytest.approx(by_hand, rel=1e-14)
    extreme, grad = value_and_grad(lf.SigmoidCE(pos_weight=2.0), np.array([1e4, -1e4, -1e4]), np.array([1, 1, 0]))
    assert extreme == pytest.approx(2e4 / 3)
    np.testing.assert_allclose(grad, [0, -2 / 3, 0], atol=1e-300)


def test_a_constant_trained_on_the_quantile_loss_reaches_that_quantile():
    targets = RNG.exponential(size=999)
    gate = lf.Quantile(0.9)
    values = [float(gate.forward(np.full(999, c), targets)) for c in np.sort(targets)]
    assert np.sort(targets)[np.argmin(values)] == pytest.approx(np.quantile(targets, 0.9), rel=1e-2)


def test_likelihoods_agree_with_their_densities():
    counts, log_means = np.array([0, 3, 5]), np.array([0.1, 1.0, 2.0])
    density = [math.exp(k * s - math.exp(s)) for k, s in zip(counts, log_means, strict=True)]
    value = float(lf.PoissonNLL().forward(log_means, counts))
    assert value == pytest.approx(-np.mean(np.log(density)), rel=1e-14)
    scores, targets = np.array([[0.5, -1.0], [2.0, 0.7]]), np.array([1.0, 0.0])
    log_density = [-0.5 * (v + (t - m) ** 2 / math.exp(v)) for (m, v), t in zip(scores, targets, strict=True)]
    assert float(lf.GaussianNLL().forward(scores, targets)) == pytest.approx(-np.mean(log_density), rel=1e-14)
    np.testing.assert_array_equal(lf.GaussianNLL().prediction(scores), scores[:, :1])
    np.testing.assert_array_equal(lf.PoissonNLL().prediction(log_means), np.exp(log_means))


def test_a_distribution_has_no_divergence_from_itself():
    p = RNG.dirichlet(np.ones(4), 3)
    p[0] = [1.0, 0.0, 0.0, 0.0]
    assert float(lf.KLDivergence().forward(np.log(np.maximum(p, 1e-300)), p)) == pytest.approx(0, abs=1e-15)


def test_equal_vectors_have_a_gradient_of_numbers():
    same = np.ones((2, 3))
    for eps in (0.0, 1e-6):
        value, grad = value_and_grad(lf.Triplet(eps=eps), same, same, same)
        assert value == 1.0 and np.isfinite(grad).all()
    value, grad = value_and_grad(lf.CosineEmbedding(), np.zeros((1, 3)), np.ones((1, 3)), np.array([1]))
    assert value == 1.0 and np.isfinite(grad).all()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("constant", [9, 9, 1, 2, 3, 9]),
        ("reflect", [3, 2, 1, 2, 3, 2]),
        ("replicate", [1, 1, 1, 2, 3, 3]),
        ("circular", [2, 3, 1, 2, 3, 1]),
    ],
)
def test_padding_adds_what_its_mode_says(mode, expected):
    np.testing.assert_array_equal(lf.Pad([2, 1], mode, 9).forward(np.array([[1.0, 2.0, 3.0]])), [expected])


def test_one_number_pads_the_axes_after_the_channels():
    assert lf.Pad(2).forward(np.zeros((3, 4, 5, 6))).shape == (3, 4, 9, 10)


S, L = np.zeros((2, 3)), np.array([0, 1])
BAD = [
    (lambda: lf.SoftmaxCE(label_smoothing=1.5), "label_smoothing must be a number from 0 to 1, not 1.5"),
    (lambda: lf.SoftmaxCE(ignore_index=0.5), "ignore_index must be an integer"),
    (
        lambda: lf.SoftmaxCE().forward(SCORES, np.full((3, 4), 7)),
        r"label 7 in row 0, position \[0\]; ",
    ),
    (lambda: lf.SoftmaxCE().forward(SCORES, TOKENS, np.ones(4)), r"shape \(4,\), expected \(3,\).* or \(3, 4\)"),
    (lambda: lf.SoftmaxCE().forward(SCORES, TOKENS[:, :2]), r"labels of shape \(3, 2\), expected \(3, 4\)"),
    (lambda: lf.FocalCE(-1), "gamma must be a finite number, 0 or more"),
    (lambda: lf.SigmoidCE(pos_weight=-1), "pos_weight must be a number, 0 or more"),
    (lambda: lf.SigmoidCE(pos_weight="much"), "pos_weight must be a number, 0 or more"),
    (lambda: lf.SigmoidCE(pos_weight=[1, 2]).forward(S, S), "pos_weight has 2 entries, for scores of shape"),
    (lambda: lf.Quantile(1.0), "quantile must be a number between 0 and 1"),
    (lambda: lf.PoissonNLL().forward(S, S - 1), r"target -1.0 at \(0, 0\); counts are 0 or more"),
    (lambda: lf.KLDivergence().forward(S, S - 1), "probabilities are 0 or more"),
    (lambda: lf.GaussianNLL().forward(S, L), r"scores of shape \(2, 3\), expected \(batch, 2 k\)"),
    (lambda: lf.GaussianNLL().forward(np.zeros((2, 4)), L), r"targets of shape \(2,\), expected \(2, 2\)"),
    (lambda: lf.Triplet(margin=-1), "margin must be"),
    (lambda: lf.Triplet().forward(S, S, S[:1]), r"negative \(1, 3\); expected one shape"),
    (lambda: lf.Triplet().forward(S[:0], S[:0], S[:0]), "the batch is empty"),
    (lambda: lf.CosineEmbedding(margin=2), "margin must be a number from -1 to 1"),
    (lambda: lf.CosineEmbedding().forward(S, S, L), r"target 0 in row 0; expected 1 or -1 \(for 0 and 1: 2 \* y - 1\)"),
    (lambda: lf.CosineEmbedding().forward(S, S, np.ones(3)), r"targets of shape \(3,\), expected \(2,\)"),
    (lambda: lf.Pad(-1), "padding must be an integer, 0 or more"),
    (lambda: lf.Pad([1, 2, 3]), "two of them per axis"),
    (lambda: lf.Pad(1, "mirror"), "mode is 'mirror', expected 'constant', 'reflect'"),
    (
        lambda: lf.Pad([3, 0], "reflect").forward(S),
        r"has 3 elements on axis 1, too few for a padding of 3; .* at most 2",
    ),
    (lambda: lf.Pad([1, 0, 1, 0, 1, 0]).forward(S), r"padding for 3 axes, but the input has shape \(2, 3\)"),
]


@pytest.mark.parametrize(("use", "message"), BAD, ids=range(len(BAD)))
def test_wrong_settings_and_inputs_are_named(use, message):
    with pytest.raises(GateError, match=message):
        use()


@pytest.mark.parametrize("loss", [lf.SoftmaxCE(), lf.FocalCE()], ids=repr)
def test_probabilities_of_huge_scores_are_0_and_1(loss):
    scores = np.array([[1e4, 0.0, -1e4], [-1e4, -2e4, -3e4]])
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(loss.probabilities(scores), [[1, 0, 0], [1, 0, 0]], atol=1e-300)
