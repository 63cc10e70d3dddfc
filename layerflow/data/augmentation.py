"""Random changes of the training samples, which a model should not mind: images (batch, channels, height, width).

What is drawn follows from seed, epoch and step, so that a training that is continued sees the same images.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.errors import ConfigError, DataError

Images = NDArray[Any]


class Augmentation(ABC):
    """Changes a batch of training samples; subclass it to write your own."""

    @abstractmethod
    def __call__(self, x: Images, rng: np.random.Generator) -> Images:
        """Return the changed batch, in the same shape and type; x stays as it is."""


def _check(kind: Augmentation, name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{type(kind).__name__}: {name!r} must be from {least:g} to {most:g}, got {value!r}")


def _expect_images(kind: Augmentation, x: Images) -> None:
    if x.ndim != 4:
        raise DataError(f"{type(kind).__name__}: samples of shape {x.shape[1:]}; expected (channels, height, width)")


@dataclass
class Flip(Augmentation):
    """Mirrors images from left to right.

    Args:
        probability: Of each image.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check(self, "probability", self.probability, 0, 1)

    def __call__(self, x: Images, rng: np.random.Generator) -> Images:
        """Return the changed batch."""
        _expect_images(self, x)
        is_flipped = rng.random(len(x)) < self.probability
        return np.where(is_flipped[:, None, None, None], x[..., ::-1], x)


@dataclass
class Shift(Augmentation):
    """Moves images by up to `padding` pixels in each direction; 0 comes in at the edge (a crop of the padded image).

    Args:
        padding: The most pixels.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        _check(self, "padding", self.padding, 0, 1000)

    def __call__(self, x: Images, rng: np.random.Generator) -> Images:
        """Return the changed batch."""
        _expect_images(self, x)
        p, (height, width) = self.padding, x.shape[2:]
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (2, 3))
        down, right = rng.integers(0, 2 * p + 1, (2, len(x)))
        return np.ascontiguousarray(windows[np.arange(len(x)), :, down, right])


@dataclass
class Rotate(Augmentation):
    """Turns images about their centre, with the nearest pixel; 0 comes in at the corners.

    Args:
        degrees: The largest angle, in both directions.
    """

    degrees: float = 15.0

    def __post_init__(self) -> None:
        _check(self, "degrees", self.degrees, 0, 180)

    def __call__(self, x: Images, rng: np.random.Generator) -> Images:
        """Return the changed batch."""
        _expect_images(self, x)
        height, width = x.shape[2:]
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees, (len(x), 1, 1)))
        rows, columns = np.mgrid[:height, :width] - np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
        from_row = np.cos(angle) * rows + np.sin(angle) * columns + (height - 1) / 2
        from_column = np.cos(angle) * columns - np.sin(angle) * rows + (width - 1) / 2
        r, c = np.rint(from_row).astype(int), np.rint(from_column).astype(int)
        is_inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        taken = x[np.arange(len(x))[:, None, None], :, r.clip(0, height - 1), c.clip(0, width - 1)]
        return np.where(is_inside[:, None], np.moveaxis(taken, -1, 1), x.dtype.type(0))


@dataclass
class Brighten(Augmentation):
    """Multiplies each image by a random factor.

    Args:
        amount: The factor is from 1 - amount to 1 + amount.
    """

    amount: float = 0.2

    def __post_init__(self) -> None:
        _check(self, "amount", self.amount, 0, 1)

    def __call__(self, x: Images, rng: np.random.Generator) -> Images:
        """Return the changed batch."""
        factor = rng.uniform(1 - self.amount, 1 + self.amount, (len(x), *(1,) * (x.ndim - 1)))
        changed: Images = x * factor.astype(x.dtype)
        return changed


@dataclass
class Cutout(Augmentation):
    """Sets a square of each image to 0, at a random place (DeVries and Taylor 2017, arXiv:1708.04552).

    Args:
        size: The side of the square; part of it may lie outside the image.
    """

    size: int = 8

    def __post_init__(self) -> None:
        _check(self, "size", self.size, 1, 10_000)

    def __call__(self, x: Images, rng: np.random.Generator) -> Images:
        """Return the changed batch."""
        _expect_images(self, x)
        axes = [np.arange(length) - rng.integers(0, length, (len(x), 1)) for length in x.shape[2:]]
        before = self.size // 2
        rows, columns = ((axis >= -before) & (axis < self.size - before) for axis in axes)
        changed: Images = np.where((rows[:, :, None] & columns[:, None, :])[:, None], x.dtype.type(0), x)
        return changed


AUGMENTATIONS: dict[str, type[Augmentation]] = {kind.__name__: kind for kind in (Flip, Shift, Rotate, Brighten, Cutout)}
"""The augmentations by their names in configurations."""
