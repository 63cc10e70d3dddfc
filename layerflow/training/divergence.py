"""Steps that produce NaN or infinity: which gate was the first, and the likely cause."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.data.batches import parts_of
from layerflow.errors import DivergedError
from layerflow.parameter import Array
from layerflow.sweep import Step

if TYPE_CHECKING:
    from layerflow.training.state import State

ON_DIVERGENCE = ("stop", "skip", "halve-lr")
SMALLEST_FACTOR = 2.0**-10
LARGE_FEATURE, LARGE_WEIGHT = 1e3, 1e3
NOT_REPEATED = (
    "when the step was repeated, every number was finite",
    "a gate computes something else each time; keep state in lf.Buffer and randomness in a np.random.Generator",
)


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


def extents(step: Step, arrays: list[Any]) -> str:
    """Return the range at each output of a step, of its values or of its gradients."""
    return "; ".join(map(extent, _at_outputs(step, arrays)))


def _at_outputs(step: Step, arrays: list[Any]) -> list[Any]:
    return [arrays[slot] for slot in step.writes if arrays[slot] is not None]


def _all_finite(arrays: list[Any]) -> bool:
    return all(np.isfinite(array).all() for array in arrays)


def explain_forward(state: "State", x: Array, value: float) -> str:
    """Explain a forward sweep whose objective is `value`, NaN or infinity; the batch has just been repeated."""
    objective, title = state.objective, f"the objective is {value}"
    if not is_finite(state.store.values):
        named = state.trainer.model.named_parameters().items()
        bad = ", ".join(name for name, parameter in named if not np.isfinite(parameter.value).all())
        found = f"the weights contain NaN or infinity before this step ({bad}): the last update overflowed"
        return _message(state, title, found, "the learning rate is too high")
    if not all(np.isfinite(np.asarray(part)).all() for part in parts_of(x)):
        found = f"the batch itself contains NaN or infinity ({'; '.join(map(extent, parts_of(x)))})"
        return _message(state, title, found, "the data or their scaling")
    steps = (step for step in objective.steps if not _all_finite(_at_outputs(step, objective.values)))
    step = next(steps, None)
    if step is None:
        return _message(state, title, *NOT_REPEATED)
    return _message(state, title, describe_forward(step, objective.values), likely_cause(state, step, x))


def explain_backward(state: "State", x: Array, value: float) -> str:
    """Explain a backward sweep whose gradients contain NaN or infinity, after an objective of `value`."""
    objective = state.objective
    title = f"the objective was {value:.6g}, but its gradient contains NaN or infinity"
    step = next((step for step, bad in bad_gradients(state) if bad), None)
    if step is None and is_finite(state.store.grads):
        return _message(state, title, *NOT_REPEATED)
    if step is None:
        return _message(
            state, title, "every single gradient is finite: their sum overflowed", "the learning rate is too high"
        )
    return _message(state, title, describe_backward(step, objective), likely_cause(state, step, x))


def bad_gradients(state: "State") -> Iterator[tuple[Step, list[str]]]:
    """Yield each step in the order of the backward sweep, with its gradients that contain NaN or infinity."""
    grads = state.objective.grads
    for step in reversed(state.objective.steps):
        upstream = _at_outputs(step, grads)
        if not upstream or not _all_finite(upstream):
            continue
        made = {f"input {i}": grads[slot] for i, slot in enumerate(step.reads) if step.needs_grad[i]}
        made |= {name: parameter.grad for name, parameter in step.gate.named_parameters().items()}
        yield step, [name for name, grad in made.items() if grad is not None and not np.isfinite(grad).all()]


def describe_forward(step: Step, values: list[Any]) -> str:
    """Describe the first gate whose output contains NaN or infinity."""
    inputs = "; ".join(extent(values[slot]) for slot in step.reads)
    output = extents(step, values)
    return f"first bad output: gate {step.name!r} ({type(step.gate).__name__}), {output}; its input: {inputs}"


def describe_backward(step: Step, objective: Any) -> str:
    """Describe the first gate whose gradient contains NaN or infinity."""
    inputs = "; ".join(extent(objective.values[slot]) for slot in step.reads)
    return (
        f"first bad gradient: backward of gate {step.name!r} ({type(step.gate).__name__}); its upstream gradient: "
        f"{extents(step, objective.grads)}; its input: {inputs}"
    )


def likely_cause(state: "State", step: Step, x: Array) -> str:
    """Return the most likely cause, judged by the size of features, weights and inputs."""
    inputs = [np.asarray(state.objective.values[slot]) for slot in step.reads]
    kind = type(step.gate).__name__
    if kind in ("Log", "Sqrt", "Reciprocal", "Divide", "Power") and any((a <= 0).any() for a in inputs[-1:]):
        return f"{kind} of a number that is zero or negative: keep its input positive (add a small constant)"
    largest = max(float(np.abs(np.asarray(part)).max(initial=0.0)) for part in parts_of(x))
    if largest > LARGE_FEATURE:
        return f"the features are not scaled (up to {largest:.4g}): data.scale: Standard"
    weight = float(np.abs(state.store.values).max(initial=0.0))
    if weight > LARGE_WEIGHT:
        return f"the weights have grown to {weight:.4g}: use a smaller learning rate, or train.clip_norm"
    limit = float(np.finfo(state.trainer.dtype).max)
    if any(float(np.abs(a).max(initial=0.0)) > math.sqrt(limit) for a in inputs if a.dtype.kind == "f"):
        return f"values exceed the range of {state.trainer.dtype}: use a smaller learning rate, or train.clip_norm"
    return f"{kind} itself: check it with `layerflow gradcheck`, or use a smaller learning rate"


def check_epoch(state: "State") -> None:
    """Raise `DivergedError` if most steps of the epoch were skipped, or the weights contain NaN or infinity."""
    steps = len(state.batches)
    if state.skipped > steps / 2:
        raise DivergedError(
            f"{state.skipped} of the {steps} steps of epoch {state.epoch + 1} produced NaN or "
            "infinity and were skipped; a smaller lr may help"
        )
    if not is_finite(state.store.values):
        raise DivergedError(f"the last update of epoch {state.epoch + 1} made weights infinite; a smaller lr may help")


def _message(state: "State", what: str, found: str, cause: str) -> str:
    place = f"epoch {state.epoch + 1}, step {state.step + 1}, learning rate {state.optimizer.lr:g}"
    return f"{what} ({place})\n  {found}\n  likely cause: {cause}"
