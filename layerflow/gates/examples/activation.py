"""Cases for the activations."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    x = rng.normal
    elementwise = (ReLU, LeakyReLU, ELU, Sigmoid, Tanh, Softplus, GELU, SiLU)
    ranks: list[tuple[int, ...]] = [(4, 5), (3,), (2, 3, 4), (3, 1)]
    kinked = np.concatenate([np.zeros(2), x(size=4)])
    return [
        *[(gate(), x(0.0, scale, shape)) for gate in elementwise for scale, shape in ((1.0, (4, 5)), (4.0, (2, 3, 4)))],
        *[(gate(), x(size=())) for gate in elementwise],
        *[(gate, kinked) for gate in (ReLU(), LeakyReLU(0.2), ELU(1.5))],
        *[(gate(), x(0.0, 3.0, shape)) for gate in (Softmax, LogSoftmax) for shape in ranks],
        *[(gate(axis=1), x(size=(2, 3, 4))) for gate in (Softmax, LogSoftmax)],
    ]
