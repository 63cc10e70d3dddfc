"""Mini-batch gradient descent."""

import copy
import math
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from layerflow.data.batches import Batches, Rows
from layerflow.errors import ConfigError, DataError, DivergedError
from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.store import ParameterStore
from layerflow.training.callbacks import Callback
from layerflow.training.divergence import (
    ON_DIVERGENCE,
    SMALLEST_FACTOR,
    check_epoch,
    explain_backward,
    explain_forward,
    is_finite,
)
from layerflow.training.history import Best, EarlyStopping, History, Record
from layerflow.training.metrics import (
    DEFAULT_METRICS,
    baseline,
    evaluate,
    evaluate_scores,
    metric_named,
    predict_scores,
)
from layerflow.training.optimizers import Optimizer, clip_by_norm, clip_by_value, global_norm
from layerflow.training.schedules import Constant, Schedule, count, number
from layerflow.training.state import NORMS, Objective, Snapshot, State

# Parameters times batch size below which one BLAS thread is used. With two threads on two busy cores a step took 1 to
# 3.4 times as long as with one up to 1.2e6, 2.6 to 10 times from 2.2e6 to 2.7e8, except 4.6e6 with 1.0
# (`scripts/bench_step.py --break-even`). Larger steps keep the threads that BLAS is set to: only they gain from more.
ONE_THREAD_WORK = 1 << 24
DTYPES = ("float32", "float64")


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains a model by mini-batch gradient descent on a loss.

        trainer = lf.Trainer(model, loss=lf.SoftmaxCE(), optimizer=lf.SGD(lr=0.1), epochs=20)
        history = trainer.fit(x, y, validation=(xv, yv))
        scores = trainer.predict(x_new)

    The settings are frozen: `dataclasses.replace(trainer, epochs=50)` makes a trainer with others. What changes while
    it trains is `trainer.state`.

    Args:
        model: a gate with one input; it is built from the data if it is not built yet.
        loss: a gate that takes (scores, targets).
        optimizer: computes the updates; its `lr` is the base of the schedule.
        regularizer: one gate or several; they take the weights and are added to the loss.
        schedule: the learning rate over the epochs; constant by default.
        epochs: passes over the data.
        batch_size: samples per step; if there are fewer samples, all of them with a warning.
        shuffle: draw a new order of the samples in every epoch.
        drop_last: leave out the last batch of an epoch if it is smaller than the others.
        clip_norm, clip_value: limit the norm of the gradient, or each of its elements.
        early_stopping: stop when a recorded metric no longer improves.
        best: the recorded metric used to pick the best epoch, whose weights are kept. By default `val_loss` if there is
            validation data; otherwise the last weights are kept.
        metrics: names of metrics to record beside the loss; by default accuracy, or rmse, mae and r2. May be empty.
        on_divergence: what to do about a step that produces NaN or infinity. Such a step is never taken: "stop"; "skip"
            it; or return to the start of the epoch and "halve-lr", at most ten times.
        seed: of the initial weights, dropout and the order of the samples.
        dtype: of parameters and data, "float32" or "float64".
        threads: BLAS threads during `fit`. By default one for small steps, where more threads cost more time than they
            save, and otherwise as many as BLAS is set to.
        callbacks: called during training; see `Callback`.

    Raises:
        ConfigError: an impossible setting. DataError: unusable data. DivergedError: a step produced NaN or infinity.
    """

    model: Gate
    loss: Gate
    optimizer: Optimizer
    _: KW_ONLY
    regularizer: Gate | Sequence[Gate] = ()
    schedule: Schedule | None = None
    epochs: int = 20
    batch_size: int = 32
    shuffle: bool = True
    drop_last: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    early_stopping: EarlyStopping | None = None
    best: str | None = None
    metrics: Sequence[str] | None = None
    on_divergence: str = "stop"
    seed: int = 0
    dtype: str = "float32"
    threads: int | None = None
    callbacks: Sequence[Callback] = ()
    _state: State | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", *(["threads"] if self.threads is not None else [])):
            object.__setattr__(self, name, count(self, name, getattr(self, name)))
        for name in ("clip_norm", "clip_value"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, number(self, name, value, "(0, inf)"))
        for name, allowed in (("on_divergence", ON_DIVERGENCE), ("dtype", DTYPES)):
            if (value := getattr(self, name)) not in allowed:
                raise ConfigError(f"{name} is {value!r}, expected {' or '.join(map(repr, allowed))}")
        if isinstance(self.metrics, str) or not all(isinstance(name, str) for name in self.metrics or ()):
            raise ConfigError(
                f"metrics is {self.metrics!r}, expected a list of names, such as ['accuracy']; compute your own "
                "metrics in the epoch_ended method of a Callback"
            )

    @property
    def regularizers(self) -> tuple[Gate, ...]:
        """The regularizers, none, one or several."""
        return (self.regularizer,) if isinstance(self.regularizer, Gate) else tuple(self.regularizer)

    @property
    def state(self) -> State:
        """The state of the training; `ConfigError` before `fit` or `prepare`."""
        if self._state is None:
            raise ConfigError("the trainer has no state yet; call fit(x, y) or prepare(x, y) first")
        return self._state

    @property
    def history(self) -> History:
        """The records so far."""
        return self.state.history

    def fit(
        self,
        x: Any,
        y: Any,
        validation: tuple[Any, Any] | None = None,
        resume: Snapshot | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> History:
        """Train on x (samples, ...) and y (samples, ...) and return the history; the model then has its best weights.

        A second call continues from the weights of the first one; everything else starts afresh.

        Args:
            x: the samples.
            y: the targets.
            validation: x and y of a part that is measured after every epoch.
            resume: a snapshot of the same training, which is continued at that very step.
            callbacks: called after those of the trainer.
        """
        self.prepare(x, y, validation)
        state, callbacks = self.state, [*self.callbacks, *callbacks]
        if resume is not None:
            state.restore(resume)
            self._check_patience(state)
        with np.errstate(all="ignore"), self.limited_threads():  # NaN and infinity are detected and reported
            for callback in callbacks:
                callback.training_started(state)
            while state.epoch < self.epochs and state.history.outcome != "stopped early":
                self._run_epoch(state, callbacks)
            state.load_best()
            for callback in callbacks:
                callback.training_ended(state)
        return state.history

    def predict(self, x: Any) -> Array:
        """Return the model's outputs for x (samples, ...), computed in evaluation mode."""
        if not all(parameter.has_value for parameter in self.model.parameters()):
            raise ConfigError("the model has no weights yet; call fit(x, y) first")
        return predict_scores(self.model, self._data(x), self.dtype)

    def evaluate(self, x: Any, y: Any) -> dict[str, float]:
        """Return loss and metrics on the given data, computed in evaluation mode."""
        scores = predict_scores(self.model, self._data(x), self.dtype)
        return evaluate_scores(scores, self._targets(y), self.loss, self.state.task, self.state.metric_names)

    def prepare(self, x: Any, y: Any, validation: tuple[Any, Any] | None = None) -> None:
        """Build everything and check that it fits together, without taking a step."""
        x, y = self._data(x, y), self._targets(y)
        held_out = None if validation is None else (self._data(*validation), self._targets(validation[1]))
        batches = Batches(x, y, self._batch_size(len(x)), self.seed, self.shuffle, self.drop_last)
        task: str = getattr(self.loss, "task", None) or (
            "classification" if np.issubdtype(y.dtype, np.integer) else "regression"
        )
        metric_names = list(DEFAULT_METRICS[task] if self.metrics is None else self.metrics)
        for name in metric_names:
            metric_named(name, task)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1,)))
        shape = (batches.batch_size, *x.shape[1:])
        self.model.build(rng, shape)
        objective = Objective(self.model, self.loss, self.regularizers)
        objective.build(rng, shape, (batches.batch_size, *y.shape[1:]))
        objective.astype(self.dtype)
        store = ParameterStore(self.model.parameters(), self.dtype)
        best = self.best or (None if held_out is None else "val_loss")
        stopping = self.early_stopping
        guess = baseline(task, y, y if held_out is None else held_out[1], metric_names)
        state = State(
            trainer=self,
            objective=objective,
            store=store,
            optimizer=copy.deepcopy(self.optimizer),
            schedule=copy.deepcopy(self.schedule) or Constant(),
            batches=batches,
            validation=held_out,
            task=task,
            metric_names=metric_names,
            history=History(baseline=guess, best=Best(best) if best else None),
            patience=Best(stopping.metric, stopping.min_delta) if stopping else None,
            threads=self.threads or (1 if store.size * batches.batch_size < ONE_THREAD_WORK else None),
        )
        state.check_watched()
        object.__setattr__(self, "_state", state)

    def limited_threads(self) -> AbstractContextManager[object]:
        """Return a context in which BLAS uses `state.threads` threads."""
        if self.state.threads is None:
            return nullcontext()
        from threadpoolctl import threadpool_limits

        limits: AbstractContextManager[object] = threadpool_limits(self.state.threads, "blas")
        return limits

    # One epoch ---------------------------------------------------------------------------------------------------

    def _run_epoch(self, state: State, callbacks: Sequence[Callback]) -> None:
        state.optimizer.lr = state.schedule.lr(state.base_lr, state.epoch, self.epochs) * state.lr_factor
        if state.step == 0:
            state.begin_epoch()
            state.epoch_start = state.capture() if self.on_divergence == "halve-lr" else None
        after_step = [c.step_ended for c in callbacks if type(c).step_ended is not Callback.step_ended]
        for x, y in state.batches.epoch(state.epoch, state.step):
            try:
                state.gather(*self.train_step(x, y), y)
            except DivergedError as error:
                for callback in callbacks:
                    callback.step_failed(state, x, y, error)
                if self._starts_again(state, error):
                    return
            state.step += 1
            for call in after_step:
                call(state)
        check_epoch(state)
        record = self._record(state)
        state.epoch += 1
        state.step = 0
        state.history.records.append(record)
        state.schedule.observe(record)
        if state.history.best and state.history.best.update(record, state.epoch):
            state.keep_best()
        if state.patience:
            state.patience.update(record, state.epoch)
            self._check_patience(state)
        for callback in callbacks:
            callback.epoch_ended(state, record)

    def train_step(self, x: Array, y: Array) -> tuple[float, float, Array]:
        """Update the parameters from one batch; return objective, loss and scores as they were before the update.

        Raises:
            DivergedError: the objective or its gradient is NaN or infinite; the parameters are unchanged.
        """
        state = self.state
        value, loss, scores = state.engine.run(x, y)
        value = float(value)
        if not math.isfinite(value) or not is_finite(state.store.grads):
            state.engine.repeat(x, y)
            explain = explain_backward if math.isfinite(value) else explain_forward
            raise DivergedError(explain(state, x, value))
        if state.step + 1 == len(state.batches):
            self._measured_update(state)
        else:
            self._update(state)
        return value, float(loss), scores

    def _update(self, state: State) -> None:
        if self.clip_value is not None:
            clip_by_value(state.store.grads, self.clip_value)
        if self.clip_norm is not None:
            clip_by_norm(state.store.grads, self.clip_norm)
        state.optimizer.step(state.store)

    def _measured_update(self, state: State) -> None:
        """Record the norms of gradient (before clipping), update and parameters in the last step of an epoch."""
        before = state.store.values.copy()
        gradient_norm = global_norm(state.store.grads)
        self._update(state)
        norms = gradient_norm, global_norm(state.store.values - before), global_norm(before)
        state.norms = dict(zip(NORMS, norms, strict=True))

    def _starts_again(self, state: State, error: DivergedError) -> bool:
        """Handle a step that was not taken as `on_divergence` says; return whether the epoch starts again."""
        if self.on_divergence == "skip":
            state.losses.append(state.objective.value)
            state.skipped += 1
            return False
        if state.epoch_start is None or state.lr_factor <= SMALLEST_FACTOR:
            raise error
        factor = state.lr_factor / 2
        state.restore(state.epoch_start)
        state.lr_factor = factor
        return True

    def _record(self, state: State) -> Record:
        """Return the record of the epoch; the training part was measured during the epoch, batch by batch."""
        samples, lr = state.samples, state.optimizer.lr
        record: Record = {"epoch": state.epoch + 1, "lr": lr, "train_loss": state.loss_sum / samples}
        if self.regularizers:
            record["train_objective"] = state.objective_sum / samples
        found = evaluate(state.task, state.scores[:samples], state.targets[:samples], state.metric_names)
        record |= {f"train_{name}": value for name, value in found.items()}
        if state.validation is not None:
            record |= {f"val_{name}": value for name, value in self.evaluate(*state.validation).items()}
        return record | state.norms | {"seconds": time.perf_counter() - state.started}

    def _check_patience(self, state: State) -> None:
        if state.patience and self.early_stopping and state.patience.waited >= self.early_stopping.patience:
            state.history.outcome = "stopped early"

    # Data --------------------------------------------------------------------------------------------------------

    def _data(self, x: Any, y: Any = None) -> Any:
        """Return x as an array of the trainer's dtype, or as `Rows`, which are read and cast batch by batch."""
        if isinstance(x, Rows):
            return x
        if isinstance(x, np.memmap):
            return Rows(x, None, lambda rows: rows.astype(self.dtype, copy=False))
        shapes = [part.shape for part in x if isinstance(part, np.ndarray)] if isinstance(x, list | tuple) else []
        if isinstance(x, dict) or len(set(shapes)) > 1 or (shapes and y is not None and len(x) != len(y)):
            given = f"a dict of {', '.join(map(repr, x))}" if isinstance(x, dict) else f"a list of arrays, {shapes}"
            raise DataError(f"x is {given}; expected one array (samples, ...), since a model has one input")
        try:
            return np.asarray(x, self.dtype)
        except (TypeError, ValueError) as error:
            raise DataError(f"x cannot be converted to {self.dtype}: {error}") from error

    def _targets(self, y: Any) -> Array:
        targets: Array = np.asarray(y)
        return targets.astype(self.dtype) if np.issubdtype(targets.dtype, np.floating) else targets

    def _batch_size(self, samples: int) -> int:
        if 0 < samples < self.batch_size:
            warnings.warn(
                f"batch_size is {self.batch_size}, but there are only {samples} samples; using batches of {samples}",
                stacklevel=4,
            )
            return samples
        return self.batch_size
