"""Normalisation: mean 0 and variance 1 over some axes, then a learned scale and shift.

All of these share one derivative. With z = (x - mean) / sqrt(var + eps) over m elements, g being the gradient of z,

    dL/dx = (g - mean(g) - z mean(g z)) / sqrt(var + eps),

where the second term comes from the mean and the third from the variance.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.shared import as_number
from layerflow.gates.windows import as_sizes
from layerflow.parameter import Array, Buffer, Parameter


def standardized(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """Return z = (x - mean) / sqrt(var + eps) over the axes, and 1 / sqrt(var + eps)."""
    centred = x - x.mean(axis=axes, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + eps)
    return centred * scale, scale


def through_standardized(grad: Array, z: Array, scale: Array, axes: tuple[int, ...]) -> Any:
    """Return the gradient of x for the gradient of z."""
    mean, projection = grad.mean(axis=axes, keepdims=True), (grad * z).mean(axis=axes, keepdims=True)
    return (grad - mean - z * projection) * scale


def as_eps(gate: Gate, eps: Any) -> float:
    """Return eps; it must be positive, so that constant inputs give 0 and not NaN."""
    return as_number(gate, "eps", eps, "a finite number above 0", lambda value: value > 0)


class PerChannel(Gate):
    """What gates with a scale and a shift per channel, on axis 1, share."""

    weight: Parameter | None
    bias: Parameter | None

    def _create(self, shape: Shape) -> None:
        if len(shape) < 2:
            raise GateError(f"{self!r}: input of shape {shape}, expected (batch, channels, ...)")
        if self.weight is not None and self.bias is not None:
            self.weight.create((shape[1],), np.ones)
            self.bias.create((shape[1],), np.zeros)

    def _check(self, x: Array) -> None:
        channels = None if self.weight is None else len(self.weight.value)
        if x.ndim < 2 or channels not in (None, x.shape[1]):
            raise GateError(f"{self!r}: input of shape {x.shape}, expected (batch, {channels or 'channels'}, ...)")

    def _scaled(self, z: Array) -> Array:
        if self.weight is None or self.bias is None:
            return z
        layout = (-1, *(1,) * (z.ndim - 2))
        return z * self.weight.value.reshape(layout) + self.bias.value.reshape(layout)

    def _through_scale(self, grad: Array, z: Array) -> tuple[Array, dict[str, Array]]:
        """Return the gradient of z, and those of the scale and the shift."""
        if self.weight is None:
            return grad, {}
        axes = (0, *range(2, grad.ndim))
        grads = {"weight": (grad * z).sum(axis=axes), "bias": grad.sum(axis=axes)}
        return grad * self.weight.value.reshape(-1, *(1,) * (grad.ndim - 2)), grads


class BatchNorm(PerChannel):
    """y = weight * z + bias with z = (x - mean) / sqrt(var + eps), mean and variance being those of each channel.

    While training they are taken over the batch and all positions, and their moving averages are kept, the variance
    with m - 1 for m elements; in evaluation the moving averages are used.

    Shapes: x (batch, channels, axes...) -> y of the same shape; weight, bias, running_mean, running_var (channels,).
    Local gradient: while training dL/dz = weight * g and dL/dx = (dL/dz - its mean - z * the mean of z dL/dz) /
    sqrt(var + eps); in evaluation dL/dx = weight * g / sqrt(running_var + eps). dL/dweight = the sum of g z, and
    dL/dbias = the sum of g, over batch and positions.
    Source: Ioffe and Szegedy 2015, Batch Normalization, arXiv:1502.03167.

    Args:
        momentum: the weight of the newest batch in the moving averages, 0 to 1.
        eps: is added to the variance.
        affine: whether there are a weight and a bias.

    Raises:
        GateError: a setting is out of range; x has other channels, or a single value per channel while training.
    """

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5, affine: bool = True) -> None:
        self.momentum = as_number(self, "momentum", momentum, "a number from 0 to 1", lambda value: 0 <= value <= 1)
        self.eps = as_eps(self, eps)
        self.weight = Parameter(decay=False) if affine else None
        self.bias = Parameter(decay=False) if affine else None
        self.running_mean, self.running_var = Buffer(), Buffer()

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._create(shape)
        self.running_mean.create((shape[1],), np.zeros)
        self.running_var.create((shape[1],), np.ones)
        return shape

    def forward(self, x: Any) -> Any:
        mean, var = self.running_mean.value, self.running_var.value
        if x.ndim < 2 or x.shape[1] != len(mean):
            raise GateError(f"{self!r}: input of shape {x.shape}, expected (batch, {len(mean)}, ...)")
        axes = (0, *range(2, x.ndim))
        if self.training:
            count = x.size // len(mean)
            if count < 2:
                raise GateError(
                    f"{self!r}: input of shape {x.shape} has {count} value(s) per channel, and training needs 2 or "
                    "more for a variance; use a larger batch, or LayerNorm or GroupNorm"
                )
            z, scale = standardized(x, axes, self.eps)
            batch_var = x.var(axis=axes) * (count / (count - 1))
            self.running_mean.value = (1 - self.momentum) * mean + self.momentum * x.mean(axis=axes)
            self.running_var.value = (1 - self.momentum) * var + self.momentum * batch_var
        else:
            layout = (-1, *(1,) * (x.ndim - 2))
            scale = 1 / np.sqrt(var.reshape(layout) + self.eps)
            z = (x - mean.reshape(layout)) * scale
        self.save(z, scale, self.training)
        return self._scaled(z)

    def backward(self, grad: Any) -> Gradients:
        z, scale, was_training = self.saved
        grad_z, grads = self._through_scale(grad, z)
        if not was_training:
            return (grad_z * scale,), grads
        return (through_standardized(grad_z, z, scale, (0, *range(2, grad.ndim))),), grads


class GroupNorm(PerChannel):
    """y = weight * z + bias with z = (x - mean) / sqrt(var + eps) over each sample's groups of channels.

    Shapes: x (batch, channels, axes...) -> y of the same shape; weight, bias (channels,).
    Local gradient: as of BatchNorm while training, mean and sums being those of a group of one sample.
    Source: Wu and He 2018, Group Normalization, arXiv:1803.08494.

    Args:
        num_groups: the number of groups; it divides the number of channels.
        eps: is added to the variance.
        affine: whether there are a weight and a bias.

    Raises:
        GateError: a setting is out of range; num_groups doesn't divide the channels of x, or x has other channels.
    """

    def __init__(self, num_groups: int, eps: float = 1e-5, affine: bool = True) -> None:
        as_sizes(self, "num_groups", num_groups, 1)
        self.num_groups, self.eps = num_groups, as_eps(self, eps)
        self.weight = Parameter(decay=False) if affine else None
        self.bias = Parameter(decay=False) if affine else None

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._create(shape)
        self._check_groups(shape)
        return shape

    def _check_groups(self, shape: Shape) -> None:
        if shape[1] % self.num_groups:
            raise GateError(f"{self!r}: num_groups={self.num_groups} must divide the {shape[1]} channels of the input")

    def forward(self, x: Any) -> Any:
        self._check(x)
        self._check_groups(x.shape)
        z, scale = standardized(x.reshape(len(x), self.num_groups, -1), (2,), self.eps)
        self.save(z, scale)
        return self._scaled(z.reshape(x.shape))

    def backward(self, grad: Any) -> Gradients:
        z, scale = self.saved
        grad_z, grads = self._through_scale(grad, z.reshape(grad.shape))
        return (through_standardized(grad_z.reshape(z.shape), z, scale, (2,)).reshape(grad.shape),), grads


class InstanceNorm(PerChannel):
    """y = z = (x - mean) / sqrt(var + eps) over the positions of each sample's channels, or weight * z + bias.

    Shapes: x (batch, channels, axes...) -> y of the same shape; weight, bias (channels,).
    Local gradient: as of BatchNorm while training, mean and sums being those of one channel of one sample.
    Source: Ulyanov, Vedaldi and Lempitsky 2016, Instance Normalization, arXiv:1607.08022.

    Args:
        eps: is added to the variance.
        affine: whether there are a weight and a bias.

    Raises:
        GateError: eps is not above 0; x has other channels, or a single position.
    """

    def __init__(self, eps: float = 1e-5, affine: bool = False) -> None:
        self.eps = as_eps(self, eps)
        self.weight = Parameter(decay=False) if affine else None
        self.bias = Parameter(decay=False) if affine else None

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._create(shape)
        return shape

    def forward(self, x: Any) -> Any:
        self._check(x)
        if math.prod(x.shape[2:]) < 2:
            raise GateError(f"{self!r}: input of shape {x.shape} has a single position, whose variance is 0")
        z, scale = standardized(x, tuple(range(2, x.ndim)), self.eps)
        self.save(z, scale)
        return self._scaled(z)

    def backward(self, grad: Any) -> Gradients:
        z, scale = self.saved
        grad_z, grads = self._through_scale(grad, z)
        return (through_standardized(grad_z, z, scale, tuple(range(2, grad.ndim))),), grads


class LayerNorm(Gate):
    """y = weight * z + bias with z = (x - mean) / sqrt(var + eps) over the last axes of each sample.

    Shapes: x (..., *normalized_shape) -> y of the same shape; weight, bias of normalized_shape.
    Local gradient: as of BatchNorm while training, mean and sums of dL/dx being those over the last axes.
    Source: Ba, Kiros and Hinton 2016, Layer Normalization, arXiv:1607.06450.

    Args:
        normalized_shape: the sizes of the last axes; by default the last axis alone.
        eps: is added to the variance.

    Raises:
        GateError: a setting is out of range; x doesn't end in normalized_shape.
    """

    def __init__(self, normalized_shape: int | Sequence[int] | None = None, eps: float = 1e-5) -> None:
        self.normalized_shape = as_ending(self, normalized_shape)
        self.eps = as_eps(self, eps)
        self.weight, self.bias = Parameter(decay=False), Parameter(decay=False)

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        ending = self.normalized_shape or shape[-1:]
        check_ending(self, shape, ending)
        self.weight.create(ending, np.ones)
        self.bias.create(ending, np.zeros)
        return shape

    def forward(self, x: Any) -> Any:
        weight = self.weight.value
        check_ending(self, x.shape, weight.shape)
        z, scale = standardized(x, tuple(range(-weight.ndim, 0)), self.eps)
        self.save(z, scale)
        return z * weight + self.bias.value

    def backward(self, grad: Any) -> Gradients:
        z, scale = self.saved
        weight = self.weight.value
        others = tuple(range(grad.ndim - weight.ndim))
        grads = {"weight": (grad * z).sum(axis=others), "bias": grad.sum(axis=others)}
        return (through_standardized(grad * weight, z, scale, tuple(range(-weight.ndim, 0))),), grads


class RMSNorm(Gate):
    """y = weight * z with z = x / sqrt(the mean of x^2 + eps) over the last axes of each sample.

    Shapes: x (..., *normalized_shape) -> y of the same shape; weight of normalized_shape.
    Local gradient: dL/dz = weight * g and dL/dx = (dL/dz - z * the mean of z dL/dz) / sqrt(the mean of x^2 + eps);
    dL/dweight = the sum of g z over the other axes.
    Source: Zhang and Sennrich 2019, Root Mean Square Layer Normalization, arXiv:1910.07467.

    Args:
        normalized_shape: the sizes of the last axes; by default the last axis alone.
        eps: is added to the mean of the squares.

    Raises:
        GateError: a setting is out of range; x doesn't end in normalized_shape.
    """

    def __init__(self, normalized_shape: int | Sequence[int] | None = None, eps: float = 1e-5) -> None:
        self.normalized_shape = as_ending(self, normalized_shape)
        self.eps = as_eps(self, eps)
        self.weight = Parameter(decay=False)

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        ending = self.normalized_shape or shape[-1:]
        check_ending(self, shape, ending)
        self.weight.create(ending, np.ones)
        return shape

    def forward(self, x: Any) -> Any:
        weight = self.weight.value
        check_ending(self, x.shape, weight.shape)
        scale = 1 / np.sqrt((x * x).mean(axis=tuple(range(-weight.ndim, 0)), keepdims=True) + self.eps)
        z = x * scale
        self.save(z, scale)
        return z * weight

    def backward(self, grad: Any) -> Gradients:
        z, scale = self.saved
        weight = self.weight.value
        grad_z = grad * weight
        projection = (grad_z * z).mean(axis=tuple(range(-weight.ndim, 0)), keepdims=True)
        grads = {"weight": (grad * z).sum(axis=tuple(range(grad.ndim - weight.ndim)))}
        return ((grad_z - z * projection) * scale,), grads


def as_ending(gate: Gate, normalized_shape: Any) -> tuple[int, ...] | None:
    """Return the sizes of the last axes, or None for the last axis alone."""
    if normalized_shape is None:
        return None
    count = len(normalized_shape) if isinstance(normalized_shape, tuple | list) else 1
    if count == 0:
        raise GateError(
            f"{gate!r}: normalized_shape must be an integer or a list of integers, not {normalized_shape!r}"
        )
    return as_sizes(gate, "normalized_shape", normalized_shape, count)


def check_ending(gate: Gate, shape: Shape, ending: tuple[int, ...]) -> None:
    """Raise GateError unless the shape ends so, with at least one element to normalise."""
    if not ending or shape[len(shape) - len(ending) :] != ending or 0 in ending or len(shape) < len(ending):
        wanted = ", ".join(map(str, ending)) if ending and 0 not in ending else "features"
        raise GateError(f"{gate!r}: input of shape {shape}, expected (..., {wanted})")
