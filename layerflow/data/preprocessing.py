"""Preprocessing and scaling: fitted to the training part only, stored with the model, applied before every prediction.

Every scaler computes `(x - shift) / scale`, per feature for tables and per channel for images.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from layerflow.data.batches import Rows, blocks
from layerflow.data.dataset import Dataset, Encoding, Task
from layerflow.errors import ConfigError, DataError

Floats = NDArray[np.float64]


class Scaler(ABC):
    """Computes `(x - shift) / scale`; a subclass determines shift and scale in `fit`.

    Attributes:
        shift: Broadcasts against one sample: (features,), (1, features), (channels, 1, 1) or ().
        scale: Like shift; never zero.
    """

    shift: Floats
    scale: Floats

    @abstractmethod
    def fit(self, x: NDArray[Any] | Rows) -> Self:
        """Determine shift and scale from the training samples `x`, shape (samples, ...), and return self."""

    def apply(self, x: NDArray[Any]) -> Floats:
        """Return `(x - shift) / scale` as float64."""
        return (x - self.shift) / self.scale


class Standard(Scaler):
    """Mean 0 and standard deviation 1 on the training part; a constant feature becomes 0."""

    def fit(self, x: NDArray[Any] | Rows) -> Self:
        """Compute the mean and the (population) standard deviation, in units of the range to avoid overflow."""
        low, width = _range(x)
        axes = _axes(x.ndim)
        count = int(np.prod([x.shape[axis] for axis in axes]))
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
    """All but the feature axis, the last one, or for images (samples, channels, height, width) the channel axis."""
    return (0, 2, 3) if ndim == 4 else tuple(range(ndim - 1)) or (0,)


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


@dataclass(frozen=True)
class Preprocessing:
    """The steps between a reader and the model: fill in missing values, then scale.

    Fitted to the training part only; validation, test and new data go through the same object:

        data = reader.read()
        kept, held = split(data.y, 0.2, seed=0)
        preprocessing = Preprocessing.fit(data.take(kept), Standard())
        x_train = preprocessing.apply(data.take(kept).x)
        x_test = preprocessing.apply(data.take(held).x)
        new = other_reader.read(need_target=False, like=preprocessing)   # the same columns, categories and classes
        x_new = preprocessing.apply(new.x)

    `to_dict` returns plain values for JSON, which are stored with the model, and `from_dict` restores them exactly.

    Attributes:
        sample_shape: The shape of one sample.
        classes: The name of each class by index; None for regression.
        encoding: How named columns are encoded in x; None if the features have no names.
        fill: (features,): the means of the columns, which replace NaN; None if the features have no names. A reader
            returns NaN only with `missing: mean`.
        scaler: The fitted scaler, or None.
        vocabulary: What each token stands for; None if the samples are no tokens.
    """

    sample_shape: tuple[int, ...]
    classes: tuple[str, ...] | None
    encoding: Encoding | None
    fill: NDArray[np.float64] | None = None
    scaler: Scaler | None = None
    vocabulary: tuple[str, ...] | None = None

    @property
    def features(self) -> tuple[str, ...] | None:
        """The names of the columns of x, if they have names."""
        return None if self.encoding is None else self.encoding.features

    @property
    def task(self) -> Task:
        """The task that follows from the targets."""
        return "regression" if self.classes is None else "classification"

    @classmethod
    def fit(cls, train: Dataset, scaler: Scaler | None = None) -> Self:
        """Fit to the training part, `scaler` included.

        Raises DataError if the part is empty, or if a column has no value to fill in.
        """
        if not len(train):
            raise DataError(f"{train.name}: the training part is empty")
        fitted = cls(train.x.shape[1:], train.classes, train.encoding, vocabulary=train.vocabulary)
        if train.vocabulary is not None and scaler is not None:
            raise ConfigError(f"scale: {type(scaler).__name__} cannot be used on tokens; leave it out")
        x = train.x
        if train.encoding is not None:
            missing = np.isnan(x := np.asarray(x))
            if (empty := np.flatnonzero(missing.all(axis=0))).size:
                name = train.encoding.features[int(empty[0])]
                raise DataError(f"{train.name}: column {name!r} has no value in the training part; leave it out")
            with _overflow_as_data_error("their mean"):
                fitted = replace(fitted, fill=np.nanmean(x, axis=0) if missing.any() else x.mean(axis=0))
            x = fitted.apply(x)
        if scaler is None:
            return fitted
        with _overflow_as_data_error("their range"):
            return replace(fitted, scaler=scaler.fit(x))

    def apply(self, x: NDArray[Any] | Rows, dtype: DTypeLike = np.float64) -> NDArray[Any] | Rows:
        """Return the samples as the model takes them, in the floating-point `dtype`.

        A memory-mapped x stays on disk: its rows are processed when they are read. Raises DataError if the samples
        do not have the shape of the training samples.
        """
        if x.shape[1:] != self.sample_shape:
            raise DataError(
                f"samples have shape {x.shape[1:]}, but the model was trained on {self.sample_shape}; "
                "give data with the same features"
            )
        if isinstance(x, Rows | np.memmap):
            return Rows(x, None, lambda rows: self._in_memory(rows, dtype))
        return self._in_memory(x, dtype)

    def _in_memory(self, x: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        result = np.empty(x.shape, dtype=dtype)
        with _overflow_as_data_error(f"the model's {result.dtype}"):
            for start, block in blocks(x):
                if self.fill is not None:
                    block = np.where(np.isnan(block), self.fill, block)
                result[start : start + len(block)] = block if self.scaler is None else self.scaler.apply(block)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        encoding, scaler = self.encoding, self.scaler
        categories = encoding.categories if encoding else {}
        return {
            "sample_shape": list(self.sample_shape),
            "classes": self.classes and list(self.classes),
            "columns": encoding and list(encoding.columns),
            "categories": {column: list(known) for column, known in categories.items()},
            "vocabulary": self.vocabulary and list(self.vocabulary),
            "fill": None if self.fill is None else self.fill.tolist(),
            "scaler": scaler
            and {"type": type(scaler).__name__, "shift": scaler.shift.tolist(), "scale": scaler.scale.tolist()},
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the object from the result of `to_dict`; raises DataError if it is damaged."""
        try:
            shape, classes, columns, vocabulary = (
                None if state[key] is None else tuple(state[key])
                for key in ("sample_shape", "classes", "columns", "vocabulary")
            )
            categories = {column: tuple(known) for column, known in state["categories"].items()}
            encoding = None if columns is None else Encoding(columns, categories)
            fill = None if state["fill"] is None else np.asarray(state["fill"], np.float64)
            scaler: Scaler | None = None
            if (fitted := state["scaler"]) is not None:
                scaler = object.__new__(SCALERS[fitted["type"]])
                scaler.shift, scaler.scale = (np.asarray(fitted[key], np.float64) for key in ("shift", "scale"))
            described = cls(shape or (), classes, encoding, fill, scaler, vocabulary)
            described._check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"damaged preprocessing description: {error!r}; train the model again") from error
        return described

    def _check(self) -> None:
        """Raise ValueError unless the parts are consistent."""
        shape, scaler = self.sample_shape, self.scaler
        arrays = [] if self.fill is None else [self.fill]
        arrays += [] if scaler is None else [scaler.shift, scaler.scale]
        names = [*(self.features or ()), *(self.classes or ()), *(self.vocabulary or ())]
        fits = all(type(length) is int for length in shape) and all(isinstance(name, str) for name in names)
        fits &= self.features is None or (len(self.features),) == shape
        fits &= self.classes is None or len(set(self.classes)) == len(self.classes) > 1
        fits &= all(np.broadcast_shapes(array.shape, shape) == shape and np.isfinite(array).all() for array in arrays)
        if not fits or (scaler is not None and not scaler.scale.all()):
            raise ValueError("its parts are not consistent")


@contextmanager
def _overflow_as_data_error(what: str) -> Iterator[None]:
    try:
        with np.errstate(over="raise", invalid="raise"):
            yield
    except FloatingPointError as error:
        raise DataError(
            f"some values are too large for {what}; correct them, or write `scale: Standard` or `dtype: float64`"
        ) from error
