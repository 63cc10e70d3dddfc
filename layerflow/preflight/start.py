"""The model before the first step: a last gate that suits the loss, the initial loss, activations and gradients."""

import math
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np

from layerflow.config.elements import build
from layerflow.gates import (
    ClippedNLL,
    Dropout,
    L2Regularizer,
    LogisticLikelihood,
    LogSoftmax,
    MulticlassSVM,
    ReLU,
    Sigmoid,
    SigmoidCE,
    Softmax,
    SoftmaxCE,
    Tanh,
)
from layerflow.parameter import Array
from layerflow.preflight.context import Context, Finding, judge, listed, model_steps, rms, swept
from layerflow.training.clipping import global_norm
from layerflow.training.objective import Objective

FACTOR = 10.0  # by which the strength of the regularizer is multiplied
STEEP_ENOUGH = 0.04  # of the slope at 0; below that a unit is saturated. sigmoid: |x| > 4.6; tanh: |x| > 2.3
WARM_UP = 3  # steps after which gradients that were exactly 0 are checked again

TAKES_SCORES = (SoftmaxCE, SigmoidCE, MulticlassSVM)

# The last gate, the losses it does not suit, whether that is an error or a warning, and the consequence.
UNSUITED = (
    (Softmax, SoftmaxCE, True, "applies softmax itself, and on probabilities it cannot fall below ln(1 + (C - 1) / e)"),
    (LogSoftmax, SoftmaxCE, False, "applies softmax itself, so LogSoftmax only costs time"),
    (Sigmoid, (SigmoidCE, SoftmaxCE), True, "expects scores, and on numbers between 0 and 1 it cannot become small"),
    (Softmax, (SigmoidCE, MulticlassSVM), True, "expects scores, and on probabilities it cannot become small"),
    (Sigmoid, MulticlassSVM, True, "expects scores, and numbers between 0 and 1 can barely reach a margin of 1"),
    (ReLU, TAKES_SCORES, False, "expects scores, which cannot be negative after ReLU; if all are 0, no gradient"),
    (Dropout, TAKES_SCORES, False, "receives scores of which some are set to 0"),
)  # fmt: skip


def last_gate(context: Context) -> Finding | None:
    """The last gate suits the loss, which expects scores, not probabilities."""
    steps = model_steps(context.trainer.state.objective)
    if not steps:
        return None
    name, step = steps[-1]
    loss, gate = type(context.trainer.loss).__name__, type(step.gate).__name__
    for kind, losses, is_error, consequence in UNSUITED:
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
    decay = trainer.optimizer.weight_decay
    parts = [f"L2Regularizer {strength:g} (gradient {2 * strength:g} W)"] if strength else []
    parts += [f"weight_decay {decay:g} in {type(trainer.optimizer).__name__}"] if decay else []
    if not parts:
        return None
    remedy = "the weights are regularized twice; keep one of the two"
    return judge("weight decay", float(2 * strength + decay), " and ".join(parts), remedy, warn=len(parts) == 2)


def initial_loss(context: Context) -> Finding:
    """The initial loss is close to that of an uninformed model: ln C, C - 1 for the SVM, the variance."""
    value = context.swept.data_loss
    expected, formula = _uninformed(context)
    ratio = value / expected if expected > 0 else 1.0  # a custom loss may have any scale
    evidence = f"{value:.4g}; an uninformed model has {expected:.4g}, {formula}"
    if not math.isfinite(value):
        return judge("initial loss", value, evidence, "scale the features, or use smaller initial weights", error=True)
    if context.classes is None:
        remedy = "the targets are far from the initial outputs; standardize the target column, or expect many epochs"
        return judge("initial loss", value, evidence, remedy, warn=ratio > 10)
    if ratio < 1:
        remedy = "the model is better than chance before training; check that the target is not among the features"
        return judge("initial loss", value, evidence, remedy, warn=ratio < 0.7)
    remedy = "the initial scores are too large; scale the features, or use smaller initial weights in the last gate: "
    remedy += "`init: {type: Normal, std: 0.01}`"
    return judge("initial loss", value, evidence, remedy, warn=ratio > 2, error=ratio > 4)


def _uninformed(context: Context) -> tuple[float, str]:
    """Return the loss of an uninformed model, and its formula."""
    loss, scores = context.trainer.loss, context.swept.scores
    outputs = scores.shape[-1] if scores.ndim > 1 else 1
    if isinstance(loss, SoftmaxCE):
        return math.log(outputs), f"ln({outputs})"
    if isinstance(loss, MulticlassSVM):
        return loss.margin * (outputs - 1), f"margin * (C - 1) for {outputs} classes"
    if isinstance(loss, SigmoidCE | ClippedNLL):
        questions = math.prod(scores.shape[1:])
        return questions * math.log(2), f"{questions} ln(2)" if questions > 1 else "ln(2)"
    if isinstance(loss, LogisticLikelihood):
        return outputs / 2, "1/2"
    y = context.y[: len(scores)]
    guess, formula = 0.0, "from scores of 0"
    if context.classes is None:
        guess, formula = float(np.mean(y)), "from always guessing the mean of the targets"
    return float(build(context.config.loss).forward(np.full_like(scores, guess), y)), formula


def regularizer_raises_the_loss(context: Context) -> Finding | None:
    """The objective grows with the strength of the regularizer, which does not outweigh the loss."""
    if not context.trainer.regularizers:
        return None
    trainer = context.fresh_trainer()
    objective, store = trainer.state.objective, trainer.state.store
    x, y = context.x[:1], context.y[:1]
    share = float(objective.forward(x, y)) - objective.data_loss
    rng = np.random.default_rng(context.config.seed)
    store.values[...] += 0.1 * rng.standard_normal(store.values.shape)  # zero weights have no penalty
    objective.training = False
    before = float(objective.forward(x, y))
    scaled = [gate for gate in trainer.regularizers if isinstance(getattr(gate, "strength", None), float)]
    for gate in scaled:
        gate.strength *= FACTOR  # type: ignore[attr-defined]
    after = float(objective.forward(x, y))
    loss = context.swept.data_loss
    names = ", ".join(type(gate).__name__ for gate in trainer.regularizers)
    evidence = f"{names} adds {share:.3g} to a loss of {loss:.3g}; "
    evidence += f"with {FACTOR:g} times the strength the objective changes from {before:.4g} to {after:.4g}"
    if scaled and not after > before:
        remedy = "it has no effect; its strength may be 0, or the model has no parameter with decay=True"
        return judge("regularizer", share, evidence, remedy, error=True)
    remedy = "it outweighs the loss, so training will mostly shrink the weights; reduce its strength"
    return judge("regularizer", share, evidence, remedy, warn=share > loss > 0)


def dead_relus(context: Context) -> Finding | None:
    """No layer has many ReLUs that are 0 for every sample and so receive no gradient."""
    outputs = _outputs(context, ReLU)
    if not outputs:
        return None
    dead = {name: (output <= 0).all(axis=0) for name, output in outputs}
    worst = max(float(units.mean()) for units in dead.values())
    shown = listed([f"{name!r} {units.sum()} of {units.size}" for name, units in dead.items()])
    evidence = f"0 for all of {len(context.swept.scores)} samples: {shown}"
    remedy = "scale the features, or use `init: he` or LeakyReLU"
    return judge("dead ReLUs", worst, evidence, remedy, warn=worst > 0.3, error=worst > 0.9)


def saturation(context: Context) -> Finding | None:
    """No layer has many saturated sigmoids or tanhs, whose gradient vanishes."""
    slopes = [(name, 4 * output * (1 - output)) for name, output in _outputs(context, Sigmoid)]
    slopes += [(name, 1 - output * output) for name, output in _outputs(context, Tanh)]
    if not slopes:
        return None
    shares = {name: float((slope < STEEP_ENOUGH).mean()) for name, slope in slopes}
    worst = max(shares.values())
    evidence = f"saturated: {listed([f'{name!r} {share:.0%}' for name, share in shares.items()])}"
    remedy = "scale the features (`data.scale: Standard`), or use `init: xavier`"
    return judge("saturated units", worst, evidence, remedy, warn=worst > 0.25, error=worst > 0.9)


def _outputs(context: Context, kind: type) -> list[tuple[str, Array]]:
    """Return the names and outputs of the gates of a kind."""
    steps = model_steps(context.swept)
    return [(name, context.swept.values[step.writes[0]]) for name, step in steps if isinstance(step.gate, kind)]


def activations_by_depth(context: Context) -> Finding | None:
    """The outputs of hidden layers neither grow nor shrink much with depth."""
    sizes = _sizes(context.swept, context.swept.values, rms)[:-1]
    if len(sizes) < 2:
        return None
    first, last = sizes[0][1], sizes[-1][1]
    ratio = last / first if first else 0.0
    evidence = f"the last hidden layer has {ratio:.2g} times the activations of the first; rms {_shown(sizes)}"
    remedy = "use `init: he` before ReLU, `init: xavier` before Sigmoid and Tanh"
    return judge("activations", ratio, evidence, remedy, warn=not 1 / 20 < ratio < 20, error=not 1e-4 < ratio < 1e4)


def gradients_by_depth(context: Context) -> Finding | None:
    """The gradient neither vanishes nor explodes on its way to the first layer.

    Norms are compared, which He initialization preserves. The rms would shrink where a pooling spreads a gradient.
    """
    objective, when = context.swept, "before training"
    sizes = _sizes(objective, objective.grads, global_norm)
    if len(sizes) < 2:
        return None
    if min(size for _, size in sizes) == 0.0:  # such as below a last layer of zeros, which the first step changes
        trainer = context.fresh_trainer()
        for x, y in islice(trainer.state.batches.epoch(0), WARM_UP):
            trainer.train_step(x, y)
        objective, when = swept(trainer, context.x[:64], context.y[:64]), f"after {WARM_UP} steps"
        sizes = _sizes(objective, objective.grads, global_norm)
    first, last = sizes[0][1], sizes[-1][1]
    ratio = first / last if last else 0.0
    evidence = f"{when}, the first layer has {ratio:.2g} times the gradient of the last; norms {_shown(sizes)}"
    if blocked := [repr(name) for name, size in sizes if size == 0.0]:
        remedy = f"no gradient reaches {listed(blocked)}: "
        remedy += "look for dead ReLUs; only the last layer may start from zeros"
        return judge("gradients", 0.0, evidence, remedy, error=True)
    remedy = "the first layers will learn slowly" if ratio < 1 else "gradients explode; use train.clip_norm"
    remedy += "; try `init: he` or `xavier`, ReLU instead of Sigmoid, or residual connections"
    return judge("gradients", ratio, evidence, remedy, warn=not 1 / 50 < ratio < 50, error=not 1e-6 < ratio < 1e6)


def _sizes(
    objective: Objective, arrays: Sequence[Array | None], size: Callable[[Array], float]
) -> list[tuple[str, float]]:
    """Return the size of the given arrays at the output of every gate with parameters, by name."""
    found = [(name, arrays[step.writes[0]]) for name, step in model_steps(objective) if step.parameters]
    return [(name, 0.0 if array is None else size(array)) for name, array in found]


def _shown(sizes: list[tuple[str, float]]) -> str:
    return listed([f"{name!r} {size:.2g}" for name, size in sizes], most=8)
