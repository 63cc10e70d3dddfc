"""Callbacks that hand the records of a training to experiment trackers; each needs its own package.

The run folder stays the truth: a tracker gets a copy of every record, epoch by epoch.
"""

import importlib
import math
from abc import abstractmethod
from importlib.util import find_spec
from typing import Any, ClassVar

from layerflow.errors import ConfigError
from layerflow.training.callbacks import Callback
from layerflow.training.history import Record
from layerflow.training.state import State


class Tracker(Callback):
    """What all trackers share: the package, and which numbers are handed over.

    Raises:
        ConfigError: the package is not installed.
    """

    package: ClassVar[str]
    every_step = False

    def require(self) -> None:
        """Raise unless the package is there; it is imported when a training starts."""
        name = self.package.partition(".")[0]
        if find_spec(name) is None:
            raise ConfigError(f"{type(self).__name__} needs {name}, which is not installed: pip install {name}")

    def module(self) -> Any:
        """The package."""
        return importlib.import_module(self.package)

    def training_started(self, state: State) -> None:
        self.start(state, settings_of(state))

    def epoch_ended(self, state: State, record: Record) -> None:
        numbers = {name: float(value) for name, value in record.items() if name != "epoch" and math.isfinite(value)}
        self.log(numbers, state.epoch)

    def training_ended(self, state: State) -> None:
        self.stop()

    @abstractmethod
    def start(self, state: State, settings: dict[str, Any]) -> None:
        """Open a run of the tracker."""

    @abstractmethod
    def log(self, numbers: dict[str, float], epoch: int) -> None:
        """Hand over the numbers of an epoch, counted from 1; NaN and infinity are left out."""

    @abstractmethod
    def stop(self) -> None:
        """Close the run."""


def settings_of(state: State) -> dict[str, Any]:
    """The settings of a training as plain values."""
    trainer = state.trainer
    return {
        "model": repr(trainer.model)[:500],
        "loss": repr(trainer.loss)[:500],
        "optimizer": repr(trainer.optimizer)[:500],
        "lr": float(state.base_lr),
        "epochs": trainer.epochs,
        "batch_size": state.batches.batch_size,
        "seed": trainer.seed,
        "dtype": trainer.dtype,
        "engine": trainer.engine,
        "parameters": int(state.store.size),
    }


class TensorBoard(Tracker):
    """Writes event files for TensorBoard: `tensorboard --logdir runs/tensorboard`.

    Args:
        folder: where they are written.
    """

    package = "tensorboard.summary"

    def __init__(self, folder: str = "runs/tensorboard") -> None:
        self.require()
        self.folder = folder

    def start(self, state: State, settings: dict[str, Any]) -> None:
        self._writer = self.module().Writer(self.folder)

    def log(self, numbers: dict[str, float], epoch: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def stop(self) -> None:
        self._writer.close()


class MLflow(Tracker):
    """Logs to MLflow: settings as parameters, records as metrics.

    Args:
        experiment: the name of the experiment; MLflow's default if left out.
        uri: where MLflow keeps it; as MLflow is set up if left out.
    """

    package = "mlflow"

    def __init__(self, experiment: str | None = None, uri: str | None = None) -> None:
        self.require()
        self.experiment, self.uri = experiment, uri

    def start(self, state: State, settings: dict[str, Any]) -> None:
        mlflow = self.module()
        if self.uri is not None:
            mlflow.set_tracking_uri(self.uri)
        if self.experiment is not None:
            mlflow.set_experiment(self.experiment)
        mlflow.start_run()
        mlflow.log_params(settings)

    def log(self, numbers: dict[str, float], epoch: int) -> None:
        self.module().log_metrics(numbers, step=epoch)

    def stop(self) -> None:
        self.module().end_run()


class WandB(Tracker):
    """Logs to Weights & Biases.

    Args:
        project: its name there.
        mode: "online", "offline" or "disabled"; as wandb is set up if left out.
    """

    package = "wandb"

    def __init__(self, project: str | None = None, mode: str | None = None) -> None:
        self.require()
        self.project, self.mode = project, mode

    def start(self, state: State, settings: dict[str, Any]) -> None:
        self._run = self.module().init(project=self.project, mode=self.mode, config=settings)

    def log(self, numbers: dict[str, float], epoch: int) -> None:
        self._run.log(numbers, step=epoch)

    def stop(self) -> None:
        self._run.finish()


class Trackio(Tracker):
    """Logs to Trackio, which keeps everything on this computer.

    Args:
        project: its name there.
    """

    package = "trackio"

    def __init__(self, project: str = "layerflow") -> None:
        self.require()
        self.project = project

    def start(self, state: State, settings: dict[str, Any]) -> None:
        self.module().init(project=self.project, config=settings)

    def log(self, numbers: dict[str, float], epoch: int) -> None:
        self.module().log(numbers, step=epoch)

    def stop(self) -> None:
        self.module().finish()


TRACKERS: dict[str, type[Tracker]] = {"TensorBoard": TensorBoard, "MLflow": MLflow, "WandB": WandB, "Trackio": Trackio}
"""The trackers by their names in configurations."""
