"""The rounding noise of a computation, measured: how far do its results jitter when its inputs move a little?

A smooth function's k-th differences vanish with the k-th power of the spacing; what is left is the rounding of every
intermediate value. sigma_k^2 = (k!)^2 / (2k)! * (the mean of their squares) estimates the variance of that noise
(Moré & Wild 2011, "Estimating Computational Noise", SIAM J. Sci. Comput. 33). Rounding that the output alone does not
show is seen this way: `tanh(x) + 1e6 - 1e6` is good to 1e-10 only, and `p - 1` in a confident softmax to 1e-16.
"""

import math
from dataclasses import dataclass

import numpy as np

from layerflow.gradcheck.subject import Subject, Tensor, typical
from layerflow.parameter import Array

POINTS = 17
ORDERS = (3, 4, 5)
SPACINGS = (2.0**-26, 2.0**-14, 2.0**-6)  # relative to the values; wider where a result moves in a few jumps
SAMPLED = 12  # different values among the points, from which on the jitter shows
MARGIN = 2.0  # few points estimate a standard deviation to about this factor


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the rounding noise.

    Attributes:
        output: per element of the flat output.
        gradients: per element of what `backward` returns, by tensor name.
    """

    output: Array
    gradients: dict[str, Array]


def measure_noise(subject: Subject, upstream: list[Array]) -> Noise:
    """Move inputs, parameters and upstream gradients along one random line and see what does not change smoothly."""
    rng = np.random.default_rng(POINTS)  # the subject's own draws the sample of elements, which must not depend on this
    moved = [(tensor, tensor.value.copy(), _move(tensor, rng)) for tensor in subject.tensors]
    turn = [np.asarray(g * rng.uniform(-1.0, 1.0, g.shape)) for g in upstream]
    shapes = {"": np.zeros(subject.run().shape)} | {
        tensor.name: np.zeros(tensor.value.shape) for tensor in subject.tensors
    }
    found, is_open = shapes, {name: np.ones(zeros.shape, dtype=bool) for name, zeros in shapes.items()}
    try:
        for level, spacing in enumerate(SPACINGS):
            if not any(np.any(still) for still in is_open.values()):
                break
            samples: dict[str, list[Array]] = {}
            for point in range(1, POINTS + 1):  # on one side of the point, which may be a kink
                t = spacing * point / POINTS
                for tensor, value, move in moved:
                    tensor.value[...] = value + t * move
                for name, value in _results(subject, [g + t * d for g, d in zip(upstream, turn, strict=True)]).items():
                    samples.setdefault(name, []).append(value)
            for name, values in samples.items():
                table = np.array(values)
                spread, ordered = MARGIN * deviation(table), np.sort(table, axis=0)
                found[name] = np.where(is_open[name], np.maximum(found[name], spread), found[name])
                if level > 0:  # one spacing alone may happen to meet the grid of rounded numbers
                    is_open[name] &= 1 + np.sum(ordered[1:] != ordered[:-1], axis=0) < SAMPLED
    except Exception:  # the gate may refuse points nearby; what it computes there is then not known to be noisy
        pass
    finally:
        for tensor, value, _ in moved:
            tensor.value[...] = value
    return Noise(found.pop(""), found)


def _results(subject: Subject, upstream: list[Array]) -> dict[str, Array]:
    """The flat output, under the empty name, and the gradients by tensor."""
    output = subject.run()
    subject.forward()
    grads = subject.backward(upstream)
    return {"": output} | {name: np.array(grad, np.float64) for name, grad in grads.items() if grad is not None}


def deviation(table: Array) -> Array:
    """The standard deviation of the noise in values at equal distances (rows), per column.

    0 where even the highest differences keep their sign: they are then still those of a smooth function, taken too far
    apart. The smallest over several orders counts, for each holds the noise and a rest of the smooth part; and medians,
    for a kink among the points spoils as many differences as the order says.
    """
    with np.errstate(all="ignore"):
        differences, found = table, []
        for order in range(1, ORDERS[-1] + 1):
            differences = np.diff(differences, axis=0)
            if order in ORDERS:
                gamma = math.factorial(order) ** 2 / math.factorial(2 * order)
                median = np.sort(np.abs(differences), axis=0)[len(differences) // 2]
                found.append(1.4826 * np.sqrt(gamma) * median)
        is_noise = (np.min(differences, axis=0) <= 0.0) & (np.max(differences, axis=0) >= 0.0)
        spread = np.where(is_noise, np.min(found, axis=0), 0.0)
        return np.nan_to_num(np.maximum(spread, _grid(table) / 2.0), nan=0.0, posinf=0.0)


def _grid(table: Array) -> Array:
    """The last digit in use, per column: 1.2e-7 after `+ 1e9 - 1e9`; 0 where nothing varies."""
    mantissa, exponent = np.frexp(table)
    digits = (mantissa * 2.0**53).astype(np.int64)
    last = np.where(table == 0.0, np.inf, np.ldexp((digits & -digits).astype(np.float64), exponent - 53))
    return np.where(np.ptp(table, axis=0) > 0.0, np.min(last, axis=0), 0.0)


def _move(tensor: Tensor, rng: np.random.Generator) -> Array:
    """A random move by about the size of each element, away from 0; small elements move by part of a typical one."""
    sizes = np.maximum(np.abs(tensor.value), typical(tensor.value) / 16.0)
    return np.asarray(np.where(tensor.value < 0.0, -sizes, sizes) * rng.uniform(0.5, 1.0, sizes.shape))
