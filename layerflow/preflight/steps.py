"""Batches, updates and gradients: samples are independent, gradients are correct, and a few samples can be learned."""

from itertools import chain, count, islice

import numpy as np

from layerflow.errors import LayerflowError
from layerflow.parameter import Array
from layerflow.preflight.context import Context, Finding, judge, listed, model_steps, swept
from layerflow.training.clipping import global_norm
from layerflow.training.metrics import evaluate, predicted_labels
from layerflow.training.objective import ONLY
from layerflow.training.optimizers import Adam, Optimizer
from layerflow.training.trainer import Trainer

BATCH = 6  # samples that are compared with each other
SAMPLES, ELEMENTS = 4, 64  # in the gradient check
STEPS = 10  # the second half is used, when momentum has built up
FEW = 8  # samples to overfit
MOST_STEPS = 400
FITTED = 0.02  # fraction of the loss of an uninformed model


def samples_are_independent(context: Context) -> Finding | None:
    """Changing the input of one sample does not change the scores of the others."""
    if len(context.x) <= BATCH:
        return None
    changed, x = BATCH // 2, context.x[:BATCH]
    replaced = x.copy()
    replaced[changed] = next((other for other in context.x[BATCH:] if (other != x[changed]).any()), x[changed] + 1)
    for training in (False, True):
        before, after = (_outputs(context, inputs, training) for inputs in (x, replaced))
        for (name, kind, one), (_, _, two) in zip(before, after, strict=True):
            if not one.ndim or len(one) != BATCH:
                continue
            change = _difference(np.delete(two, changed, axis=0), np.delete(one, changed, axis=0))
            if change > _tolerance(one) and training:
                evidence = f"gate {name!r} ({kind}) mixes the samples of a batch in training (by {change:.2g}) "
                return judge("independence", change, evidence + "but not in evaluation, as batch normalization does")
            if change > _tolerance(one):
                evidence = f"changing one sample changes the output of gate {name!r} ({kind}) for others by up to "
                remedy = "it reduces over axis 0, the batch; use axis=1 to reduce over each sample"
                return judge("independence", change, f"{evidence}{change:.2g}", remedy, error=True)
    return judge("independence", 0.0, "the scores of a sample depend on no other sample")


def _outputs(context: Context, x: Array, training: bool) -> list[tuple[str, str, Array]]:
    """Return the name, the type and the output of every gate of a fresh model, so that it draws the same numbers."""
    objective = context.fresh_trainer().state.objective
    np.random.seed(0)  # for a gate that draws from the global generator
    objective.training = training
    objective.forward(x, context.y[:BATCH])
    steps = model_steps(objective)
    return [(name, type(step.gate).__name__, np.array(objective.values[step.writes[0]])) for name, step in steps]


def a_batch_is_its_samples(context: Context) -> Finding | None:
    """A batch has the scores of its samples one by one, and the mean of their losses."""
    objective = context.fresh_trainer().state.objective
    x, y = context.x[:BATCH], context.y[:BATCH]
    objective.training = False
    objective.forward(x, y)
    scores, loss = objective.scores, objective.data_loss
    alone, losses = [], []
    try:
        for i in range(len(x)):
            objective.forward(x[i : i + 1], y[i : i + 1])
            alone.append(objective.scores)
            losses.append(objective.data_loss)
    except (LayerflowError, ValueError):  # a gate may refuse a single sample
        return None
    difference = _difference(np.concatenate(alone), scores)
    if difference > _tolerance(scores):
        evidence = f"the scores of {len(x)} samples in a batch differ from those of each alone by up to "
        remedy = "a gate depends on the position of a sample in the batch, or on the batch size"
        return judge("batch", difference, f"{evidence}{difference:.2g}", remedy, error=True)
    if any(getattr(context.trainer.loss, name, None) is not None for name in ("class_weight", "ignore_index")):
        return judge("batch", difference, "a batch has the scores of its samples")
    mean = float(np.mean(losses))
    ratio = loss / mean if mean else 1.0
    evidence = f"a batch has the scores of its samples; its loss is {ratio:.4g} times the mean of their losses"
    remedy = "use the mean over the batch in the loss; with a sum, the best learning rate depends on the batch size"
    return judge("batch", ratio, evidence, remedy, warn=abs(ratio - 1) > 1e-3)


def _difference(one: Array, two: Array) -> float:
    """Return the largest difference relative to the largest value."""
    largest = float(np.abs(two).max(initial=0.0))
    return float(np.abs(one - two).max(initial=0.0)) / (largest or 1.0)


def _tolerance(array: Array) -> float:
    """Return the tolerance for rounding: the order of sums depends on the batch size."""
    return float(np.sqrt(np.finfo(array.dtype).eps)) if array.dtype.kind == "f" else 0.0


def update_ratio(context: Context) -> Finding | None:
    """An update changes the weights by about a thousandth of their norm."""
    trainer = context.fresh_trainer()
    weights = {name: p for name, p in trainer.model.named_parameters().items() if p.decay and p.value.any()}
    if not weights:
        return None
    ratios: dict[str, list[float]] = {name: [] for name in weights}
    batches = chain.from_iterable(map(trainer.state.batches.epoch, count()))
    for x, y in islice(batches, STEPS):
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
        lr, high_or_low = trainer.state.base_lr, "high" if size > 1e-3 else "low"
        remedy = f"lr {lr:g} seems too {high_or_low}; about {lr * 1e-3 / size:.0e} would give 0.001"
    return judge("update size", size, evidence, remedy, warn=not 1e-5 < size < 0.2, error=peak > 1)


def gradient_check(context: Context) -> Finding | None:
    """The gradients of the objective for all parameters agree with finite differences."""
    from layerflow.gradcheck import check_gradients  # importing it takes longer than the short preflight

    trainer, seed = context.fresh_trainer(), context.config.seed
    if not trainer.state.store.size:
        return None
    x = context.x[:SAMPLES].astype(np.float64)
    # Values exact in float32 would hide a gate that computes in float32.
    x *= 1 + 1e-9 * np.random.default_rng(seed).random(x.shape)
    if context.parts.preprocessing.vocabulary is not None:
        x = x.astype(np.int64)  # tokens are no real numbers
    report = check_gradients(trainer.state.objective, x, context.y[:SAMPLES], seed=seed, samples=ELEMENTS)
    compared = sum(tensor.checked + tensor.directions for tensor in report.tensors)
    worst = report.worst.relative_error if report.worst else None
    if report.ok:
        return judge("gradient check", worst, f"{compared} derivatives of the objective agree with finite differences")
    name, inner = report.guilty or ("", report)
    wrong = ", ".join(tensor.name for tensor in inner.tensors if tensor.verdict == "wrong")
    said = [str(item) for item in (*inner.faults, *inner.diagnoses)]
    if report.guilty is not None:
        evidence = f"gate {name.removeprefix('model.')!r} ({inner.gate}) has a wrong gradient"
        evidence += f" ({wrong})" if wrong else ""
        remedy = said[0] if said else "`lf.check_gradients(gate, x)` shows every element"
    elif wrong or report.faults:
        evidence = f"the gradient of {wrong} does not agree with finite differences" if wrong else said[0]
        remedy = "`lf.check_gradients(model, x)` shows every element"
    else:
        evidence = f"{compared} derivatives were compared, but some could not be decided because of rounding or kinks"
        remedy = "check the gates one by one with `lf.check_gradients`"
    is_wrong = bool(report.guilty or wrong or report.faults)
    return judge("gradient check", worst, evidence, remedy, warn=True, error=is_wrong)


def a_few_samples_can_be_learned(context: Context) -> Finding | None:
    """The model can overfit a few samples; one that cannot has a mistake in it."""
    own = context.fresh_trainer(regularized=False)
    if not own.state.store.size:
        return None
    rows = _few(context)
    x, y = context.x[rows], context.y[rows]
    left, steps = _fit(own, own.state.optimizer, x, y)
    evidence = f"{len(rows)} samples without dropout and regularizer: "
    evidence += f"{left:.0%} of the loss remains after {steps} steps"
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


def _few(context: Context) -> Array:
    """Return a few different samples with different targets, no more than the model has parameters for.

    Of sequences of targets one: several that begin alike cannot all be predicted.
    """
    if context.y.ndim > 1:
        return np.arange(1)
    width = max(1, int(np.prod(context.swept.scores.shape[1:])))
    size = min(max(2, min(FEW, context.trainer.state.store.size // (4 * width))), len(context.y))
    order = np.argsort(context.y, kind="stable")
    rows = np.unique(order[np.linspace(0, len(order) - 1, size).astype(int)])
    _, first = np.unique(context.x[rows].reshape(len(rows), -1), axis=0, return_index=True)
    chosen: Array = rows[np.sort(first)]
    return chosen


def _fit(trainer: Trainer, optimizer: Optimizer, x: Array, y: Array) -> tuple[float, int]:
    """Train on a few samples and return the fraction of the loss that remains, and the number of steps."""
    objective = swept(trainer, x, y)
    start = objective.data_loss
    if trainer.state.task == "regression":
        start = float(objective.outputs[ONLY].loss.forward(np.full_like(objective.scores, y.mean()), y))
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
        if y.ndim > 1:
            return left <= FITTED
        return (is_own or left <= FITTED) and bool((predicted_labels(scores) == y).all())
    if left <= FITTED or not is_own or scores.size != len(y):
        return left <= FITTED
    return evaluate("regression", scores.ravel(), y, ["r2"])["r2"] >= 1 - FITTED
