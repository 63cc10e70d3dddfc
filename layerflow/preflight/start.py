"""The objective before the first step: the loss that equal scores give, and what the regularizer adds to it."""

import math

import numpy as np

from layerflow.gates import ClippedNLL, LogisticLikelihood, MulticlassSVM, SigmoidCE, SoftmaxCE
from layerflow.parameter import Array
from layerflow.preflight.context import Context
from layerflow.preflight.finding import Finding, judge

FACTOR = 10.0  # by which the regularizer's strength is raised


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
