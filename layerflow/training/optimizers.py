"""Optimizers: the formulas that turn gradients into updates of the parameters.

A `ParameterStore` packs all parameters of a model into one vector, so an optimizer is its formula and nothing else:

    class Momentum(lf.Optimizer):
        def __init__(self, lr, momentum=0.9):
            self.lr, self.momentum = lr, momentum

        def update(self, values, grads):
            velocity = self.slot("velocity")            # zeros at the first step; saved in checkpoints
            velocity *= self.momentum
            velocity += grads
            values -= self.lr * velocity

In the formulas below w are the parameters, g their gradient, and t is the number of the step, from 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from layerflow.errors import ConfigError
from layerflow.parameter import Array
from layerflow.store import ParameterStore
from layerflow.training.groups import Group, grouped
from layerflow.training.schedules import number

BLOCK = 1 << 16  # elements per call of an elementwise update, whose vectors then stay in the processor's cache


class _Block:
    """A part of the flat vectors that is updated in one call, with the optimizer's own vectors for that part."""

    def __init__(self, store: ParameterStore, start: int, stop: int, settings: Mapping[str, float]) -> None:
        self.place, self.settings = slice(start, stop), settings
        self.values, self.grads = store.values[start:stop], store.grads[start:stop]
        self.grads.flags.writeable = False
        self.decay_size = min(max(store.decay_size - start, 0), stop - start)
        self.slots: dict[str, Array] = {}
        self.scratch: dict[str, Array] = {}


class Optimizer(ABC):
    """Base class of all optimizers. A subclass sets `self.lr` and implements `update`; no `super().__init__()` needed.

    `lr` is a plain attribute that schedules write. A subclass that sets `weight_decay` gets g + weight_decay * w in
    place of g for the parameters with `decay=True` (Hinton, "Learning translation invariant recognition in a massively
    parallel network", 1987).

    `class Mine(Optimizer, elementwise=True)` promises that `update` treats every parameter separately (no norms or sums
    over them); it is then called block by block, which is faster for large models. A subclass of `Mine` has to repeat
    the promise.
    """

    lr: float
    groups: "tuple[Group, ...]" = ()
    weight_decay: float = 0.0
    steps: int = 0
    _elementwise: ClassVar[bool] = False
    _bound: tuple[Array, Array] | None = None  # the vectors of the store that `_blocks` belong to
    _blocks: tuple[_Block, ...] = ()
    _block: _Block

    def __init_subclass__(cls, elementwise: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._elementwise = elementwise

    @abstractmethod
    def update(self, values: Array, grads: Array) -> None:
        """Change `values` in place by one step, the one numbered `self.steps` (from 1); `grads` is read-only."""

    def step(self, store: ParameterStore) -> None:
        """Take one step: `store.values` change in place, `store.grads` do not."""
        self.steps += 1
        bound = self._bound
        if bound is None or bound[0] is not store.values or bound[1] is not store.grads:
            self._bind(store)
        for block in self._blocks:
            self._block = block
            if not block.settings:
                self._update(block)
                continue
            lr, found = self.lr, {name: getattr(self, name) for name in block.settings}
            try:
                vars(self).update(block.settings)
                self.lr = lr * block.settings.get("lr", 1.0)
                self._update(block)
            finally:
                vars(self).update(found)

    def _update(self, block: _Block) -> None:
        grads = self.decay(block.values, block.grads, block.decay_size) if self.weight_decay else block.grads
        self.update(block.values, grads)

    def decay(self, values: Array, grads: Array, size: int) -> Array:
        """Apply `weight_decay` to the first `size` values; return the gradient for `update`."""
        decayed = self.scratch("decayed")
        np.multiply(values[:size], self.weight_decay, out=decayed[:size])
        decayed[:size] += grads[:size]
        decayed[size:] = grads[size:]
        return decayed

    def slot(self, name: str, start: float = 0.0) -> Array:
        """Return this optimizer's own vector `name`, as long as `values`; at first it is full of `start`."""
        block = self._block
        if (found := block.slots.get(name)) is None:
            found = block.slots[name] = self._vector(name, start)[block.place]
        return found

    def scratch(self, name: str) -> Array:
        """Return a vector `name` for intermediate results, as long as `values`; its content is arbitrary at first."""
        block = self._block
        if (found := block.scratch.get(name)) is None:
            found = block.scratch[name] = np.empty_like(block.values)
        return found

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
        self.steps, self.lr, self._bound = steps, lr, None
        self._slots.clear()
        self._slots.update({k.removeprefix("slot."): np.array(v) for k, v in state.items() if k.startswith("slot.")})

    @cached_property
    def _slots(self) -> dict[str, Array]:
        return {}

    def vector(self, store: ParameterStore, name: str, start: float) -> Array:
        """Return the optimizer's own vector `name`, as long as all values of a store."""
        if self._bound is None or self._bound[0] is not store.values:
            self._bind(store)
        return self._vector(name, start)

    def _bind(self, store: ParameterStore) -> None:
        """Cut the vectors of a store into blocks, which share their scratch vectors."""
        length = BLOCK if self._elementwise else max(store.trained_size, 1)
        blocks: list[_Block] = []
        for begin, end, settings in self.parts(store):
            blocks += [_Block(store, start, min(start + length, end), settings) for start in range(begin, end, length)]
        self._blocks = tuple(blocks)
        whole = [block for block in blocks if block.values.size == length]
        for block in whole[1:]:
            block.scratch = whole[0].scratch
        self._bound = store.values, store.grads

    def parts(self, store: ParameterStore) -> list[tuple[int, int, Mapping[str, float]]]:
        """Return the trained part of a store, cut where the group changes: (start, stop, settings)."""
        parts: list[tuple[int, int, Mapping[str, float]]] = []
        offset, matched = 0, set()
        for parameter in store.parameters if self.groups else ():
            stop = offset + parameter.value.size
            index = next((i for i, group in enumerate(self.groups) if group.matches(parameter.name)), None)
            matched.add(index)
            settings = {} if index is None else self.groups[index].settings
            if parts and parts[-1][2] is settings:
                parts[-1] = (parts[-1][0], stop, settings)
            elif not parameter.frozen:
                parts.append((offset, stop, settings))
            offset = stop
        for index, group in enumerate(self.groups):
            if index not in matched:
                names = ", ".join(parameter.name.removeprefix("model.") for parameter in store.parameters)
                raise ConfigError(
                    f"{type(self).__name__}: no parameter is in the group {', '.join(group.patterns)}; there are "
                    f"{names}"
                )
        return parts or [(0, store.trained_size, {})]

    def _vector(self, name: str, start: float) -> Array:
        assert self._bound is not None
        values = self._bound[0]
        vector = self._slots.get(name)
        if vector is None:
            vector = self._slots[name] = np.full(values.size, start, values.dtype)
        if vector.shape != values.shape or vector.dtype != values.dtype:
            raise ConfigError(
                f"{type(self).__name__}: its {name!r} holds {vector.size} numbers of {vector.dtype}, but the model has "
                f"{values.size} parameters of {values.dtype}; every model needs its own optimizer"
            )
        return vector


class SGD(Optimizer, elementwise=True):
    """Stochastic gradient descent, with momentum:

        v = momentum * v + (1 - dampening) * g        (v = g at the first step)
        w = w - lr * v                                (nesterov: w - lr * (g + momentum * v))

    Robbins and Monro, "A stochastic approximation method", 1951; Polyak, "Some methods of speeding up the convergence
    of iteration methods", 1964; Nesterov's form after Sutskever et al., "On the importance of initialization and
    momentum in deep learning", 2013.
    """

    def __init__(
        self,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.momentum = number(self, "momentum", momentum)
        self.dampening = number(self, "dampening", dampening)
        self.nesterov = nesterov
        self.weight_decay = number(self, "weight_decay", weight_decay)
        if nesterov and not (self.momentum > 0 and self.dampening == 0):
            raise ConfigError(f"SGD: nesterov needs momentum > 0 and dampening 0, got {momentum!r} and {dampening!r}")
        self.groups = grouped(self, groups)

    def update(self, values: Array, grads: Array) -> None:
        change = self.scratch("change")
        if self.momentum:
            velocity = self.slot("velocity")
            velocity *= self.momentum
            if self.dampening and self.steps > 1:
                velocity += np.multiply(grads, 1 - self.dampening, out=change)
            else:
                velocity += grads
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=change)
                change += grads
            grads = change if self.nesterov else velocity
        values -= np.multiply(grads, self.lr, out=change)


class Adam(Optimizer, elementwise=True):
    """Adaptive moments:

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        w = w - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    With `amsgrad` the largest v so far takes the place of v in the last line. Kingma and Ba, "Adam: a method for
    stochastic optimization", 2015, algorithm 1; Reddi, Kale and Kumar, "On the convergence of Adam and beyond", 2018.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ConfigError(f"{type(self).__name__}: betas is {betas!r}, expected two numbers, such as [0.9, 0.999]")
        self.lr = number(self, "lr", lr)
        self.betas = (number(self, "betas[0]", betas[0], "[0, 1)"), number(self, "betas[1]", betas[1], "[0, 1)"))
        self.eps = number(self, "eps", eps)
        self.weight_decay = number(self, "weight_decay", weight_decay)
        self.amsgrad = amsgrad
        self.groups = grouped(self, groups)

    def moments(self, grads: Array) -> tuple[Array, Array, Array]:
        """Move m and v on, and return them with a scratch vector."""
        beta1, beta2 = self.betas
        m, v, change = self.slot("first_moment"), self.slot("second_moment"), self.scratch("change")
        np.subtract(grads, m, out=change)
        change *= 1 - beta1
        m += change
        np.multiply(grads, 1 - beta2, out=change)
        change *= grads
        v *= beta2
        v += change
        return m, v, change

    def update(self, values: Array, grads: Array) -> None:
        (beta1, beta2), t = self.betas, self.steps
        m, v, change = self.moments(grads)
        if self.amsgrad:
            largest = self.slot("largest_second_moment")
            v = np.maximum(largest, v, out=largest)
        np.divide(v, 1 - beta2**t, out=change)
        np.sqrt(change, out=change)
        change += self.eps
        np.divide(m, change, out=change)
        change *= self.lr / (1 - beta1**t)
        values -= change


class AdamW(Adam, elementwise=True):
    """Adam with decoupled weight decay: w = w - lr * weight_decay * w, then the step of `Adam` with the plain g.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, amsgrad, groups)

    def decay(self, values: Array, grads: Array, size: int) -> Array:
        """Shrink the values themselves; the gradient stays as it is."""
        values[:size] *= 1 - self.lr * self.weight_decay
        return grads


class RMSprop(Optimizer, elementwise=True):
    """The gradient divided by a running average of its size:

        s = alpha * s + (1 - alpha) * g^2
        a = alpha * a + (1 - alpha) * g               (centered only, else a = 0)
        d = g / (sqrt(s - a^2) + eps)
        w = w - lr * d                                (momentum: b = momentum * b + d, w = w - lr * b)

    Tieleman and Hinton, "Lecture 6.5: RMSprop", Neural Networks for Machine Learning, 2012; centered: Graves,
    "Generating sequences with recurrent neural networks", 2013.
    """

    def __init__(
        self,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.alpha = number(self, "alpha", alpha, "[0, 1]")
        self.eps = number(self, "eps", eps)
        self.weight_decay = number(self, "weight_decay", weight_decay)
        self.momentum = number(self, "momentum", momentum)
        self.centered = centered
        self.groups = grouped(self, groups)

    def update(self, values: Array, grads: Array) -> None:
        square, change = self.slot("square_average"), self.scratch("change")
        np.multiply(grads, 1 - self.alpha, out=change)
        change *= grads
        square *= self.alpha
        square += change
        if self.centered:
            average = self.slot("gradient_average")
            np.subtract(grads, average, out=change)
            change *= 1 - self.alpha
            average += change
            np.multiply(average, average, out=change)
            np.subtract(square, change, out=change)
            # a variance: rounding alone can make it negative if the gradient hardly changes
            square = np.maximum(change, 0, out=change)
        np.sqrt(square, out=change)
        change += self.eps
        np.divide(grads, change, out=change)
        if self.momentum:
            buffer = self.slot("momentum_buffer")
            buffer *= self.momentum
            buffer += change
            np.multiply(buffer, self.lr, out=change)
        else:
            change *= self.lr
        values -= change
