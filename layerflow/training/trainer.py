"""Mini-batch gradient descent."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from layerflow.data.batches import Batches, Named, parts_of
from layerflow.engine.choice import ENGINES
from layerflow.errors import ConfigError, DivergedError
from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.store import ParameterStore
from layerflow.training.averaging import Averaging
from layerflow.training.callbacks import Callback
from layerflow.training.clipping import clip
from layerflow.training.divergence import (
    ON_DIVERGENCE,
    SMALLEST_FACTOR,
    check_epoch,
    explain_backward,
    explain_forward,
    is_finite,
)
from layerflow.training.evaluation import counted, evaluate_scores, predict_scores, task_of
from layerflow.training.history import EarlyStopping, History, Record
from layerflow.training.many_steps import single_batches, takes_many
from layerflow.training.metrics import OwnMetric, evaluate
from layerflow.training.objective import ONLY, Objective, output_names
from layerflow.training.optimizers import Optimizer
from layerflow.training.preparation import (
    ONE_THREAD_WORK,
    as_inputs,
    as_targets,
    as_weights,
    balance_losses,
    baselines,
    batch_size_for,
    draw_matching,
    freeze_matching,
    metrics_of,
    watch,
)
from layerflow.training.schedules import Constant, Schedule, count, number
from layerflow.training.state import Snapshot, State, prefixed

DTYPES = ("float32", "float64")
SAMPLE_WEIGHT = "sample_weight"  # the name of the weights among the arrays of a batch's targets


@dataclass(frozen=True, eq=False)
class Trainer:
    """Trains a model by mini-batch gradient descent on a loss.

        trainer = lf.Trainer(model, loss=lf.SoftmaxCE(), optimizer=lf.SGD(lr=0.1), epochs=20)
        history = trainer.fit(x, y, validation=(xv, yv))
        scores = trainer.predict(x_new)

    Settings are frozen: `dataclasses.replace(trainer, epochs=50)` makes others. What changes is in `trainer.state`.

    Args:
        model: a gate; it is built from the data if it is not built yet.
        loss: a gate that takes (scores, targets); for a model of several outputs a dict of one for each, by the name of
            the graph's node.
        optimizer: computes the updates; its `lr` is the base of the schedule.
        regularizer: gates that take the weights and are added to the loss.
        schedule: the learning rate over the epochs; constant by default.
        epochs: passes over the data.
        batch_size: samples per step; if there are fewer samples, all of them with a warning.
        shuffle: draw a new order of the samples in every epoch.
        drop_last: leave out the last batch of an epoch if it is smaller than the others.
        clip_norm, clip_value: limit the norm of the gradient, or each of its elements.
        early_stopping: stop when a recorded metric no longer improves.
        best: the recorded metric used to pick the best epoch, whose weights are kept. By default `val_loss` if there is
            validation data; otherwise the last weights are kept.
        metrics: names of metrics to record beside the loss, or functions of scores and targets; by default accuracy,
            or rmse, mae and r2. May be empty. For several outputs a dict of them.
        on_divergence: what to do about a step that produces NaN or infinity. Such a step is never taken: "stop"; "skip"
            it; or return to the start of the epoch and "halve-lr", at most ten times.
        seed: of the initial weights, dropout and the order of the samples.
        dtype: of parameters and data, "float32" or "float64".
        accumulate: how many batches share an update: their gradients are averaged, as if of one batch.
        average: `EMA` or `SWA`: an average of the weights takes their place in validation and at the end.
        augment: random changes of the training samples, functions of a batch and a generator.
        init: initializers of new parameters by patterns of their names, such as {"*.weight_hh": "orthogonal"}.
        freeze: patterns of parameter names, such as "encoder.*", whose values stay as they are.
        loss_weights: the factor of the loss of each of several outputs, 1 by default.
        threads: BLAS threads during `fit`. By default one for small steps, where more threads cost more time than they
            save, and otherwise as many as BLAS is set to.
        engine: runs the steps: "numpy"; "native", machine code; "xla", JAX's compiler; "auto", native for long runs.
        callbacks: called during training; see `Callback`.

    Raises:
        ConfigError: an impossible setting. DataError: unusable data. DivergedError: a step produced NaN or infinity.
    """

    model: Gate
    loss: Gate | Mapping[str, Gate]
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
    metrics: Sequence[str | OwnMetric] | Mapping[str, Sequence[str | OwnMetric]] | None = None
    on_divergence: str = "stop"
    seed: int = 0
    dtype: str = "float32"
    accumulate: int = 1
    average: Averaging | None = None
    augment: Sequence[Callable[[Any, Any], Any]] = ()
    init: Mapping[str, Any] = field(default_factory=dict)
    freeze: Sequence[str] = ()
    loss_weights: Mapping[str, float] | None = None
    threads: int | None = None
    engine: str = "numpy"
    callbacks: Sequence[Callback] = ()
    _state: State | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", *(["threads"] if self.threads is not None else [])):
            object.__setattr__(self, name, count(self, name, getattr(self, name)))
        for name in ("clip_norm", "clip_value"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, number(self, name, value, "(0, inf)"))
        for name, allowed in (("on_divergence", ON_DIVERGENCE), ("dtype", DTYPES), ("engine", ENGINES)):
            if (value := getattr(self, name)) not in allowed:
                raise ConfigError(f"{name} is {value!r}, expected {' or '.join(map(repr, allowed))}")
        lists = self.metrics.values() if isinstance(self.metrics, Mapping) else [self.metrics or ()]
        for found in lists:
            if isinstance(found, str) or not all(isinstance(each, str) or callable(each) for each in found):
                raise ConfigError(
                    f"metrics is {self.metrics!r}, expected a list of names, such as ['accuracy'], or of functions of "
                    "scores and targets"
                )
        if isinstance(self.freeze, str):
            raise ConfigError(f"freeze is {self.freeze!r}, expected a list of patterns, such as [{self.freeze!r}]")

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
        sample_weight: Any = None,
        validation: tuple[Any, ...] | None = None,
        resume: Snapshot | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> History:
        """Train on x (samples, ...) and y (samples, ...) and return the history; the model then has its best weights.

        A second call continues from the weights of the first one; everything else starts afresh.

        Args:
            x: the samples; for a model of several inputs a dict of arrays, by the names of the graph's inputs.
            y: the targets; for a model of several outputs a dict of arrays, by the names of the losses.
            sample_weight: how much each sample counts in the loss, 0 or more; metrics count all samples alike.
            validation: x, y and, if wanted, weights of a part that is measured after every epoch.
            resume: a snapshot of the same training, which is continued at that very step.
            callbacks: called after those of the trainer.
        """
        self.prepare(x, y, validation, sample_weight)
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

    def predict(self, x: Any) -> Any:
        """Return the model's outputs for x, computed in evaluation mode: an array, or of several a dict of arrays."""
        if not all(parameter.has_value for parameter in self.model.parameters()):
            raise ConfigError("the model has no weights yet; call fit(x, y) first")
        scores = predict_scores(self.model, as_inputs(self.model, x, self.dtype), self.dtype)
        if not isinstance(scores, tuple):
            return scores
        return dict(zip(output_names(self.model, self.losses), scores, strict=True))

    def evaluate(self, x: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Return loss and metrics on the given data, computed in evaluation mode."""
        x, y, weights = self._samples(x, y, sample_weight)
        state, scores = self.state, self.predict(x)
        found: dict[str, float] = {"loss": 0.0}
        for name, output in state.objective.outputs.items():
            own = scores[name] if isinstance(scores, dict) else scores
            metrics = state.metrics[name]
            values = evaluate_scores(own, state.target(y, name), output.loss, state.tasks[name], metrics, weights)
            found["loss"] += output.weight * values["loss"]
            found |= {prefixed(name, key): value for key, value in values.items() if name or key != "loss"}
        return found

    def prepare(self, x: Any, y: Any, validation: tuple[Any, ...] | None = None, sample_weight: Any = None) -> None:
        """Build everything and check that it fits together, without taking a step."""
        x, y, weights = self._samples(x, y, sample_weight)
        held_out = None if validation is None else self._samples(*validation)
        if weights is not None:
            y = Named({**(y.parts if isinstance(y, Named) else {ONLY: y}), SAMPLE_WEIGHT: weights})
        batches = Batches(
            x, y, batch_size_for(self.batch_size, len(x)), self.seed, self.shuffle, self.drop_last, self.augment
        )
        targets = {name: y.parts[name] if isinstance(y, Named) else y for name in self.losses}
        tasks = {name: task_of(loss, targets[name]) for name, loss in self.losses.items()}
        metrics = {name: metrics_of(self.metrics, self.losses, name, task) for name, task in tasks.items()}
        balance_losses(self.losses, targets)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1,)))
        xs = x.parts if isinstance(x, Named) else {"x": x}
        shapes = [(batches.batch_size, *part.shape[1:]) for part in xs.values()]
        drawn = {id(parameter) for parameter in self.model.parameters() if parameter.has_value}
        self.model.build(rng, *shapes)
        draw_matching(self.model, self.init, drawn, rng)
        objective = Objective(
            self.model, self.loss, self.regularizers, list(xs), self.loss_weights, has_sample_weight=weights is not None
        )
        objective.build(rng, *shapes, *[(batches.batch_size, *part.shape[1:]) for part in parts_of(y)])
        objective.astype(self.dtype)
        freeze_matching(self.model, self.freeze)
        store = ParameterStore(self.model.parameters(), self.dtype)
        best = self.best or (None if held_out is None else "val_loss")
        stopping = self.early_stopping or EarlyStopping("")
        held_y = targets if held_out is None else {name: State.target(held_out[1], name) for name in targets}
        guess = baselines(self.losses, tasks, metrics, targets, held_y)
        state = State(
            trainer=self,
            objective=objective,
            store=store,
            optimizer=copy.deepcopy(self.optimizer),
            schedule=copy.deepcopy(self.schedule) or Constant(),
            batches=batches,
            validation=held_out,
            tasks=tasks,
            metrics=metrics,
            history=History(baseline=guess, best=watch(best, metrics)),
            patience=watch(stopping.metric, metrics, stopping.min_delta),
            threads=self.threads or (1 if store.size * batches.batch_size < ONE_THREAD_WORK else None),
        )
        state.check_watched()
        object.__setattr__(self, "_state", state)

    def _samples(self, x: Any, y: Any, *weights: Any) -> tuple[Any, ...]:
        """Return samples, targets and perhaps weights as the sweeps take them."""
        x, y = as_inputs(self.model, x, self.dtype, y), as_targets(self.loss, y, self.dtype)
        return x, y, *[as_weights(each, self.dtype, len(x)) for each in weights]

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
        is_many = takes_many(state, callbacks)
        for x, y in single_batches(state, after_step) if is_many else state.batches.epoch(state.epoch, state.step):
            try:
                value, loss, found = self.train_step(x, y)
                state.gather([value], [loss], found, y)
            except DivergedError as error:
                for callback in callbacks:
                    callback.step_failed(state, x, y, error)
                if self._starts_again(state, error):
                    return
            state.step += 1
            for call in after_step:
                call(state)
        check_epoch(state)
        if self.average:
            state.average_epoch(self.average)
        with state.averaged():
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

    def train_step(self, x: Any, y: Any) -> tuple[float, float, Sequence[Array]]:
        """Update the parameters from one batch; return objective, loss and scores as they were before the update.

        The scores are those of each output; for several outputs, their losses follow. With `accumulate` only every
        so many steps, and the last of an epoch, change the parameters.

        Raises:
            DivergedError: the objective or its gradient is NaN or infinite; the parameters are unchanged.
        """
        state = self.state
        arrays = *parts_of(x), *parts_of(y)
        before = state.store.values.copy() if state.step + 1 == len(state.batches) else None
        if state.engine.update is not None:
            done, taken = state.engine.take_steps(arrays, np.arange(len(x))[np.newaxis])
            if done:
                value, loss, *scores = [values[0] for values in taken]
                if before is not None:
                    state.measure(state.gradient_norm(), before)
                return float(value), float(loss), scores
        value, loss, *scores = state.engine.run(*arrays)
        value = float(value)
        if not math.isfinite(value) or not is_finite(state.store.grads):
            state.engine.repeat(*arrays)
            explain = explain_backward if math.isfinite(value) else explain_forward
            raise DivergedError(explain(state, x, value))
        if self.accumulate > 1 and not state.accumulated(self.accumulate, len(x)):
            return value, float(loss), scores
        self._update(state, before)
        return value, float(loss), scores

    def _update(self, state: State, before: Array | None) -> None:
        gradient_norm = state.gradient_norm() if before is not None else 0.0
        clip(state.store.trained_grads, self.clip_value, self.clip_norm)
        state.optimizer.step(state.store)
        if self.average:
            state.average_step(self.average)
        if before is not None:
            state.measure(gradient_norm, before)

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
        for name, output in state.objective.outputs.items():
            found = {"loss": state.loss_sums[name] / samples} if name else {}
            found |= evaluate(state.tasks[name], *counted(output.loss, *state.seen(name)), state.metrics[name])
            record |= {f"train_{prefixed(name, key)}": value for key, value in found.items()}
        if state.validation is not None:
            record |= {f"val_{name}": value for name, value in self.evaluate(*state.validation).items()}
        return record | state.norms | {"seconds": time.perf_counter() - state.started}

    def _check_patience(self, state: State) -> None:
        if state.patience and self.early_stopping and state.patience.waited >= self.early_stopping.patience:
            state.history.outcome = "stopped early"

    # Data --------------------------------------------------------------------------------------------------------

    @property
    def losses(self) -> dict[str, Gate]:
        """The loss of each output."""
        return {ONLY: self.loss} if isinstance(self.loss, Gate) else dict(self.loss)
