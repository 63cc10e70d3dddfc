"""Cases for the affine gates."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    x = rng.normal
    rows, matrix = Embedding(5, 3), Linear(2)
    rows.build(rng, (2,))
    matrix.build(rng, (1, 3))
    return [
        (TiedLinear(rows), x(size=(2, 4, 3))),
        (TiedLinear(matrix, transposed=True), x(size=(4, 2))),
        (TiedLinear(matrix, bias=False), x(size=(3,))),
        (Linear(3), x(size=(5, 4))),
        (Linear(3, in_features=4, bias=False), x(size=(5, 4))),
        (Linear(1, init="xavier"), x(size=(2, 3, 4))),
        (Linear(2, init="normal"), x(size=(4,))),
        *[(BiasTrick(), x(size=shape)) for shape in ((5, 4), (4,), (2, 3, 2))],
    ]
