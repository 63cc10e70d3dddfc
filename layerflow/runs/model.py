"""Models in `.npz` files: arrays and a description as JSON, nothing pickled; loaded, they are ready to predict."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from layerflow.config.describing import describe_model, rebuild_element, rebuild_model, without_files
from layerflow.config.experiment import Experiment
from layerflow.config.registry import Registry
from layerflow.data import Preprocessing
from layerflow.data.frames import samples
from layerflow.errors import ConfigError, DataError
from layerflow.gate import Gate
from layerflow.gates.loss import balance
from layerflow.parameter import Array
from layerflow.runs.files import CONFIG, MODEL, RUN, DamagedFile, pack, read_archive, write_atomically
from layerflow.runs.records import require_intact
from layerflow.training.evaluation import class_probabilities, counted_labels, evaluate_scores, guessed, predict_scores
from layerflow.training.metrics import find_metric, predicted_labels

MOST_TARGETS = 1 << 30
FORMAT = "layerflow model 1"


# The file ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file: a description (plain JSON values) and the arrays by name."""

    description: dict[str, Any]
    parameters: dict[str, Array]
    buffers: dict[str, Array]

    @property
    def is_plain(self) -> bool:
        """Whether `save_model` wrote it, without a run's loss and preprocessing."""
        return set(self.description) == {"format", "model"}

    def fill(self, model: Gate, path: str) -> None:
        """Put the arrays into a model that was built from the description."""
        for held, saved in ((model.named_parameters(), self.parameters), (model.named_buffers(), self.buffers)):
            if set(held) != set(saved):
                raise DataError(
                    f"{path}: contains {', '.join(sorted(saved)) or 'nothing'}, "
                    f"but the model it describes has {', '.join(sorted(held)) or 'nothing'}"
                )
            for name, cell in held.items():
                if cell.has_value and cell.value.shape != saved[name].shape:
                    raise DataError(
                        f"{path}: {name} has shape {saved[name].shape}, but the model it describes needs "
                        f"{cell.value.shape}"
                    )
                if saved[name].dtype.kind != "f":
                    raise DataError(f"{path}: {name} contains {saved[name].dtype}, not floating-point numbers")
                if not np.isfinite(saved[name]).all():
                    raise DataError(f"{path}: {name} contains NaN or infinity: the model cannot predict")
                cell.value = saved[name]


def pack_model(model: Gate, description: Mapping[str, Any]) -> memoryview:
    """Return the bytes of a model file."""
    arrays = {f"parameter/{name}": parameter.value for name, parameter in model.named_parameters().items()}
    arrays |= {f"buffer/{name}": buffer.value for name, buffer in model.named_buffers().items()}
    return pack({"format": FORMAT, **description}, arrays)


def read_model_file(path: Path) -> ModelFile:
    """Read a model file; raises `DataError` for anything else, and for a damaged one."""
    if not path.exists():
        raise DataError(f"{path}: no such file; give a run folder or its {MODEL}")
    try:
        description, arrays = read_archive(path)
    except DamagedFile as error:
        raise DataError(f"{error}; train the model again") from error
    if description.get("format") != FORMAT:
        raise DataError(f"{path}: not a model file of this version of layerflow")

    def part(kind: str) -> dict[str, Array]:
        return {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}

    return ModelFile(description, part("parameter/"), part("buffer/"))


# Models without a run ------------------------------------------------------------------------------------------------


def save_model(model: Gate, path: str | Path) -> None:
    """Save a model, trained in whatever way, to one file: its gates, their arguments, parameters and buffers.

        lf.save_model(model, "model.npz")
        model = lf.load_model("model.npz")

    Raises:
        ConfigError: the model has no weights yet, or an argument of a gate cannot be written down (a function).
        StorageError: the file cannot be written; an existing one is unchanged.
    """
    if not isinstance(model, Gate):
        raise ConfigError(f"save_model saves a Gate or a container of gates, not {type(model).__name__}")
    missing = [name for name, parameter in model.named_parameters().items() if not parameter.has_value]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: no value yet; train the model, or run forward once, before saving it")
    content = pack_model(model, {"model": describe_model(model)})
    write_atomically(Path(path), content)


def load_model(path: str | Path, imports: Iterable[str] = ()) -> "SavedModel | Gate":
    """Load what `layerflow train` or `save_model` saved.

    Args:
        path: a run folder or its `model.npz`, or a file written by `save_model`.
        imports: Python files or modules that define your own gates.

    Returns:
        A `SavedModel`, which prepares data as in training, for the model of a run; the gate itself for `save_model`.

    Raises:
        DataError: the file is missing, damaged, or not a model file.
        ConfigError: the model has a gate of a type that is unknown here; name its file in `imports`.
    """
    file = model_file(Path(path))
    saved, registry = read_model_file(file), Registry.builtin(imports)
    if not saved.is_plain:
        return SavedModel.load(file, registry)
    try:
        model = rebuild_model(saved.description["model"], registry, str(file))
        saved.fill(model, str(file))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: its description is damaged ({error!r}); save the model again") from error
    except ConfigError as error:
        raise _with_hint(error) from error
    return model


# The models of runs --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SavedModel:
    """A trained model, its loss, and how data were prepared for it.

        saved = lf.load_model("runs/iris/001")
        saved.predict([[5.1, 3.5, 1.4, 0.2]])           # array(['setosa'], ...)

    Samples are given as in the data file, unscaled; a categorical column as its 0/1 columns.

    Attributes:
        path: the file it was read from.
        name: the name of the run.
        model, loss: the gates.
        preprocessing: fills missing values and scales; knows features and classes.
        task: "classification" or "regression".
        metrics: measured in addition to the loss.
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
            ConfigError: the model has a type that is unknown here.
        """
        file = model_file(Path(path))
        saved = read_model_file(file)
        said = saved.description
        if saved.is_plain:
            raise DataError(f"{file}: written by lf.save_model, without its preprocessing; give a run folder")
        try:
            preprocessing = Preprocessing.from_dict(said["preprocessing"])
            model = rebuild_model(said["model"], registry, str(file))
            loss = rebuild_element(said["loss"], "loss", registry, str(file))
            model.build(np.random.default_rng(0), (1, *preprocessing.sample_shape))
            saved.fill(model, str(file))
            model.astype(said["dtype"])
            _check(said, preprocessing)
            targets = _targets(said["targets"], preprocessing)
            balance(loss, targets)
            return cls(
                file, said["name"], model, loss, preprocessing, said["task"], said["metrics"], said["dtype"],
                targets, said["reader"],
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: its description is damaged ({error!r}); train the model again") from error
        except ConfigError as error:
            raise _with_hint(error) from error

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The name of each class by index; None for a regression."""
        return self.preprocessing.classes

    @property
    def config_file(self) -> Path | None:
        """The configuration of the run, if the model is still in its folder; `DataError` if it is damaged."""
        require_intact(self.path.parent, (CONFIG, RUN))
        beside = self.path.with_name(CONFIG)
        return beside if beside.is_file() else None

    def scores(self, x: Any) -> Array:
        """Return the model's outputs for samples (see above), shape (batch, outputs)."""
        x = samples(x, self.preprocessing, self.reader.get("missing") == "mean", self.reader)
        scores: Array = predict_scores(self.model, self.preprocessing.apply(x, self.dtype), self.dtype)
        if not (finite := np.isfinite(scores).reshape(len(scores), -1).all(axis=1)).all():
            sample = int(np.flatnonzero(~finite)[0])
            raise DataError(
                f"{self.path}: the model's scores for sample {sample} overflow: it is far outside the training data"
            )
        return scores

    def predict(self, x: Any) -> Array:
        """Return the predictions for samples (see above): class names, or the values of a regression."""
        return self.decide(self.scores(x))

    def probabilities(self, x: Any) -> Array:
        """Return the probability of each class, shape (batch, classes).

        Raises:
            ConfigError: the loss does not define probabilities.
        """
        found = class_probabilities(self.loss, self.scores(x))
        if found is None:
            raise ConfigError(f"{type(self.loss).__name__} does not define probabilities; SoftmaxCE and SigmoidCE do")
        return found

    def decide(self, scores: Array) -> Array:
        """Return the predictions for given scores."""
        if self.classes is None:
            return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores
        if scores.ndim > 2:
            named: Array = np.array(self.classes)[scores.argmax(axis=-1)]
            return named
        return np.array(self.classes)[predicted_labels(scores)]

    def evaluate(self, scores: Array, y: Array) -> dict[str, float]:
        """Return loss and metrics of given scores."""
        targets = y.astype(self.dtype) if np.issubdtype(y.dtype, np.floating) else y
        return evaluate_scores(scores, targets, self.loss, self.task, self.metrics)

    def baseline(self, y: Array) -> dict[str, float]:
        """Return the metrics of a constant guess made from the training targets."""
        return guessed(self.loss, self.task, self.train_targets, y, self.metrics)


def model_file(path: Path) -> Path:
    """Return the model file of a run folder, or the path itself if it is a file."""
    if not path.is_dir():
        if path.is_file() and not _is_archive(path):
            raise DataError(f"{path}: not a model file; give a run folder or its {MODEL}")
        return path
    file = path / MODEL
    if file.is_file():
        require_intact(path, (MODEL,))
        return file
    runs = sorted(entry.name for entry in path.iterdir() if (entry / MODEL).is_file())
    if len(runs) == 1:
        return model_file(path / runs[0])
    if runs:
        raise DataError(f"{path}: contains {len(runs)} runs; name one of them, such as {path / runs[-1]}")
    try:
        outcome = f"; its {RUN} says {json.loads((path / RUN).read_text())['outcome']!r}"
    except (OSError, ValueError, KeyError, TypeError):
        outcome = ""
    raise DataError(f"{path}: no {MODEL} in this folder{outcome}; give the folder of a finished run")


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _with_hint(error: ConfigError) -> ConfigError:
    hint = "your own types: --import my_layers.py, in Python imports=['my_layers.py']"
    return ConfigError(f"{error}\n  ({hint})", error.problems)


def description_of(experiment: Experiment) -> dict[str, Any]:
    """Return the description of a run's model: enough to build it again and to prepare new data as in training."""
    config, parts, trainer = experiment.config, experiment.parts, experiment.trainer
    assert parts.train.y is not None
    y, classes = counted_labels(experiment.loss, parts.train.y), parts.train.classes
    if classes is None:
        targets = {"mean": np.mean(y, axis=0, dtype=np.float64).tolist()}
    else:
        targets = {"counts": np.bincount(y, minlength=len(classes)).tolist()}
    return {
        "name": config.name,
        "model": config.model.with_width(experiment.width).plain(),
        "loss": config.resolve()["loss"],
        "metrics": trainer.state.metric_names,
        "task": trainer.state.task,
        "dtype": config.dtype,
        "preprocessing": parts.preprocessing.to_dict(),
        "targets": targets,
        "reader": without_files(config.data.source),
    }


def _check(said: dict[str, Any], preprocessing: Preprocessing) -> None:
    """Raise ValueError unless the parts of a description are consistent."""
    if not isinstance(said["name"], str) or said["dtype"] not in ("float32", "float64"):
        raise ValueError("its name or dtype")
    metrics = [find_metric(name, said["task"]) for name in said["metrics"]]
    tasks = (preprocessing.task, "multilabel")  # the answers to several questions are numbers in the data
    if said["task"] not in tasks or any(m is None or m.task != said["task"] for m in metrics):
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
