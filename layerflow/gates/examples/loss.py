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
    several, tokens = rng.normal(0.0, 2.0, (3, 4, 5)), rng.integers(0, 5, (3, 4))
    padded = np.where(np.arange(4) < [[4], [2], [3]], tokens, -100)
    five = [1.0, 0.5, 2.0, 3.0, 0.0]
    cases: list[Any] = [
        *[(loss(), scores, labels) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(), scores, labels, weights) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(class_weight=per_class), scores, labels) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(class_weight=per_class), scores, labels, weights) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(), scores[:, :1], np.zeros(6, int)) for loss in (SoftmaxCE, MulticlassSVM)],
        *[(loss(), scores[:1], labels[:1]) for loss in (SoftmaxCE, MulticlassSVM)],
        (SoftmaxCE(), scores, probabilities),
        (SoftmaxCE(class_weight=per_class), scores, probabilities, weights),
        (SoftmaxCE(label_smoothing=0.1), scores, labels),
        (SoftmaxCE(label_smoothing=0.3), scores, probabilities, weights),
        (SoftmaxCE(class_weight=per_class, label_smoothing=0.2), scores, labels, weights),
        *[(loss(), several, tokens) for loss in (SoftmaxCE, MulticlassSVM, FocalCE)],
        *[(loss(class_weight=five), several, tokens, weights[:3]) for loss in (SoftmaxCE, MulticlassSVM, FocalCE)],
        (SoftmaxCE(), several, rng.dirichlet(np.ones(5), (3, 4))),
        (SoftmaxCE(), several, tokens, rng.uniform(0.5, 2.0, (3, 4))),
        (SoftmaxCE(ignore_index=-100), several, padded),
        (SoftmaxCE(ignore_index=2), scores, np.array([0, 2, 1, 2, 3, 0]), weights),
        (SoftmaxCE(class_weight=five, label_smoothing=0.1, ignore_index=-100), several, padded, weights[:3]),
        *[(FocalCE(gamma), scores, labels) for gamma in (0.0, 0.5, 2.0)],
        (FocalCE(class_weight=per_class), scores, labels, weights),
        (FocalCE(), scores[:1], labels[:1]),
        (MulticlassSVM(margin=0.0), scores, labels),
        (MulticlassSVM(margin=2.0), rounded(rng, (6, 4)), labels),
    ]
    return cases
