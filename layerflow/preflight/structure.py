"""How the pieces fit: the last gate and the loss, the last width and the classes, one weight decay and another."""

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
from layerflow.preflight.context import Context, model_steps
from layerflow.preflight.finding import Finding, judge

TAKES_SCORES = (SoftmaxCE, SigmoidCE, MulticlassSVM)

# The last gate, the losses it spoils, what then happens, and whether that is more than a hint.
SPOILED: tuple[tuple[type[Gate], tuple[type[Gate], ...], str, bool], ...] = (
    (Softmax, (SoftmaxCE,), "takes the softmax itself: of probabilities it cannot get below ln(1 + (C - 1) / e)", True),
    (LogSoftmax, (SoftmaxCE,), "takes the softmax itself: it changes nothing and costs time", False),
    (Sigmoid, (SigmoidCE, SoftmaxCE), "takes scores: of numbers between 0 and 1 it can never be small", True),
    (Softmax, (SigmoidCE, MulticlassSVM), "takes scores: of probabilities it can never be small", True),
    (Sigmoid, (MulticlassSVM,), "takes scores: numbers between 0 and 1 can just reach a margin of 1", True),
    (ReLU, TAKES_SCORES, "takes scores, which cannot be negative here; where all are 0, nothing is learned", False),
    (Dropout, TAKES_SCORES, "sees scores of which some are set to 0", False),
)


def last_gate(context: Context) -> Finding | None:
    """The loss gets what it expects: scores, not probabilities."""
    steps = model_steps(context.trainer.state.objective)
    if not steps:
        return None
    name, step = steps[-1]
    loss, gate = type(context.trainer.loss).__name__, type(step.gate).__name__
    for kind, losses, consequence, is_bad in SPOILED:
        if isinstance(step.gate, kind) and isinstance(context.trainer.loss, losses):
            evidence = f"the model ends with {gate} ({name!r}); {loss} {consequence}"
            return judge("last gate", None, evidence, f"leave out {gate}", look=True, bad=is_bad)
    return judge("last gate", None, f"{gate} feeds {loss}")


def last_width(context: Context) -> Finding | None:
    """A classifier has as many scores as there are classes."""
    if context.classes is None or getattr(context.trainer.loss, "is_binary", False):
        return None
    width, count = int(context.swept.scores.shape[-1]), len(context.classes)
    remedy = "leave `out_features` of the last Linear out: it is inferred"
    evidence = f"{width} scores for {count} classes"
    return judge("last width", width, evidence, remedy, look=width > count, bad=width < count)


def l2_given_twice(context: Context) -> Finding | None:
    """Weights are drawn to zero in one place only."""
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
    remedy = "the weights are drawn to zero twice; keep one of them"
    return judge(
        "weight decay", float(2 * strength + trainer.optimizer.weight_decay), " and ".join(parts), remedy, look=is_twice
    )
