"""Cases for the arithmetic gates."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *
from layerflow.gates.examples.drawn import away_from_zero, rounded


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    x = rng.normal
    pairs = [((3, 4), (3, 4)), ((3, 4), (4,)), ((), (2, 3)), ((2, 1, 3), (4, 1)), ((1, 4), (3, 1)), ((), ())]
    batched = [((2, 3, 4), (4, 2)), ((5, 1, 3, 4), (2, 4, 2)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,))]
    products = [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((3, 4), (4, 2)), *batched]
    shapes: list[tuple[int, ...]] = [(3, 4), (5,), (2, 2, 3), ()]
    tied = rounded(rng, (4, 5)), rounded(rng, (4, 5))
    return [
        *[(gate(), x(size=a), x(size=b)) for gate in (Add, Subtract, Multiply, Maximum, Minimum) for a, b in pairs],
        *[(Divide(), x(size=a), away_from_zero(rng, b)) for a, b in pairs],
        *[(gate(), *tied) for gate in (Maximum, Minimum)],
        *[(MatMul(), x(size=a), x(size=b)) for a, b in products],
        *[(gate(), x(size=shape)) for gate in (Negate, Exp) for shape in shapes],
        *[(Log(), rng.uniform(0.2, 3.0, shape)) for shape in shapes],
        *[(Power(exponent), x(size=(3, 4))) for exponent in (0, 1, 2, 3.0)],
        *[(Power(exponent), rng.uniform(0.2, 3.0, (3, 4))) for exponent in (-1, 0.5, -2.5)],
    ]
