"""Each sample for itself: what the model says of one must not depend on which others are in the batch."""

from typing import Any

import numpy as np

from layerflow.errors import LayerflowError
from layerflow.parameter import Array
from layerflow.preflight.context import Context, model_steps
from layerflow.preflight.finding import Finding, judge
from layerflow.training.trainer import Trainer

BATCH = 6


def samples_are_independent(context: Context) -> Finding | None:
    """Other samples' scores stay as they are when one sample's input changes."""
    if len(context.x) <= BATCH:
        return None
    others = np.delete(np.arange(BATCH), BATCH // 2)
    x = context.x[:BATCH]
    changed = x.copy()
    changed[BATCH // 2] = _another(context, x[BATCH // 2])
    trainer = context.fresh_trainer()
    y = context.y[:BATCH]
    mixing = {training: _first_mixing(trainer, x, changed, y, others, training) for training in (False, True)}
    remedy = "it takes a sum, a mean or a softmax over axis 0, the batch; axis=1 is one sample's"
    if (found := mixing[False]) is not None:
        name, gate, change = found
        evidence = (
            f"one sample's input changes what gate {name!r} ({gate}) returns for the others, by up to {change:.2g}"
        )
        return judge("samples apart", change, evidence, remedy, bad=True)
    if (found := mixing[True]) is not None:
        name, gate, change = found
        evidence = (
            f"gate {name!r} ({gate}) mixes the samples of a batch in training (by {change:.2g}), not in evaluation, "
        )
        evidence += "as a normalisation over the batch does"
        return judge("samples apart", change, evidence)
    return judge("samples apart", 0.0, "no sample's scores depend on another sample's input")


def a_batch_is_its_samples(context: Context) -> Finding | None:
    """The scores of a batch are those of its samples one by one, and its loss is the mean of theirs."""
    objective = context.fresh_trainer().state.objective
    x, y = context.x[:BATCH], context.y[:BATCH]
    objective.training = False
    objective.forward(x, y)
    scores, loss = objective.scores, objective.data_loss
    try:
        alone = []
        losses = []
        for i in range(len(x)):
            objective.forward(x[i : i + 1], y[i : i + 1])
            alone.append(objective.scores)
            losses.append(objective.data_loss)
    except (LayerflowError, ValueError):  # a gate need not take a single sample
        return None
    difference = _difference(np.concatenate(alone), scores)
    if difference > _tolerance(scores):
        evidence = f"the scores of {len(x)} samples together differ from those of each alone by up to {difference:.2g}"
        return judge(
            "batch",
            difference,
            evidence,
            "a gate treats a sample by its place in the batch, or by the batch's size",
            bad=True,
        )
    if getattr(context.trainer.loss, "class_weight", None) is not None:
        return judge("batch", difference, "the scores of a batch are those of its samples")
    mean = float(np.mean(losses))
    ratio = loss / mean if mean else 1.0
    evidence = f"the scores of a batch are those of its samples; its loss is {ratio:.4g} times the mean of theirs"
    remedy = "a loss is a mean over the batch; with a sum, the learning rate depends on the batch size"
    return judge("batch", ratio, evidence, remedy, look=abs(ratio - 1) > 1e-3)


def _first_mixing(
    trainer: Trainer, x: Array, changed: Array, y: Array, others: Array, training: bool
) -> tuple[str, str, float] | None:
    """Return the first gate whose output for the others depends on the sample that changed, and by how much."""
    before = _outputs(trainer, x, y, training)
    after = _outputs(trainer, changed, y, training)
    for (name, step), one, two in zip(model_steps(trainer.state.objective), before, after, strict=True):
        if one.ndim and len(one) == len(x):
            change = _difference(two[others], one[others])
            if change > _tolerance(one):
                return name, type(step.gate).__name__, change
    return None


def _outputs(trainer: Trainer, x: Array, y: Array, training: bool) -> list[Array]:
    """Return what every gate of the model returns; generators and running statistics are then as they were."""
    generators, buffers = (
        trainer.state.objective.named_generators().values(),
        trainer.state.objective.named_buffers().values(),
    )
    states: list[Any] = [generator.bit_generator.state for generator in generators]
    values = [buffer.value.copy() for buffer in buffers]
    np.random.seed(0)  # for a gate that draws from the global generator
    trainer.state.objective.training = training
    trainer.state.objective.forward(x, y)
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state
    for buffer, value in zip(buffers, values, strict=True):
        buffer.value = value
    return [np.array(trainer.state.objective.values[step.writes]) for _, step in model_steps(trainer.state.objective)]


def _another(context: Context, x: Array) -> Array:
    """Return an input that differs from x."""
    for candidate in context.x[BATCH:]:
        if (candidate != x).any():
            found: Array = candidate
            return found
    return x + 1


def _difference(one: Array, two: Array) -> float:
    """Return the largest difference as a part of the largest value."""
    largest = float(np.abs(two).max(initial=0.0))
    return float(np.abs(one - two).max(initial=0.0)) / (largest or 1.0)


def _tolerance(array: Array) -> float:
    """Return what rounding may do: sums are taken in another order when a batch has another size."""
    return float(np.sqrt(np.finfo(array.dtype).eps)) if array.dtype.kind == "f" else 0.0
