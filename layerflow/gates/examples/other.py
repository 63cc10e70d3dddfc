"""Cases for dropout, the losses of pairs and triplets, and the regularizers."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *
from layerflow.gates.examples.drawn import rounded


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    x = rng.normal
    evaluated = Dropout(0.5, seed=1)
    evaluated.training = False
    signs = np.array([1, -1, 1, -1, -1])
    return [
        *[(Dropout(rate, seed=0), x(size=(4, 5))) for rate in (0.0, 0.3, 0.8)],
        (Dropout(0.5), x(size=(2, 3, 4))),
        (evaluated, x(size=(4, 5))),
        *[(gate(0.3), x(size=(3, 4)), x(size=(2,)), x(size=())) for gate in (L2Regularizer, L1Regularizer)],
        *[(gate(2.0), rounded(rng, (3, 4))) for gate in (L2Regularizer, L1Regularizer)],
        *[(gate(0), x(size=(3,))) for gate in (L2Regularizer, L1Regularizer)],
        *[(Triplet(margin), x(size=(5, 3)), x(size=(5, 3)), x(size=(5, 3))) for margin in (0.1, 1.0, 3.0)],
        (Triplet(eps=0.0), x(size=(1, 4)), x(size=(1, 4)), x(size=(1, 4))),
        *[(CosineEmbedding(margin), x(size=(5, 3)), x(size=(5, 3)), signs) for margin in (0.0, 0.4, -0.5)],
    ]
