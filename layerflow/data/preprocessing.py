"""Preprocessing: fitted to the training data and applied before every prediction."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from layerflow.data.dataset import Dataset, Encoding
from layerflow.data.labels import Task
from layerflow.data.rows import Rows, blocks
from layerflow.data.scaling import Scaler
from layerflow.errors import DataError


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
        features: The names of the columns of x, if they have names.
        classes: The name of each class by index; None for regression.
        encoding: How the columns of a table are encoded in x; None if the data is not a table.
        fill: (features,): the means of the columns of a table, which replace NaN; None if the data is not a table.
            A reader returns NaN only with `missing: mean`.
        scaler: The fitted scaler, or None.
    """

    sample_shape: tuple[int, ...]
    features: tuple[str, ...] | None
    classes: tuple[str, ...] | None
    encoding: Encoding | None
    fill: NDArray[np.float64] | None
    scaler: Scaler | None

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
        fill = None
        if train.encoding is not None:
            table = np.asarray(train.x)
            missing = np.isnan(table)
            if (empty := np.flatnonzero(missing.all(axis=0))).size:
                name = train.encoding.features[int(empty[0])]
                raise DataError(f"{train.name}: column {name!r} has no value in the training part; leave it out")
            with _overflow_as_data_error("their mean"):
                fill = np.nanmean(table, axis=0) if missing.any() else table.mean(axis=0)
        fitted = cls(train.x.shape[1:], train.features, train.classes, train.encoding, fill, None)
        if scaler is not None:
            filled = train.x if fill is None else fitted.apply(train.x)
            with _overflow_as_data_error("their range"):
                scaler = scaler.fit(filled)
        return cls(train.x.shape[1:], train.features, train.classes, train.encoding, fill, scaler)

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
        if isinstance(x, Rows):
            return Rows(x.source, x.rows, lambda rows: self._in_memory(rows, dtype))
        if isinstance(x, np.memmap):
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
        return {
            "sample_shape": list(self.sample_shape),
            "features": None if self.features is None else list(self.features),
            "classes": None if self.classes is None else list(self.classes),
            "columns": None if self.encoding is None else list(self.encoding.columns),
            "categories": {} if self.encoding is None else {k: list(v) for k, v in self.encoding.categories.items()},
            "fill": None if self.fill is None else self.fill.tolist(),
            "scaler": None if self.scaler is None else self.scaler.to_dict(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the object from the result of `to_dict`; raises DataError if it is damaged."""
        try:
            categories = {column: tuple(names) for column, names in state["categories"].items()}
            described = cls(
                sample_shape=tuple(state["sample_shape"]),
                features=None if state["features"] is None else tuple(state["features"]),
                classes=None if state["classes"] is None else tuple(state["classes"]),
                encoding=None if state["columns"] is None else Encoding(tuple(state["columns"]), categories),
                fill=None if state["fill"] is None else np.asarray(state["fill"], dtype=np.float64),
                scaler=None if state["scaler"] is None else Scaler.from_dict(state["scaler"]),
            )
            described._check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"damaged preprocessing description: {error!r}; train the model again") from error
        return described

    def _check(self) -> None:
        """Raise ValueError unless the parts are consistent."""
        shape = self.sample_shape
        named = self.features if self.encoding is None else self.encoding.features
        arrays = [] if self.fill is None else [self.fill]
        if self.scaler is not None:
            arrays += [self.scaler.shift, self.scaler.scale]
        names = [name for group in (self.features, self.classes, named) for name in group or ()]
        fits = all(type(length) is int for length in shape) and all(isinstance(name, str) for name in names)
        fits &= named is None or ((len(named),) == shape and self.features == named)
        fits &= self.classes is None or len(set(self.classes)) == len(self.classes) > 1
        fits &= all(np.broadcast_shapes(array.shape, shape) == shape and np.isfinite(array).all() for array in arrays)
        if not fits or (self.scaler is not None and not self.scaler.scale.all()):
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
