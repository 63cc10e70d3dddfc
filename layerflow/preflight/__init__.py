"""The preflight: checks before training that find common mistakes in the data, the model and the settings.

Each check is a function that takes a `Context` and returns a `Finding`, or None if it does not apply. Checks run on
models, optimizers and generators of their own, so the training that follows does not change, and their result depends
on the seed alone.
"""

from collections.abc import Callable

import numpy as np

from layerflow.config import Config
from layerflow.config.experiment import Parts
from layerflow.preflight import data, start, steps
from layerflow.preflight.context import Context, Finding

__all__ = ["CHECKS", "SHORT", "Context", "Finding", "preflight"]

SHORT: tuple[Callable[[Context], Finding | None], ...] = (
    start.last_gate,
    start.l2_given_twice,
    data.targets,
    data.duplicates,
    data.constant_features,
    data.feature_scale,
    data.leaking_features,
    start.last_width,
    start.initial_loss,
    start.dead_relus,
    start.saturation,
    start.activations_by_depth,
    start.gradients_by_depth,
    steps.samples_are_independent,
)
"""The checks that cost a few sweeps at most; they run before every training."""

CHECKS = (
    *SHORT,
    steps.a_batch_is_its_samples,
    start.regularizer_raises_the_loss,
    steps.update_ratio,
    steps.gradient_check,
    steps.a_few_samples_can_be_learned,
)


def preflight(config: Config, parts: Parts, short: bool = False) -> list[Finding]:
    """Run all checks, or only the short ones, and return their findings in order.

    A check that fails itself, because a gate raises or a step produces NaN or infinity, is an error as well.
    """
    drawn_so_far = np.random.get_state()  # a custom gate may draw from the global generator
    found: dict[str, Finding] = {}
    try:
        with np.errstate(all="ignore"):
            context = Context(config, parts)
            for check in SHORT if short else CHECKS:
                try:
                    finding = check(context)
                except Exception as error:
                    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
                    evidence = f"the check failed: {' '.join(f'{type(error).__name__}: {error}{notes}'.split())}"
                    name = check.__name__.replace("_", " ")
                    finding = Finding(name, "error", None, evidence, "training is likely to fail as well")
                if finding is not None:
                    found.setdefault(finding.evidence, finding)
    finally:
        np.random.set_state(drawn_so_far)
    return list(found.values())
