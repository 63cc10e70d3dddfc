"""Cases for every built-in gate: what the gradient check and the tests of the laws run on.

Every option of a gate has a case, and so have broadcasting, labels and probabilities, weights, and several ranks. The
inputs are float64, drawn from the generator given; some lie exactly at kinks and ties.
"""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gate import Gate
from layerflow.gates import *
from layerflow.parameter import Array

Case = tuple[Gate, tuple[Any, ...]]


def examples(rng: np.random.Generator) -> dict[str, list[Case]]:
    """Return, for the name of every built-in gate, several gates of that type, each with inputs."""
    families = (_arithmetic, _reductions, _shapes, _affine, _activations, _class_losses, _element_losses, _others)
    cases: dict[str, list[Case]] = {}
    for family in families:
        for gate, *inputs in family(rng):
            cases.setdefault(type(gate).__name__, []).append((gate, tuple(inputs)))
    return cases


def _arithmetic(rng: np.random.Generator) -> list[Any]:
    x = rng.normal
    pairs = [((3, 4), (3, 4)), ((3, 4), (4,)), ((), (2, 3)), ((2, 1, 3), (4, 1)), ((1, 4), (3, 1)), ((), ())]
    batched = [((2, 3, 4), (4, 2)), ((5, 1, 3, 4), (2, 4, 2)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,))]
    products = [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((3, 4), (4, 2)), *batched]
    shapes: list[tuple[int, ...]] = [(3, 4), (5,), (2, 2, 3), ()]
    tied = _rounded(rng, (4, 5)), _rounded(rng, (4, 5))
    return [
        *[(gate(), x(size=a), x(size=b)) for gate in (Add, Subtract, Multiply, Maximum, Minimum) for a, b in pairs],
        *[(Divide(), x(size=a), _away_from_zero(rng, b)) for a, b in pairs],
        *[(gate(), *tied) for gate in (Maximum, Minimum)],
        *[(MatMul(), x(size=a), x(size=b)) for a, b in products],
        *[(gate(), x(size=shape)) for gate in (Negate, Exp) for shape in shapes],
        *[(Log(), rng.uniform(0.2, 3.0, shape)) for shape in shapes],
        *[(Power(exponent), x(size=(3, 4))) for exponent in (0, 1, 2, 3.0)],
        *[(Power(exponent), rng.uniform(0.2, 3.0, (3, 4))) for exponent in (-1, 0.5, -2.5)],
    ]


def _reductions(rng: np.random.Generator) -> list[Any]:
    options: list[tuple[Any, ...]] = [(), (0,), (-1, True), ((0, 2),), ([1, -1], True), (None, True)]
    return [
        *[(gate(*option), rng.normal(size=(3, 4, 2))) for gate in (Sum, Mean, Max) for option in options],
        *[(gate(), rng.normal(size=shape)) for gate in (Sum, Mean, Max) for shape in ((5,), ())],
        (Max(1), _rounded(rng, (6, 5))),
    ]


def _shapes(rng: np.random.Generator) -> list[Any]:
    x = rng.normal
    keys: list[Any] = [0, slice(1, 3), (..., -1), "1:3, 0", ":, ::2", "..., None, ::-1", (slice(None), 1, slice(0, 1))]
    return [
        *[(Reshape(shape), x(size=(4, 6))) for shape in ([-1, 2, 3], (6, 4), 24, [2, -1])],
        *[(Flatten(), x(size=shape)) for shape in ((3, 2, 4), (3, 5), (4,))],
        *[(Transpose(axes), x(size=(2, 3, 4))) for axes in (None, [0, 2, 1], (-1, 0, 1))],
        (Transpose(), x(size=(3, 4))),
        (Concatenate(), x(size=(3, 2)), x(size=(3, 4))),
        (Concatenate(0), x(size=(2, 3)), x(size=(1, 3)), x(size=(4, 3))),
        (Concatenate(axis=1), x(size=(2, 3, 2))),
        *[(Slice(key), x(size=(4, 3, 2))) for key in keys],
    ]


def _affine(rng: np.random.Generator) -> list[Any]:
    x = rng.normal
    return [
        (Linear(3), x(size=(5, 4))),
        (Linear(3, in_features=4, bias=False), x(size=(5, 4))),
        (Linear(1, init="xavier"), x(size=(2, 3, 4))),
        (Linear(2, init="normal"), x(size=(4,))),
        *[(BiasTrick(), x(size=shape)) for shape in ((5, 4), (4,), (2, 3, 2))],
    ]


def _activations(rng: np.random.Generator) -> list[Any]:
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


def _class_losses(rng: np.random.Generator) -> list[Any]:
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
        (MulticlassSVM(margin=2.0), _rounded(rng, (6, 4)), labels),
    ]
    return cases


def _element_losses(rng: np.random.Generator) -> list[Any]:
    scores, real = rng.normal(0.0, 2.0, (6, 3)), rng.normal(0.0, 2.0, (6, 3))
    answers, weights = rng.integers(0, 2, (6, 3)), rng.uniform(0.5, 2.0, 6)
    regression = [SquaredError(), AbsoluteError(), Huber(), Huber(delta=0.5)]
    binary = [SigmoidCE(), ClippedNLL(), ClippedNLL(floor=0.1), LogisticLikelihood()]
    pairs = [(gate, real) for gate in regression] + [(gate, answers) for gate in binary]
    return [
        *[(type(gate)(**gate.arguments), scores, targets) for gate, targets in pairs],
        *[(type(gate)(**gate.arguments), scores, targets, weights) for gate, targets in pairs],
        *[(type(gate)(**gate.arguments), scores[:, 0], targets[:, 0]) for gate, targets in pairs],
        *[(type(gate)(**gate.arguments), scores[:, :1], targets[:, 0], weights) for gate, targets in pairs],
        (SigmoidCE(), scores, rng.uniform(0.0, 1.0, (6, 3))),
        (SigmoidCE(class_weight=[1.0, 3.0]), scores[:, :1], answers[:, 0]),
        (SigmoidCE(class_weight=[0.5, 2.0]), scores[:, 0], answers[:, 0].astype(bool), weights),
        *[(gate, scores, np.where(answers, scores, real)) for gate in (AbsoluteError(), Huber())],
    ]


def _others(rng: np.random.Generator) -> list[Any]:
    x = rng.normal
    evaluated = Dropout(0.5, seed=1)
    evaluated.training = False
    return [
        *[(Dropout(rate, seed=0), x(size=(4, 5))) for rate in (0.0, 0.3, 0.8)],
        (Dropout(0.5), x(size=(2, 3, 4))),
        (evaluated, x(size=(4, 5))),
        *[(gate(0.3), x(size=(3, 4)), x(size=(2,)), x(size=())) for gate in (L2Regularizer, L1Regularizer)],
        *[(gate(2.0), _rounded(rng, (3, 4))) for gate in (L2Regularizer, L1Regularizer)],
        *[(gate(0), x(size=(3,))) for gate in (L2Regularizer, L1Regularizer)],
    ]


def _rounded(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Integers from -2 to 2: many ties, and many values exactly at kinks."""
    return rng.integers(-2, 3, shape).astype(np.float64)


def _away_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape)
