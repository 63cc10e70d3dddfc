"""Schedules: the learning rate of each epoch.

A schedule is asked for `lr(base_lr, epoch, epochs)` at the start of every epoch (`epoch` counts from 0, `epochs` is the
length of the whole training) and given its record by `observe` at its end. All but `ReduceOnPlateau` are pure
functions of those three numbers. Where torch.optim.lr_scheduler has the same schedule, the values are the same.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Real
from typing import TypeGuard

import numpy as np

from layerflow.errors import ConfigError, did_you_mean
from layerflow.parameter import Array
from layerflow.training.metrics import higher_is_better


class Schedule(ABC):
    """Base class of all schedules. A subclass implements `lr`, and the other methods only if it has a state."""

    @abstractmethod
    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        """Return the learning rate of `epoch` (from 0) in a training of `epochs` that was configured with `base_lr`."""

    def observe(self, metrics: Mapping[str, float]) -> None:  # noqa: B027 - most schedules ignore it
        """Receive the record of an epoch that has ended."""

    def state(self) -> dict[str, Array]:
        """Return the state that later epochs depend on."""
        return {}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Continue from a `state()`. Raises `ConfigError` when it belongs to another schedule."""
        if set(state) != set(self.state()):
            raise ConfigError(
                f"{type(self).__name__}: expected a state of {sorted(self.state())}, got {sorted(state)}: "
                "it was saved from another schedule"
            )


class Constant(Schedule):
    """lr = base_lr."""

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        return base_lr


class Step(Schedule):
    """lr = base_lr * gamma^floor(epoch / step_size)."""

    def __init__(self, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = count(self, "step_size", step_size)
        self.gamma = number(self, "gamma", gamma, "(0, inf)")

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        return float(base_lr * self.gamma ** (epoch // self.step_size))


class MultiStep(Schedule):
    """lr = base_lr * gamma^(number of milestones <= epoch)."""

    def __init__(self, milestones: Sequence[int], gamma: float = 0.1) -> None:
        if not isinstance(milestones, Sequence) or isinstance(milestones, str):
            raise ConfigError(f"MultiStep: milestones is {milestones!r}, expected a list of epochs, such as [30, 60]")
        self.milestones = sorted(count(self, f"milestones[{i}]", m, minimum=0) for i, m in enumerate(milestones))
        self.gamma = number(self, "gamma", gamma, "(0, inf)")

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        return float(base_lr * self.gamma ** bisect_right(self.milestones, epoch))


class Exponential(Schedule):
    """lr = base_lr * gamma^epoch."""

    def __init__(self, gamma: float) -> None:
        self.gamma = number(self, "gamma", gamma, "(0, inf)")

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        return float(base_lr * self.gamma**epoch)


class Cosine(Schedule):
    """lr = min_lr + (base_lr - min_lr) * (1 + cos(pi * epoch / T)) / 2.

    T is `epochs`, by default the length of the training. After epoch T the rate rises again, as that of torch's
    `CosineAnnealingLR` does; it is back at base_lr in epoch 2 T. Loshchilov and Hutter, "SGDR: stochastic
    gradient descent with warm restarts", 2017, without the restarts.
    """

    def __init__(self, epochs: int | None = None, min_lr: float = 0.0) -> None:
        self.epochs = None if epochs is None else count(self, "epochs", epochs)
        self.min_lr = number(self, "min_lr", min_lr)

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        progress = epoch / max(1, self.epochs or epochs)
        return self.min_lr + (base_lr - self.min_lr) * (1 + math.cos(math.pi * progress)) / 2


class CosineWarmRestarts(Schedule):
    """The fall of `Cosine` over and over: the first takes `epochs`, each later one `factor` times as long.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017.
    """

    def __init__(self, epochs: int, factor: int = 1, min_lr: float = 0.0) -> None:
        self.epochs = count(self, "epochs", epochs)
        self.factor = count(self, "factor", factor)
        self.min_lr = number(self, "min_lr", min_lr)

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        length = self.epochs
        while epoch >= length and self.factor > 1:
            epoch, length = epoch - length, length * self.factor
        return self.min_lr + (base_lr - self.min_lr) * (1 + math.cos(math.pi * (epoch % length) / length)) / 2


class Polynomial(Schedule):
    """lr = base_lr * (1 - epoch / T)^power, and 0 from epoch T on; T is `epochs`, by default the whole training."""

    def __init__(self, power: float = 1.0, epochs: int | None = None) -> None:
        self.power = number(self, "power", power)
        self.epochs = None if epochs is None else count(self, "epochs", epochs)

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        length = max(1, self.epochs or epochs)
        return float(base_lr * (1 - min(epoch, length) / length) ** self.power)


class OneCycle(Schedule):
    """A rise from base_lr / div_factor to base_lr, then a fall to base_lr / (div_factor * final_div_factor).

    Both are halves of a cosine; the rise takes the share `pct_start` of the training. Smith and Topin,
    "Super-convergence: very fast training of neural networks using large learning rates", 2018.
    """

    def __init__(self, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4) -> None:
        self.pct_start = number(self, "pct_start", pct_start, "(0, 1)")
        self.div_factor = number(self, "div_factor", div_factor, "(0, inf)")
        self.final_div_factor = number(self, "final_div_factor", final_div_factor, "(0, inf)")

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        first = base_lr / self.div_factor
        peak, last = self.pct_start * epochs - 1, epochs - 1
        if epoch <= peak:
            start, end, progress = first, base_lr, epoch / peak if peak else 1.0
        else:
            start, end = base_lr, first / self.final_div_factor
            progress = min(1.0, (epoch - max(peak, 0)) / max(last - max(peak, 0), 1e-9))
        return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


class Cyclic(Schedule):
    """lr goes from base_lr up to max_lr in step_size epochs, back in as many, and so on.

    Smith, "Cyclical learning rates for training neural networks", 2017 (triangular).
    """

    def __init__(self, max_lr: float, step_size: int) -> None:
        self.max_lr = number(self, "max_lr", max_lr)
        self.step_size = count(self, "step_size", step_size)

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        place = epoch % (2 * self.step_size) / self.step_size
        return base_lr + (self.max_lr - base_lr) * (place if place <= 1 else 2 - place)


class Warmup(Schedule):
    """A linear rise from start_factor * base_lr to base_lr, then the schedule `after`, for which epochs count from 0:

        lr = base_lr * (start_factor + (1 - start_factor) * epoch / W)        while epoch < W = `epochs`
        lr = after.lr(base_lr, epoch - W, length of the training - W)         from then on (base_lr without `after`)

    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour", 2017, section 2.2.
    """

    def __init__(self, epochs: int, start_factor: float = 1 / 3, after: Schedule | None = None) -> None:
        self.epochs = count(self, "epochs", epochs)
        self.start_factor = number(self, "start_factor", start_factor, "[0, 1]")
        self.after = after or Constant()

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        if epoch < self.epochs:
            return base_lr * (self.start_factor + (1 - self.start_factor) * epoch / self.epochs)
        return self.after.lr(base_lr, epoch - self.epochs, epochs - self.epochs)

    def observe(self, metrics: Mapping[str, float]) -> None:
        self.after.observe(metrics)

    def state(self) -> dict[str, Array]:
        return self.after.state()

    def load_state(self, state: Mapping[str, Array]) -> None:
        self.after.load_state(state)


class ReduceOnPlateau(Schedule):
    """lr = max(min_lr, base_lr * factor^n), where n grows by one after each `patience` + 1 epochs without progress.

    Progress means that `metric` became better than its best value b by more than threshold * |b|: lower, or higher for
    metrics such as accuracy (see `layerflow.training.metrics`). NaN is never progress. `observe` raises `ConfigError`
    when the metric is not among those measured.
    """

    def __init__(
        self,
        metric: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_lr: float = 0.0,
    ) -> None:
        self.metric = metric
        self.factor = number(self, "factor", factor, "(0, 1)")
        self.patience = count(self, "patience", patience, minimum=0)
        self.threshold = number(self, "threshold", threshold)
        self.min_lr = number(self, "min_lr", min_lr)
        self._sign = -1.0 if higher_is_better(metric) else 1.0
        self._best = math.inf  # of sign * metric, so that lower is always better
        self._bad_epochs = 0
        self._reductions = 0

    def lr(self, base_lr: float, epoch: int, epochs: int) -> float:
        """Return the learning rate of `epoch`; a `base_lr` below `min_lr` stays as it is."""
        return float(max(min(self.min_lr, base_lr), base_lr * self.factor**self._reductions))

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Count the epochs without progress."""
        if self.metric not in metrics:
            raise ConfigError(
                f"ReduceOnPlateau: metric {self.metric!r} is not among those measured "
                f"({', '.join(metrics) or 'none'}){did_you_mean(self.metric, metrics)}"
            )
        value = self._sign * float(metrics[self.metric])
        if value < self._best - (self.threshold * abs(self._best) if math.isfinite(self._best) else 0.0):
            self._best, self._bad_epochs = value, 0
        else:
            self._bad_epochs += 1
        if self._bad_epochs > self.patience:
            self._reductions, self._bad_epochs = self._reductions + 1, 0

    def state(self) -> dict[str, Array]:
        """Return the best value, the epochs without progress since then and the number of reductions."""
        return {
            "best": np.array(self._best),
            "bad_epochs": np.array(self._bad_epochs),
            "reductions": np.array(self._reductions),
        }

    def load_state(self, state: Mapping[str, Array]) -> None:
        super().load_state(state)
        self._best, self._bad_epochs = float(state["best"]), int(state["bad_epochs"])
        self._reductions = int(state["reductions"])


SCHEDULES: dict[str, type[Schedule]] = {
    kind.__name__: kind
    for kind in (
        *(Constant, Step, MultiStep, Exponential, Polynomial, Cosine, CosineWarmRestarts, OneCycle, Cyclic, Warmup),
        ReduceOnPlateau,
    )
}


# Checks of the numbers given to schedules, optimizers, clipping and trainers ------------------------------------------


def number(owner: object, name: str, value: object, interval: str = "[0, inf)") -> float:
    """Return `value` as a Python float when it is a number in `interval`, written like `"[0, 1)"`.

    Otherwise raises a `ConfigError` with the owner, the name, the given value and the interval. NaN and
    infinity are in no interval.
    """
    low, high = _ends(interval)
    if _is_number(value):
        x = float(value)
        above = low <= x if interval[0] == "[" else low < x
        below = x <= high if interval[-1] == "]" else x < high
        if above and below and math.isfinite(x):
            return x
    raise ConfigError(f"{_title(owner)}: {name} is {value!r}, expected a number in {interval}")


def count(owner: object, name: str, value: object, minimum: int = 1) -> int:
    """Return `value` as an int when it is an integer of at least `minimum`; raises `ConfigError` otherwise."""
    if _is_number(value) and float(value).is_integer() and float(value) >= minimum:
        return int(float(value))
    raise ConfigError(f"{_title(owner)}: {name} is {value!r}, expected an integer of at least {minimum}")


@cache
def _ends(interval: str) -> tuple[float, float]:
    low, high = interval[1:-1].split(",")
    return float(low), float(high)


def _is_number(value: object) -> TypeGuard[Real]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _title(owner: object) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__
