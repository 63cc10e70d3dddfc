"""The model: gates that suit the loss, samples that do not influence each other, and correct gradients."""

from typing import Any

import numpy as np

from layerflow.errors import LayerflowError
from layerflow.gate import Gate
from layerflow.gates import (
    Dropout,
    L2Regularizer,
    LogSoftmax,
    MulticlassSVM,
    ReLU,
    Sigmoid,
    SigmoidCE,
    Softmax,
    SoftmaxCE,
)
from layerflow.parameter import Array
from layerflow.preflight.context import Context, Finding, judge, model_steps
from layerflow.training.trainer import Trainer

BATCH = 6
SAMPLES, ELEMENTS = 4, 64

TAKES_SCORES = (SoftmaxCE, SigmoidCE, MulticlassSVM)

# The last gate, the losses it does not suit, the consequence, and whether that is an error or a warning.
UNSUITED: tuple[tuple[type[Gate], tuple[type[Gate], ...], str, bool], ...] = (
    (
        Softmax,
        (SoftmaxCE,),
        "applies softmax itself, and on probabilities it cannot fall below ln(1 + (C - 1) / e)",
        True,
    ),
    (LogSoftmax, (SoftmaxCE,), "applies softmax itself, so LogSoftmax only costs time", False),
    (Sigmoid, (SigmoidCE, SoftmaxCE), "expects scores, and on numbers between 0 and 1 it cannot become small", True),
    (Softmax, (SigmoidCE, MulticlassSVM), "expects scores, and on probabilities it cannot become small", True),
    (Sigmoid, (MulticlassSVM,), "expects scores, and numbers between 0 and 1 can barely reach a margin of 1", True),
    (
        ReLU,
        TAKES_SCORES,
        "expects scores, which cannot be negative after ReLU; if all are 0, there is no gradient",
        False,
    ),
    (Dropout, TAKES_SCORES, "receives scores of which some are set to 0", False),
)


def last_gate(context: Context) -> Finding | None:
    """The last gate suits the loss, which expects scores, not probabilities."""
    steps = model_steps(context.trainer.state.objective)
    if not steps:
        return None
    name, step = steps[-1]
    loss, gate = type(context.trainer.loss).__name__, type(step.gate).__name__
    for kind, losses, consequence, is_error in UNSUITED:
        if isinstance(step.gate, kind) and isinstance(context.trainer.loss, losses):
            evidence = f"the model ends with {gate} ({name!r}); {loss} {consequence}"
            return judge("last gate", None, evidence, f"remove {gate}", warn=True, error=is_error)
    return judge("last gate", None, f"{gate} feeds {loss}")


def last_width(context: Context) -> Finding | None:
    """The model has one score per class."""
    if context.classes is None or getattr(context.trainer.loss, "is_binary", False):
        return None
    width, count = int(context.swept.scores.shape[-1]), len(context.classes)
    remedy = "omit `out_features` of the last Linear; it is inferred"
    evidence = f"{width} scores for {count} classes"
    return judge("last width", width, evidence, remedy, warn=width > count, error=width < count)


def l2_given_twice(context: Context) -> Finding | None:
    """L2 regularization is set in one place only."""
    trainer = context.trainer
    strength = sum(gate.strength for gate in trainer.regularizers if isinstance(gate, L2Regularizer))
    if not strength and not trainer.optimizer.weight_decay:
        return None
    optimizer = type(trainer.optimizer).__name__
    is_twice = bool(strength and trainer.optimizer.weight_decay)
    parts = [f"L2Regularizer {strength:g} (gradient {2 * strength:g} W)"] if strength else []
    parts += (
        [f"weight_decay {trainer.optimizer.weight_decay:g} in {optimizer}"] if trainer.optimizer.weight_decay else []
    )
    remedy = "the weights are regularized twice; keep one of the two"
    return judge(
        "weight decay", float(2 * strength + trainer.optimizer.weight_decay), " and ".join(parts), remedy, warn=is_twice
    )


def samples_are_independent(context: Context) -> Finding | None:
    """Changing the input of one sample does not change the scores of the others."""
    if len(context.x) <= BATCH:
        return None
    others = np.delete(np.arange(BATCH), BATCH // 2)
    x = context.x[:BATCH]
    changed = x.copy()
    changed[BATCH // 2] = _another(context, x[BATCH // 2])
    trainer = context.fresh_trainer()
    y = context.y[:BATCH]
    mixing = {training: _first_mixing(trainer, x, changed, y, others, training) for training in (False, True)}
    remedy = "it reduces over axis 0, the batch; use axis=1 to reduce over each sample"
    if (found := mixing[False]) is not None:
        name, gate, change = found
        evidence = f"changing one sample changes the output of gate {name!r} ({gate}) for others by up to {change:.2g}"
        return judge("independence", change, evidence, remedy, error=True)
    if (found := mixing[True]) is not None:
        name, gate, change = found
        evidence = (
            f"gate {name!r} ({gate}) mixes the samples of a batch in training (by {change:.2g}) but not in evaluation, "
        )
        evidence += "as batch normalization does"
        return judge("independence", change, evidence)
    return judge("independence", 0.0, "the scores of a sample depend on no other sample")


def a_batch_is_its_samples(context: Context) -> Finding | None:
    """A batch has the scores of its samples one by one, and the mean of their losses."""
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
    except (LayerflowError, ValueError):  # a gate may refuse a single sample
        return None
    difference = _difference(np.concatenate(alone), scores)
    if difference > _tolerance(scores):
        evidence = (
            f"the scores of {len(x)} samples in a batch differ from those of each alone by up to {difference:.2g}"
        )
        return judge(
            "batch",
            difference,
            evidence,
            "a gate depends on the position of a sample in the batch, or on the batch size",
            error=True,
        )
    if getattr(context.trainer.loss, "class_weight", None) is not None:
        return judge("batch", difference, "a batch has the scores of its samples")
    mean = float(np.mean(losses))
    ratio = loss / mean if mean else 1.0
    evidence = f"a batch has the scores of its samples; its loss is {ratio:.4g} times the mean of their losses"
    remedy = "use the mean over the batch in the loss; with a sum, the best learning rate depends on the batch size"
    return judge("batch", ratio, evidence, remedy, warn=abs(ratio - 1) > 1e-3)


def gradient_check(context: Context) -> Finding | None:
    """The gradients of the objective for all parameters agree with finite differences."""
    from layerflow.gradcheck import check_gradients  # importing it takes longer than the short preflight

    trainer = context.fresh_trainer()
    if not trainer.state.store.size:
        return None
    rng = np.random.default_rng(context.config.seed)
    x = context.x[:SAMPLES].astype(np.float64)
    x *= 1 + 1e-9 * rng.random(x.shape)  # values exact in float32 would hide a gate that computes in float32
    report = check_gradients(
        trainer.state.objective, x, context.y[:SAMPLES], seed=context.config.seed, samples=ELEMENTS
    )
    compared = sum(tensor.checked + tensor.directions for tensor in report.tensors)
    worst = report.worst.relative_error if report.worst else None
    if report.ok:
        return judge("gradient check", worst, f"{compared} derivatives of the objective agree with finite differences")
    if report.guilty is not None:
        name, inner = report.guilty
        said = [str(item) for item in (*inner.faults, *inner.diagnoses)]
        wrong = ", ".join(tensor.name for tensor in inner.tensors if tensor.verdict == "wrong")
        evidence = f"gate {name.removeprefix('model.')!r} ({inner.gate}) has a wrong gradient" + (
            f" ({wrong})" if wrong else ""
        )
        remedy = said[0] if said else "`lf.check_gradients(gate, x)` shows every element"
        return judge("gradient check", worst, evidence, remedy, error=True)
    wrong = ", ".join(tensor.name for tensor in report.tensors if tensor.verdict == "wrong")
    if wrong or report.faults:
        evidence = f"the gradient of {wrong} does not agree with finite differences" if wrong else str(report.faults[0])
        return judge(
            "gradient check", worst, evidence, "`lf.check_gradients(model, x)` shows every element", error=True
        )
    evidence = f"{compared} derivatives were compared, but some could not be decided because of rounding or kinks"
    return judge("gradient check", worst, evidence, "check the gates one by one with `lf.check_gradients`", warn=True)


def _first_mixing(
    trainer: Trainer, x: Array, changed: Array, y: Array, others: Array, training: bool
) -> tuple[str, str, float] | None:
    """Return the first gate whose output for the other samples depends on the changed one, and the change."""
    before = _outputs(trainer, x, y, training)
    after = _outputs(trainer, changed, y, training)
    for (name, step), one, two in zip(model_steps(trainer.state.objective), before, after, strict=True):
        if one.ndim and len(one) == len(x):
            change = _difference(two[others], one[others])
            if change > _tolerance(one):
                return name, type(step.gate).__name__, change
    return None


def _outputs(trainer: Trainer, x: Array, y: Array, training: bool) -> list[Array]:
    """Return the output of every gate of the model; generators and running statistics are restored."""
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
    return [
        np.array(trainer.state.objective.values[step.writes[0]]) for _, step in model_steps(trainer.state.objective)
    ]


def _another(context: Context, x: Array) -> Array:
    """Return the input of a sample that differs from x."""
    for candidate in context.x[BATCH:]:
        if (candidate != x).any():
            found: Array = candidate
            return found
    return x + 1


def _difference(one: Array, two: Array) -> float:
    """Return the largest difference relative to the largest value."""
    largest = float(np.abs(two).max(initial=0.0))
    return float(np.abs(one - two).max(initial=0.0)) / (largest or 1.0)


def _tolerance(array: Array) -> float:
    """Return the tolerance for rounding: the order of sums depends on the batch size."""
    return float(np.sqrt(np.finfo(array.dtype).eps)) if array.dtype.kind == "f" else 0.0
