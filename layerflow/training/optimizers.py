"""The built-in optimizers. In the formulas w are the parameters, g their gradient, t is the step's number, from 1."""

from collections.abc import Sequence

import numpy as np

from layerflow.errors import ConfigError
from layerflow.parameter import Array
from layerflow.training.hyperparameters import number
from layerflow.training.optimizer import Optimizer

__all__ = ["OPTIMIZERS", "SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop"]


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
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.momentum = number(self, "momentum", momentum)
        self.dampening = number(self, "dampening", dampening)
        self.nesterov = nesterov
        self.weight_decay = number(self, "weight_decay", weight_decay)
        if nesterov and not (self.momentum > 0 and self.dampening == 0):
            raise ConfigError(f"SGD: nesterov needs momentum > 0 and dampening 0, got {momentum!r} and {dampening!r}")

    def update(self, values: Array, grads: Array) -> None:
        """One step, see the class."""
        if self.momentum:
            velocity = self.slot("velocity")
            velocity *= self.momentum
            velocity += grads if self.steps == 1 else (1 - self.dampening) * grads
            grads = grads + self.momentum * velocity if self.nesterov else velocity
        values -= self.lr * grads


class Adam(Optimizer, elementwise=True):
    """Adaptive moments:

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        w = w - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ConfigError(f"{type(self).__name__}: betas is {betas!r}, expected two numbers, such as [0.9, 0.999]")
        self.lr = number(self, "lr", lr)
        self.betas = (number(self, "betas[0]", betas[0], "[0, 1)"), number(self, "betas[1]", betas[1], "[0, 1)"))
        self.eps = number(self, "eps", eps)
        self.weight_decay = number(self, "weight_decay", weight_decay)

    def update(self, values: Array, grads: Array) -> None:
        """One step, see the class."""
        (beta1, beta2), t = self.betas, self.steps
        m, v = self.slot("first_moment"), self.slot("second_moment")
        m += (1 - beta1) * (grads - m)
        v *= beta2
        v += (1 - beta2) * grads * grads
        values -= self.lr / (1 - beta1**t) * m / (np.sqrt(v / (1 - beta2**t)) + self.eps)


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
    ) -> None:
        super().__init__(lr, betas, eps, weight_decay)

    def decay(self, values: Array, grads: Array, size: int) -> Array:
        """Shrink the values themselves and leave the gradient alone."""
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
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.alpha = number(self, "alpha", alpha, "[0, 1]")
        self.eps = number(self, "eps", eps)
        self.weight_decay = number(self, "weight_decay", weight_decay)
        self.momentum = number(self, "momentum", momentum)
        self.centered = centered

    def update(self, values: Array, grads: Array) -> None:
        """One step, see the class."""
        square = self.slot("square_average")
        square *= self.alpha
        square += (1 - self.alpha) * grads * grads
        if self.centered:
            average = self.slot("gradient_average")
            average += (1 - self.alpha) * (grads - average)
            # a variance: rounding alone can make it negative, when the gradient hardly changes
            square = np.maximum(square - average * average, 0)
        delta = grads / (np.sqrt(square) + self.eps)
        if self.momentum:
            buffer = self.slot("momentum_buffer")
            buffer *= self.momentum
            buffer += delta
            delta = buffer
        values -= self.lr * delta


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
    ) -> None:
        self.lr = number(self, "lr", lr)
        self.lr_decay = number(self, "lr_decay", lr_decay)
        self.weight_decay = number(self, "weight_decay", weight_decay)
        self.eps = number(self, "eps", eps)
        self.initial_accumulator_value = number(self, "initial_accumulator_value", initial_accumulator_value)

    def update(self, values: Array, grads: Array) -> None:
        """One step, see the class."""
        total = self.slot("square_sum", self.initial_accumulator_value)
        total += grads * grads
        values -= self.lr / (1 + (self.steps - 1) * self.lr_decay) * grads / (np.sqrt(total) + self.eps)


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.__name__: kind for kind in (SGD, Adam, AdamW, RMSprop, Adagrad)}
