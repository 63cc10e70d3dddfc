"""Relatives of Adam: optimizers that scale every parameter's step by the size of its own gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.parameter import Array
from layerflow.training.groups import grouped
from layerflow.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from layerflow.training.quasi_newton import LBFGS
from layerflow.training.schedules import number


class NAdam(Adam, elementwise=True):
    """Adam with Nesterov's look ahead, and momenta mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2):

        m = beta1 * m + (1 - beta1) * g,  v = beta2 * v + (1 - beta2) * g^2
        d = (1 - mu_t) / (1 - mu_1 ... mu_t) * g + mu_(t+1) / (1 - mu_1 ... mu_(t+1)) * m
        w = w - lr * d / (sqrt(v / (1 - beta2^t)) + eps)

    Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """

    def __init__(
        self,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.momentum_decay = number(self, "momentum_decay", momentum_decay)
        super().__init__(lr, betas, eps, weight_decay, groups=groups)

    def _momentum(self, t: int) -> float:
        momentum: float = self.betas[0] * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))
        return momentum

    def update(self, values: Array, grads: Array) -> None:
        (_, beta2), t = self.betas, self.steps
        present, following = self._momentum(t), self._momentum(t + 1)
        product, rest = self.slot("product", 1.0), self.scratch("rest")
        product *= present
        m, v, change, size = *self.moments(grads), self.scratch("size")
        np.divide(v, 1 - beta2**t, out=size)
        np.sqrt(size, out=size)
        size += self.eps
        for gradient, momentum, further in ((m, following, following), (grads, 1 - present, 1.0)):
            np.multiply(product, -further, out=rest)
            rest += 1
            rest *= size
            np.multiply(gradient, self.lr * momentum, out=change)
            change /= rest
            values -= change


class RAdam(Adam, elementwise=True):
    """Adam that waits with the division until the variance of its sizes is bounded, and rectifies it from then on:

        n = 2 / (1 - beta2) - 1,  n_t = n - 2 * t * beta2^t / (1 - beta2^t)
        r = sqrt((n_t - 4) * (n_t - 2) * n / ((n - 4) * (n - 2) * n_t))
        w = w - lr * r * m / (1 - beta1^t) * sqrt(1 - beta2^t) / (sqrt(v) + eps)     (n_t > 5)
        w = w - lr * m / (1 - beta1^t)                                               (else)

    Liu et al., "On the variance of the adaptive learning rate and beyond", 2020, algorithm 2.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay, groups=groups)

    def update(self, values: Array, grads: Array) -> None:
        (beta1, beta2), t = self.betas, self.steps
        m, v, change = self.moments(grads)
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * t * beta2**t / (1 - beta2**t)
        rate = self.lr / (1 - beta1**t)
        if length > 5:
            np.sqrt(v, out=change)
            change += self.eps
            np.divide(m, change, out=change)
            square = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
            change *= rate * np.sqrt(square * (1 - beta2**t))
        else:
            np.multiply(m, rate, out=change)
        values -= change


class Adamax(Adam, elementwise=True):
    """Adam with the largest gradient in place of the root of the mean square:

        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, |g| + eps)
        w = w - lr / (1 - beta1^t) * m / u

    Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 2.
    """

    def __init__(
        self,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(lr, betas, number(self, "eps", eps, "(0, inf)"), weight_decay, groups=groups)

    def update(self, values: Array, grads: Array) -> None:
        beta1, beta2 = self.betas
        m, largest, change = self.slot("first_moment"), self.slot("largest"), self.scratch("change")
        np.subtract(grads, m, out=change)
        change *= 1 - beta1
        m += change
        np.abs(grads, out=change)
        change += self.eps
        largest *= beta2
        np.maximum(largest, change, out=largest)
        np.divide(m, largest, out=change)
        change *= self.lr / (1 - beta1**self.steps)
        values -= change


class Adagrad(Optimizer, elementwise=True):
    """The gradient divided by the size of all gradients so far:

        s = s + g^2                                   (from initial_accumulator_value)
        w = w - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011.
    """

    def __init__(
        self,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        eps: float = 1e-10,
        initial_accumulator_value: float = 0.0,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.lr_decay = number(self, "lr_decay", lr_decay)
        self.weight_decay = number(self, "weight_decay", weight_decay)
        self.eps = number(self, "eps", eps)
        self.initial_accumulator_value = number(self, "initial_accumulator_value", initial_accumulator_value)
        self.groups = grouped(self, groups)

    def update(self, values: Array, grads: Array) -> None:
        total, change = self.slot("square_sum", self.initial_accumulator_value), self.scratch("change")
        total += np.multiply(grads, grads, out=change)
        np.sqrt(total, out=change)
        change += self.eps
        np.divide(grads, change, out=change)
        change *= self.lr / (1 + (self.steps - 1) * self.lr_decay)
        values -= change


class Adadelta(Optimizer, elementwise=True):
    """Steps as large as the former steps, in units of the parameters:

        s = rho * s + (1 - rho) * g^2
        d = sqrt(a + eps) / sqrt(s + eps) * g
        a = rho * a + (1 - rho) * d^2
        w = w - lr * d

    Zeiler, "ADADELTA: an adaptive learning rate method", 2012, algorithm 1.
    """

    def __init__(
        self,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.rho = number(self, "rho", rho, "[0, 1]")
        self.eps = number(self, "eps", eps, "(0, inf)")
        self.weight_decay = number(self, "weight_decay", weight_decay)
        self.groups = grouped(self, groups)

    def update(self, values: Array, grads: Array) -> None:
        squares, changes = self.slot("square_average"), self.slot("change_average")
        change, size = self.scratch("change"), self.scratch("size")
        _average(squares, grads, self.rho, size)
        np.add(changes, self.eps, out=change)
        np.add(squares, self.eps, out=size)
        change /= size
        np.sqrt(change, out=change)
        change *= grads
        _average(changes, change, self.rho, size)
        change *= self.lr
        values -= change


def _average(average: Array, of: Array, rho: float, scratch: Array) -> None:
    """Move a running average of squares on, in place."""
    np.multiply(of, of, out=scratch)
    scratch *= 1 - rho
    average *= rho
    average += scratch


class Lion(AdamW, elementwise=True):
    """The sign of a momentum, and decoupled weight decay as in AdamW:

        w = w - lr * sign(beta1 * m + (1 - beta1) * g)
        m = beta2 * m + (1 - beta2) * g

    Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2.
    """

    def __init__(
        self,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        groups: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(lr, betas, weight_decay=weight_decay, groups=groups)

    def update(self, values: Array, grads: Array) -> None:
        (beta1, beta2), m, change = self.betas, self.slot("first_moment"), self.scratch("change")
        np.subtract(grads, m, out=change)
        change *= 1 - beta1
        change += m
        np.sign(change, out=change)
        change *= self.lr
        values -= change
        np.subtract(grads, m, out=change)
        change *= 1 - beta2
        m += change


OPTIMIZERS: dict[str, type[Optimizer]] = {
    kind.__name__: kind for kind in (SGD, Adam, AdamW, NAdam, RAdam, Adamax, Lion, RMSprop, Adagrad, Adadelta, LBFGS)
}
