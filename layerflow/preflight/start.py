"""The model before the first step: its loss, the regularizer, and the activations and gradients of its layers."""

import math

import numpy as np

from layerflow.gates import ClippedNLL, LogisticLikelihood, MulticlassSVM, ReLU, Sigmoid, SigmoidCE, SoftmaxCE, Tanh
from layerflow.parameter import Array
from layerflow.preflight.context import Context, Finding, judge, listed, model_steps, rms, swept
from layerflow.training.objective import Objective

FACTOR = 10.0  # by which the regularizer's strength is raised
STEEP_ENOUGH = 0.04  # of the slope at 0: flatter means saturated. sigmoid: |x| > 4.6; tanh: |x| > 2.3
WARM_UP = 3  # steps after which gradients that were exactly 0 are looked at again


def initial_loss(context: Context) -> Finding:
    """The loss at the start is near that of a model which knows nothing: ln C, C - 1 for the SVM, a variance."""
    value = context.swept.data_loss
    expected, formula = _knowing_nothing(context)
    ratio = value / expected if expected > 0 else 1.0  # of a loss of one's own, whose size means nothing
    evidence = f"{value:.4g}; a model that knows nothing has {expected:.4g}, {formula}"
    if not math.isfinite(value):
        return judge("initial loss", value, evidence, "scale the features, or start from smaller weights", bad=True)
    if context.trainer.state.task == "regression":
        remedy = (
            "the targets lie far from the scores at the start; shift and scale the target column, or expect many epochs"
        )
        return judge("initial loss", value, evidence, remedy, look=ratio > 10)
    if ratio < 1:
        remedy = "the model is better than chance before it has learned: does the target lie among the features?"
        return judge("initial loss", value, evidence, remedy, look=ratio < 0.7)
    remedy = "the scores are too large at the start; scale the features, or start the last gate from smaller weights: "
    remedy += "`init: {type: Normal, std: 0.01}`"
    return judge("initial loss", value, evidence, remedy, look=ratio > 2, bad=ratio > 4)


def regularizer_raises_the_loss(context: Context) -> Finding | None:
    """The objective rises with the strength of the regularizer, and its share at the start is not the larger one."""
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
    )  # weights of 0 have no penalty
    trainer.state.objective.training = False
    before = float(trainer.state.objective.forward(x, y))
    scaled = [gate for gate in trainer.regularizers if isinstance(getattr(gate, "strength", None), float)]
    for gate in scaled:
        gate.strength *= FACTOR  # type: ignore[attr-defined]
    after = float(trainer.state.objective.forward(x, y))
    loss = context.swept.data_loss
    names = ", ".join(type(gate).__name__ for gate in trainer.regularizers)
    evidence = f"{names} adds {share:.3g} to a loss of {loss:.3g}; "
    evidence += f"{FACTOR:g} times as strong, the objective goes from {before:.4g} to {after:.4g}"
    if scaled and not after > before:
        remedy = "it changes nothing: is its strength 0, or has the model no parameter with decay=True?"
        return judge("regularizer", share, evidence, remedy, bad=True)
    remedy = "it outweighs the loss: the model will learn small weights before anything else; a smaller strength"
    return judge("regularizer", share, evidence, remedy, look=share > loss > 0)


def dead_relus(context: Context) -> Finding | None:
    """No layer has many ReLUs that are 0 for every sample, and so get no gradient."""
    shares: dict[str, float] = {}
    shown = []
    for name, step in model_steps(context.swept):
        if isinstance(step.gate, ReLU):
            output = context.swept.values[step.writes]
            dead = int((output <= 0).all(axis=0).sum())
            units = output[0].size
            shares[name] = dead / units
            shown.append(f"{name!r} {dead} of {units}")
    if not shares:
        return None
    worst = max(shares.values())
    evidence = f"0 for every one of {len(context.swept.scores)} samples: {listed(shown)}"
    remedy = (
        "a smaller learning rate if they died in training; at the start: scale the features, `init: he`, or LeakyReLU"
    )
    return judge("dead ReLUs", worst, evidence, remedy, look=worst > 0.3, bad=worst > 0.9)


def saturation(context: Context) -> Finding | None:
    """No layer has many sigmoids or tanhs in their flat parts, which pass no gradient on."""
    shares: dict[str, float] = {}
    for name, step in model_steps(context.swept):
        output = context.swept.values[step.writes]
        if isinstance(step.gate, Sigmoid):
            shares[name] = float((4 * output * (1 - output) < STEEP_ENOUGH).mean())
        elif isinstance(step.gate, Tanh):
            shares[name] = float((1 - output * output < STEEP_ENOUGH).mean())
    if not shares:
        return None
    worst = max(shares.values())
    evidence = f"in the flat parts: {listed([f'{name!r} {share:.0%}' for name, share in shares.items()])}"
    remedy = "smaller sums: scale the features (`data.scale: Standard`), `init: xavier`"
    return judge("saturated units", worst, evidence, remedy, look=worst > 0.25, bad=worst > 0.9)


def activations_by_depth(context: Context) -> Finding | None:
    """The hidden layers' outputs neither grow nor shrink much with depth."""
    sizes = _sizes(context.swept, context.swept.values)[:-1]
    if len(sizes) < 2:
        return None
    first, last = sizes[0][1], sizes[-1][1]
    ratio = last / first if first else 0.0
    evidence = f"the last hidden layer's are {ratio:.2g} times the first's; rms {_shown(sizes)}"
    remedy = "`init: he` before ReLU, `init: xavier` before Sigmoid and Tanh"
    return judge("activations", ratio, evidence, remedy, look=not 1 / 20 < ratio < 20, bad=not 1e-4 < ratio < 1e4)


def gradients_by_depth(context: Context) -> Finding | None:
    """The gradient arrives at the first layer: it neither vanishes nor explodes on the way back."""
    objective, when = context.swept, "at the start"
    sizes = _sizes(objective, objective.grads)
    if len(sizes) < 2:
        return None
    if min(size for _, size in sizes) == 0.0:  # as behind a last layer of zeros, which the first step mends
        trainer = context.fresh_trainer()
        for x, y in list(trainer.state.batches.epoch(0))[:WARM_UP]:
            trainer.train_step(x, y)
        objective, when = swept(trainer, context.x[:64], context.y[:64]), f"after {WARM_UP} steps"
        sizes = _sizes(objective, objective.grads)
    smallest, first, last = min(size for _, size in sizes), sizes[0][1], sizes[-1][1]
    ratio = first / last if last else 0.0
    evidence = f"{when}, the first layer's is {ratio:.2g} times the last one's; rms {_shown(sizes)}"
    if smallest == 0.0:
        blocked = [name for name, size in sizes if size == 0.0]
        remedy = f"nothing reaches {listed([repr(name) for name in blocked])}: "
        remedy += "no layer but the last may start from zeros; look for dead ReLUs"
        return judge("gradients", 0.0, evidence, remedy, bad=True)
    remedy = "the first layers hardly learn" if ratio < 1 else "the first layers' gradients explode: train.clip_norm"
    remedy += "; `init: he` or `xavier`, ReLU in place of Sigmoid, or residual connections"
    return judge("gradients", ratio, evidence, remedy, look=not 1 / 50 < ratio < 50, bad=not 1e-6 < ratio < 1e6)


def _knowing_nothing(context: Context) -> tuple[float, str]:
    """Return the loss of a model without knowledge, and the formula for it."""
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
        return _constant(context, scores, float(np.mean(targets))), "by always guessing the mean of the targets"
    return _constant(context, scores, 0.0), "by a score of 0 everywhere"


def _constant(context: Context, scores: Array, guess: float) -> float:
    """Return the loss of the same guess for all samples."""
    return float(context.config.build_loss().forward(np.full_like(scores, guess), context.swept_targets))


def _sizes(objective: Objective, arrays: list[Array | None]) -> list[tuple[str, float]]:
    """Return the size of what lies at the output of every gate with parameters, by name."""
    return [
        (name, rms(0.0 if arrays[step.writes] is None else arrays[step.writes]))
        for name, step in model_steps(objective)
        if step.parameter_count
    ]


def _shown(sizes: list[tuple[str, float]]) -> str:
    return listed([f"{name!r} {size:.2g}" for name, size in sizes], most=8)
