"""Cases for the losses of single elements: regression and binary."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    scores, real = rng.normal(0.0, 2.0, (6, 3)), rng.normal(0.0, 2.0, (6, 3))
    answers, weights = rng.integers(0, 2, (6, 3)), rng.uniform(0.5, 2.0, 6)
    regression = [SquaredError(), AbsoluteError(), Huber(), Huber(delta=0.5), Quantile(), Quantile(0.9)]
    binary = [SigmoidCE(), ClippedNLL(), ClippedNLL(floor=0.1), LogisticLikelihood()]
    counts, chances = rng.poisson(2.0, (6, 3)), rng.dirichlet(np.ones(3), 6)
    pairs = [(gate, real) for gate in regression] + [(gate, answers) for gate in binary] + [(PoissonNLL(), counts)]
    return [
        *[(type(gate)(**gate.arguments), scores, targets) for gate, targets in pairs],
        *[(type(gate)(**gate.arguments), scores, targets, weights) for gate, targets in pairs],
        *[(type(gate)(**gate.arguments), scores[:, 0], targets[:, 0]) for gate, targets in pairs],
        *[(type(gate)(**gate.arguments), scores[:, :1], targets[:, 0], weights) for gate, targets in pairs],
        (SigmoidCE(), scores, rng.uniform(0.0, 1.0, (6, 3))),
        (SigmoidCE(class_weight=[1.0, 3.0]), scores[:, :1], answers[:, 0]),
        (SigmoidCE(class_weight=[0.5, 2.0]), scores[:, 0], answers[:, 0].astype(bool), weights),
        *[(gate, scores, np.where(answers, scores, real)) for gate in (AbsoluteError(), Huber(), Quantile(0.2))],
        (SigmoidCE(pos_weight=3.0), scores, answers),
        (SigmoidCE(pos_weight=[1.0, 0.0, 2.5]), scores, answers, weights),
        (SigmoidCE(pos_weight=2.0, class_weight=[1.0, 3.0]), scores[:, 0], answers[:, 0]),
        (GaussianNLL(), scores[:, :2], real[:, 0]),
        (GaussianNLL(), np.hstack([scores, real]), rng.normal(size=(6, 3)), weights),
        (KLDivergence(), np.log(rng.dirichlet(np.ones(3), 6)), chances),
        (KLDivergence(), np.log(rng.dirichlet(np.ones(3), 6)), np.where(answers, chances, 0.0), weights),
        (KLDivergence(), scores.reshape(2, 3, 3), chances.reshape(2, 3, 3)),
    ]
