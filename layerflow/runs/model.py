"""A trained model brought back from its file: ready to predict, with nothing else at hand."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from layerflow.config.describing import rebuild_element, rebuild_model
from layerflow.config.registry import Registry
from layerflow.data import Preprocessing
from layerflow.errors import ConfigError, DataError
from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.training.evaluation import class_probabilities, evaluate_scores, predict_scores
from layerflow.training.metrics import baseline, find_metric
from layerflow.training.model_file import load_model as read_model_file
from layerflow.training.tallies import predicted_labels

MOST_TARGETS = 1 << 30
MODEL_FILE, CONFIG_FILE = "model.npz", "config.yaml"


@dataclass(frozen=True)
class SavedModel:
    """A trained model, its loss, and how data were prepared for it.

        saved = lf.load_model("runs/iris/001")
        saved.predict([[5.1, 3.5, 1.4, 0.2]])           # array(['setosa'], ...)

    Samples are given as they stand in the data file, unscaled; a categorical column as its 0/1 columns.

    Attributes:
        path: the file it was read from.
        name: what the run was called.
        model, loss: the gates.
        preprocessing: fills in, scales; knows features and classes.
        task: "classification" or "regression".
        metrics: what is measured beside the loss.
        dtype: of parameters and data.
        train_targets: targets with the class counts, or the mean, of the training part: what a baseline needs.
        reader: the description of the reader that read the training data, without its files.
    """

    path: Path
    name: str
    model: Gate
    loss: Gate
    preprocessing: Preprocessing
    task: str
    metrics: list[str]
    dtype: str
    train_targets: Array
    reader: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path, registry: Registry | None = None) -> Self:
        """Load a run folder, or its `model.npz` alone.

        Args:
            path: the folder or the file.
            registry: the types that the model may name; built-in ones and entry points when left out.

        Raises:
            DataError: the file is missing, damaged, or no model file.
            ConfigError: the model has a type that is not known here.
        """
        file = model_file(Path(path))
        saved = read_model_file(file)
        said = saved.description
        try:
            preprocessing = Preprocessing.from_dict(said["preprocessing"])
            model = rebuild_model(said["model"], registry, str(file))
            loss = rebuild_element(said["loss"], "loss", registry, str(file))
            model.build(np.random.default_rng(0), (1, *preprocessing.sample_shape))
            saved.fill(model, str(file))
            model.astype(said["dtype"])
            _check(said, preprocessing)
            return cls(
                file, said["name"], model, loss, preprocessing, said["task"], said["metrics"], said["dtype"],
                _targets(said["targets"], preprocessing), said["reader"],
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: its description is damaged ({error!r}); train the model again") from error
        except ConfigError as error:
            hint = "types of your own are found with --import my_layers.py"
            raise ConfigError(f"{error}\n  ({hint})", error.problems) from error

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The name of each class by index; None for a regression."""
        return self.preprocessing.classes

    @property
    def config_file(self) -> Path | None:
        """The configuration of the run, when the model still lies in its folder."""
        beside = self.path.with_name(CONFIG_FILE)
        return beside if beside.is_file() else None

    def scores(self, x: Any) -> Array:
        """Return the model's outputs for samples (batch, ...), shape (batch, outputs)."""
        rows = np.asarray(x) if isinstance(x, list | tuple) else x
        scores = predict_scores(self.model, self.preprocessing.apply(rows, self.dtype), self.dtype)
        if not (finite := np.isfinite(scores).reshape(len(scores), -1).all(axis=1)).all():
            sample = int(np.flatnonzero(~finite)[0])
            raise DataError(
                f"{self.path}: the model's scores of sample {sample} overflow: it is far beyond the training samples"
            )
        return scores

    def predict(self, x: Any) -> Array:
        """Return what is predicted for samples (batch, ...): class names, or the values of a regression."""
        return self.decide(self.scores(x))

    def probabilities(self, x: Any) -> Array:
        """Return the probability of each class, shape (batch, classes).

        Raises:
            ConfigError: the loss gives scores no meaning as probabilities.
        """
        found = class_probabilities(self.loss, self.scores(x))
        if found is None:
            raise ConfigError(
                f"the scores of {type(self.loss).__name__} are no probabilities; SoftmaxCE and SigmoidCE define some"
            )
        return found

    def decide(self, scores: Array) -> Array:
        """Return what given scores predict."""
        if self.classes is None:
            return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores
        return np.array(self.classes)[predicted_labels(scores)]

    def evaluate(self, scores: Array, y: Array) -> dict[str, float]:
        """Return loss and metrics of given scores."""
        targets = y.astype(self.dtype) if np.issubdtype(y.dtype, np.floating) else y
        return evaluate_scores(scores, targets, self.loss, self.task, self.metrics)

    def baseline(self, y: Array) -> dict[str, float]:
        """Return the metrics of the constant guess that the training part suggests."""
        return baseline(self.task, self.train_targets, y, self.metrics)


def load_model(path: str | Path, imports: Iterable[str] = ()) -> SavedModel:
    """Load a run folder or its `model.npz`; `imports` are Python files or modules with types of your own."""
    return SavedModel.load(path, Registry.builtin(imports))


def model_file(path: Path) -> Path:
    """Return the model file that a run folder, or the file's own path, names."""
    if not path.is_dir():
        if path.is_file() and not _is_archive(path):
            raise DataError(f"{path}: no model file; give a run folder or its {MODEL_FILE}")
        return path
    file = path / MODEL_FILE
    if file.is_file():
        return file
    runs = sorted(entry.name for entry in path.iterdir() if (entry / MODEL_FILE).is_file())
    if runs:
        raise DataError(f"{path}: holds {len(runs)} run(s), not one: name it, such as {path / runs[-1]}")
    try:
        outcome = f"; its run.json says {json.loads((path / 'run.json').read_text())['outcome']!r}"
    except (OSError, ValueError, KeyError, TypeError):
        outcome = ""
    raise DataError(f"{path}: no {MODEL_FILE} in this folder{outcome}; give the folder of a finished run")


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def describe_targets(y: Array, classes: tuple[str, ...] | None) -> dict[str, Any]:
    """Return what a model file keeps of the training targets: the class counts, or the mean."""
    if classes is None:
        return {"mean": np.mean(y, axis=0, dtype=np.float64).tolist()}
    return {"counts": np.bincount(y, minlength=len(classes)).tolist()}


def _check(said: dict[str, Any], preprocessing: Preprocessing) -> None:
    """Raise ValueError unless what a description says fits together."""
    if not isinstance(said["name"], str) or said["dtype"] not in ("float32", "float64"):
        raise ValueError("its name or dtype")
    metrics = [find_metric(name) for name in said["metrics"]]
    if said["task"] != preprocessing.task or any(m is None or m.task != said["task"] for m in metrics):
        raise ValueError("its task and metrics")
    if not isinstance(said["reader"], dict) or not isinstance(said["reader"]["type"], str):
        raise ValueError("its reader")


def _targets(said: dict[str, Any], preprocessing: Preprocessing) -> Array:
    if preprocessing.classes is None:
        return np.asarray([said["mean"]], np.float64)
    counts = said["counts"]
    if len(counts) != len(preprocessing.classes) or not 0 < sum(counts) < MOST_TARGETS:
        raise ValueError("its class counts")
    return np.repeat(np.arange(len(counts)), counts)
