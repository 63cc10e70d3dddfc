"""What was learned from the training data and a model needs again for every prediction."""

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
    """The steps between what a reader returns and what the model sees: fill in missing values, then scale.

    Fitted on the training part only; everything else (validation, test, new data) goes through the same object:

        data = reader.read()
        kept, held = split(data.y, 0.2, seed=0)
        preprocessing = Preprocessing.fit(data.take(kept), Standard())
        x_train = preprocessing.apply(data.take(kept).x)
        x_test = preprocessing.apply(data.take(held).x)
        new = other_reader.read(need_target=False, like=preprocessing)   # the same columns, categories and classes
        x_new = preprocessing.apply(new.x)

    `to_dict` gives plain values for JSON to be stored with the model, `from_dict` brings them back exactly.

    Attributes:
        sample_shape: The shape of one sample.
        features: The names of the columns of x, where they have names.
        classes: The name of each class by index; None for regression.
        encoding: How a table's columns became those of x, with the categories; None where there is no table.
        fill: (features,): the means of a table's columns, which replace NaN; None where there is no table. A reader
            lets NaN through only when it was told `missing: mean`.
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
        """What the targets ask for."""
        return "regression" if self.classes is None else "classification"

    @classmethod
    def fit(cls, train: Dataset, scaler: Scaler | None = None) -> Self:
        """Learn from the training part, and fit `scaler` to it.

        Raises DataError when the part is empty, or a column with missing values has no value at all to fill in.
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
            with _overflow_told("their mean"):
                fill = np.nanmean(table, axis=0) if missing.any() else table.mean(axis=0)
        fitted = cls(train.x.shape[1:], train.features, train.classes, train.encoding, fill, None)
        if scaler is not None:
            filled = train.x if fill is None else fitted.apply(train.x)
            with _overflow_told("their range"):
                scaler = scaler.fit(filled)
        return cls(train.x.shape[1:], train.features, train.classes, train.encoding, fill, scaler)

    def apply(self, x: NDArray[Any] | Rows, dtype: DTypeLike = np.float64) -> NDArray[Any] | Rows:
        """Return the samples as the model sees them, in the floating-point `dtype`.

        A memory-mapped x stays on disk: its rows are treated when they are read. Raises DataError when the samples
        have another shape than those in training.
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
        with _overflow_told(f"the model's {result.dtype}"):
            for start, block in blocks(x):
                if self.fill is not None:
                    block = np.where(np.isnan(block), self.fill, block)
                result[start : start + len(block)] = block if self.scaler is None else self.scaler.apply(block)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that JSON can hold."""
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
        """Return the object that `to_dict` described; raises DataError when the description is damaged."""
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
        """Raise ValueError unless the parts fit each other."""
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
            raise ValueError("its parts do not fit each other")


@contextmanager
def _overflow_told(what: str) -> Iterator[None]:
    try:
        with np.errstate(over="raise", invalid="raise"):
            yield
    except FloatingPointError as error:
        raise DataError(
            f"some values are too large for {what}; correct them, or write `scale: Standard` or `dtype: float64`"
        ) from error
