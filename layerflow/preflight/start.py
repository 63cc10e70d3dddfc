"""The model before the first step: its loss, the regularizer, and the activations and gradients of its layers."""

import math

import numpy as np

from layerflow.gates import ClippedNLL, LogisticLikelihood, MulticlassSVM, ReLU, Sigmoid, SigmoidCE, SoftmaxCE, Tanh
from layerflow.parameter import Array
from layerflow.preflight.context import Context, Finding, judge, listed, model_steps, rms, swept
from layerflow.training.state import Objective

FACTOR = 10.0  # by which the strength of the regularizer is multiplied
STEEP_ENOUGH = (
    0.04  # relative to the slope at 0; a unit with a smaller slope is saturated. sigmoid: |x| > 4.6; tanh: |x| > 2.3
)
WARM_UP = 3  # steps after which gradients that were exactly 0 are checked again


def initial_loss(context: Context) -> Finding:
    """The initial loss is close to that of an uninformed model: ln C, C - 1 for the SVM, the variance."""
    value = context.swept.data_loss
    expected, formula = _knowing_nothing(context)
    ratio = value / expected if expected > 0 else 1.0  # a custom loss may have any scale
    evidence = f"{value:.4g}; an uninformed model has {expected:.4g}, {formula}"
    if not math.isfinite(value):
        return judge("initial loss", value, evidence, "scale the features, or use smaller initial weights", error=True)
    if context.trainer.state.task == "regression":
        remedy = "the targets are far from the initial outputs; standardize the target column, or expect many epochs"
        return judge("initial loss", value, evidence, remedy, warn=ratio > 10)
    if ratio < 1:
        remedy = "the model is better than chance before training; check that the target is not among the features"
        return judge("initial loss", value, evidence, remedy, warn=ratio < 0.7)
    remedy = "the initial scores are too large; scale the features, or use smaller initial weights in the last gate: "
    remedy += "`init: {type: Normal, std: 0.01}`"
    return judge("initial loss", value, evidence, remedy, warn=ratio > 2, error=ratio > 4)


def regularizer_raises_the_loss(context: Context) -> Finding | None:
    """The objective grows with the strength of the regularizer, which does not outweigh the loss."""
    if not context.trainer.regularizers:
        return None
    trainer = context.fresh_trainer()
    x, y = context.x[:1], context.y[:1]
    trainer.state.objective.forward(x, y)
    share = (
        float(trainer.state.objective.values[trainer.state.objective.output_slots[0]])
        - trainer.state.objective.data_loss
    )
    rng = np.random.default_rng(context.config.seed)
    trainer.state.store.values[...] += 0.1 * rng.standard_normal(
        trainer.state.store.values.shape
    )  # zero weights have no penalty
    trainer.state.objective.training = False
    before = float(trainer.state.objective.forward(x, y))
    scaled = [gate for gate in trainer.regularizers if isinstance(getattr(gate, "strength", None), float)]
    for gate in scaled:
        gate.strength *= FACTOR  # type: ignore[attr-defined]
    after = float(trainer.state.objective.forward(x, y))
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
    shares: dict[str, float] = {}
    shown = []
    for name, step in model_steps(context.swept):
        if isinstance(step.gate, ReLU):
            output = context.swept.values[step.writes[0]]
            dead = int((output <= 0).all(axis=0).sum())
            units = output[0].size
            shares[name] = dead / units
            shown.append(f"{name!r} {dead} of {units}")
    if not shares:
        return None
    worst = max(shares.values())
    evidence = f"0 for all of {len(context.swept.scores)} samples: {listed(shown)}"
    remedy = "scale the features, or use `init: he` or LeakyReLU"
    return judge("dead ReLUs", worst, evidence, remedy, warn=worst > 0.3, error=worst > 0.9)


def saturation(context: Context) -> Finding | None:
    """No layer has many saturated sigmoids or tanhs, whose gradient vanishes."""
    shares: dict[str, float] = {}
    for name, step in model_steps(context.swept):
        output = context.swept.values[step.writes[0]]
        if isinstance(step.gate, Sigmoid):
            shares[name] = float((4 * output * (1 - output) < STEEP_ENOUGH).mean())
        elif isinstance(step.gate, Tanh):
            shares[name] = float((1 - output * output < STEEP_ENOUGH).mean())
    if not shares:
        return None
    worst = max(shares.values())
    evidence = f"saturated: {listed([f'{name!r} {share:.0%}' for name, share in shares.items()])}"
    remedy = "scale the features (`data.scale: Standard`), or use `init: xavier`"
    return judge("saturated units", worst, evidence, remedy, warn=worst > 0.25, error=worst > 0.9)


def activations_by_depth(context: Context) -> Finding | None:
    """The outputs of hidden layers neither grow nor shrink much with depth."""
    sizes = _sizes(context.swept, context.swept.values)[:-1]
    if len(sizes) < 2:
        return None
    first, last = sizes[0][1], sizes[-1][1]
    ratio = last / first if first else 0.0
    evidence = f"the last hidden layer has {ratio:.2g} times the activations of the first; rms {_shown(sizes)}"
    remedy = "use `init: he` before ReLU, `init: xavier` before Sigmoid and Tanh"
    return judge("activations", ratio, evidence, remedy, warn=not 1 / 20 < ratio < 20, error=not 1e-4 < ratio < 1e4)


def gradients_by_depth(context: Context) -> Finding | None:
    """The gradient neither vanishes nor explodes on its way to the first layer."""
    objective, when = context.swept, "before training"
    sizes = _sizes(objective, objective.grads)
    if len(sizes) < 2:
        return None
    if min(size for _, size in sizes) == 0.0:  # such as below a last layer of zeros, which the first step changes
        trainer = context.fresh_trainer()
        for x, y in list(trainer.state.batches.epoch(0))[:WARM_UP]:
            trainer.train_step(x, y)
        objective, when = swept(trainer, context.x[:64], context.y[:64]), f"after {WARM_UP} steps"
        sizes = _sizes(objective, objective.grads)
    smallest, first, last = min(size for _, size in sizes), sizes[0][1], sizes[-1][1]
    ratio = first / last if last else 0.0
    evidence = f"{when}, the first layer has {ratio:.2g} times the gradient of the last; rms {_shown(sizes)}"
    if smallest == 0.0:
        blocked = [name for name, size in sizes if size == 0.0]
        remedy = f"no gradient reaches {listed([repr(name) for name in blocked])}: "
        remedy += "look for dead ReLUs; only the last layer may start from zeros"
        return judge("gradients", 0.0, evidence, remedy, error=True)
    remedy = "the first layers will learn slowly" if ratio < 1 else "gradients explode; use train.clip_norm"
    remedy += "; try `init: he` or `xavier`, ReLU instead of Sigmoid, or residual connections"
    return judge("gradients", ratio, evidence, remedy, warn=not 1 / 50 < ratio < 50, error=not 1e-6 < ratio < 1e6)


def _knowing_nothing(context: Context) -> tuple[float, str]:
    """Return the loss of an uninformed model, and its formula."""
    loss, scores, targets = context.trainer.loss, context.swept.scores, context.swept_targets
    outputs = scores.shape[1] if scores.ndim > 1 else 1
    if isinstance(loss, SoftmaxCE):
        return math.log(outputs), f"ln({outputs})"
    if isinstance(loss, MulticlassSVM):
        return loss.margin * (outputs - 1), f"margin * (C - 1) for {outputs} classes"
    if isinstance(loss, SigmoidCE | ClippedNLL):
        return outputs * math.log(2), "ln(2)"
    if isinstance(loss, LogisticLikelihood):
        return outputs / 2, "1/2"
    if context.trainer.state.task == "regression":
        return _constant(context, scores, float(np.mean(targets))), "from always guessing the mean of the targets"
    return _constant(context, scores, 0.0), "from scores of 0"


def _constant(context: Context, scores: Array, guess: float) -> float:
    """Return the loss of one guess for all samples."""
    return float(context.config.build_loss().forward(np.full_like(scores, guess), context.swept_targets))


def _sizes(objective: Objective, arrays: list[Array | None]) -> list[tuple[str, float]]:
    """Return the rms of the given arrays at the output of every gate with parameters, by name."""
    return [
        (name, rms(0.0 if arrays[step.writes[0]] is None else arrays[step.writes[0]]))
        for name, step in model_steps(objective)
        if step.parameters
    ]


def _shown(sizes: list[tuple[str, float]]) -> str:
    return listed([f"{name!r} {size:.2g}" for name, size in sizes], most=8)
