"""Convolution and pooling, by im2col, by loops and by strides."""

import numpy as np
from collection import correct

import layerflow as lf


def im2col(x, size, stride):
    batch, channels, height, width = x.shape
    out_h, out_w = (height - size) // stride + 1, (width - size) // stride + 1
    cols = np.empty((batch, channels, size, size, out_h, out_w))
    for i in range(size):
        for j in range(size):
            cols[:, :, i, j] = x[:, :, i : i + stride * out_h : stride, j : j + stride * out_w : stride]
    return cols


def col2im(cols, shape, stride):
    x = np.zeros(shape)
    size, out_h, out_w = cols.shape[2], *cols.shape[4:]
    for i in range(size):
        for j in range(size):
            x[:, :, i : i + stride * out_h : stride, j : j + stride * out_w : stride] += cols[:, :, i, j]
    return x


class Conv(lf.Gate):
    def __init__(self, channels, out, size, rng, stride=1, padding=0):
        self.size, self.stride, self.padding = size, stride, padding
        self.kernel = lf.Parameter(rng.normal(size=(out, channels, size, size)) / size)
        self.bias = lf.Parameter(np.zeros(out))

    def forward(self, x):
        padded = np.pad(x, [(0, 0), (0, 0), *[(self.padding, self.padding)] * 2])
        cols = im2col(padded, self.size, self.stride)
        self.save(cols, padded.shape)
        return np.einsum("ocij,bcijhw->bohw", self.kernel.value, cols) + self.bias.value[:, None, None]

    def backward(self, grad):
        cols, shape = self.saved
        grads = {"kernel": np.einsum("bohw,bcijhw->ocij", grad, cols), "bias": grad.sum(axis=(0, 2, 3))}
        dx = col2im(np.einsum("ocij,bohw->bcijhw", self.kernel.value, grad), shape, self.stride)
        inner = slice(self.padding, -self.padding or None)
        return (dx[:, :, inner, inner],), grads


class Conv1dByStrides(lf.Gate):
    def __init__(self, size, rng):
        self.kernel = lf.Parameter(rng.normal(size=size))

    def forward(self, x):
        windows = np.lib.stride_tricks.sliding_window_view(x, len(self.kernel.value), axis=-1)
        self.save(windows, x.shape)
        return windows @ self.kernel.value

    def backward(self, grad):
        windows, shape = self.saved
        dx = np.zeros(shape)
        for i, weight in enumerate(self.kernel.value):
            dx[..., i : i + grad.shape[-1]] += weight * grad
        return (dx,), {"kernel": np.einsum("bt,bti->i", grad, windows)}


class Depthwise(lf.Gate):
    def __init__(self, channels, rng):
        self.kernel = lf.Parameter(rng.normal(size=(channels, 3, 3)))

    def forward(self, x):
        cols = im2col(x, 3, 1)
        self.save(cols, x.shape)
        return np.einsum("cij,bcijhw->bchw", self.kernel.value, cols)

    def backward(self, grad):
        cols, shape = self.saved
        dx = col2im(np.einsum("cij,bchw->bcijhw", self.kernel.value, grad), shape, 1)
        return (dx,), {"kernel": np.einsum("bchw,bcijhw->cij", grad, cols)}


class TransposedConv(lf.Gate):
    """The backward of a convolution with stride 2, as a forward."""

    def __init__(self, channels, out, rng):
        self.kernel = lf.Parameter(rng.normal(size=(channels, out, 3, 3)))

    def forward(self, x):
        self.save(x)
        batch, _, height, width = x.shape
        shape = (batch, self.kernel.value.shape[1], 2 * height + 1, 2 * width + 1)
        return col2im(np.einsum("bchw,coij->boijhw", x, self.kernel.value), shape, 2)

    def backward(self, grad):
        (x,) = self.saved
        cols = im2col(grad, 3, 2)
        dx = np.einsum("boijhw,coij->bchw", cols, self.kernel.value)
        return (dx,), {"kernel": np.einsum("bchw,boijhw->coij", x, cols)}


class MaxPool(lf.Gate):
    def __init__(self, size, stride):
        self.size, self.stride = size, stride

    def forward(self, x):
        cols = im2col(x, self.size, self.stride)
        rows = cols.reshape(*cols.shape[:2], -1, *cols.shape[4:])
        best = rows.argmax(axis=2)[:, :, None]
        self.save(best, cols.shape, x.shape)
        return np.take_along_axis(rows, best, axis=2)[:, :, 0]

    def backward(self, grad):
        best, cols_shape, shape = self.saved
        rows = np.zeros((*cols_shape[:2], self.size**2, *cols_shape[4:]))
        np.put_along_axis(rows, best, grad[:, :, None], axis=2)
        return (col2im(rows.reshape(cols_shape), shape, self.stride),), {}


class AveragePool(lf.Gate):
    def __init__(self, size, stride):
        self.size, self.stride = size, stride

    def forward(self, x):
        self.save(x.shape)
        return im2col(x, self.size, self.stride).mean(axis=(2, 3))

    def backward(self, grad):
        (shape,) = self.saved
        each = grad[:, :, None, None] / self.size**2
        cols = np.broadcast_to(each, (*grad.shape[:2], self.size, self.size, *grad.shape[2:]))
        return (col2im(cols, shape, self.stride),), {}


class GlobalMaxPool(lf.Gate):
    def forward(self, x):
        y = x.max(axis=(2, 3))
        self.save(x == y[:, :, None, None])
        return y

    def backward(self, grad):
        (mask,) = self.saved
        return (mask * grad[:, :, None, None],), {}


class LogSumExpPool(lf.Gate):
    def forward(self, x):
        high = x.max(axis=(2, 3), keepdims=True)
        e = np.exp(x - high)
        total = e.sum(axis=(2, 3), keepdims=True)
        self.save(e / total)
        return (np.log(total) + high)[:, :, 0, 0]

    def backward(self, grad):
        return (self.saved[0] * grad[:, :, None, None],), {}


class Nearest(lf.Gate):
    def forward(self, x):
        self.save(x.shape)
        return x.repeat(2, axis=2).repeat(2, axis=3)

    def backward(self, grad):
        batch, channels, height, width = self.saved[0]
        return (grad.reshape(batch, channels, height, 2, width, 2).sum(axis=(3, 5)),), {}


def image(rng, channels=2, size=5):
    return rng.normal(size=(2, channels, size, size))


@correct("convolution by im2col")
def _a(rng):
    return Conv(2, 3, 3, rng), image(rng)


@correct("convolution with stride and padding")
def _b(rng):
    return Conv(2, 2, 3, rng, stride=2, padding=1), image(rng)


@correct("convolution of one dimension")
def _c(rng):
    return Conv1dByStrides(3, rng), rng.normal(size=(3, 8))


@correct("depthwise convolution")
def _d(rng):
    return Depthwise(2, rng), image(rng)


@correct("transposed convolution")
def _e(rng):
    return TransposedConv(2, 3, rng), image(rng, size=3)


@correct("max pooling")
def _f(rng):
    return MaxPool(2, 2), image(rng, size=4)


@correct("max pooling, overlapping")
def _g(rng):
    return MaxPool(3, 1), image(rng)


@correct("average pooling, overlapping")
def _h(rng):
    return AveragePool(3, 2), image(rng)


@correct("global max pooling")
def _i(rng):
    return GlobalMaxPool(), image(rng)


@correct("log-sum-exp pooling")
def _j(rng):
    return LogSumExpPool(), 8.0 * image(rng)


@correct("nearest-neighbour upsampling")
def _k(rng):
    return Nearest(), image(rng, size=3)


@correct("a small convolutional network")
def _l(rng):
    return lf.Sequential(Conv(1, 2, 3, rng), lf.ReLU(), MaxPool(2, 1), lf.Flatten(), lf.Linear(3)), image(rng, 1, 6)
