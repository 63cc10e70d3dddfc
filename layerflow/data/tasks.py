"""Tasks that need a memory: sequences of any length, made by a rule."""

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset
from layerflow.data.generated import MOST_SAMPLES
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import Reader
from layerflow.errors import ConfigError


class Task(Reader):
    """Base of the tasks."""

    samples: int
    length: int
    seed: int

    def __post_init__(self) -> None:
        limits = [("samples", 1, MOST_SAMPLES), ("length", 2, 10_000), ("seed", 0, 2**63)]
        limits += [("bits", 1, 1000)] if hasattr(self, "bits") else []
        for name, least, most in limits:
            if not least <= getattr(self, name) <= most:
                given = getattr(self, name)
                raise ConfigError(f"{type(self).__name__}: {name!r} must be from {least} to {most:,}, got {given}")

    @abstractmethod
    def _sequences(self, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...] | None]:
        """Return x, y and the names of the classes."""

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Generate the sequences; see `Reader.read`."""
        x, y, classes = self._sequences(np.random.default_rng(self.seed))
        checksum = f"sha256:{hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()}"
        return Dataset(x, y if need_target else None, None, classes, type(self).__name__.lower(), checksum)


@dataclass
class CopyTask(Task):
    """Copy a sequence of random bits after it has ended (Graves, Wayne and Danihelka 2014, section 4.1).

    x is (samples, 2 length + 1, bits + 1): the sequence, a mark in the last channel, then zeros while it is to be
    repeated. y is (samples, 2 length + 1, bits), zeros until the mark and then the sequence.

    Args:
        samples: Number of sequences.
        length: Steps of the longest sequence.
        bits: Bits per step.
        shortest: Steps of the shortest sequence; shorter ones end in zeros. By default all have the same length.
        seed: Seed of the sequences.
    """

    samples: int = 1000
    length: int = 10
    bits: int = 8
    shortest: int | None = None
    seed: int = 0

    def _sequences(self, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any], None]:
        shortest = self.length if self.shortest is None else self.shortest
        if not 1 <= shortest <= self.length:
            raise ConfigError(f"CopyTask: 'shortest' must be from 1 to {self.length}, got {shortest}")
        x = np.zeros((self.samples, 2 * self.length + 1, self.bits + 1))
        y = np.zeros((self.samples, 2 * self.length + 1, self.bits))
        for row, length in enumerate(rng.integers(shortest, self.length + 1, self.samples)):
            bits = rng.integers(0, 2, (length, self.bits))
            x[row, :length, :-1], x[row, length, -1], y[row, length + 1 : 2 * length + 1] = bits, 1, bits
        return x, y, None


@dataclass
class AddingTask(Task):
    """Add the two numbers that are marked (Hochreiter and Schmidhuber 1997, section 5.4).

    x is (samples, length, 2): numbers from 0 to 1, and beside them a mark, 1 at one step of each half of the sequence
    and else 0. y is (samples,), the sum of the two; always answering 1 has a mean squared error of 1/6.

    Args:
        samples: Number of sequences.
        length: Steps of a sequence.
        seed: Seed of the sequences.
    """

    samples: int = 1000
    length: int = 50
    seed: int = 0

    def _sequences(self, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any], None]:
        x = np.zeros((self.samples, self.length, 2))
        x[:, :, 0] = rng.uniform(0, 1, (self.samples, self.length))
        rows, half = np.arange(self.samples), self.length // 2
        first, second = rng.integers(0, half, self.samples), rng.integers(half, self.length, self.samples)
        x[rows, first, 1] = x[rows, second, 1] = 1
        return x, x[rows, first, 0] + x[rows, second, 0], None


@dataclass
class Parity(Task):
    """Whether the number of ones in a sequence of bits is even or odd. x is (samples, length, 1), y (samples,).

    Args:
        samples: Number of sequences.
        length: Steps of a sequence.
        seed: Seed of the sequences.
    """

    samples: int = 1000
    length: int = 8
    seed: int = 0

    def _sequences(self, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
        bits = rng.integers(0, 2, (self.samples, self.length, 1))
        return bits.astype(np.float64), bits.sum(axis=(1, 2)) % 2, ("even", "odd")
