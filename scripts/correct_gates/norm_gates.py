"""Normalisation and centring: gradients that cancel to rounding residues."""

import numpy as np
from collection import correct

import layerflow as lf


class CenterBatch(lf.Gate):
    def __init__(self, axis=0):
        self.axis = axis

    def forward(self, x):
        self.save()
        return x - x.mean(axis=self.axis, keepdims=True)

    def backward(self, grad):
        return (grad - grad.mean(axis=self.axis, keepdims=True),), {}


class Normalise(lf.Gate):
    """Zero mean and unit variance over the given axes, then gamma and beta per entry of the last axis."""

    def __init__(self, axes, width, eps=1e-5):
        self.axes, self.eps = axes, eps
        self.gamma, self.beta = lf.Parameter(np.ones(width)), lf.Parameter(np.zeros(width))

    def forward(self, x):
        centred = x - x.mean(axis=self.axes, keepdims=True)
        std = np.sqrt(np.mean(centred**2, axis=self.axes, keepdims=True) + self.eps)
        z = centred / std
        self.save(z, std)
        return self.gamma.value * z + self.beta.value

    def backward(self, grad):
        z, std = self.saved
        rest = tuple(range(z.ndim - 1))
        grads = {"gamma": np.sum(grad * z, axis=rest), "beta": np.sum(grad, axis=rest)}
        g = grad * self.gamma.value
        dx = g - g.mean(axis=self.axes, keepdims=True) - z * np.mean(g * z, axis=self.axes, keepdims=True)
        return (dx / std,), grads


class BatchNormRunning(lf.Gate):
    """Batch statistics in training, running ones in evaluation."""

    def __init__(self, width):
        self.mean, self.var = lf.Buffer(np.zeros(width)), lf.Buffer(np.ones(width))

    def forward(self, x):
        if self.training:
            mean, var = x.mean(axis=0), x.var(axis=0)
            self.mean.value = 0.9 * self.mean.value + 0.1 * mean
            self.var.value = 0.9 * self.var.value + 0.1 * var
        else:
            mean, var = self.mean.value, self.var.value
        inverse = 1 / np.sqrt(var + 1e-5)
        z = (x - mean) * inverse
        self.save(z, inverse, self.training)
        return z

    def backward(self, grad):
        z, inverse, training = self.saved
        if not training:
            return (grad * inverse,), {}
        n = len(z)
        return (inverse / n * (n * grad - grad.sum(axis=0) - z * np.sum(grad * z, axis=0)),), {}


class RMSNormalise(lf.Gate):
    def __init__(self, width):
        self.gain = lf.Parameter(np.ones(width))

    def forward(self, x):
        root = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)
        self.save(x, root)
        return self.gain.value * x / root

    def backward(self, grad):
        x, root = self.saved
        g = grad * self.gain.value
        dx = g / root - x * np.mean(g * x, axis=-1, keepdims=True) / root**3
        return (dx,), {"gain": np.sum(grad * x / root, axis=tuple(range(x.ndim - 1)))}


class GroupNormalise(lf.Gate):
    def __init__(self, groups):
        self.groups = groups

    def forward(self, x):
        batch = len(x)
        xs = x.reshape(batch, self.groups, -1)
        mean, var = xs.mean(axis=2, keepdims=True), xs.var(axis=2, keepdims=True)
        z = (xs - mean) / np.sqrt(var + 1e-5)
        self.save(z, var)
        return z.reshape(x.shape)

    def backward(self, grad):
        z, var = self.saved
        g = grad.reshape(z.shape)
        dx = g - g.mean(axis=2, keepdims=True) - z * np.mean(g * z, axis=2, keepdims=True)
        return ((dx / np.sqrt(var + 1e-5)).reshape(grad.shape),), {}


class UnitLength(lf.Gate):
    def forward(self, x):
        norm = np.linalg.norm(x, axis=-1, keepdims=True)
        self.save(x / norm, norm)
        return x / norm

    def backward(self, grad):
        y, norm = self.saved
        return ((grad - y * np.sum(grad * y, axis=-1, keepdims=True)) / norm,), {}


class MinMax(lf.Gate):
    """(x - min) / (max - min) per column."""

    def forward(self, x):
        low, high = x.argmin(axis=0), x.argmax(axis=0)
        width = x.max(axis=0) - x.min(axis=0)
        y = (x - x.min(axis=0)) / width
        self.save(y, low, high, width)
        return y

    def backward(self, grad):
        y, low, high, width = self.saved
        dx = grad / width
        columns = np.arange(y.shape[1])
        dwidth = -np.sum(grad * y, axis=0) / width
        dx[low, columns] -= grad.sum(axis=0) / width + dwidth
        dx[high, columns] += dwidth
        return (dx,), {}


class WeightNorm(lf.Gate):
    """x W with W = g v / |v|, per output."""

    def __init__(self, width, out, rng):
        self.v, self.g = lf.Parameter(rng.normal(size=(width, out))), lf.Parameter(np.ones(out))

    def forward(self, x):
        norm = np.sqrt(np.sum(self.v.value**2, axis=0))
        self.save(x, norm)
        return x @ (self.g.value * self.v.value / norm)

    def backward(self, grad):
        x, norm = self.saved
        unit = self.v.value / norm
        dw = x.T @ grad
        dg = np.sum(dw * unit, axis=0)
        return (grad @ (self.g.value * unit).T,), {"g": dg, "v": self.g.value / norm * (dw - unit * dg)}


@correct("linear, then centring over the batch")
def _a(rng):
    return lf.Sequential(lf.Linear(4), CenterBatch()), rng.normal(size=(6, 3))


@correct("centring over the features")
def _b(rng):
    return CenterBatch(axis=1), rng.normal(size=(5, 4))


@correct("batch norm")
def _c(rng):
    return Normalise(0, 4), rng.normal(size=(8, 4))


@correct("layer norm")
def _d(rng):
    return Normalise(-1, 6), rng.normal(size=(4, 6))


@correct("layer norm of sequences")
def _e(rng):
    return Normalise(-1, 5), rng.normal(size=(2, 3, 5))


@correct("instance norm, channels last")
def _f(rng):
    return Normalise((1, 2), 2), rng.normal(size=(2, 3, 4, 2))


@correct("linear with bias, then batch norm")
def _g(rng):
    return lf.Sequential(lf.Linear(4), Normalise(0, 4), lf.Tanh()), rng.normal(size=(8, 3))


@correct("batch norm with running statistics")
def _h(rng):
    return BatchNormRunning(4), rng.normal(size=(8, 4))


@correct("batch norm in evaluation")
def _i(rng):
    gate = BatchNormRunning(4)
    gate.training = False
    return gate, rng.normal(size=(8, 4))


@correct("batch norm of data far from zero")
def _j(rng):
    return Normalise(0, 3), 1e4 + rng.normal(size=(6, 3))


@correct("RMS norm")
def _k(rng):
    return RMSNormalise(5), rng.normal(size=(4, 5))


@correct("group norm")
def _l(rng):
    return GroupNormalise(2), rng.normal(size=(2, 4, 3, 3))


@correct("rows of unit length")
def _m(rng):
    return UnitLength(), rng.normal(size=(4, 5))


@correct("min-max scaling")
def _n(rng):
    return MinMax(), rng.normal(size=(6, 3))


@correct("weight normalisation")
def _o(rng):
    return WeightNorm(4, 3, rng), rng.normal(size=(5, 4))


@correct("layer norm of tiny values")
def _p(rng):
    return Normalise(-1, 5, eps=1e-30), 1e-12 * rng.normal(size=(4, 5))
