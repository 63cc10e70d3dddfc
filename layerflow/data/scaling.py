"""Feature scaling: fitted to the training part only and stored with the model.

Every scaler computes `(x - shift) / scale`, per feature for tables and per channel for images.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from layerflow.data.rows import Rows, blocks
from layerflow.errors import ConfigError, DataError

Floats = NDArray[np.float64]


class Scaler:
    """Computes `(x - shift) / scale`; a subclass determines shift and scale in `fit`.

    Attributes:
        shift: Broadcasts against one sample: (features,), (channels, 1, 1) or ().
        scale: Like shift; never zero.
    """

    shift: Floats
    scale: Floats

    def fit(self, x: NDArray[Any] | Rows) -> Self:
        """Determine shift and scale from the training samples `x`, shape (samples, ...), and return self."""
        raise NotImplementedError

    def apply(self, x: NDArray[Any]) -> Floats:
        """Return `(x - shift) / scale` as float64."""
        return (x - self.shift) / self.scale

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted scaler as plain values for JSON."""
        return {"type": type(self).__name__, "shift": self.shift.tolist(), "scale": self.scale.tolist()}

    @staticmethod
    def from_dict(state: dict[str, Any]) -> "Scaler":
        """Return the scaler from the result of `to_dict`; raises DataError if it is damaged."""
        try:
            scaler: Scaler = object.__new__(SCALERS[state["type"]])
            scaler.shift = np.asarray(state["shift"], dtype=np.float64)
            scaler.scale = np.asarray(state["scale"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"damaged scaler description: {error}; train the model again") from error
        return scaler


class Standard(Scaler):
    """Mean 0 and standard deviation 1 on the training part; a constant feature becomes 0."""

    def fit(self, x: NDArray[Any] | Rows) -> Self:
        """Compute the mean and the (population) standard deviation, in units of the range to avoid overflow."""
        low, width = _range(x)
        axes, count = _axes(x.ndim), _count(x)
        mean = sum(((block - low) / width).sum(axis=axes, keepdims=True) for _, block in blocks(x)) / count
        square = sum((((block - low) / width - mean) ** 2).sum(axis=axes, keepdims=True) for _, block in blocks(x))
        self.shift = (low + width * mean)[0]
        self.scale = (width * _nonzero(np.sqrt(square / count)))[0]
        return self


class MinMax(Scaler):
    """Minimum 0 and maximum 1 on the training part; a constant feature becomes 0."""

    def fit(self, x: NDArray[Any] | Rows) -> Self:
        """Compute the minimum and the range."""
        low, width = _range(x)
        self.shift, self.scale = low[0], width[0]
        return self


class Divide(Scaler):
    """Every value divided by the same number.

    Args:
        by: The number; 255 scales pixels of bytes to [0, 1].
    """

    def __init__(self, by: float) -> None:
        if not np.isfinite(by) or by == 0:
            raise ConfigError(f"Divide: 'by' must be a finite number other than 0, got {by}")
        self.shift, self.scale = np.zeros(()), np.asarray(by, dtype=np.float64)

    def fit(self, x: NDArray[Any] | Rows) -> Self:
        """Return self: the number is given."""
        return self


SCALERS: dict[str, type[Scaler]] = {"Standard": Standard, "MinMax": MinMax, "Divide": Divide}
"""The scalers by their names in configurations."""


def _axes(ndim: int) -> tuple[int, ...]:
    """All but the feature axis, or for images (samples, channels, height, width) all but the channel axis."""
    return (0, 2, 3) if ndim == 4 else (0,)


def _count(x: NDArray[Any] | Rows) -> int:
    return int(np.prod([x.shape[axis] for axis in _axes(x.ndim)]))


def _range(x: NDArray[Any] | Rows) -> tuple[Floats, Floats]:
    """Return the minima and the ranges (1 where constant), with axes kept."""
    if not len(x):
        raise DataError("cannot fit a scaler to an empty set; give it training samples")
    axes = _axes(x.ndim)
    lows = [block.min(axis=axes, keepdims=True) for _, block in blocks(x)]
    highs = [block.max(axis=axes, keepdims=True) for _, block in blocks(x)]
    low = np.min(lows, axis=0).astype(np.float64)
    return low, _nonzero(np.max(highs, axis=0).astype(np.float64) - low)


def _nonzero(scale: Floats) -> Floats:
    return np.where(scale < np.finfo(np.float64).tiny, 1.0, scale)
