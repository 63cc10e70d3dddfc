"""Cases for the further activations, elementwise functions, reductions, joins and noise."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *
from layerflow.gates.examples.drawn import rounded


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    x = rng.normal
    smooth = [SELU(), CELU(), CELU(0.5), Mish(), Softsign(), LogSigmoid(), GELU("tanh")]
    pieces = [PReLU(), Hardtanh(), Hardtanh(-0.5, 2.0), ReLU6(), Hardsigmoid(), Hardswish(), Threshold(0.3, -1.0)]
    elements = [Abs(), Sin(), Cos(), Erf(), Clip(-0.5, 1.0), Clip(min=0.0), Clip(max=0.5)]
    options: list[tuple[Any, ...]] = [(), (0,), (-1, True), ((0, 2),), ([1, -1], True)]
    zeros = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 4.0], [1.0, 2.0, -3.0]])
    drops = [Dropout2d(0.4, seed=1), DropPath(0.3, seed=2), GaussianNoise(0.5, seed=3)]
    return [
        *[(gate, x(0.0, 3.0, (3, 4))) for gate in (*smooth, *pieces, *elements)],
        *[(type(gate)(**gate.arguments), x(size=(2, 3, 2))) for gate in (*smooth, *pieces, *elements)],
        (PReLU(3, 0.1), x(size=(2, 3, 4))),
        *[(gate, rounded(rng, (4, 5))) for gate in (PReLU(), Hardtanh(), ReLU6(), Abs())],
        *[(GLU(), x(size=shape)) for shape in ((3, 4), (2,))],
        (GLU(axis=1), x(size=(2, 4, 3))),
        (Sqrt(), rng.uniform(0.2, 3.0, (3, 4))),
        (Where(), rng.integers(0, 2, (3, 4)), x(size=(3, 4)), x(size=(4,))),
        (Where(), np.array([True, False]), x(size=()), x(size=(3, 1))),
        *[(gate(*option), x(size=(3, 4, 2))) for gate in (Min, Prod, Var, Std, LogSumExp, Norm) for option in options],
        (Min(1), rounded(rng, (6, 5))),
        (Prod(1), zeros),
        *[(gate(0, correction=0), x(2.0, 1.0, (4, 3))) for gate in (Var, Std)],
        *[(CumSum(axis), x(size=(3, 4))) for axis in (0, -1)],
        *[(Stack(axis), x(size=(3, 4)), x(size=(3, 4)), x(size=(3, 4))) for axis in (0, 1, -1)],
        *[(Split(sections), x(size=(3, 6))) for sections in (2, [1, 3, 2], 1)],
        (Split(3, axis=0), x(size=(3, 2))),
        (Gather(), x(size=(3, 4)), rng.integers(0, 4, (3, 6))),
        (Gather(axis=0), x(size=(3, 2, 2)), rng.integers(0, 3, (2, 2, 2))),
        (Einsum("bij,bjk->bik"), x(size=(2, 3, 4)), x(size=(2, 4, 2))),
        (Einsum("ij,j->"), x(size=(3, 4)), x(size=(4,))),
        (Einsum("ij,kj->k"), x(size=(3, 4)), x(size=(2, 4))),
        (Einsum("ij->ji"), x(size=(3, 4))),
        (Einsum("bi,bj,bk->bijk"), x(size=(2, 2)), x(size=(2, 3)), x(size=(2, 2))),
        *[(gate, x(size=(2, 3, 4))) for gate in drops],
    ]
