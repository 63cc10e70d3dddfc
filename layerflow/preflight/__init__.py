"""Before training: is what the configuration describes likely to learn, and will its result mean something?

Each check is a function of a `Context` that returns a `Finding`, or None where it does not apply. Everything runs on
models, optimizers and generators of its own: nothing of the caller's changes, and the same seed finds the same.
"""

from collections.abc import Callable

import numpy as np

from layerflow.config import Config
from layerflow.config.experiment import Parts
from layerflow.preflight import data, model, start, steps
from layerflow.preflight.context import Context, Finding

__all__ = ["CHECKS", "SHORT", "Context", "Finding", "preflight"]

Check = Callable[[Context], Finding | None]

SHORT: tuple[Check, ...] = (
    model.last_gate,
    model.l2_given_twice,
    data.targets,
    data.duplicates,
    data.constant_features,
    data.feature_scale,
    data.leaking_features,
    model.last_width,
    start.initial_loss,
    start.dead_relus,
    start.saturation,
    start.activations_by_depth,
    start.gradients_by_depth,
    model.samples_are_independent,
)
"""What costs no more than a few sweeps: runs before every training."""

CHECKS: tuple[Check, ...] = (
    *SHORT,
    model.a_batch_is_its_samples,
    start.regularizer_raises_the_loss,
    steps.update_ratio,
    model.gradient_check,
    steps.a_few_samples_can_be_learned,
)


def preflight(config: Config, parts: Parts, short: bool = False) -> list[Finding]:
    """Make all checks, or the short ones, and return what they found, in their order.

    A check that cannot be made, because a gate raises or the numbers leave the finite range, is a bad finding itself.
    """
    drawn_so_far = np.random.get_state()  # a person's own gate may draw from the global generator
    found: list[Finding] = []
    try:
        with np.errstate(all="ignore"):
            context = Context(config, parts)
            for check in SHORT if short else CHECKS:
                finding = _made(check, context)
                if finding is not None and finding.evidence not in [other.evidence for other in found]:
                    found.append(finding)
    finally:
        np.random.set_state(drawn_so_far)
    return found


def _made(check: Check, context: Context) -> Finding | None:
    try:
        return check(context)
    except Exception as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        name = check.__name__.replace("_", " ")
        return Finding(
            name,
            "bad",
            None,
            f"cannot be looked at: {' '.join(f'{type(error).__name__}: {error}{notes}'.split())}",
            "training may fail likewise",
        )
