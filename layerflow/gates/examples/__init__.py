"""Cases for every built-in gate: what the gradient check and the tests of the laws run on.

Every option of a gate has a case, and so have broadcasting, labels and probabilities, weights, and several ranks. The
inputs are float64, drawn from the generator given; some lie exactly at kinks and ties.
"""

import importlib
from typing import Any

import numpy as np

from layerflow.gate import Gate

Case = tuple[Gate, tuple[Any, ...]]
FAMILIES = (
    "arithmetic",
    "reduction",
    "shape",
    "affine",
    "activation",
    "loss",
    "elementloss",
    "other",
    "image",
    "sequence",
    "elementwise",
)


def examples(rng: np.random.Generator) -> dict[str, list[Case]]:
    """Return, for the name of every built-in gate, several gates of that type, each with inputs."""
    cases: dict[str, list[Case]] = {}
    for family, own_rng in zip(FAMILIES, rng.spawn(len(FAMILIES)), strict=True):
        for gate, *inputs in importlib.import_module(f"layerflow.gates.examples.{family}").cases(own_rng):
            cases.setdefault(type(gate).__name__, []).append((gate, tuple(inputs)))
    return cases
