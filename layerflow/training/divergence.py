"""Where a step left the finite numbers, and why: read from what the sweeps left behind."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.errors import DivergedError
from layerflow.parameter import Array
from layerflow.sweep import Step

if TYPE_CHECKING:
    from layerflow.training.trainer import Trainer

ON_DIVERGENCE = ("stop", "skip", "halve-lr")
SMALLEST_FACTOR = 2.0**-10
LARGE_FEATURE, LARGE_WEIGHT = 1e3, 1e3


def is_finite(vector: Array) -> bool:
    """Return whether all elements are finite; one dot product in the usual case."""
    return math.isfinite(vector @ vector) or bool(np.isfinite(vector).all())


def extent(array: Any) -> str:
    """Return the range of the finite elements, and how many are not finite: `-1.2 to 3.4, 5 of 640 not finite`."""
    values = np.asarray(array)
    if values.dtype.kind != "f":
        return f"{values.min()} to {values.max()}" if values.size and values.dtype.kind in "biu" else "no numbers"
    finite = values[np.isfinite(values)]
    shown = f"{finite.min():.4g} to {finite.max():.4g}" if finite.size else "no finite number"
    missing = values.size - finite.size
    return f"{shown}, {missing} of {values.size} not finite" if missing else shown


def explain_forward(trainer: "Trainer", x: Array) -> str:
    """Return what went wrong in the forward sweep that has just made the objective infinite or NaN."""
    objective = trainer.objective
    value = trainer.losses[-1]
    if not is_finite(trainer.store.values):
        bad = ", ".join(name for name, p in trainer.model.named_parameters().items() if not np.isfinite(p.value).all())
        found = f"the weights were no longer finite before it ({bad}): the last update overflowed"
        return _message(trainer, f"the objective became {value}", found, "the learning rate is too high")
    if not np.isfinite(np.asarray(x)).all():
        return _message(
            trainer,
            f"the objective became {value}",
            f"the batch itself is not finite ({extent(x)})",
            "the data or their scaling",
        )
    step = next(step for step in objective.steps if not np.isfinite(objective.values[step.writes[0]]).all())
    return _message(
        trainer,
        f"the objective became {value}",
        describe_forward(step, objective.values),
        likely_cause(trainer, step, x),
    )


def explain_backward(trainer: "Trainer", x: Array) -> str:
    """Return what went wrong in the backward sweep that has just left gradients that are not finite."""
    objective = trainer.objective
    title = f"the objective was {trainer.losses[-1]:.6g}, but its gradient is not finite"
    step = next((step for step, bad in bad_gradients(trainer) if bad), None)
    if step is None:
        return _message(
            trainer, title, "no single gate made it: a sum of gradients overflowed", "the learning rate is too high"
        )
    return _message(trainer, title, describe_backward(step, objective), likely_cause(trainer, step, x))


def bad_gradients(trainer: "Trainer") -> Iterator[tuple[Step, list[str]]]:
    """Yield, in the order of the backward sweep, each step with the gradients that became bad in it."""
    grads = trainer.objective.grads
    for step in reversed(trainer.objective.steps):
        if grads[step.writes[0]] is None or not np.isfinite(grads[step.writes[0]]).all():
            continue
        made = {f"input {i}": grads[slot] for i, slot in enumerate(step.reads) if step.needs_grad[i]}
        made |= {name: parameter.grad for name, parameter in step.gate.named_parameters().items()}
        yield step, [name for name, grad in made.items() if grad is not None and not np.isfinite(grad).all()]


def describe_forward(step: Step, values: list[Any]) -> str:
    """Return where the forward sweep left the finite numbers."""
    inputs = "; ".join(extent(values[slot]) for slot in step.reads)
    output = extent(values[step.writes[0]])
    return f"first bad output: gate {step.name!r} ({type(step.gate).__name__}), {output}; its input: {inputs}"


def describe_backward(step: Step, objective: Any) -> str:
    """Return where the backward sweep left the finite numbers."""
    inputs = "; ".join(extent(objective.values[slot]) for slot in step.reads)
    return (
        f"first bad gradient: backward of gate {step.name!r} ({type(step.gate).__name__}); its upstream gradient: "
        f"{extent(objective.grads[step.writes[0]])}; its input: {inputs}"
    )


def likely_cause(trainer: "Trainer", step: Step, x: Array) -> str:
    """Return the usual reason for numbers like these; a guess, and worded as one."""
    inputs = [np.asarray(trainer.objective.values[slot]) for slot in step.reads]
    kind = type(step.gate).__name__
    if kind in ("Log", "Sqrt", "Reciprocal", "Divide", "Power") and any((a <= 0).any() for a in inputs[-1:]):
        return f"{kind} of a number that is zero or negative: keep its input above zero (add a small constant)"
    largest = float(np.abs(np.asarray(x)).max(initial=0.0))
    if largest > LARGE_FEATURE:
        return f"the features are not scaled (up to {largest:.4g}): data.scale: Standard"
    weight = float(np.abs(trainer.store.values).max(initial=0.0))
    if weight > LARGE_WEIGHT:
        return (
            f"the weights have grown to {weight:.4g}: the learning rate is too high; a smaller one, or train.clip_norm"
        )
    limit = float(np.finfo(trainer.dtype).max)
    if any(float(np.abs(a).max(initial=0.0)) > math.sqrt(limit) for a in inputs if a.dtype.kind == "f"):
        return "numbers grew beyond what the type holds: a smaller learning rate, or train.clip_norm"
    return f"{kind} itself: check it with `layerflow check` near inputs like these; else a smaller learning rate"


def check_epoch(trainer: "Trainer") -> None:
    """Raise `DivergedError` when an epoch ends with most steps skipped, or with weights that are not finite."""
    steps = len(trainer.batches)
    if trainer.skipped > steps / 2:
        raise DivergedError(
            f"{trainer.skipped} of the {steps} steps of epoch {trainer.epoch + 1} left the finite numbers and were "
            "skipped; a smaller lr may help"
        )
    if not is_finite(trainer.store.values):
        raise DivergedError(
            f"the last update of epoch {trainer.epoch + 1} made weights infinite; a smaller lr may help"
        )


def _message(trainer: "Trainer", what: str, found: str, cause: str) -> str:
    place = f"epoch {trainer.epoch + 1}, step {trainer.step + 1}, learning rate {trainer.optimizer.lr:g}"
    return f"{what} ({place})\n  {found}\n  likely cause: {cause}"
