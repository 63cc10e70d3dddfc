"""Cases for the gates that change shapes."""
# ruff: noqa: F403, F405

from typing import Any

import numpy as np

from layerflow.gates import *


def cases(rng: np.random.Generator) -> list[Any]:
    """Return gates, each with its inputs."""
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
        *[(Pad(1, mode=mode), x(size=(2, 2, 4))) for mode in ("constant", "reflect", "replicate", "circular")],
        *[(Pad([1, 2, 0, 3], mode, 0.5), x(size=(2, 1, 4, 3))) for mode in ("constant", "replicate")],
        *[(Pad([2, 1, 1, 2], mode), x(size=(2, 1, 4, 3))) for mode in ("reflect", "circular")],
        (Pad([0, 2], value=-1.0), x(size=(3,))),
        *[(Slice(key), x(size=(4, 3, 2))) for key in keys],
    ]
