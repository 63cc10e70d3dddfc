"""Mini-batch gradient descent."""

import copy
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from layerflow.data.batches import Batches
from layerflow.data.rows import Rows
from layerflow.errors import ConfigError, DivergedError, did_you_mean
from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.store import ParameterStore
from layerflow.training.callback import Callback
from layerflow.training.clipping import clip_by_norm, clip_by_value, global_norm
from layerflow.training.divergence import (
    ON_DIVERGENCE,
    SMALLEST_FACTOR,
    check_epoch,
    explain_backward,
    explain_forward,
    is_finite,
)
from layerflow.training.evaluation import evaluate_scores, predict_scores
from layerflow.training.history import Best, EarlyStopping, History, Record
from layerflow.training.hyperparameters import count, number
from layerflow.training.metrics import DEFAULT_METRICS, baseline, evaluate, make_tally, metric_named
from layerflow.training.objective import Objective
from layerflow.training.optimizer import Optimizer
from layerflow.training.schedules import Constant, Schedule
from layerflow.training.snapshot import Snapshot, capture, restore

NORMS = ("gradient_norm", "update_norm", "parameter_norm")


class Trainer:
    """Trains a model by mini-batch gradient descent on a loss.

        trainer = lf.Trainer(model, loss=lf.SoftmaxCE(), optimizer=lf.SGD(lr=0.1), epochs=20)
        history = trainer.fit(x, y, validation=(xv, yv))

    Args:
        model: a gate with one input; it is built from the data if it is not built yet.
        loss: a gate that takes (scores, targets).
        optimizer: takes the steps; its `lr` is the base of the schedule.
        regularizer: one gate or several, fed by the weights and added to the loss.
        schedule: the learning rate over the epochs; constant if left out.
        epochs, batch_size, shuffle, drop_last: as everywhere.
        clip_norm, clip_value: limit the gradient's norm, or each of its elements.
        early_stopping: stop when a recorded metric no longer improves.
        best: the recorded metric that decides which epoch's weights are kept; `val_loss` when there is
            validation data, otherwise the last weights stay.
        metrics: what is measured beside the loss; accuracy, or rmse, mae and r2, by the loss's task.
        on_divergence: what to do about a step that leaves the finite numbers, which is never taken: "stop"; "skip" it;
            or go back to the start of the epoch and "halve-lr", ten times at most.
        seed: of initial weights, dropout and the order of the samples.
        dtype: "float32" or "float64", of parameters and data.
        callbacks: who looks on.

    Attributes:
        history: what is recorded.
        fresh: optimizer and schedule as they were given: what every training starts from.
        epoch, step: finished epochs, and steps taken inside the current one.
        lr_factor: what halvings have made of the learning rate.

    Raises:
        ConfigError: an impossible setting. DataError: unusable data. DivergedError: the objective is not finite.
    """

    def __init__(
        self,
        model: Gate,
        loss: Gate,
        optimizer: Optimizer,
        *,
        regularizer: Gate | Sequence[Gate] = (),
        schedule: Schedule | None = None,
        epochs: int = 20,
        batch_size: int = 32,
        shuffle: bool = True,
        drop_last: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        early_stopping: EarlyStopping | None = None,
        best: str | None = None,
        metrics: Sequence[str] | None = None,
        on_divergence: str = "stop",
        seed: int = 0,
        dtype: str = "float32",
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.regularizers = [regularizer] if isinstance(regularizer, Gate) else list(regularizer)
        self.schedule = schedule or Constant()
        self.fresh = self.optimizer, self.schedule
        self.epochs = count(self, "epochs", epochs)
        self.batch_size = count(self, "batch_size", batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.clip_norm = None if clip_norm is None else number(self, "clip_norm", clip_norm, "(0, inf)")
        self.clip_value = None if clip_value is None else number(self, "clip_value", clip_value, "(0, inf)")
        self.early_stopping = early_stopping
        self.best = best
        self.metrics = metrics
        if on_divergence not in ON_DIVERGENCE:
            raise ConfigError(f"on_divergence is {on_divergence!r}, expected one of {', '.join(ON_DIVERGENCE)}")
        self.on_divergence = on_divergence
        self.seed = seed
        if dtype not in ("float32", "float64"):
            raise ConfigError(f"dtype is {dtype!r}, expected 'float32' or 'float64'")
        self.dtype = np.dtype(dtype)
        self.callbacks = list(callbacks)

    def fit(self, x: Any, y: Any, validation: tuple[Any, Any] | None = None, resume: Snapshot | None = None) -> History:
        """Train on x (samples, ...) and y (samples, ...) and return the history; the model then has its best weights.

        A second call trains the weights that the first one left; everything else begins anew. Given a snapshot of the
        same training, it continues at that very step.
        """
        self.prepare(x, y, validation)
        if resume is not None:
            restore(self, resume)
            self._check_patience()
        with np.errstate(all="ignore"):  # whatever leaves the finite numbers is found, and named
            for callback in self.callbacks:
                callback.training_started(self)
            while self.epoch < self.epochs and self.history.outcome != "stopped early":
                self._run_epoch()
            self._keep_best()
            for callback in self.callbacks:
                callback.training_ended(self)
        return self.history

    def prepare(self, x: Any, y: Any, validation: tuple[Any, Any] | None = None) -> None:
        """Build everything and check that it fits together, without taking a step."""
        self.optimizer, self.schedule = copy.deepcopy(self.fresh)
        x, y = self._data(x), self._targets(y)
        self.validation = None if validation is None else (self._data(validation[0]), self._targets(validation[1]))
        self.batches = Batches(x, y, self.batch_size, self.seed, self.shuffle, self.drop_last)
        self.task: str = getattr(self.loss, "task", None) or (
            "classification" if np.issubdtype(y.dtype, np.integer) else "regression"
        )
        self.metric_names = list(DEFAULT_METRICS[self.task] if self.metrics is None else self.metrics)
        for name in self.metric_names:
            metric_named(name, self.task)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1,)))
        self.model.build(rng, (self.batch_size, *x.shape[1:]))
        self.objective = Objective(self.model, self.loss, self.regularizers)
        self.objective.build(rng, (self.batch_size, *x.shape[1:]), (self.batch_size, *y.shape[1:]))
        self.objective.astype(self.dtype)
        self.store = ParameterStore(self.model.parameters(), self.dtype)
        self.buffers, self.generators = self.objective.named_buffers(), self.objective.named_generators()
        self.base_lr, self.lr_factor = self.optimizer.lr, 1.0
        self.epoch = self.step = 0
        self.epoch_start: Snapshot | None = None
        self._begin_epoch()
        self.history = History(baseline=self._baseline(y))
        self._watch()

    # One epoch ---------------------------------------------------------------------------------------------------

    def _begin_epoch(self) -> None:
        """Forget what was gathered in the last epoch; a resumed epoch continues with what it had gathered instead."""
        self.loss_sum = self.objective_sum = 0.0
        self.losses: list[float] = []
        self.gathered: list[tuple[Array, Array]] = []
        self.norms = dict.fromkeys(NORMS, math.nan)
        self.skipped = 0
        self.started = time.perf_counter()

    def _run_epoch(self) -> None:
        self.optimizer.lr = self.schedule.lr(self.base_lr, self.epoch, self.epochs) * self.lr_factor
        if self.step == 0:
            self._begin_epoch()
            self.epoch_start = capture(self) if self.on_divergence == "halve-lr" else None
        step_callbacks = [
            callback for callback in self.callbacks if type(callback).step_ended is not Callback.step_ended
        ]
        for x, y in self.batches.epoch(self.epoch, self.step):
            try:
                self.train_step(x, y)
            except DivergedError as error:
                if self._go_back(x, y, error):
                    return
            self.step += 1
            for callback in step_callbacks:
                callback.step_ended(self)
        check_epoch(self)
        record = self._record() | {"seconds": time.perf_counter() - self.started}
        self.epoch += 1
        self.step = 0
        self.history.records.append(record)
        self.schedule.observe(record)
        self._judge(record)
        for callback in self.callbacks:
            callback.epoch_ended(self, record)

    def train_step(self, x: Array, y: Array) -> None:
        """One step: forwards, backwards, and down the gradient; not taken when it would leave the finite numbers."""
        objective = self.objective
        self.draws = [generator.bit_generator.state for generator in self.generators.values()]
        value = float(objective.forward(x, y))
        self.losses.append(value)
        if not math.isfinite(value):
            raise DivergedError(explain_forward(self, x))
        objective.backward()
        if not is_finite(self.store.grads):
            raise DivergedError(explain_backward(self, x))
        if self.step + 1 == len(self.batches):
            self._measured_update()
        else:
            self._update()
        self.objective_sum += value * len(x)
        self.loss_sum += objective.data_loss * len(x)
        self.gathered.append((objective.scores, y))

    def _go_back(self, x: Array, y: Array, error: DivergedError) -> bool:
        """Deal with a step that was not taken, as `on_divergence` says; return whether the epoch starts anew."""
        for callback in self.callbacks:
            callback.step_failed(self, x, y, error)
        if self.on_divergence == "skip":
            self.skipped += 1
            return False
        if self.epoch_start is None or self.lr_factor <= SMALLEST_FACTOR:
            raise error
        factor = self.lr_factor / 2
        restore(self, self.epoch_start)
        self.lr_factor = factor
        return True

    def _update(self) -> None:
        """Clip the gradient and let the optimizer take its step."""
        if self.clip_value is not None:
            clip_by_value(self.store.grads, self.clip_value)
        if self.clip_norm is not None:
            clip_by_norm(self.store.grads, self.clip_norm)
        self.optimizer.step(self.store)

    def _measured_update(self) -> None:
        """An epoch's last step: the norms of gradient (before clipping), update and parameters are recorded."""
        before = self.store.values.copy()
        gradient_norm = global_norm(self.store.grads)
        self._update()
        norms = gradient_norm, global_norm(self.store.values - before), global_norm(before)
        self.norms = dict(zip(NORMS, norms, strict=True))

    def _record(self) -> Record:
        """What is known at the end of an epoch; the training part was measured on the way, batch by batch."""
        samples = sum(len(y) for _, y in self.gathered)
        record: Record = {"epoch": self.epoch + 1, "lr": self.optimizer.lr, "train_loss": self.loss_sum / samples}
        if self.regularizers:
            record["train_objective"] = self.objective_sum / samples
        scores, targets = (np.concatenate(parts) for parts in zip(*self.gathered, strict=True))
        measured = evaluate(make_tally(self.task, self.metric_names).update(scores, targets), self.metric_names)
        record |= {f"train_{name}": value for name, value in measured.items()}
        if self.validation is not None:
            record |= {f"val_{name}": value for name, value in self.evaluate(*self.validation).items()}
        return record | self.norms

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """Return loss and metrics on given data, in evaluation mode."""
        scores = predict_scores(self.model, x, self.dtype)
        return evaluate_scores(scores, self._targets(y), self.loss, self.task, self.metric_names)

    # Best weights and early stopping -----------------------------------------------------------------------------

    def recorded_names(self) -> list[str]:
        """The names under which losses and metrics are recorded."""
        parts = ["train"] if self.validation is None else ["train", "val"]
        objective = ["train_objective"] if self.regularizers else []
        return objective + [f"{part}_{name}" for part in parts for name in ("loss", *self.metric_names)]

    def _watch(self) -> None:
        """Settle which metrics are watched, and check that they will be recorded."""
        best = self.best or (None if self.validation is None else "val_loss")
        self.history.best = Best(best) if best else None
        stopping = self.early_stopping
        self.patience = Best(stopping.metric, stopping.min_delta) if stopping else None
        for watched in (self.history.best, self.patience):
            if watched and watched.metric not in (known := self.recorded_names()):
                raise ConfigError(
                    f"{watched.metric!r} is not recorded in this run{did_you_mean(watched.metric, known)} "
                    f"Recorded: {', '.join(known)}"
                )
        copy.deepcopy(self.schedule).observe(dict.fromkeys(self.recorded_names(), 0.0))
        self.best_values: Array | None = None
        self.best_buffers: dict[str, Array] = {}

    def _judge(self, record: Record) -> None:
        if self.history.best and self.history.best.update(record, self.epoch):
            self.best_values = self.store.values.copy()
            self.best_buffers = {name: buffer.value.copy() for name, buffer in self.buffers.items()}
        if self.patience:
            self.patience.update(record, self.epoch)
            self._check_patience()

    def _check_patience(self) -> None:
        if self.patience and self.early_stopping and self.patience.waited >= self.early_stopping.patience:
            self.history.outcome = "stopped early"

    def _keep_best(self) -> None:
        if self.best_values is not None:
            self.store.load(self.best_values)
            for name, buffer in self.buffers.items():
                buffer.value = self.best_buffers[name]

    # Data --------------------------------------------------------------------------------------------------------

    def _data(self, x: Any) -> Any:
        """Arrays in memory are cast once; those on disk, and whatever else reads from there, batch by batch."""
        if isinstance(x, np.memmap):
            return Rows(x, None, lambda rows: rows.astype(self.dtype, copy=False))
        return np.asarray(x, self.dtype) if isinstance(x, list | np.ndarray) else x

    def _targets(self, y: Any) -> Array:
        targets: Array = np.asarray(y)
        return targets.astype(self.dtype) if np.issubdtype(targets.dtype, np.floating) else targets

    def _baseline(self, y: Array) -> dict[str, float]:
        return baseline(self.task, y, y if self.validation is None else self.validation[1], self.metric_names)
