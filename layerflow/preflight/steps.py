"""A few real steps on a copy of the model: the size of the updates, and overfitting a few samples."""

import numpy as np

from layerflow.parameter import Array
from layerflow.preflight.context import Context, Finding, judge, listed, swept
from layerflow.training.metrics import evaluate, predicted_labels
from layerflow.training.optimizers import Adam, Optimizer, global_norm
from layerflow.training.trainer import Trainer

STEPS = 10  # the second half is used, when momentum has built up
FEW = 8  # samples to overfit
MOST_STEPS = 400
FITTED = 0.02  # fraction of the loss of an uninformed model


def update_ratio(context: Context) -> Finding | None:
    """An update changes the weights by about a thousandth of their norm."""
    trainer = context.fresh_trainer()
    names = trainer.model.named_parameters()
    weights = {name: p for name, p in names.items() if p.decay and p.value.any()}
    if not weights:
        return None
    ratios: dict[str, list[float]] = {name: [] for name in weights}
    for x, y in _batches(trainer, STEPS):
        before = {name: parameter.value.copy() for name, parameter in weights.items()}
        trainer.train_step(x, y)
        for name, parameter in weights.items():
            moved = global_norm((parameter.value - before[name]).ravel())
            ratios[name].append(moved / global_norm(before[name].ravel()))
    peak = max(max(values) for values in ratios.values())
    typical = {name: float(np.median(values[STEPS // 2 :])) for name, values in ratios.items()}
    size = max(typical.values()) if peak <= 1 else peak
    shown = listed([f"{name} {value:.1g}" for name, value in typical.items()])
    evidence = f"an update changes weights by {size:.1g} of their norm (rule of thumb: 0.001): {shown}"
    remedy = "the weights do not change; check that neither lr nor the gradient is 0"
    if size > 0:
        high_or_low = "high" if size > 1e-3 else "low"
        better = trainer.state.base_lr * 1e-3 / size
        remedy = f"lr {trainer.state.base_lr:g} seems too {high_or_low}; about {better:.0e} would give 0.001"
    return judge("update size", size, evidence, remedy, warn=not 1e-5 < size < 0.2, error=peak > 1)


def a_few_samples_can_be_learned(context: Context) -> Finding | None:
    """The model can overfit a few samples; one that cannot has a mistake in it."""
    own = context.fresh_trainer(regularized=False)
    if not own.state.store.size:
        return None
    rows = _few(context)
    x, y = context.x[rows], context.y[rows]
    left, steps = _fit(own, own.state.optimizer, x, y)
    evidence = (
        f"{len(rows)} samples without dropout and regularizer: {left:.0%} of the loss remains after {steps} steps"
    )
    if left <= FITTED:
        return judge("overfitting a few", left, evidence)
    for lr in (1e-2, 1e-1, 1e-3):
        other_left, other_steps = _fit(context.fresh_trainer(regularized=False), Adam(lr=lr), x, y)
        if other_left <= FITTED:
            evidence += f"; Adam with lr {lr:g} needs {other_steps} steps"
            optimizer = own.optimizer
            remedy = f"{type(optimizer).__name__} with lr {optimizer.lr:g} does not fit them; try other learning rates"
            return judge("overfitting a few", left, evidence, remedy, warn=True)
    evidence += ", and Adam does no better"
    remedy = "fix the errors above first; then check the last gate, and that targets belong to their samples"
    return judge("overfitting a few", left, evidence, remedy, error=True)


def _fit(trainer: Trainer, optimizer: Optimizer, x: Array, y: Array) -> tuple[float, int]:
    """Train on a few samples and return the fraction of the loss that remains, and the number of steps."""
    objective = swept(trainer, x, y)
    start = objective.data_loss
    if trainer.state.task == "regression":
        guess = np.full_like(objective.scores, y.mean())
        start = float(trainer.loss.forward(guess, y))
    left = 1.0
    for step in range(1, MOST_STEPS + 1):
        optimizer.step(trainer.state.store)
        objective = swept(trainer, x, y)
        left = objective.data_loss / start if start else 0.0
        if not np.isfinite(left):
            return 1.0, step
        if _is_fitted(trainer, objective.scores, y, left):
            return min(left, FITTED), step
    return max(left, FITTED * 1.01), MOST_STEPS


def _is_fitted(trainer: Trainer, scores: Array, y: Array, left: float) -> bool:
    """Return whether the targets are fitted; a custom loss may have a minimum above 0, so it does not count."""
    is_own = not type(trainer.loss).__module__.startswith("layerflow.")
    if trainer.state.task == "classification":
        return (is_own or left <= FITTED) and bool((predicted_labels(scores) == y).all())
    if left <= FITTED or not is_own or scores.size != len(y):
        return left <= FITTED
    return evaluate("regression", scores.ravel(), y, ["r2"])["r2"] >= 1 - FITTED


def _few(context: Context) -> Array:
    """Return a few different samples with different targets, no more than the model has parameters for."""
    trainer = context.trainer
    width = max(1, int(np.prod(context.swept.scores.shape[1:])))
    count = min(max(2, min(FEW, trainer.state.store.size // (4 * width))), len(context.y))
    order = np.argsort(context.y, kind="stable")
    rows = np.unique(order[np.linspace(0, len(order) - 1, count).astype(int)])
    _, first = np.unique(context.x[rows].reshape(len(rows), -1), axis=0, return_index=True)
    chosen: Array = rows[np.sort(first)]
    return chosen


def _batches(trainer: Trainer, count: int) -> list[tuple[Array, Array]]:
    """Return the first `count` batches, over as many epochs as needed."""
    found: list[tuple[Array, Array]] = []
    epoch = 0
    while len(found) < count:
        found += list(trainer.state.batches.epoch(epoch))[: count - len(found)]
        epoch += 1
    return found
