"""Averages of the weights over the steps or epochs of a training, which are often better than the last ones."""

from abc import ABC, abstractmethod

from layerflow.parameter import Array
from layerflow.training.schedules import number


class Averaging(ABC):
    """Keeps an average of the weights; validation, the best epoch and the final model use it in their place.

    Buffers, such as the running statistics of `BatchNorm`, are not averaged.
    """

    def after_step(self, average: Array, values: Array, count: int) -> int:
        """Take in the weights after a step, in place; return how many weights the average is of."""
        return count

    def after_epoch(self, average: Array, values: Array, count: int, epoch: int, epochs: int) -> int:
        """Take in the weights after an epoch, counted from 1, of `epochs`; return as `after_step` does."""
        return count

    @abstractmethod
    def __repr__(self) -> str: ...


class EMA(Averaging):
    """An exponential moving average over the steps: a = decay a + (1 - decay) w, from a = w after the first step.

    Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging", with exponential weights.

    Args:
        decay: how much of the average is kept at each step, from 0 to below 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = number(self, "decay", decay, "[0, 1)")

    def after_step(self, average: Array, values: Array, count: int) -> int:
        if count == 0:
            average[...] = values
        else:
            average += (values - average) * (1.0 - self.decay)
        return count + 1

    def __repr__(self) -> str:
        return f"EMA(decay={self.decay})"


class SWA(Averaging):
    """The mean of the weights at the ends of the last epochs.

    Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization".

    Args:
        start: the part of the epochs after which it begins, from 0 to below 1.
    """

    def __init__(self, start: float = 0.75) -> None:
        self.start = number(self, "start", start, "[0, 1)")

    def after_epoch(self, average: Array, values: Array, count: int, epoch: int, epochs: int) -> int:
        if epoch <= self.start * epochs:
            return count
        average += (values - average) / (count + 1)
        return count + 1

    def __repr__(self) -> str:
        return f"SWA(start={self.start})"


AVERAGINGS: dict[str, type[Averaging]] = {"EMA": EMA, "SWA": SWA}
