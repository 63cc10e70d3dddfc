"""The objective of a training, and its state: what changes from step to step, and how it is saved and restored."""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.containers import ComputationalGraph
from layerflow.data.batches import Batches
from layerflow.engine.numpy import NumpyEngine
from layerflow.errors import ConfigError, DataError, did_you_mean
from layerflow.gate import Gate
from layerflow.gates.arithmetic import Add
from layerflow.parameter import Array
from layerflow.store import ParameterStore
from layerflow.training.history import Best, History, Record
from layerflow.training.optimizers import Optimizer
from layerflow.training.schedules import Schedule

if TYPE_CHECKING:
    from layerflow.training.trainer import Trainer

NORMS = ("gradient_norm", "update_norm", "parameter_norm")
EPOCH_START = "epoch_start"


class Objective(ComputationalGraph, checked=False):
    """The graph x -> model -> scores; (scores, y) -> loss; loss + each regularizer(weights) -> objective.

    The regularizers are fed by the model's parameters with `decay=True` (weights, not biases). The model must be built,
    since its parameters are nodes here. Neither x nor y gets a gradient.

    Args:
        model: a gate with one input and one output; a container as a rule.
        loss: a gate that takes (scores, targets) and returns a scalar.
        regularizers: gates that take weights and return a scalar.
    """

    is_watched = False

    def __init__(self, model: Gate, loss: Gate, regularizers: Sequence[Gate] = ()) -> None:
        super().__init__()
        x, y = self.inputs("x", "y", needs_grad=False)
        scores = self.add("model", model, x)
        total = data_loss = self.add("loss", loss, [scores, y])
        if regularizers:
            learned = model.named_parameters().items()
            weights = [self.parameter(name, parameter) for name, parameter in learned if parameter.decay]
            for gate in regularizers:
                total = self.apply(Add(), total, self.apply(gate, *weights))
        self.output(total)
        self.scores_slot, self.data_loss_slot = scores.slot, data_loss.slot

    @property
    def scores(self) -> Array:
        """The model's output of the last forward sweep."""
        scores: Array = self.values[self.scores_slot]
        return scores

    @property
    def value(self) -> float:
        """The loss with the regularizers, of the last forward sweep."""
        return float(self.values[self.output_slots[0]])

    @property
    def data_loss(self) -> float:
        """The loss without the regularizers, of the last forward sweep."""
        return float(self.values[self.data_loss_slot])


@dataclass(frozen=True)
class Snapshot:
    """A saved state: `facts` are plain JSON values, `arrays` hold weights, optimizer slots and so on.

    `records` are those of the finished epochs; `None` if they are not part of it.
    """

    facts: dict[str, Any]
    arrays: dict[str, Array]
    records: list[Record] | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Finished epochs, and steps taken in the next one."""
        return self.facts["epoch"], self.facts["step"]


@dataclass(eq=False)
class State:
    """Everything that changes while a model trains, and the parts that it is made of.

    `capture()` returns all of it between two steps; `restore()` continues from there bit for bit.

    Attributes:
        trainer: whose state this is, with its settings.
        objective: the graph of model, loss and regularizers, with the values of the last step.
        store: weights and gradients, one flat vector each.
        optimizer, schedule: this training's own copies.
        batches: the training data; `len(batches)` is the number of steps per epoch.
        validation: x and y, or None.
        task: "classification" or "regression"; it decides which metrics are possible.
        metric_names: the metrics that are recorded beside the loss.
        history: the records so far, the best epoch, and the outcome.
        patience: what early stopping has seen, or None.
        threads: the limit on BLAS threads during `fit`; None for the library's own choice.
        epoch, step: finished epochs, and steps taken in the next one.
        base_lr, lr_factor: the learning rate that was configured, and what `halve-lr` has made of it.
        best_values, best_buffers: weights and buffers of the best epoch so far.
        losses: the objective of each step of this epoch.
        loss_sum, objective_sum: sums over the samples of this epoch.
        scores, targets, samples: the model's outputs in this epoch and their targets, and how many rows are filled.
        norms: of gradient, update and parameters in the last step of the epoch.
        skipped: steps of this epoch that were not taken.
        epoch_start: the state to return to, with `on_divergence="halve-lr"`.
        engine: runs the sweeps.
        buffers, generators: of model, loss and regularizers, by name.
    """

    trainer: "Trainer"
    objective: Objective
    store: ParameterStore
    optimizer: Optimizer
    schedule: Schedule
    batches: Batches
    validation: tuple[Any, Array] | None
    task: str
    metric_names: list[str]
    history: History
    patience: Best | None
    threads: int | None
    epoch: int = 0
    step: int = 0
    lr_factor: float = 1.0
    best_values: Array | None = None
    best_buffers: dict[str, Array] = field(default_factory=dict)
    epoch_start: Snapshot | None = None

    def __post_init__(self) -> None:
        self.base_lr = self.optimizer.lr
        objective = self.objective
        wanted = *objective.output_slots, objective.data_loss_slot, objective.scores_slot
        self.engine = NumpyEngine(objective, self.store, wanted)
        self.buffers, self.generators = self.objective.named_buffers(), self.objective.named_generators()
        batch_size, *shape = self.objective.shapes[self.objective.scores_slot] or (0,)
        if batch_size != self.batches.batch_size:
            raise DataError(
                f"the model returns scores of shape {(batch_size, *shape)} for {self.batches.batch_size} samples; "
                "expected one row per sample"
            )
        self.scores: Array = np.empty((len(self.batches.y), *shape), self.trainer.dtype)
        self.targets: Array = np.empty_like(self.batches.y)
        self.begin_epoch()

    def recorded_names(self) -> list[str]:
        """Return the names of the losses and metrics that are recorded."""
        parts = ["train"] if self.validation is None else ["train", "val"]
        objective = ["train_objective"] if self.trainer.regularizers else []
        return objective + [f"{part}_{name}" for part in parts for name in ("loss", *self.metric_names)]

    def check_watched(self) -> None:
        """Raise `ConfigError` if best epoch, early stopping or schedule need a metric that is not recorded."""
        known = self.recorded_names()
        for watched in (self.history.best, self.patience):
            if watched and watched.metric not in known:
                raise ConfigError(
                    f"{watched.metric!r} is not recorded in this run{did_you_mean(watched.metric, known)} "
                    f"Recorded: {', '.join(known)}"
                )
        copy.deepcopy(self.schedule).observe(dict.fromkeys(known, 0.0))

    def begin_epoch(self) -> None:
        """Reset what is gathered during an epoch."""
        self.losses: list[float] = []
        self.loss_sum = self.objective_sum = 0.0
        self.samples = self.skipped = 0
        self.norms = dict.fromkeys(NORMS, math.nan)
        self.started = time.perf_counter()

    def gather(self, value: float, loss: float, scores: Array, y: Array) -> None:
        """Add the results of a step to what the record of the epoch is made from."""
        rows = len(y)
        self.losses.append(value)
        self.objective_sum += value * rows
        self.loss_sum += loss * rows
        stop = self.samples + rows
        self.scores[self.samples : stop] = scores
        self.targets[self.samples : stop] = y
        self.samples = stop

    def keep_best(self) -> None:
        """Remember the present weights and buffers as the best ones."""
        self.best_values = self.store.values.copy()
        self.best_buffers = {name: buffer.value.copy() for name, buffer in self.buffers.items()}

    def load_best(self) -> None:
        """Put the best weights and buffers back into the model, if any were remembered."""
        if self.best_values is not None:
            self.store.load(self.best_values)
            for name, buffer in self.buffers.items():
                buffer.value = self.best_buffers[name].copy()

    def capture(self) -> Snapshot:
        """Return the state as JSON values and arrays; the arrays are copies."""
        arrays = {"values": self.store.values.copy()}
        arrays |= _prefixed("optimizer", self.optimizer.state()) | _prefixed("schedule", self.schedule.state())
        arrays |= _prefixed("buffer", {name: buffer.value.copy() for name, buffer in self.buffers.items()})
        if self.best_values is not None:
            arrays |= {"best": self.best_values} | _prefixed("best_buffer", self.best_buffers)
        if self.step:
            arrays["losses"] = np.array(self.losses)
            arrays["scores"] = self.scores[: self.samples].copy()
            arrays["targets"] = self.targets[: self.samples].copy()
        facts: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "epochs": self.trainer.epochs,
            "lr_factor": self.lr_factor,
            "loss_sum": self.loss_sum,
            "objective_sum": self.objective_sum,
            "norms": self.norms,
            "skipped": self.skipped,
            "seconds": time.perf_counter() - self.started if self.step else 0.0,
            "best": self.history.best and asdict(self.history.best),
            "patience": self.patience and asdict(self.patience),
            "generators": {name: plain(generator.bit_generator.state) for name, generator in self.generators.items()},
        }
        if self.epoch_start is not None and self.step:
            facts[EPOCH_START] = self.epoch_start.facts
            arrays |= _prefixed(EPOCH_START, self.epoch_start.arrays)
        return Snapshot(facts, arrays)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a captured state of the same training.

        Raises:
            ConfigError: the snapshot is of another model, optimizer or schedule.
            DataError: something is missing in it.
        """
        try:
            self._restore(snapshot.facts, snapshot.arrays)
            if snapshot.records is not None:
                self.history.records = list(snapshot.records)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"not the state of a training: {type(error).__name__}: {error}") from error

    def _restore(self, facts: dict[str, Any], arrays: dict[str, Array]) -> None:
        self._check_fit(facts, arrays)
        if min(facts["epoch"], facts["step"]) < 0:
            raise ValueError("its position is negative")
        self.store.load(arrays["values"])
        self.optimizer.load_state(_part("optimizer", arrays))
        self.schedule.load_state(_part("schedule", arrays))
        for name, value in _part("buffer", arrays).items():
            self.buffers[name].value = value.copy()
        for name, generator_state in facts["generators"].items():
            self.generators[name].bit_generator.state = generator_state
        self.best_values = arrays["best"].copy() if "best" in arrays else None
        self.best_buffers = _part("best_buffer", arrays)
        _continue(self.history.best, facts["best"])
        _continue(self.patience, facts["patience"])
        self.epoch, self.step, self.lr_factor = int(facts["epoch"]), int(facts["step"]), float(facts["lr_factor"])
        self.loss_sum, self.objective_sum = float(facts["loss_sum"]), float(facts["objective_sum"])
        self.norms, self.skipped = dict(facts["norms"]), int(facts["skipped"])
        self.losses = arrays["losses"].tolist() if self.step else []
        self.samples = len(arrays["scores"]) if self.step else 0
        if self.step:
            self.scores[: self.samples], self.targets[: self.samples] = arrays["scores"], arrays["targets"]
        self.started = time.perf_counter() - float(facts["seconds"])
        started = facts.get(EPOCH_START)
        self.epoch_start = None if started is None else Snapshot(started, _part(EPOCH_START, arrays))

    def _check_fit(self, facts: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Reject the state of another model before anything is changed."""
        held, saved = self.store.values, arrays["values"]
        if held.shape != saved.shape or held.dtype != saved.dtype:
            raise ConfigError(
                f"the saved state has {saved.size} parameters of {saved.dtype}, this model has {held.size} of "
                f"{held.dtype}: it was saved with another model"
            )
        buffers = {name: buffer.value.shape for name, buffer in self.buffers.items()}
        if buffers != {name: value.shape for name, value in _part("buffer", arrays).items()}:
            raise ConfigError(
                f"the buffers of the saved state differ from those of this model ({', '.join(buffers) or 'none'}): "
                "it was saved with another model"
            )
        if set(self.generators) != set(facts["generators"]):
            raise ConfigError(
                "the random generators of the saved state differ from those of this model: "
                "it was saved with another model"
            )


def _continue(best: Best | None, saved: dict[str, Any] | None) -> None:
    """Continue watching a metric if it is still the same one."""
    if best is not None and saved is not None and best.metric == saved["metric"]:
        best.value, best.epoch, best.waited = saved["value"], saved["epoch"], saved["waited"]


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _part(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(f"{prefix}/"): array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def plain(value: Any) -> Any:
    """Return the state of a bit generator as JSON values: arrays become lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
