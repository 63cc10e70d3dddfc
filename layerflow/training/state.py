"""The objective of a training, and its state: what changes from step to step, and how it is saved and restored."""

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.data.batches import Batches, Named
from layerflow.errors import ConfigError, DataError, did_you_mean
from layerflow.parameter import Array
from layerflow.store import ParameterStore
from layerflow.training.averaging import Averaging
from layerflow.training.clipping import global_norm
from layerflow.training.history import Best, History, Record
from layerflow.training.metrics import OwnMetric, name_of
from layerflow.training.objective import ONLY, Objective
from layerflow.training.optimizers import Optimizer
from layerflow.training.schedules import Schedule
from layerflow.training.updating import engine_of

if TYPE_CHECKING:
    from layerflow.training.trainer import Trainer

MOST_SCORES = 1 << 24  # numbers of an epoch that are kept for metrics of the training part: the last ones
NORMS = ("gradient_norm", "update_norm", "parameter_norm")
EPOCH_START = "epoch_start"


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
        validation: x, y and perhaps weights, or None.
        tasks: for each output "classification", "multilabel" or "regression", which decides which metrics are possible.
        metrics: for each output the metrics that are recorded beside the loss.
        history: the records so far, the best epoch, and the outcome.
        patience: what early stopping has seen, or None.
        threads: the limit on BLAS threads during `fit`; None for the library's own choice.
        epoch, step: finished epochs, and steps taken in the next one.
        base_lr, lr_factor: the learning rate that was configured, and what `halve-lr` has made of it.
        best_values, best_buffers: weights and buffers of the best epoch so far.
        losses: the objective of each step of this epoch.
        loss_sum, objective_sum: sums over the samples of this epoch.
        scores, targets: for each output, the scores of this epoch and their targets; of many, the last ones.
        samples: of this epoch, so far.
        loss_sums: for each of several outputs, the sum of its losses over the samples.
        norms: of gradient, update and parameters in the last step of the epoch.
        skipped: steps of this epoch that were not taken.
        average, average_count: with `average`, the mean of so many weights.
        waiting_grads, waiting: with `accumulate`, the sum of the gradients times samples that are still to be used, and
            of how many batches and samples.
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
    validation: tuple[Any, ...] | None
    tasks: dict[str, str]
    metrics: dict[str, list[str | OwnMetric]]
    history: History
    patience: Best | None
    threads: int | None
    epoch: int = 0
    step: int = 0
    lr_factor: float = 1.0
    best_values: Array | None = None
    best_buffers: dict[str, Array] = field(default_factory=dict)
    epoch_start: Snapshot | None = None
    average: Array | None = None
    average_count: int = 0
    waiting_grads: Array | None = None
    waiting: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.base_lr = self.optimizer.lr
        objective = self.objective
        outputs = objective.outputs.values()
        wanted = *objective.output_slots, objective.data_loss_slot, *[output.slot for output in outputs]
        if len(outputs) > 1:
            wanted += tuple([output.loss_slot for output in outputs])
        self.engine = engine_of(self.trainer, objective, self.store, self.optimizer, self.batches, wanted)
        self.stride = 1  # how many steps may be taken at once
        self.buffers, self.generators = self.objective.named_buffers(), self.objective.named_generators()
        self.scores: dict[str, Array] = {}
        self.targets: dict[str, Array] = {}
        for name, output in objective.outputs.items():
            batch_size, *shape = objective.shapes[output.slot] or (0,)
            if batch_size != self.batches.batch_size:
                raise DataError(
                    f"the model returns scores of shape {(batch_size, *shape)} for {self.batches.batch_size} samples; "
                    "expected one row per sample"
                )
            most = max(MOST_SCORES // max(math.prod(shape), 1), batch_size)
            self.scores[name] = np.empty((min(len(self.batches.y), most), *shape), self.trainer.dtype)
            y = self.target(self.batches.y, name)
            self.targets[name] = np.empty((len(self.scores[name]), *y.shape[1:]), y.dtype)
        self.begin_epoch()

    @property
    def task(self) -> str:
        """The task of the model's first output."""
        return next(iter(self.tasks.values()))

    @property
    def metric_names(self) -> list[str]:
        """The names of the metrics, with those of several outputs in front: `age_rmse`."""
        return [prefixed(output, name_of(metric)) for output, found in self.metrics.items() for metric in found]

    @staticmethod
    def target(y: Any, name: str) -> Array:
        """Return the targets of an output."""
        target: Array = y.parts[name] if isinstance(y, Named) else y
        return target

    def recorded_names(self) -> list[str]:
        """Return the names of the losses and metrics that are recorded."""
        parts = ["train"] if self.validation is None else ["train", "val"]
        objective = ["train_objective"] if self.trainer.regularizers else []
        losses = ["loss", *[f"{name}_loss" for name in self.tasks if name != ONLY]]
        return objective + [f"{part}_{name}" for part in parts for name in (*losses, *self.metric_names)]

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
        self.loss_sums = dict.fromkeys((name for name in self.tasks if name != ONLY), 0.0)
        self.samples = self.skipped = 0
        self.norms = dict.fromkeys(NORMS, math.nan)
        self.started = time.perf_counter()

    def gather(self, values: Sequence[float], losses: Sequence[float], found: Sequence[Array], y: Any) -> None:
        """Add the results of steps on batches of one size to what the record of the epoch is made from.

        `found` are the scores of each output, all samples one after the other, and for several outputs their losses.
        Of the scores, as many are kept as there is room for.
        """
        rows, of_each = len(y) // len(values), [np.ravel(part).tolist() for part in found[len(self.scores) :]]
        for value, loss, *others in zip(values, losses, *of_each, strict=True):
            self.losses.append(value)
            self.objective_sum += value * rows
            self.loss_sum += loss * rows
            for name, other in zip(self.loss_sums, others, strict=True):
                self.loss_sums[name] += other * rows
        rows = len(y)
        for (name, kept), of_output in zip(self.scores.items(), found, strict=False):
            start = self.samples % len(kept)
            first = min(rows, len(kept) - start)  # beyond the end, the oldest ones are overwritten
            for array, new in (kept, of_output), (self.targets[name], self.target(y, name)):
                array[start : start + first], array[: rows - first] = new[:first], new[first:]
        self.samples += rows

    def gradient_norm(self) -> float:
        """Return the norm of the gradient."""
        return global_norm(self.store.trained_grads)

    def measure(self, gradient_norm: float, before: Array) -> None:
        """Note the norms of gradient, update and parameters of a step, given the parameters before it."""
        norms = gradient_norm, global_norm(self.store.values - before), global_norm(before)
        self.norms = dict(zip(NORMS, norms, strict=True))

    def accumulated(self, wanted: int, rows: int) -> bool:
        """Add the gradient of a batch to those before it; at the last of them put their mean into the store.

        Returns whether it was the last: the one of number `wanted`, or the last of the epoch.
        """
        grads = self.store.grads
        if self.waiting_grads is None:
            self.waiting_grads = np.zeros_like(grads)
        self.waiting_grads += grads * grads.dtype.type(rows)
        self.waiting = [self.waiting[0] + 1, self.waiting[1] + rows]
        if self.waiting[0] < wanted and self.step + 1 < len(self.batches):
            return False
        np.divide(self.waiting_grads, self.waiting[1], out=grads)
        self.waiting_grads, self.waiting = None, [0, 0]
        return True

    def average_step(self, averaging: Averaging) -> None:
        """Take the weights after a step into their average."""
        if self.average is None:
            self.average = np.zeros_like(self.store.values)
        self.average_count = averaging.after_step(self.average, self.store.values, self.average_count)

    def average_epoch(self, averaging: Averaging) -> None:
        """Take the weights after an epoch into their average."""
        if self.average is not None:
            self.average_count = averaging.after_epoch(
                self.average, self.store.values, self.average_count, self.epoch + 1, self.trainer.epochs
            )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the average, if there is one, in the place of the weights for a while."""
        if self.average is None or not self.average_count:
            yield
            return
        present = self.store.values.copy()
        self.store.load(self.average)
        try:
            yield
        finally:
            self.store.load(present)

    def seen(self, name: str) -> tuple[Array, Array]:
        """Return the scores of an output in this epoch, and their targets; of many, the last ones."""
        return self.scores[name][: self.samples], self.targets[name][: self.samples]

    def keep_best(self) -> None:
        """Remember the present weights and buffers as the best ones."""
        self.best_values = self.store.values.copy()
        self.best_buffers = {name: buffer.value.copy() for name, buffer in self.buffers.items()}

    def load_best(self) -> None:
        """Put the best weights and buffers back into the model, or else the average of the weights, if there is any."""
        if self.best_values is None and self.average is not None and self.average_count:
            self.store.load(self.average)
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
            for name in self.scores:
                scores, targets = self.seen(name)
                arrays |= {f"scores/{name}": scores.copy(), f"targets/{name}": targets.copy()}
        if self.average is not None:
            arrays["average"] = self.average.copy()
        if self.waiting_grads is not None:
            arrays["waiting_grads"] = self.waiting_grads.copy()
        facts: dict[str, Any] = {
            "waiting": self.waiting,
            "average_count": self.average_count,
            "epoch": self.epoch,
            "step": self.step,
            "epochs": self.trainer.epochs,
            "lr_factor": self.lr_factor,
            "loss_sum": self.loss_sum,
            "loss_sums": self.loss_sums,
            "samples": self.samples if self.step else 0,
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
        self.waiting_grads = arrays["waiting_grads"].copy() if "waiting_grads" in arrays else None
        self.waiting = list(map(int, facts["waiting"]))
        self.average = arrays["average"].copy() if "average" in arrays else None
        self.average_count = int(facts["average_count"])
        self.loss_sums = {name: float(facts["loss_sums"][name]) for name in self.loss_sums}
        self.losses = arrays["losses"].tolist() if self.step else []
        self.samples = int(facts["samples"])
        for name in self.scores if self.step else ():
            scores, targets = self.seen(name)
            scores[...], targets[...] = arrays[f"scores/{name}"], arrays[f"targets/{name}"]
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


def prefixed(output: str, name: str) -> str:
    """Return the name of a loss or metric with that of its output, where there are several, in front."""
    return f"{output}_{name}" if output else name


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _part(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(f"{prefix}/"): array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def plain(value: Any) -> Any:
    """Return the state of a bit generator as JSON values: arrays become lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
