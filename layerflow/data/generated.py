"""Synthetic data sets from a formula and a seed. Classes are called '0', '1', ..."""

import hashlib
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset, Encoding
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import Reader
from layerflow.errors import ConfigError

MOST_SAMPLES = 1_000_000
"""The most samples; more are a typing error that would fill the memory."""

Floats = NDArray[np.float64]


class Generated(Reader):
    """Base of the synthetic sets: class sizes differ by one at most."""

    samples: int
    classes: int
    features: int
    noise: float
    seed: int

    def __post_init__(self) -> None:
        limits = (
            ("classes", self.classes >= 2, "at least 2"),
            ("samples", self.samples >= self.classes, f"at least one per class ({self.classes})"),
            ("samples", self.samples <= MOST_SAMPLES, f"at most {MOST_SAMPLES:,}"),
            ("features", self.features >= 1, "at least 1"),
            ("noise", 0 <= self.noise < np.inf, "a finite number of at least 0"),
            ("seed", self.seed >= 0, "at least 0"),
        )
        for name, holds, required in limits:
            if not holds:
                raise ConfigError(f"{type(self).__name__}: {name!r} must be {required}, got {getattr(self, name)}")

    @abstractmethod
    def _points(self, y: NDArray[np.int64], position: Floats, rng: np.random.Generator) -> Floats:
        """Return x, given each sample's class and its position in [0, 1] within the class."""

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Generate the points; see `Reader.read`."""
        sizes = [(self.samples + self.classes - 1 - label) // self.classes for label in range(self.classes)]
        y = np.repeat(np.arange(self.classes), sizes)
        position = np.concatenate([np.linspace(0, 1, size) for size in sizes])
        x = self._points(y, position, np.random.default_rng(self.seed))
        encoding = Encoding(tuple(f"x{number}" for number in range(x.shape[1])))
        classes = tuple(str(label) for label in range(self.classes))
        checksum = f"sha256:{hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()}"
        return Dataset(x, y if need_target else None, encoding, classes, type(self).__name__.lower(), checksum)


@dataclass
class Moons(Generated):
    """Two interleaving half circles in the plane, as in scikit-learn's `make_moons`.

    Class 0 is `(cos t, sin t)`, class 1 is `(1 - cos t, 1/2 - sin t)`, t evenly spaced in [0, pi]; plus Gaussian noise.

    Args:
        samples: Number of points in both moons together.
        noise: Standard deviation of the noise.
        seed: Seed of the noise.
    """

    samples: int = 200
    noise: float = 0.1
    seed: int = 0
    classes = 2
    features = 2

    def _points(self, y: NDArray[np.int64], position: Floats, rng: np.random.Generator) -> Floats:
        t = np.pi * position
        x = np.where(y == 0, [np.cos(t), np.sin(t)], [1 - np.cos(t), 0.5 - np.sin(t)]).T
        return x + self.noise * rng.standard_normal(x.shape)


@dataclass
class Spiral(Generated):
    """Spiral arms in the plane, one per class.

    Arm k of K has radius r in [0.1, 1] and angle `2 pi (k / K + turns r)`, plus Gaussian noise in the angle; after the
    toy data of Stanford's course CS231n.

    Args:
        samples: Number of points in all arms together.
        classes: Number of arms.
        noise: Standard deviation of the angle, in radians.
        turns: Number of turns of an arm per unit of radius.
        seed: Seed of the noise.
    """

    samples: int = 300
    classes: int = 3
    noise: float = 0.2
    turns: float = 0.64
    seed: int = 0
    features = 2

    def _points(self, y: NDArray[np.int64], position: Floats, rng: np.random.Generator) -> Floats:
        radius = 0.1 + 0.9 * position
        angle = 2 * np.pi * (y / self.classes + self.turns * radius) + self.noise * rng.standard_normal(self.samples)
        return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


@dataclass
class Blobs(Generated):
    """Gaussian clouds, one per class, around centers drawn uniformly from [-10, 10] in every feature.

    Args:
        samples: Number of points in all clouds together.
        classes: Number of clouds.
        features: Number of features.
        noise: Standard deviation of a cloud.
        seed: Seed of the centers and the noise.
    """

    samples: int = 300
    classes: int = 3
    features: int = 2
    noise: float = 1.0
    seed: int = 0

    def _points(self, y: NDArray[np.int64], position: Floats, rng: np.random.Generator) -> Floats:
        centers = rng.uniform(-10, 10, (self.classes, self.features))
        return centers[y] + self.noise * rng.standard_normal((self.samples, self.features))
