"""Splitting samples into a part to keep and a part to hold back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.errors import ConfigError, DataError

Indices = NDArray[np.int64]


def split(y: NDArray[Any], fraction: float, seed: int, stratify: bool | None = None) -> tuple[Indices, Indices]:
    """Return (kept, held) indices of a random split, both shuffled: a pure function of the arguments.

    Args:
        y: (samples,): the targets; class indexes when stratified.
        fraction: The share of the samples to hold back, between 0 and 1; rounded to whole samples.
        seed: Of the shuffling.
        stratify: Give both parts the same shares of the classes, as near as whole samples allow (largest remainder); a
            class of two or more samples is in both parts, whatever the fraction. None stratifies
            whole numbers and nothing else.

    Raises:
        ConfigError: The fraction is not between 0 and 1, the seed is negative, or `y` cannot be stratified.
        DataError: A part would be empty, or there is one class only.
    """
    if not 0.0 < fraction < 1.0:
        raise ConfigError(f"the fraction to hold back must be between 0 and 1, got {fraction}")
    if seed < 0:
        raise ConfigError(f"the seed must not be negative, got {seed}")
    whole = np.issubdtype(y.dtype, np.integer)
    if stratify and not whole:
        raise ConfigError("stratify needs classes: a regression target can only be split without it")
    held_count = int(np.floor(fraction * len(y) + 0.5))
    if len(y) < 2 or not 0 < held_count < len(y):
        raise DataError(
            f"holding back {fraction:g} of {len(y)} sample(s) leaves a part empty; give more data or another fraction"
        )
    order = np.random.default_rng(seed).permutation(len(y))
    held = np.zeros(len(y), dtype=bool)
    if stratify is False or not whole:
        held[order[:held_count]] = True
    else:
        classes, codes, sizes = np.unique(y, return_inverse=True, return_counts=True)
        if len(classes) == 1:
            raise DataError(f"all {len(y)} samples are of one class; a stratified split needs at least two")
        for code, count in enumerate(_apportion(sizes, held_count)):
            held[order[codes[order] == code][:count]] = True
    return order[~held[order]], order[held[order]]


def _apportion(sizes: Indices, total: int) -> Indices:
    """Return how many of each class are held back: `sizes` in proportion to `total`, by largest remainder."""
    low, high = np.minimum(sizes - 1, 1), np.maximum(sizes - 1, 0)
    if not high.any():
        raise DataError("every class has one sample only; a stratified split needs two of a class: split without it")
    total = int(np.clip(total, low.sum(), high.sum()))
    quota = sizes * (total / sizes.sum())
    counts: Indices = np.clip(np.floor(quota).astype(np.int64), low, high)
    while counts.sum() < total:
        counts[np.argmax(np.where(counts < high, quota - counts, -np.inf))] += 1
    while counts.sum() > total:
        counts[np.argmin(np.where(counts > low, quota - counts, np.inf))] -= 1
    return counts
