"""Cases for the reductions."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *
from layerflow.gates.examples.drawn import rounded


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    options: list[tuple[Any, ...]] = [(), (0,), (-1, True), ((0, 2),), ([1, -1], True), (None, True)]
    return [
        *[(gate(*option), rng.normal(size=(3, 4, 2))) for gate in (Sum, Mean, Max) for option in options],
        *[(gate(), rng.normal(size=shape)) for gate in (Sum, Mean, Max) for shape in ((5,), ())],
        (Max(1), rounded(rng, (6, 5))),
    ]
