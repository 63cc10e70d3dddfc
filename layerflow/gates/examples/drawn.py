"""Inputs that lie at ties and kinks, or away from zero."""

from typing import Any

import numpy as np

from layerflow.parameter import Array


def rounded(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return integers from -2 to 2: many ties, and many values exactly at kinks."""
    return rng.integers(-2, 3, shape).astype(np.float64)


def away_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Return values of both signs with magnitudes from 0.5 to 2."""
    return rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape)
