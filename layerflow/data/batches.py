"""Samples on demand: rows that stay on disk until they are read, mini-batches, and splits.

Which samples go where is a pure function of seeds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.errors import ConfigError, DataError

Indices = NDArray[np.int64]

BLOCK_VALUES = 1 << 21
"""The number of values that a pass over an array holds at once (16 MiB as float64)."""


class Rows:
    """`transform(source[rows])`, computed only for the rows that are requested.

    Args:
        source: An array, usually memory-mapped, or other rows, of shape (samples, ...).
        rows: The selected row numbers, in this order; None means all.
        transform: A function of the rows, applied after reading, which keeps the sample shape; None means none.
    """

    def __init__(
        self,
        source: "NDArray[Any] | Rows",
        rows: NDArray[np.int64] | None = None,
        transform: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    ) -> None:
        self.source = source
        self.rows = rows
        self.transform = transform

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array: (samples, ...)."""
        return (len(self), *self.source.shape[1:])

    @property
    def ndim(self) -> int:
        """As of an array."""
        return self.source.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of an array, after the transform."""
        return self[:0].dtype

    def __len__(self) -> int:
        return len(self.source if self.rows is None else self.rows)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        values = np.asarray(self.source[index if self.rows is None else self.rows[index]])
        return values if self.transform is None else self.transform(values)

    def take(self, indices: NDArray[np.int64], axis: int = 0) -> NDArray[Any]:
        """Return the rows `indices`, as `numpy.ndarray.take` does along axis 0."""
        return self[indices]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


class Named:
    """Arrays of the same number of samples, by name: several inputs of a model, or the targets of several outputs.

    Args:
        parts: arrays (samples, ...), or `Rows`.

    Raises:
        DataError: there is none, or they differ in length.
    """

    def __init__(self, parts: "dict[str, Any]") -> None:
        sizes = {name: len(part) for name, part in parts.items()}
        if len(set(sizes.values())) != 1:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items()) or "none is given"
            raise DataError(f"several arrays need the same number of samples: {listed}")
        self.parts = parts

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, index: "slice | NDArray[np.int64]") -> "Named":
        return Named({name: part[index] for name, part in self.parts.items()})

    def take(self, indices: NDArray[np.int64], axis: int = 0) -> "Named":
        """Return the rows `indices` of all arrays."""
        return Named({name: part.take(indices, axis=0) for name, part in self.parts.items()})


def parts_of(x: Any) -> tuple[Any, ...]:
    """Return the arrays of a `Named`, or the one array that it is."""
    return tuple(x.parts.values()) if isinstance(x, Named) else (x,)


def blocks(x: "NDArray[Any] | Rows") -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (number of the first row, rows) over all of `x`, a bounded number of values at a time."""
    step = max(1, BLOCK_VALUES // max(1, int(np.prod(x.shape[1:]))))
    for start in range(0, len(x), step):
        yield start, x[start : start + step]


@dataclass(eq=False, repr=False)
class Batches:
    """The samples in mini-batches, shuffled again in every epoch.

    The order is a pure function of (seed, epoch): an epoch can be repeated, or continued from its middle.

    Args:
        x: (samples, ...): an array, a memory map, or `Rows`; only the rows of a batch are read from a memory map.
        y: (samples, ...): the targets. Both may be several arrays, `Named`.
        batch_size: Samples per batch.
        seed: Seed of the shuffling, not negative.
        shuffle: False keeps the order of the data.
        drop_last: Drop the last batch of an epoch when it is smaller than the others.
        augment: Change the x of each batch at random: functions of it and a generator, which follows from seed, epoch
            and step.
        before_read: Called before each batch is read, in the thread that reads it; what it raises ends the epoch.

    Where there is more to do than to take rows of an array, a thread prepares the next batch meanwhile.

    Raises:
        ConfigError: batch_size is not positive, or the seed is negative.
        DataError: x and y differ in length, there are no samples, or fewer than batch_size.
    """

    x: NDArray[Any] | Rows | Named
    y: NDArray[Any] | Named
    batch_size: int
    seed: int
    shuffle: bool = True
    drop_last: bool = False
    augment: Sequence[Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]] = ()
    before_read: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        samples = len(self.x)
        if self.augment and isinstance(self.x, Named):
            raise ConfigError("augment needs samples of one array; these are several")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.seed < 0:
            raise ConfigError(f"the seed must not be negative, got {self.seed}")
        if samples != len(self.y):
            raise DataError(f"x has {samples} samples but y has {len(self.y)}; give one target per sample")
        if self.batch_size > samples:
            raise DataError(
                f"batch_size is {self.batch_size}, but there are only {samples} samples; use a smaller batch_size"
            )

    def __len__(self) -> int:
        """Steps per epoch."""
        full, rest = divmod(len(self.x), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the sample numbers in the order of the given epoch."""
        if not self.shuffle:
            return np.arange(len(self.x))
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.x))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yield (x, y) of each batch of the given epoch, from step `start` on."""
        batches = self._prepared(epoch, start)
        return ahead(batches) if self.augment or any(isinstance(part, Rows) for part in parts_of(self.x)) else batches

    def _prepared(self, epoch: int, start: int) -> Iterator[tuple[Any, Any]]:
        order = self.order(epoch)
        for step in range(start, len(self)):
            rows = order[step * self.batch_size : (step + 1) * self.batch_size]
            if self.before_read is not None:
                self.before_read()
            x: Any = self.x.take(rows, axis=0)
            if self.augment:
                rng = np.random.default_rng([self.seed, epoch, step, 1])
                for change in self.augment:
                    x = change(x, rng)
            yield x, self.y.take(rows, axis=0)


def ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Yield the items, each computed by a thread while the one before it is used; errors are raised here."""
    from concurrent.futures import ThreadPoolExecutor  # takes longer to import than the rest of this file

    end = object()
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, end)
        while (item := following.result()) is not end:
            following = thread.submit(next, items, end)
            yield item


def split(y: NDArray[Any], fraction: float, seed: int, stratify: bool | None = None) -> tuple[Indices, Indices]:
    """Return (kept, held) indices of a random split, both shuffled: a pure function of the arguments.

    Args:
        y: (samples,): the targets; class indexes when stratified.
        fraction: The fraction of the samples to hold back, between 0 and 1; rounded to whole samples.
        seed: Seed of the shuffling.
        stratify: Give both parts the same class proportions, as near as whole samples allow (largest remainder); a
            class of two or more samples is in both parts, whatever the fraction. None stratifies integers only.

    Raises:
        ConfigError: The fraction is not between 0 and 1, the seed is negative, or `y` cannot be stratified.
        DataError: A part would be empty, or there is one class only.
    """
    if not 0.0 < fraction < 1.0:
        raise ConfigError(f"the fraction to hold back must be between 0 and 1, got {fraction}")
    if seed < 0:
        raise ConfigError(f"the seed must not be negative, got {seed}")
    whole = np.issubdtype(y.dtype, np.integer) and y.ndim == 1
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


def split_in_time(samples: int, fraction: float, gap: int) -> tuple[Indices, Indices]:
    """Return (kept, held) indices of samples in the order of time: the last ones are held, `gap` before them left out.

    Raises:
        DataError: a part would be empty.
    """
    held = int(np.floor(fraction * samples + 0.5))
    kept = samples - held - gap
    if held < 1 or kept < 1:
        raise DataError(
            f"holding back the last {fraction:g} of {samples} sample(s), and {gap} before them that reach into it, "
            "leaves a part empty; give more data, shorter windows or another fraction"
        )
    return np.arange(kept), np.arange(samples - held, samples)


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
