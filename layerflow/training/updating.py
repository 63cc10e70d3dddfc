"""Clipping and the optimizer's update as one function of vectors, which an engine can record; and that engine."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.data.batches import Batches, parts_of
from layerflow.engine.choice import engine_for
from layerflow.engine.numpy import NumpyEngine
from layerflow.parameter import Array
from layerflow.store import ParameterStore
from layerflow.training.clipping import clip
from layerflow.training.optimizers import Optimizer


class WholeUpdate:
    """What a trainer does with the gradients of a step; see `layerflow.engine.numpy.Update`.

    Args:
        optimizer: whose `lr` and `steps` are read and written.
        store: the values that it updates.
        clip_value, clip_norm: as for `Trainer`.
    """

    def __init__(
        self, optimizer: Optimizer, store: ParameterStore, clip_value: float | None, clip_norm: float | None
    ) -> None:
        self.optimizer, self.store, self.clip_value, self.clip_norm = optimizer, store, clip_value, clip_norm
        self.parts: Sequence[Any] = (optimizer, self)

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.optimizer.lr

    @property
    def steps(self) -> int:
        """How many steps have been taken."""
        return self.optimizer.steps

    @steps.setter
    def steps(self, count: int) -> None:
        self.optimizer.steps = count

    def vector(self, name: str, start: float) -> Array:
        """The optimizer's own vector of this name."""
        return self.optimizer.vector(self.store, name, start)

    def by_numpy(self) -> Callable[[Array, Array], Array]:
        """The next update in NumPy, a function of values and gradients that leaves everything as it is."""
        optimizer, twin = copy.deepcopy(self.optimizer), copy.copy(self.store)

        def updated(values: Array, grads: Array) -> Array:
            twin.values, twin.grads = values.copy(), grads.copy()
            clip(twin.trained_grads, self.clip_value, self.clip_norm)
            optimizer.step(twin)
            return twin.values

        return updated

    def __call__(self, values: Any, grads: Any, lr: Any, step: Any, slot: Any) -> None:
        """Update `values` in place, part by part."""
        trained = self.store.trained_size
        clipped = self._clipped(grads[:trained])
        for start, stop, settings in self.optimizer.parts(self.store):
            own = copy.copy(self.optimizer)
            vars(own).update(settings)
            own.lr, own.steps = lr * settings.get("lr", 1.0), step
            part, size = slice(start, stop), min(max(self.store.decay_size - start, 0), stop - start)

            def own_slot(name: str, start: float = 0.0, part: slice = part) -> Any:
                return slot(name, start)[part]

            def scratch(name: str, part: slice = part) -> Any:
                return np.zeros(part.stop - part.start, self.store.values.dtype)

            own.slot, own.scratch = own_slot, scratch  # type: ignore[method-assign]
            w, g = values[part], clipped[part]
            own.update(w, own.decay(w, g, size) if own.weight_decay else g)

    def _clipped(self, grads: Any) -> Any:
        """The gradients as `clip_by_value` and `clip_by_norm` leave them."""
        if self.clip_value is not None:
            grads = np.clip(grads, -self.clip_value, self.clip_value)
        if self.clip_norm is not None:
            norm = np.sqrt(np.sum(grads * grads))
            root = np.sqrt(np.where(norm > self.clip_norm, self.clip_norm / norm, norm.dtype.type(1)))
            grads = grads * root * root
        return grads


def engine_of(
    trainer: Any,
    objective: Container,
    store: ParameterStore,
    optimizer: Optimizer,
    batches: Batches,
    wanted: tuple[int, ...],
) -> NumpyEngine:
    """Return the engine that a trainer asks for; it takes whole steps where each batch is followed by an update."""
    is_plain = trainer.accumulate == 1 and trainer.average is None
    update = WholeUpdate(optimizer, store, trainer.clip_value, trainer.clip_norm) if is_plain else None

    def first() -> tuple[Array, ...]:
        x, y = next(batches.epoch(0))
        return *parts_of(x), *parts_of(y)

    steps = trainer.epochs * len(batches)
    return engine_for(trainer.engine, objective, store, wanted, update, steps, first)
