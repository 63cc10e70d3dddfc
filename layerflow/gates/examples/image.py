"""Cases for convolutions, pooling and normalisation."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
    x = rng.normal
    evaluated = BatchNorm()
    evaluated.training = False
    image, signal = x(size=(2, 4, 6, 5)), x(size=(3, 4, 7))
    conv2d: list[dict[str, Any]] = [
        {},
        {"stride": 2, "padding": 1},
        {"stride": [1, 2], "padding": [0, 2], "dilation": [2, 1]},
        {"padding": "same", "dilation": 2, "bias": False},
        {"groups": 2, "in_channels": 4},
        {"groups": 4, "stride": 3, "padding": 1, "init": "xavier"},
    ]
    signals: list[dict[str, Any]] = [{}, {"stride": 2, "padding": 2}, {"dilation": 3}]
    norms: list[dict[str, Any]] = [{}, {"momentum": 1.0, "eps": 0.1}]
    flat = rng.permutation(240).reshape(2, 4, 6, 5).astype(np.float64)  # no ties
    return [
        *[(Conv2d(4, 3, **options), image) for options in conv2d],
        *[(Conv2d(3, kernel), image) for kernel in (1, [2, 3], [6, 5])],
        (Conv2d(2, [4, 2], padding="same"), image),
        *[(Conv1d(3, 3, **options), signal) for options in signals],
        (Conv1d(4, 2, groups=4, padding="same", bias=False), signal),
        *[
            (ConvTranspose2d(4, 3, **options), x(size=(2, 4, 3, 2)))
            for options in conv2d
            if "same" not in options.values()
        ],
        *[(MaxPool2d(*options), flat) for options in ((2,), (3, 1, 1), ([3, 2], [2, 1], [1, 0]), ([6, 5],))],
        (MaxPool2d(2), rng.integers(-2, 3, (2, 3, 4, 4)).astype(np.float64)),
        *[(MaxPool1d(*options), signal) for options in ((2,), (3, 2, 1), (4, 1))],
        *[(AvgPool2d(*options), image) for options in ((2,), (3, 1, 1), ([3, 2], [2, 1], [1, 0]))],
        *[(GlobalAvgPool(), inputs) for inputs in (image, signal)],
        *[(AdaptiveAvgPool2d(size), image) for size in (1, [3, 2], 4, [6, 5])],
        *[(Upsample(factor, mode), image) for factor in (1, 2, 3) for mode in ("nearest", "bilinear")],
        *[(gate(**options), image) for gate, options in _normalizations()],
        *[(gate(**options), signal) for gate, options in _normalizations()],
        *[(BatchNorm(**options), x(2.0, 3.0, (5, 4))) for options in norms],
        (evaluated, image),
        *[(gate(), x(size=shape)) for gate in (LayerNorm, RMSNorm) for shape in ((5,), (3, 4))],
        *[(gate([6, 5], eps=0.1), image) for gate in (LayerNorm, RMSNorm)],
        *[(gate(7), signal) for gate in (LayerNorm, RMSNorm)],
    ]


def _normalizations() -> list[Any]:
    return [
        (BatchNorm, {}),
        (BatchNorm, {"affine": False}),
        (GroupNorm, {"num_groups": 2}),
        (GroupNorm, {"num_groups": 4, "affine": False, "eps": 0.01}),
        (InstanceNorm, {}),
        (InstanceNorm, {"affine": True, "eps": 0.01}),
        (LayerNorm, {}),
        (RMSNorm, {}),
    ]
