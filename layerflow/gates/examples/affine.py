"""Cases for the affine gates."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    x = rng.normal
    return [
        (Linear(3), x(size=(5, 4))),
        (Linear(3, in_features=4, bias=False), x(size=(5, 4))),
        (Linear(1, init="xavier"), x(size=(2, 3, 4))),
        (Linear(2, init="normal"), x(size=(4,))),
        *[(BiasTrick(), x(size=shape)) for shape in ((5, 4), (4,), (2, 3, 2))],
    ]
