"""Cases for the losses of several classes."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *
from layerflow.gates.examples.drawn import rounded


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    scores, labels, weights = rng.normal(0.0, 2.0, (6, 4)), rng.integers(0, 4, 6), rng.uniform(0.5, 2.0, 6)
    probabilities = rng.dirichlet(np.ones(4), 6)
    per_class = [1.0, 0.5, 2.0, 3.0]
    cases: list[Any] = [
        *[(loss(), scores, labels) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(), scores, labels, weights) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(class_weight=per_class), scores, labels) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(class_weight=per_class), scores, labels, weights) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(), scores[:, :1], np.zeros(6, int)) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(), scores[:1], labels[:1]) for loss in (SoftmaxCE, MulticlassSVM)],
        (SoftmaxCE(), scores, probabilities),
        (SoftmaxCE(class_weight=per_class), scores, probabilities, weights),
        (MulticlassSVM(margin=0.0), scores, labels),
        (MulticlassSVM(margin=2.0), rounded(rng, (6, 4)), labels),
    ]
    return cases
