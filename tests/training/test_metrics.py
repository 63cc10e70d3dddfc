"""Metrics: against plain loops and scikit-learn, and at the edges; models in evaluation mode."""

import math

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import ConfigError, DataError
from layerflow.training.evaluation import EVALUATION_BATCH, class_probabilities, evaluate_scores, predict_scores
from layerflow.training.metrics import (
    DEFAULT_METRICS,
    METRICS,
    MULTILABEL,
    Classified,
    baseline,
    confusion_matrix,
    evaluate,
    higher_is_better,
    precision_recall_f1,
    predicted_labels,
)

NAMES = {task: [name for name, metric in METRICS.items() if metric.task == task] for task in DEFAULT_METRICS}

SCORES = [[1.0, 2.0]]


def accuracy(scores, labels):
    return evaluate("classification", scores, labels, ["accuracy"])["accuracy"]


def top_k(scores, labels, k):
    return evaluate("classification", scores, labels, [f"top_{k}"])[f"top_{k}"]


def rmse(scores, targets):
    return evaluate("regression", scores, targets, ["rmse"])["rmse"]


def mae(scores, targets):
    return evaluate("regression", scores, targets, ["mae"])["mae"]


def r2(scores, targets):
    return evaluate("regression", scores, targets, ["r2"])["r2"]


def classified(seed, samples=60, classes=11):
    """Return scores with many ties, and labels of which some classes never occur."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (samples, classes)).astype(float), rng.integers(0, classes - 2, samples)


def test_confusion_and_per_class_metrics_equal_plain_loops():
    scores, labels = classified(0)
    predictions = [max(range(11), key=lambda j: row[j]) for row in scores.tolist()]
    confusion = confusion_matrix(labels, predictions, 11)
    for i in range(11):
        for j in range(11):
            assert confusion[i, j] == sum(y == i and p == j for y, p in zip(labels, predictions, strict=True))
    for c, (precision, recall, f1) in enumerate(zip(*precision_recall_f1(confusion), strict=True)):
        hits = sum(y == p == c for y, p in zip(labels, predictions, strict=True))
        predicted, actual = predictions.count(c), labels.tolist().count(c)
        assert precision == (hits / predicted if predicted else 0)
        assert recall == (hits / actual if actual else 0)
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall) if hits else 0)
    assert accuracy(scores, labels) == np.mean(labels == predictions)


@pytest.mark.parametrize("k", range(2, 11))
def test_top_k_equals_a_stable_sort(k):
    scores, labels = classified(1)
    order = [sorted(range(11), key=lambda j, row=row: -row[j])[:k] for row in scores.tolist()]
    assert top_k(scores, labels, k) == np.mean([y in best for y, best in zip(labels, order, strict=True)])


@pytest.mark.filterwarnings("ignore:Precision is ill-defined", "ignore:Recall is ill-defined")
@pytest.mark.parametrize("seed", range(5))
def test_classification_agrees_with_scikit_learn(seed):
    reference = pytest.importorskip("sklearn.metrics")
    scores, labels = classified(seed, samples=25)
    scores += np.random.default_rng(seed).normal(size=scores.shape) / 10
    predictions = predicted_labels(scores)
    found = evaluate("classification", scores, labels, NAMES["classification"])
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        labels, predictions, labels=range(11), zero_division=0
    )
    confusion = confusion_matrix(labels, predictions, 11)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels, predictions, labels=range(11)))
    np.testing.assert_allclose(precision_recall_f1(confusion), [precision, recall, f1])
    assert found["f1"] == pytest.approx(reference.f1_score(labels, predictions, average="macro", zero_division=0))
    assert found["recall"] == pytest.approx(
        reference.recall_score(labels, predictions, average="macro", zero_division=0)
    )
    assert top_k(scores, labels, 3) == pytest.approx(
        reference.top_k_accuracy_score(labels, scores, k=3, labels=range(11))
    )


@pytest.mark.parametrize("columns", [None, 1, 3])
def test_regression_agrees_with_scikit_learn(columns):
    reference = pytest.importorskip("sklearn.metrics")
    shape = (40,) if columns is None else (40, columns)
    rng = np.random.default_rng(2)
    targets = rng.normal(size=shape)
    if columns == 3:
        targets[:, 1] = 0.1
    scores = targets + rng.normal(size=shape) / 3
    assert rmse(scores, targets) == pytest.approx(reference.root_mean_squared_error(targets, scores))
    assert mae(scores, targets) == pytest.approx(reference.mean_absolute_error(targets, scores))
    if columns != 3:
        assert r2(scores, targets) == pytest.approx(reference.r2_score(targets, scores))
    else:
        each = [r2(scores[:, i], targets[:, i]) for i in range(3)]
        assert each[1] == 0
        assert r2(scores, targets) == pytest.approx(np.mean(each))


def test_r2_of_targets_far_from_zero_keeps_its_digits():
    targets = 1e9 + np.arange(10.0)
    assert r2(targets + 1, targets) == pytest.approx(1 - 10 / 82.5, rel=1e-12)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_score_per_sample_means_two_classes(shape):
    scores, labels = np.array([-1.0, 0.0, 2.0, 3.0]), np.array([0, 0, 1, 0])
    assert predicted_labels(scores.reshape(shape)).tolist() == [0, 0, 1, 1]
    for targets in (labels, labels.reshape(-1, 1), labels.astype(float), labels.astype(bool)):
        assert accuracy(scores.reshape(shape), targets) == 0.75
        assert Classified(scores.reshape(shape), targets).confusion.tolist() == [[2, 1], [0, 1]]
    assert top_k(scores.reshape(shape), labels, 2) == 1


def test_probabilities_count_as_their_most_probable_class():
    assert accuracy([[1.0, 2.0], [3.0, 0.0]], [[0.2, 0.8], [0.1, 0.9]]) == 0.5


def test_a_model_without_an_opinion_gets_no_credit():
    labels = np.arange(10)
    assert top_k(np.zeros((10, 10)), labels, 3) == 0.3
    assert top_k(np.full((10, 10), np.nan), labels, 3) <= 0.3


@pytest.mark.parametrize(
    ("scores", "targets", "expected"), [([1.0, 1.0], [1.0, 1.0], 1), ([1.0, 2.0], [0.1, 0.1], 0), ([1], [2], math.nan)]
)
def test_r2_of_constant_targets_is_defined(scores, targets, expected):
    assert r2(scores, targets) == pytest.approx(expected, nan_ok=True)


def test_baselines_are_what_a_constant_guess_reaches():
    train, test = [2, 2, 2, 1, 1, 0], np.array([2, 1, 1, 3])
    assert baseline("classification", train, test, ["accuracy", "top_2"]) == {"accuracy": 0.25, "top_2": 0.75}
    found = baseline("regression", [1.0, 3.0], np.array([[2.0], [4.0]]), ["rmse", "mae", "r2"])
    assert found == pytest.approx({"rmse": math.sqrt(2), "mae": 1.0, "r2": -1.0})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", True),
        ("val_top_3", True),
        ("val_r2", True),
        ("f1", True),
        ("val_recall_12", True),
        ("val_rmse", False),
        ("val_log_loss", False),
        ("val_mcc", True),
        ("loss", False),
    ],
)
def test_which_way_is_better_follows_from_the_name(name, expected):
    assert higher_is_better(name) is expected


def test_one_class_is_measured_by_its_number():
    labels, scores = [0, 0, 1, 2], np.eye(3)[[0, 1, 1, 1]]
    names = ["recall_0", "precision_1", "f1_1", "f1_2"]
    found = evaluate("classification", scores, labels, names)
    assert found == pytest.approx({"recall_0": 1 / 2, "precision_1": 1 / 3, "f1_1": 1 / 2, "f1_2": 0})


def test_every_default_is_a_metric_of_its_task():
    for task, names in DEFAULT_METRICS.items():
        assert names
        assert set(names) <= set(MULTILABEL if task == "multilabel" else NAMES[task])


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (
            lambda: accuracy(np.zeros((2, 3)), [0, 3]),
            DataError,
            "label 3 is out of range: 3 classes are labelled 0 to 2",
        ),
        (
            lambda: accuracy(np.zeros((2, 3)), [0, -1]),
            DataError,
            r"integers >= 0, got int64 such as \[0, -1\]",
        ),
        (lambda: accuracy(np.zeros((2, 3)), [0, 0.5]), DataError, "integers >= 0, got float64"),
        (lambda: accuracy(np.zeros((2, 3)), [0, math.inf]), DataError, "integers >= 0, got float64"),
        (lambda: accuracy(np.zeros((2, 3)), ["a", "b"]), DataError, "integers >= 0, got <U1"),
        (lambda: accuracy(np.zeros((2, 3)), [0]), DataError, "there are 1 labels, but 2 predictions"),
        (lambda: accuracy(np.zeros((2, 3, 4)), [0, 1]), DataError, r"scores have shape \(2, 3, 4\)"),
        (lambda: accuracy(np.zeros((2, 3)), np.ones((2, 3))), DataError, "each row sums to 1"),
        (lambda: accuracy(np.zeros((0, 3)), np.zeros(0, int)), DataError, "at least one sample"),
        (lambda: rmse([], []), DataError, "at least one sample"),
        (
            lambda: rmse(np.zeros((3, 1)), np.zeros((3, 2))),
            DataError,
            r"scores have shape \(3, 1\), but targets have shape \(3, 2\)",
        ),
        (lambda: top_k(np.zeros((2, 3)), [0, 1], 4), ConfigError, "top_4 needs at least 4 classes, but there are 3"),
        (lambda: baseline("classification", [0, 1], [0, 1], ["f1_2"]), ConfigError, "2 classes are numbered 0 to 1"),
        (
            lambda: evaluate("classification", SCORES, [1], ["f1_x"]),
            ConfigError,
            "no metric 'f1_x' for classification",
        ),
        (lambda: evaluate("regression", [1.0], [1.0], ["f1_1"]), ConfigError, "no metric 'f1_1' for regression"),
        (lambda: evaluate("classification", SCORES, [1], ["acuracy"]), ConfigError, "did you mean 'accuracy'"),
        (
            lambda: evaluate("classification", SCORES, [1], ["rmse"]),
            ConfigError,
            "no metric 'rmse' for classification",
        ),
    ],
)
def test_what_does_not_fit_is_named(act, error, message):
    with pytest.raises(error, match=message):
        act()


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


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_metrics_of_unbalanced_classes_and_of_probabilities_agree_with_scikit_learn(classes):
    reference = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(classes)
    labels = np.minimum(rng.geometric(0.5, 300) - 1, max(classes, 2) - 1)
    scores = rng.normal(size=(300, classes)) + (np.eye(classes)[labels] if classes > 1 else labels[:, None] - 0.5)
    found = evaluate("classification", scores, labels, ["balanced_accuracy", "mcc", "log_loss"])
    predictions = predicted_labels(scores)
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, predictions))
    assert found["mcc"] == pytest.approx(reference.matthews_corrcoef(labels, predictions))
    full = np.hstack([np.zeros_like(scores), scores]) if classes == 1 else scores
    p = np.exp(full) / np.exp(full).sum(axis=1, keepdims=True)
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, p))


def test_a_constant_guess_has_no_correlation_and_the_accuracy_of_chance():
    found = evaluate("classification", np.zeros((6, 3)), [0, 1, 2, 0, 1, 2], ["mcc", "balanced_accuracy"])
    assert found == pytest.approx({"mcc": 0.0, "balanced_accuracy": 1 / 3})


def test_the_calibration_error_is_0_where_shares_and_probabilities_are_equal():
    scores = np.log(np.array([[0.75, 0.25]] * 4 + [[0.5, 0.5 - 1e-9]] * 2))
    found = evaluate("classification", scores, [0, 0, 0, 1, 0, 1], ["calibration_error"])
    assert found["calibration_error"] == pytest.approx(0, abs=1e-6)
    wrong = evaluate("classification", scores, [1, 1, 1, 0, 0, 1], ["calibration_error"])
    assert wrong["calibration_error"] == pytest.approx(4 / 6 * 0.5, abs=1e-6)  # 0.75 said, 0.25 so


def test_ranking_metrics_and_perplexity_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(11)
    scores, labels = np.round(rng.normal(size=(50, 4)), 1), rng.integers(0, 4, 50)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = evaluate("classification", scores, labels, ["roc_auc", "average_precision", "perplexity"])
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, p, multi_class="ovr"), rel=1e-12)
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(np.eye(4)[labels], p), rel=1e-12)
    assert found["perplexity"] == pytest.approx(np.exp(metrics.log_loss(labels, p)), rel=1e-12)
    yes = (labels > 1).astype(int)
    for s in (scores[:, 0], scores[:, :1]):
        found = evaluate("classification", s, yes, ["roc_auc", "average_precision"])
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(yes, scores[:, 0]), rel=1e-12)
        assert found["average_precision"] == pytest.approx(
            metrics.average_precision_score(yes, scores[:, 0]), rel=1e-12
        )


def test_metrics_of_questions_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(12)
    scores, targets = np.round(rng.normal(size=(40, 3)), 1), rng.integers(0, 2, (40, 3))
    says = (scores > 0).astype(int)
    found = evaluate("multilabel", scores, targets, [*MULTILABEL, "f1_1", "precision_2"])
    macro = {"average": "macro"}
    assert found["accuracy"] == np.mean(says == targets)
    assert found["exact_match"] == metrics.accuracy_score(targets, says)
    assert found["f1"] == pytest.approx(metrics.f1_score(targets, says, **macro), rel=1e-12)
    assert found["precision"] == pytest.approx(metrics.precision_score(targets, says, **macro), rel=1e-12)
    assert found["recall"] == pytest.approx(metrics.recall_score(targets, says, **macro), rel=1e-12)
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(targets, scores, **macro), rel=1e-12)
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(targets, scores), rel=1e-12)
    assert found["f1_1"] == pytest.approx(metrics.f1_score(targets[:, 1], says[:, 1]), rel=1e-12)
    assert found["precision_2"] == pytest.approx(metrics.precision_score(targets[:, 2], says[:, 2]), rel=1e-12)
    with pytest.raises(ConfigError, match="no question 3: 3 are numbered from 0"):
        evaluate("multilabel", scores, targets, ["f1_3"])
    with pytest.raises(ConfigError, match="no metric 'top_2' for multilabel"):
        evaluate("multilabel", scores, targets, ["top_2"])
    with pytest.raises(DataError, match=r"expected \(batch, questions\)"):
        evaluate("multilabel", scores, targets[:, :2], ["f1"])
    guess = baseline("multilabel", targets, targets, ["accuracy"])["accuracy"]
    assert guess == pytest.approx(np.maximum(targets.mean(axis=0), 1 - targets.mean(axis=0)).mean())
