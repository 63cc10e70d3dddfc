"""The estimators for scikit-learn, by scikit-learn's own checks and in its tools."""

import pickle

import numpy as np
import pytest

import layerflow as lf

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_iris, make_classification, make_multilabel_classification
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from layerflow.interop.sklearn import Classifier, Regressor

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([Classifier(epochs=60), Regressor(epochs=60)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


X, Y = load_iris(return_X_y=True)


def test_it_scores_in_a_pipeline_and_a_search():
    model = make_pipeline(StandardScaler(), Classifier(epochs=40, random_state=0))
    assert cross_val_score(model, X, Y, cv=3).min() > 0.9
    grid = {"hidden_layer_sizes": [(4,), (16,)], "lr": [1e-2]}
    search = GridSearchCV(Classifier(epochs=40, random_state=0), grid, cv=3).fit(X, Y)
    assert search.best_score_ > 0.9


def test_calibration_and_permutation_importance_take_it():
    model = CalibratedClassifierCV(Classifier(epochs=30, random_state=0), cv=3).fit(X, Y)
    assert model.predict_proba(X).shape == (150, 3)
    fitted = Classifier(epochs=40, random_state=0).fit(X, Y)
    importance = permutation_importance(fitted, X, Y, n_repeats=3, random_state=0).importances_mean
    assert importance.argmax() in (2, 3)  # the petals


@pytest.mark.parametrize("kind", ["list", "gate", "function", "file"])
def test_a_model_is_given_in_any_form(kind, tmp_path):
    gates = [lf.Linear(8), lf.Tanh(), lf.Linear(3)]
    (tmp_path / "iris.yaml").write_text(
        "data: {source: {type: CSV, path: iris.csv, target: species}}\n"
        "model: [{type: Linear, out_features: 8}, Tanh, Linear]\nloss: SoftmaxCE\noptimizer: {type: SGD, lr: 0.1}\n"
    )
    forms = {
        "list": gates,
        "gate": lf.Sequential(*gates),
        "function": lambda features, outputs: lf.Sequential(lf.Linear(2 * features), lf.Tanh(), lf.Linear(outputs)),
        "file": str(tmp_path / "iris.yaml"),
    }
    model = Classifier(forms[kind], epochs=60, random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.95
    assert not gates[0].named_parameters()["weight"].has_value  # what was given is copied


def test_labels_may_be_text_and_losses_hinges():
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    model = Classifier(loss="MulticlassSVM", epochs=40, random_state=0).fit(X, names)
    assert model.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert model.score(X, names) > 0.95
    assert not hasattr(model, "predict_proba")
    assert hasattr(Classifier(), "predict_proba")


def test_several_labels_and_several_outputs():
    x, y = make_multilabel_classification(150, random_state=0)
    model = Classifier(epochs=60, random_state=0).fit(x, y)
    assert model.predict(x).shape == y.shape and (model.predict(x) == y).mean() > 0.95
    assert model.predict_proba(x).shape == y.shape
    both = Regressor(epochs=60, random_state=0).fit(X[:, :2], X[:, 2:])
    assert both.predict(X[:, :2]).shape == (150, 2) and both.score(X[:, :2], X[:, 2:]) > 0.8


def test_rare_classes_count_more_when_they_are_balanced():
    x, y = make_classification(600, weights=[0.95], class_sep=0.5, flip_y=0.1, random_state=1)
    recalls = [
        (
            Classifier([lf.Linear(2)], epochs=40, class_weight=weight, random_state=0).fit(x, y).predict(x)[y == 1] == 1
        ).mean()
        for weight in (None, "balanced")
    ]
    assert recalls[1] > recalls[0] + 0.2


def test_training_goes_on_step_by_step_and_warm():
    model = Classifier(random_state=0, lr=0.01)
    for _ in range(40):
        model.partial_fit(X, Y, classes=[0, 1, 2])
    assert model.score(X, Y) > 0.95 and model.n_iter_ == 40
    with pytest.raises(ValueError, match="class 7, which was not among those of the first call"):
        model.partial_fit(X[:2], [7, 0])
    warm = Classifier(epochs=5, warm_start=True, random_state=0).fit(X, Y)
    before = warm.loss_curve_[-1]
    assert warm.fit(X, Y).n_iter_ == 10 and warm.loss_curve_[-1] < before


def test_early_stopping_ends_before_the_last_epoch():
    x, y = load_diabetes(return_X_y=True)
    model = Regressor(epochs=500, early_stopping=True, patience=5, random_state=0).fit(x, y)
    assert model.n_iter_ < 300 and model.score(x, y) > 0.4


def test_copies_and_pickles_predict_the_same():
    model = Classifier([lf.Linear(6), lf.BatchNorm(), lf.ReLU(), lf.Linear(3)], epochs=20, random_state=0).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    fresh = clone(model).fit(X, Y)
    np.testing.assert_array_equal(fresh.predict_proba(X), model.predict_proba(X))


def test_data_frames_give_their_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    model = Classifier(epochs=10, random_state=0).fit(frame, Y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["b", "a", "c", "d"]])


def test_an_unknown_optimizer_or_one_class_is_named():
    with pytest.raises(lf.ConfigError, match="optimizer is 'Adamm', expected an Optimizer or one of SGD"):
        Classifier(optimizer="Adamm").fit(X, Y)
    with pytest.raises(ValueError, match="needs samples of 2 classes or more; y has one class"):
        Classifier().fit(X, np.zeros(150))
