"""All parameters of a model in one flat vector, and all their gradients in another."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from layerflow.errors import GateError
from layerflow.parameter import Array, Cell, Parameter


class ParameterStore:
    """Packs parameters once; from then on every `Parameter.value` and `.grad` is a view into `values` and `grads`.

    An optimizer step, clipping, a checkpoint are one vector operation each, whatever the model. Parameters with
    `decay=True` come first, so that `values[:decay_size]` is all that weight decay touches. Frozen ones come last:
    `values[:trained_size]` is all that an optimizer touches.

    A parameter is in one store at a time. The next store that packs it takes it over, and the one before then raises
    instead of updating values that no gate reads.

    Args:
        parameters: the parameters, all of which have a value; one given twice is packed once.
        dtype: the floating-point type of both vectors; by default the widest of the parameters.

    Attributes:
        values, grads: vectors of length `size`.
        decay_size: how many leading elements belong to parameters with `decay=True`.
        trained_size: how many leading elements belong to parameters that are not frozen.
        parameters: the parameters in the order in which they are packed.

    Raises:
        GateError: a parameter has no value yet; `values` or `grads` is used after another store has taken a parameter
            over, or after one was turned into another floating-point type.
    """

    def __init__(self, parameters: Iterable[Parameter], dtype: DTypeLike | None = None) -> None:
        unique = list({id(parameter): parameter for parameter in parameters}.values())
        self.parameters = sorted(unique, key=lambda p: 2 if p.frozen else 0 if p.decay else 1)
        if dtype is None:
            dtype = np.result_type(*(p.value.dtype for p in unique)) if unique else np.float64
        self.size = sum(p.value.size for p in unique)
        self.decay_size = sum(p.value.size for p in unique if p.decay and not p.frozen)
        self.trained_size = sum(p.value.size for p in unique if not p.frozen)
        self.values: Array = np.empty(self.size, dtype)
        self.grads: Array = np.zeros(self.size, dtype)
        offset = 0
        for parameter in self.parameters:
            shape, stop = parameter.value.shape, offset + parameter.value.size
            parameter.place(self.values[offset:stop].reshape(shape), self)
            parameter.grad = self.grads[offset:stop].reshape(shape)
            offset = stop

    @property
    def trained_grads(self) -> Array:
        """The gradients of the parameters that are not frozen, a view."""
        return self.grads[: self.trained_size]

    def load(self, values: Array) -> None:
        """Replace all values by a vector that was saved from a store of the same parameters."""
        if values.shape != self.values.shape:
            raise GateError(f"the model has {self.size} parameter values, the saved vector has shape {values.shape}")
        self.values[...] = values

    def lose(self, cell: Cell) -> None:
        """Give a parameter up; from now on `values` and `grads` raise."""
        self.__dict__.setdefault("lost", repr(cell))
        for vector in (self.__dict__.pop("values", None), self.__dict__.pop("grads", None)):
            if vector is not None:
                vector.flags.writeable = False

    def __getattr__(self, name: str) -> Any:
        if name in ("values", "grads") and "lost" in self.__dict__:
            raise GateError(
                f"this ParameterStore has lost {self.lost}: another ParameterStore, as a rule that of another trainer, "
                "has packed it since, or its dtype was changed. Make a new one: ParameterStore(model.parameters()); "
                "two trainers that share parameters take turns by calling fit"
            )
        raise AttributeError(f"ParameterStore has no attribute {name!r}")
