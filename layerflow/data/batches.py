"""Mini-batches in an order that can be computed again."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.data.rows import Rows
from layerflow.errors import ConfigError, DataError


class Batches:
    """The samples in mini-batches, shuffled anew in every epoch.

    The order is a pure function of (seed, epoch): an epoch can be repeated, or taken up again in its middle.

    Args:
        x: (samples, ...): an array, a memory map, or `Rows`; of a memory map only the rows of a batch are read.
        y: (samples, ...): the targets.
        batch_size: Samples per batch.
        seed: Of the shuffling, not negative.
        shuffle: False keeps the order of the data.
        drop_last: Leave out the last batch of an epoch when it is smaller than the others.

    Raises:
        ConfigError: batch_size is not positive, or the seed is negative.
        DataError: x and y differ in length, there are no samples, or fewer than batch_size.
    """

    def __init__(
        self,
        x: NDArray[Any] | Rows,
        y: NDArray[Any],
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        if seed < 0:
            raise ConfigError(f"the seed must not be negative, got {seed}")
        if len(x) != len(y):
            raise DataError(f"x has {len(x)} samples but y has {len(y)}; give one target per sample")
        if batch_size > len(x):
            raise DataError(
                f"batch_size is {batch_size}, but there are only {len(x)} samples; use a smaller batch_size"
            )
        self.x = x
        self.y = y
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last

    def __len__(self) -> int:
        """Steps per epoch."""
        full, rest = divmod(len(self.x), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the sample numbers in the order of the given epoch."""
        if not self.shuffle:
            return np.arange(len(self.x))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.x))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield (x, y) of each batch of the given epoch, from step `start` on."""
        order = self.order(epoch)
        for step in range(start, len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self.x.take(rows, axis=0), self.y.take(rows, axis=0)
