"""Scores, losses and probabilities outside training."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.training.metrics import EVALUATION_BATCH, class_probabilities, evaluate_scores, predict_scores


def test_scores_do_not_depend_on_how_the_samples_are_cut() -> None:
    model = lf.Sequential(lf.Dropout(0.5), lf.Linear(3))
    x = np.random.default_rng(0).normal(size=(2 * EVALUATION_BATCH + 7, 4))
    model.build(np.random.default_rng(0), (1, 4))
    scores = predict_scores(model, x)
    np.testing.assert_allclose(scores, x @ model["1"].weight.value.T + model["1"].bias.value)
    assert model.training


def test_evaluating_gives_the_loss_first_and_the_metrics() -> None:
    scores, y = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]]), np.array([0, 1, 1])
    measured = evaluate_scores(scores, y, lf.MulticlassSVM(), "classification", ["accuracy", "f1"])
    assert list(measured) == ["loss", "accuracy", "f1"]
    assert measured["loss"] == pytest.approx(3 / 3)
    assert measured["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("loss", "scores", "expected"),
    [
        (lf.SoftmaxCE(), [[0.0, np.log(3.0)], [1e4, -1e4]], [[0.25, 0.75], [1.0, 0.0]]),
        (lf.SigmoidCE(), [[np.log(3.0)], [-1e4]], [[0.25, 0.75], [1.0, 0.0]]),
        (lf.SigmoidCE(), [np.log(3.0), -1e4], [[0.25, 0.75], [1.0, 0.0]]),
        (lf.LogisticLikelihood(), [[np.log(3.0)]], [[0.25, 0.75]]),
        (lf.ClippedNLL(), [[0.5], [7.0]], [[0.25, 0.75], [0.0, 1.0]]),
    ],
)
def test_a_loss_says_which_probabilities_scores_stand_for(
    loss: lf.Gate, scores: list[float], expected: list[list[float]]
) -> None:
    np.testing.assert_allclose(class_probabilities(loss, np.array(scores)), expected, atol=1e-15)


@pytest.mark.parametrize("loss", [lf.MulticlassSVM(), lf.SquaredError()])
def test_other_losses_define_none(loss: lf.Gate) -> None:
    assert class_probabilities(loss, np.ones((2, 3))) is None
