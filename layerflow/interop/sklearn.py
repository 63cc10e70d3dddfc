"""Estimators for scikit-learn: a model of gates in pipelines, searches and cross-validation.

    from layerflow.interop.sklearn import Classifier

    model = Classifier([lf.Linear(64), lf.ReLU(), lf.Dropout(0.2), lf.Linear(3)], epochs=50)
    cross_val_score(make_pipeline(StandardScaler(), model), X, y)

Needs scikit-learn: pip install 'layerflow[sklearn]'.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from layerflow.containers import Sequential
from layerflow.errors import ConfigError
from layerflow.gate import Gate
from layerflow.gates import GATES
from layerflow.parameter import Array
from layerflow.training.adaptive import OPTIMIZERS
from layerflow.training.evaluation import class_probabilities, predict_scores
from layerflow.training.history import EarlyStopping
from layerflow.training.optimizers import Optimizer
from layerflow.training.trainer import Trainer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as error:
    raise ImportError("layerflow.interop.sklearn needs scikit-learn: pip install 'layerflow[sklearn]'") from error

SMALL = 64  # samples up to which a batch has all of them, if batch_size is "auto"

Model = Gate | Sequence[Gate] | Callable[[int, int], Gate] | str | None


class _Estimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What `Classifier` and `Regressor` share."""

    def __init__(
        self,
        model: Model = None,
        *,
        loss: Gate | str | None = None,
        optimizer: Optimizer | str = "Adam",
        lr: float | None = None,
        hidden_layer_sizes: Sequence[int] = (100,),
        epochs: int = 200,
        batch_size: int | str = "auto",
        scale: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: Any = None,
        warm_start: bool = False,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.hidden_layer_sizes = hidden_layer_sizes
        self.epochs = epochs
        self.batch_size = batch_size
        self.scale = scale
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.warm_start = warm_start
        self.callbacks = callbacks

    # What is trained ---------------------------------------------------------------------------------------------

    def _new_model(self, features: int, outputs: int) -> Gate:
        """Return a new model: a copy of the one given, whose last width is that of the targets if it is left out."""
        given = self.model
        if given is None:
            hidden = [gate for width in self.hidden_layer_sizes for gate in (GATES["Linear"](width), GATES["ReLU"]())]
            return Sequential(*hidden, GATES["Linear"](outputs))
        if isinstance(given, str):
            from layerflow.config import load_config

            return load_config(given).build_model(outputs)
        if isinstance(given, Gate):
            return copy.deepcopy(given)
        if callable(given):
            return given(features, outputs)
        return Sequential(*copy.deepcopy(list(given)))

    def _new_optimizer(self) -> Optimizer:
        if isinstance(self.optimizer, Optimizer):
            optimizer = copy.deepcopy(self.optimizer)
        elif self.optimizer in OPTIMIZERS:
            kind: Any = OPTIMIZERS[self.optimizer]
            optimizer = kind(lr=1e-2)
        else:
            raise ConfigError(
                f"optimizer is {self.optimizer!r}, expected an Optimizer or one of {', '.join(OPTIMIZERS)}"
            )
        if self.lr is not None:
            optimizer.lr = self.lr
        return optimizer

    def _loss_named(self, default: str) -> Gate:
        if isinstance(self.loss, Gate):
            return copy.deepcopy(self.loss)
        loss: Gate = GATES[self.loss or default]()
        return loss

    def _train(
        self, x: Array, y: Array, outputs: int, loss: Gate, weights: Array | None, epochs: int, goes_on: bool
    ) -> None:
        """Train, from the present weights on if the training goes on, else afresh."""
        is_new = not (goes_on and hasattr(self, "model_"))
        if is_new:
            self.model_, self.optimizer_ = self._new_model(x.shape[1], outputs), self._new_optimizer()
            self.loss_curve_: list[float] = []
            self._fit_scale(x, weights)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        x, batch_size = self._scaled(x), self.batch_size
        if batch_size == "auto":
            batch_size = len(x) if len(x) <= SMALL else 32
        stopping, held = None, None
        if self.early_stopping and not goes_on:
            kept, back = self._held_back(y, seed)
            held = (x[back], y[back], *([] if weights is None else [weights[back]]))
            x, y, weights = x[kept], y[kept], None if weights is None else weights[kept]
            stopping = EarlyStopping("val_loss", self.patience)
        trainer = Trainer(
            self.model_, loss, self.optimizer_, epochs=epochs, batch_size=min(int(batch_size), len(x)), seed=seed,
            dtype=str(x.dtype), metrics=[], early_stopping=stopping, callbacks=self.callbacks,
        )  # fmt: skip
        history = trainer.fit(x, y, weights, validation=held)
        self.optimizer_, self.loss_ = trainer.state.optimizer, loss
        self.loss_curve_ = [*self.loss_curve_, *history["train_loss"]]
        self.n_iter_ = len(self.loss_curve_)

    def _held_back(self, y: Array, seed: int) -> tuple[Array, Array]:
        from layerflow.data import split

        return split(y, self.validation_fraction, seed, None if y.ndim == 1 else False)

    def _fit_scale(self, x: Array, weights: Array | None) -> None:
        self._mean, self._deviation = np.zeros(x.shape[1], x.dtype), np.ones(x.shape[1], x.dtype)
        if self.scale:
            shares = np.ones(len(x)) if weights is None else weights
            mean = np.average(x, axis=0, weights=shares)
            deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=shares))
            tiny = 10 * np.finfo(x.dtype).eps * np.abs(mean)
            self._mean = mean.astype(x.dtype)
            self._deviation = np.where(deviation > tiny, deviation, 1.0).astype(x.dtype)

    def _scaled(self, x: Array) -> Array:
        scaled: Array = (x - self._mean) / self._deviation
        return scaled

    def _scores(self, X: Any) -> Array:
        check_is_fitted(self)
        x = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        scores: Array = predict_scores(self.model_, self._scaled(x), x.dtype)
        return scores

    def _weights(self, sample_weight: Any, x: Array) -> Array | None:
        if sample_weight is None:
            return None
        weights: Array = _check_sample_weight(sample_weight, x, dtype=x.dtype, ensure_non_negative=True)
        if not weights.any():
            raise ValueError("all weights of the samples are 0; there is nothing to train on")
        return weights


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A classifier of gates.

    Args:
        model: a list of gates, a gate, a function (features, outputs) -> gate, or the YAML file of a configuration
            whose model is taken; None has hidden layers of `hidden_layer_sizes` with ReLU.
        loss: a gate or the name of one; by default SoftmaxCE, and for several labels per sample SigmoidCE.
        optimizer: an optimizer, or its name.
        lr: its learning rate; by default its own, or 1e-2 where only its name is given.
        hidden_layer_sizes: the widths of the hidden layers where there is no model.
        epochs: passes over the data.
        batch_size: samples per step; "auto": 32, or all of them if they are 64 or fewer.
        scale: whether features get mean 0 and deviation 1 first.
        class_weight: None, "balanced" or a dict, as scikit-learn's.
        early_stopping: hold a part back, and stop when its loss no longer improves.
        validation_fraction, patience: the size of that part, and the epochs to wait.
        random_state: of weights, order and dropout.
        warm_start: whether `fit` goes on from the weights of the last one.
        callbacks: see `layerflow.Callback`.

    Attributes:
        model_, loss_: the trained gates. classes_, n_features_in_, feature_names_in_: as everywhere in scikit-learn.
        loss_curve_, n_iter_: the training loss of every epoch, and their number.
    """

    def __init__(
        self,
        model: Model = None,
        *,
        loss: Gate | str | None = None,
        optimizer: Optimizer | str = "Adam",
        lr: float | None = None,
        hidden_layer_sizes: Sequence[int] = (100,),
        epochs: int = 200,
        batch_size: int | str = "auto",
        scale: bool = True,
        class_weight: str | Mapping[Any, float] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        random_state: Any = None,
        warm_start: bool = False,
        callbacks: Sequence[Any] = (),
    ) -> None:
        super().__init__(
            model, loss=loss, optimizer=optimizer, lr=lr, hidden_layer_sizes=hidden_layer_sizes, epochs=epochs,
            batch_size=batch_size, scale=scale, early_stopping=early_stopping, patience=patience,
            validation_fraction=validation_fraction, random_state=random_state, warm_start=warm_start,
            callbacks=callbacks,
        )  # fmt: skip
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (samples, features) and y (samples,), labels, or (samples, labels), 0 or 1."""
        return self._fit(X, y, sample_weight, self.epochs, goes_on=self.warm_start)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go through the data once more; the first call names all classes there will be, unless y has them all."""
        if classes is not None and not hasattr(self, "classes_"):
            self.classes_ = unique_labels(classes)
        return self._fit(X, y, sample_weight, 1, goes_on=True)

    def _fit(self, X: Any, y: Any, sample_weight: Any, epochs: int, goes_on: bool) -> Self:
        is_first = not (goes_on and hasattr(self, "model_"))
        x, y = validate_data(self, X, y, dtype=(np.float64, np.float32), multi_output=True, reset=is_first)
        check_classification_targets(y)
        self._is_multilabel = type_of_target(y).startswith("multilabel")
        weights = self._weights(sample_weight, x)
        if self._is_multilabel:
            labels, loss, outputs = np.asarray(y), self._loss_named("SigmoidCE"), y.shape[1]
            self.classes_ = np.arange(outputs)
        else:
            y = column_or_1d(y, warn=True)
            if is_first and not (goes_on and hasattr(self, "classes_")):
                self.classes_ = np.unique(y)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"a classifier needs samples of 2 classes or more; y has one class, {self.classes_.tolist()[0]!r}"
                )
            if (unknown := np.setdiff1d(y, self.classes_)).size:
                raise ValueError(
                    f"y has the class {unknown.tolist()[0]!r}, which was not among those of the first call"
                )
            labels, outputs = np.searchsorted(self.classes_, y), len(self.classes_)
            loss = self._loss_named("SoftmaxCE")
            if getattr(loss, "is_binary", False):
                outputs = 1
        if self.class_weight is not None:
            balance = compute_sample_weight(self.class_weight, y).astype(x.dtype)
            weights = balance if weights is None else weights * balance
        self._train(x, labels, outputs, loss, weights, epochs, goes_on)
        return self

    def predict(self, X: Any) -> Array:
        """Return the label of each sample."""
        scores = self._scores(X)
        if self._is_multilabel:
            return (scores > 0).astype(int)
        if scores.ndim == 1 or scores.shape[1] == 1:
            return np.asarray(self.classes_[(scores.reshape(-1) > 0).astype(int)])
        return np.asarray(self.classes_[scores.argmax(axis=1)])

    def decision_function(self, X: Any) -> Array:
        """Return the scores: (samples, classes), or for two classes (samples,), above 0 for the second one."""
        scores = self._scores(X)
        if self._is_multilabel or scores.ndim == 1 or scores.shape[1] > 2:
            return scores
        return scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]

    def _has_probabilities(self) -> bool:
        loss = getattr(self, "loss_", None) or self._loss_named("SoftmaxCE")
        return hasattr(loss, "probabilities")

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, (samples, classes)."""
        scores = self._scores(X)
        if self._is_multilabel:
            return np.asarray(self.loss_.probabilities(scores))  # type: ignore[attr-defined]
        found = class_probabilities(self.loss_, scores)
        assert found is not None
        shares: Array = found / found.sum(axis=1, keepdims=True)
        return shares

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities."""
        with np.errstate(divide="ignore"):
            logarithms: Array = np.log(self.predict_proba(X))
            return logarithms


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A regressor of gates; the arguments are those of `Classifier`, but for `class_weight`.

    The targets get mean 0 and deviation 1 for the training, each column by itself, if `scale` is true.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (samples, features) and y (samples,) or (samples, outputs), numbers."""
        return self._fit(X, y, sample_weight, self.epochs, goes_on=self.warm_start)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go through the data once more."""
        return self._fit(X, y, sample_weight, 1, goes_on=True)

    def _fit(self, X: Any, y: Any, sample_weight: Any, epochs: int, goes_on: bool) -> Self:
        is_first = not (goes_on and hasattr(self, "model_"))
        x, y = validate_data(
            self, X, y, dtype=(np.float64, np.float32), multi_output=True, y_numeric=True, reset=is_first
        )
        y = np.asarray(y, x.dtype)
        self._is_column = y.ndim == 2 and y.shape[1] == 1
        weights, rows = self._weights(sample_weight, x), y.reshape(len(y), -1)
        if is_first:
            self._y_mean, self._y_deviation = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
            if self.scale:
                self._y_mean = np.average(rows, axis=0, weights=weights)
                deviation = np.sqrt(np.average((rows - self._y_mean) ** 2, axis=0, weights=weights))
                self._y_deviation = np.where(deviation > 1e-12 * (1 + np.abs(self._y_mean)), deviation, 1.0)
        targets = ((rows - self._y_mean) / self._y_deviation).astype(x.dtype)
        loss = self._loss_named("SquaredError")
        self._train(x, targets, rows.shape[1], loss, weights, epochs, goes_on)
        return self

    def predict(self, X: Any) -> Array:
        """Return the predicted numbers, in the shape of y."""
        scores = self._scores(X)
        found = getattr(self.loss_, "prediction", lambda each: each)(scores).reshape(len(scores), -1)
        values: Array = found * self._y_deviation + self._y_mean
        return values[:, 0] if values.shape[1] == 1 and not self._is_column else values
