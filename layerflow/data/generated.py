"""Synthetic data sets from a formula and a seed. Classes are called '0', '1', ..."""

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset, array_checksum
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import Reader
from layerflow.errors import ConfigError

MOST_SAMPLES = 1_000_000
"""The most samples; more are a typing error that would fill the memory."""


class Moons(Reader):
    """Two interleaving half circles in the plane, as in scikit-learn's `make_moons`.

    Class 0 is `(cos t, sin t)`, class 1 is `(1 - cos t, 1/2 - sin t)`, t evenly spaced in [0, pi]; plus Gaussian noise.

    Args:
        samples: Number of points in both moons together.
        noise: Standard deviation of the noise.
        seed: Seed of the noise.
    """

    def __init__(self, samples: int = 200, noise: float = 0.1, seed: int = 0) -> None:
        _check("Moons", samples, 2, noise, seed)
        self.samples = samples
        self.noise = noise
        self.seed = seed

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Generate the points; see `Reader.read`."""
        y, position = _classes(self.samples, 2)
        t = np.pi * position
        x = np.where(y == 0, [np.cos(t), np.sin(t)], [1 - np.cos(t), 0.5 - np.sin(t)]).T
        x = x + self.noise * np.random.default_rng(self.seed).standard_normal(x.shape)
        return _dataset(x, y, 2, "moons", need_target)


class Spiral(Reader):
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

    def __init__(
        self, samples: int = 300, classes: int = 3, noise: float = 0.2, turns: float = 0.64, seed: int = 0
    ) -> None:
        _check("Spiral", samples, classes, noise, seed)
        self.samples = samples
        self.classes = classes
        self.noise = noise
        self.turns = turns
        self.seed = seed

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Generate the points; see `Reader.read`."""
        y, position = _classes(self.samples, self.classes)
        radius = 0.1 + 0.9 * position
        noise = self.noise * np.random.default_rng(self.seed).standard_normal(self.samples)
        angle = 2 * np.pi * (y / self.classes + self.turns * radius) + noise
        x = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
        return _dataset(x, y, self.classes, "spiral", need_target)


class Blobs(Reader):
    """Gaussian clouds, one per class, around centers drawn uniformly from [-10, 10] in every feature.

    Args:
        samples: Number of points in all clouds together.
        classes: Number of clouds.
        features: Number of features.
        noise: Standard deviation of a cloud.
        seed: Seed of the centers and the noise.
    """

    def __init__(
        self, samples: int = 300, classes: int = 3, features: int = 2, noise: float = 1.0, seed: int = 0
    ) -> None:
        _check("Blobs", samples, classes, noise, seed)
        if features < 1:
            raise ConfigError(f"Blobs: 'features' must be at least 1, got {features}")
        self.samples = samples
        self.classes = classes
        self.features = features
        self.noise = noise
        self.seed = seed

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Generate the points; see `Reader.read`."""
        rng = np.random.default_rng(self.seed)
        centers = rng.uniform(-10, 10, (self.classes, self.features))
        y, _ = _classes(self.samples, self.classes)
        x = centers[y] + self.noise * rng.standard_normal((self.samples, self.features))
        return _dataset(x, y, self.classes, "blobs", need_target)


def _check(reader: str, samples: int, classes: int, noise: float, seed: int) -> None:
    if classes < 2:
        raise ConfigError(f"{reader}: 'classes' must be at least 2, got {classes}")
    if samples < classes:
        raise ConfigError(f"{reader}: 'samples' must be at least one per class ({classes}), got {samples}")
    if samples > MOST_SAMPLES:
        raise ConfigError(f"{reader}: 'samples' must be at most {MOST_SAMPLES:,}, got {samples}")
    if not np.isfinite(noise) or noise < 0:
        raise ConfigError(f"{reader}: 'noise' must be a finite number of at least 0, got {noise}")
    if seed < 0:
        raise ConfigError(f"{reader}: 'seed' must not be negative, got {seed}")


def _classes(samples: int, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each sample's class, and its position in [0, 1] within the class; class sizes differ by one at most."""
    sizes = [(samples + classes - 1 - label) // classes for label in range(classes)]
    return np.repeat(np.arange(classes), sizes), np.concatenate([np.linspace(0, 1, size) for size in sizes])


def _dataset(x: NDArray[np.float64], y: NDArray[np.int64], classes: int, name: str, need_target: bool) -> Dataset:
    features = tuple(f"x{number}" for number in range(x.shape[1]))
    labels = tuple(str(label) for label in range(classes))
    return Dataset(x, y if need_target else None, features, labels, name, array_checksum(x, y))
