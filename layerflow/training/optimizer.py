"""The base of all optimizers: from a flat vector of parameters and one of gradients to the next parameters.

A `ParameterStore` packs all parameters of a model into one vector, so an optimizer is its formula and nothing else:

    class Momentum(lf.Optimizer):
        def __init__(self, lr, momentum=0.9):
            self.lr, self.momentum = lr, momentum

        def update(self, values, grads):
            velocity = self.slot("velocity")            # zeros at the first step; kept in checkpoints
            velocity *= self.momentum
            velocity += grads
            values -= self.lr * velocity
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from layerflow.errors import ConfigError
from layerflow.parameter import Array
from layerflow.store import ParameterStore

# Elements per call of an elementwise update: the vectors it touches then stay in the processor's cache, and its
# temporaries stay small. 4 M float32 parameters: an Adam step takes 0.6 of the time that whole vectors take.
BLOCK = 1 << 16


class Optimizer(ABC):
    """Base of all optimizers. A subclass sets `self.lr` and implements `update`; no `super().__init__()` is needed.

    `lr` is a plain attribute, written by schedules. A subclass that sets `weight_decay` gets g + weight_decay * w in
    place of g for the parameters that decay (Hinton, "Learning translation invariant recognition in a massively
    parallel network", 1987).

    `class Mine(Optimizer, elementwise=True)` promises that `update` treats every parameter by itself (no norms, no sums
    over them); it is then called block by block, which is faster for large models. A subclass of `Mine` has to promise
    it anew.
    """

    lr: float
    weight_decay: float = 0.0
    steps: int = 0
    _elementwise: ClassVar[bool] = False
    _block: slice  # the part of the vectors that is being updated
    _size: int
    _dtype: np.dtype[Any]

    def __init_subclass__(cls, elementwise: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._elementwise = elementwise

    @abstractmethod
    def update(self, values: Array, grads: Array) -> None:
        """Change `values` in place by one step, the one numbered `self.steps` (from 1); `grads` is read-only."""

    def step(self, store: ParameterStore) -> None:
        """Take one step: `store.values` change in place, `store.grads` do not."""
        self.steps += 1
        values, grads = store.values, store.grads.view()
        grads.flags.writeable = False
        self._size, self._dtype = values.size, values.dtype
        length = BLOCK if self._elementwise else max(values.size, 1)
        for start in range(0, values.size, length):
            self._block = slice(start, start + length)
            w, g = values[self._block], grads[self._block]
            if self.weight_decay:
                g = self.decay(w, g, min(max(store.decay_size - start, 0), w.size))
            self.update(w, g)

    def decay(self, values: Array, grads: Array, size: int) -> Array:
        """Apply `weight_decay` to the first `size` values; return the gradient for `update`."""
        grads = grads.copy()
        grads[:size] += self.weight_decay * values[:size]
        return grads

    def slot(self, name: str, start: float = 0.0) -> Array:
        """Return the part of this optimizer's own vector `name` that belongs to `values`; full of `start` when new."""
        vector = self._slots.get(name)
        if vector is None:
            vector = self._slots[name] = np.full(self._size, start, self._dtype)
        if vector.shape != (self._size,) or vector.dtype != self._dtype:
            raise ConfigError(
                f"{type(self).__name__}: its {name!r} holds {vector.size} numbers of {vector.dtype}, but the model has "
                f"{self._size} parameters of {self._dtype}; every model needs its own optimizer"
            )
        return vector[self._block]

    def state(self) -> dict[str, Array]:
        """Return copies of all that the next step depends on: `optimizer` (its type), `steps`, `lr` and the slots."""
        own = {"optimizer": type(self).__name__, "steps": self.steps, "lr": float(self.lr)}
        slots = {f"slot.{name}": vector.copy() for name, vector in self._slots.items()}
        return {name: np.array(value) for name, value in own.items()} | slots

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Continue from a `state()`, bit for bit. Raises `ConfigError` for the state of another type of optimizer."""
        try:
            kind, steps, lr = (np.asarray(state[key]).item() for key in ("optimizer", "steps", "lr"))
        except KeyError as error:
            raise ConfigError(f"this is not the state of an optimizer: {error} is missing") from None
        if kind != type(self).__name__:
            raise ConfigError(f"the state of {kind} cannot be loaded into {type(self).__name__}")
        self.steps, self.lr = steps, lr
        self._slots.clear()
        self._slots.update({k.removeprefix("slot."): np.array(v) for k, v in state.items() if k.startswith("slot.")})

    @cached_property
    def _slots(self) -> dict[str, Array]:
        return {}
