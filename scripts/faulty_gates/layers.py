"""Layers with parameters, normalisations and reorderings, as students get them wrong."""

import numpy as np
from registry import fault, normal

import layerflow as lf


class Affine(lf.Gate):
    """Right; the faulty ones change one line."""

    def __init__(self, out=4, width=4):
        rng = np.random.default_rng(5)
        self.weight = lf.Parameter(rng.normal(size=(out, width)))
        self.bias = lf.Parameter(rng.normal(size=out))

    def forward(self, x):
        self.save(x)
        return x @ self.weight.value.T + self.bias.value

    def dx(self, grad, x):
        return grad @ self.weight.value

    def dweight(self, grad, x):
        return grad.T @ x

    def dbias(self, grad):
        return grad.sum(axis=0)

    def backward(self, grad):
        (x,) = self.saved
        return (self.dx(grad, x),), {"weight": self.dweight(grad, x), "bias": self.dbias(grad)}


SQUARE, WIDE = normal(4, 4), normal(6, 4)


def wide(cls):
    return cls(out=3)


@fault("affine: x.T @ grad", "transposed", inputs=WIDE)
class WeightTransposed(Affine):
    def dweight(self, grad, x):
        return x.T @ grad


@fault("affine: grad @ W.T", "W for W.T", inputs=WIDE)
class InputTransposed(Affine):
    def dx(self, grad, x):
        return grad @ self.weight.value.T


@fault("affine: grad unchanged", "local derivative missing", inputs=WIDE)
class InputUnchanged(Affine):
    def dx(self, grad, x):
        return grad


@fault("affine: dx ignores grad", "upstream gradient ignored", inputs=WIDE, gate=wide)
class InputNoGrad(Affine):
    def dx(self, grad, x):
        return np.ones_like(grad) @ self.weight.value


@fault("affine: sign of dx", "sign", inputs=WIDE, gate=wide)
class InputSign(Affine):
    def dx(self, grad, x):
        return -grad @ self.weight.value


@fault("affine: mean for sum in dW", "factor 1/N", inputs=WIDE, gate=wide)
class WeightMean(Affine):
    def dweight(self, grad, x):
        return grad.T @ x / len(x)


@fault("affine: dW times N", "factor N", inputs=normal(32, 4), gate=wide)
class WeightTimesN(Affine):
    def dweight(self, grad, x):
        return grad.T @ x * len(x)


@fault("affine: mean for sum in db", "factor 1/N", inputs=WIDE, gate=wide)
class BiasMean(Affine):
    def dbias(self, grad):
        return grad.mean(axis=0)


@fault("affine: db summed over the outputs", "sum over the wrong axis", inputs=SQUARE)
class BiasAxis(Affine):
    def dbias(self, grad):
        return grad.sum(axis=1)


@fault("affine: db of the first sample", "batch sum missing", inputs=WIDE, gate=wide)
class BiasFirst(Affine):
    def dbias(self, grad):
        return grad[0]


@fault("affine: db of the last sample", "batch sum missing", inputs=WIDE, gate=wide)
class BiasLast(Affine):
    def dbias(self, grad):
        for row in grad:
            total = row
        return total


@fault("affine: db zeros", "always zero", inputs=WIDE, gate=wide)
class BiasNever(Affine):
    def dbias(self, grad):
        return np.zeros_like(self.bias.value)


@fault("affine: dW zeros", "always zero", inputs=WIDE, gate=wide)
class WeightNever(Affine):
    def dweight(self, grad, x):
        return np.zeros_like(self.weight.value)


@fault("affine: dW of the first sample", "batch sum missing", inputs=WIDE, gate=wide)
class WeightFirst(Affine):
    def dweight(self, grad, x):
        return np.outer(grad[0], x[0])


@fault("affine: dW ignores grad", "upstream gradient ignored", inputs=WIDE, gate=wide)
class WeightNoGrad(Affine):
    def dweight(self, grad, x):
        return np.ones_like(grad).T @ x


@fault("affine: dW forgets the last output", "part not reached", inputs=WIDE, gate=lambda cls: cls(out=5))
class WeightRow(Affine):
    def dweight(self, grad, x):
        total = np.zeros_like(self.weight.value)
        for row in range(len(total) - 1):
            total[row] = grad[:, row] @ x
        return total


@fault("affine: weight decay added to dW", "own value added", inputs=WIDE, gate=wide)
class WeightDecayed(Affine):
    def dweight(self, grad, x):
        return grad.T @ x + 0.1 * self.weight.value


@fault("affine: dW for db and db for dW", "gradient of another", inputs=WIDE)
class ParametersSwapped(lf.Gate):
    def __init__(self):
        self.gamma = lf.Parameter(np.linspace(0.5, 1.5, 4))
        self.beta = lf.Parameter(np.linspace(-1, 1, 4))

    def forward(self, x):
        self.save(x)
        return self.gamma.value * x + self.beta.value

    def backward(self, grad):
        (x,) = self.saved
        return (grad * self.gamma.value,), {"gamma": grad.sum(axis=0), "beta": (grad * x).sum(axis=0)}


@fault("scale: gamma missing in dx", "factor array missing", inputs=WIDE)
class ScaleForgotten(ParametersSwapped):
    def backward(self, grad):
        (x,) = self.saved
        return (grad,), {"gamma": (grad * x).sum(axis=0), "beta": grad.sum(axis=0)}


@fault("scale: x missing in dgamma", "local derivative missing", "gradient of another", inputs=WIDE)
class ScaleNoInput(ParametersSwapped):
    def backward(self, grad):
        return (grad * self.gamma.value,), {"gamma": grad.sum(axis=0), "beta": grad.sum(axis=0)}


@fault("one number gamma: x missing", "local derivative missing", inputs=WIDE)
class OneNumber(lf.Gate):
    def __init__(self):
        self.gamma = lf.Parameter(1.0)

    def forward(self, x):
        self.save(x)
        return self.gamma.value * x

    def backward(self, grad):
        return (self.gamma.value * grad,), {"gamma": np.sum(grad)}


@fault(
    "rows by index: the last of equal indices wins",
    "overwritten instead of added",
    inputs=lambda rng: (np.array([0, 2, 2, 1, 0, 2]),),
)
class Rows(lf.Gate):
    def __init__(self):
        self.table = lf.Parameter(np.random.default_rng(1).normal(size=(3, 4)))

    def forward(self, index):
        self.save(index)
        return self.table.value[index]

    def backward(self, grad):
        (index,) = self.saved
        total = np.zeros_like(self.table.value)
        total[index] = grad
        return (None,), {"table": total}


@fault("tied weights: one of two uses", "path missing", inputs=WIDE)
class TiedHalf(lf.Gate):
    def __init__(self):
        self.weight = lf.Parameter(np.random.default_rng(1).normal(size=(3, 4)))

    def forward(self, x):
        h = x @ self.weight.value.T
        self.save(x, h)
        return h @ self.weight.value

    def backward(self, grad):
        _, h = self.saved
        dh = grad @ self.weight.value.T
        return (dh @ self.weight.value,), {"weight": h.T @ grad}


class MatMul(lf.Gate):
    def forward(self, a, b):
        self.save(a, b)
        return a @ b


def matrices(rng):
    return rng.normal(size=(4, 4)), rng.normal(size=(4, 4))


@fault("matrix product: b for b.T", "transposed Jacobian", "W for W.T", inputs=matrices)
class MatMulNoTranspose(MatMul):
    def backward(self, grad):
        a, b = self.saved
        return (grad @ b, a.T @ grad), {}


@fault("matrix product: gradients exchanged", "gradient of another", inputs=matrices)
class MatMulSwapped(MatMul):
    def backward(self, grad):
        a, b = self.saved
        return (a.T @ grad, grad @ b.T), {}


class Convolution(lf.Gate):
    def __init__(self):
        self.kernel = lf.Parameter(np.array([0.5, -1.0, 2.0]))

    def forward(self, x):
        self.save(x)
        return np.array([np.correlate(row, self.kernel.value, "valid") for row in x])


@fault("convolution: the kernel is not turned round", "kernel not flipped", inputs=normal(3, 8))
class ConvolutionNotFlipped(Convolution):
    def backward(self, grad):
        (x,) = self.saved
        dx = np.array([np.correlate(g, self.kernel.value, "full") for g in grad])
        return (dx,), {"kernel": sum(np.correlate(row, g, "valid") for row, g in zip(x, grad, strict=True))}


@fault("convolution: kernel gradient turned round", "flipped", inputs=normal(3, 8))
class ConvolutionKernelFlipped(Convolution):
    def __init__(self):
        self.kernel = lf.Parameter(np.array([0.5, -1.0, 2.0, 0.3]))

    def backward(self, grad):
        (x,) = self.saved
        dx = np.array([np.convolve(g, self.kernel.value, "full") for g in grad])
        return (dx,), {"kernel": sum(np.correlate(row, g, "valid") for row, g in zip(x, grad, strict=True))[::-1]}


class BatchNorm(lf.Gate):
    """Right; the faulty ones change dx, and one changes dgamma."""

    axis = 0

    def __init__(self, width=4):
        self.gamma = lf.Parameter(np.ones(width))
        self.beta = lf.Parameter(np.zeros(width))

    def forward(self, x):
        centred = x - x.mean(axis=self.axis, keepdims=True)
        std = np.sqrt((centred**2).mean(axis=self.axis, keepdims=True) + 1e-5)
        self.save(centred / std, std)
        return self.gamma.value * centred / std + self.beta.value

    def dx(self, g, xhat, std):
        through_variance = xhat * (g * xhat).mean(axis=self.axis, keepdims=True)
        return (g - g.mean(axis=self.axis, keepdims=True) - through_variance) / std

    def dgamma(self, grad, xhat):
        return (grad * xhat).sum(axis=0)

    def backward(self, grad):
        xhat, std = self.saved
        dx = self.dx(grad * self.gamma.value, xhat, std)
        return (dx,), {"gamma": self.dgamma(grad, xhat), "beta": grad.sum(axis=0)}


def without_statistics(self, g, xhat, std):
    return g / std


def without_variance(self, g, xhat, std):
    return (g - g.mean(axis=self.axis, keepdims=True)) / std


def without_mean(self, g, xhat, std):
    return (g - xhat * (g * xhat).mean(axis=self.axis, keepdims=True)) / std


for axis, name in ((0, "batch normalisation"), (-1, "layer normalisation")):
    for what, cause, dx in (
        ("mean and variance constant", "statistics terms missing", without_statistics),
        ("variance constant", "variance term missing", without_variance),
        ("mean constant", "mean term missing", without_mean),
    ):
        kind = type("Normalisation", (BatchNorm,), {"axis": axis, "dx": dx, "__module__": __name__})
        fault(f"{name}: {what}", cause, inputs=normal(6, 4))(kind)


@fault("batch normalisation: gamma missing in dx", "factor array missing", inputs=normal(6, 4))
class NormNoGamma(BatchNorm):
    def dx(self, g, xhat, std):
        return super().dx(g / self.gamma.value, xhat, std)


@fault(
    "batch normalisation: xhat missing in dgamma",
    "local derivative missing",
    "gradient of another",
    inputs=normal(6, 4),
)
class NormNoInput(BatchNorm):
    def dgamma(self, grad, xhat):
        return grad.sum(axis=0)


@fault("batch normalisation: not divided by the deviation", "factor array too often", inputs=normal(6, 4))
class NormNoDeviation(BatchNorm):
    def dx(self, g, xhat, std):
        return super().dx(g, xhat, 1.0)


@fault("batch normalisation: N - 1 in backward alone", "factor on a path", inputs=normal(6, 4))
class NormUnbiased(BatchNorm):
    def dx(self, g, xhat, std):
        return (g - g.mean(axis=0) - xhat * (g * xhat).sum(axis=0) / (len(g) - 1)) / std


@fault("centring: grad unchanged", "local derivative missing", "mean term missing", inputs=normal(6, 4))
class CentreUnchanged(lf.Gate):
    def forward(self, x):
        self.save()
        return x - x.mean(axis=0)

    def backward(self, grad):
        return (grad,), {}


@fault("rows of length 1: the length taken as constant", "variance term missing", inputs=normal(5, 4))
class UnitRows(lf.Gate):
    def forward(self, x):
        length = np.sqrt((x**2).sum(axis=1, keepdims=True))
        self.save(length)
        return x / length

    def backward(self, grad):
        (length,) = self.saved
        return (grad / length,), {}


@fault("reshape: other order", "misplaced", "transposed", inputs=normal(4, 6))
class ReshapeOrder(lf.Gate):
    def forward(self, x):
        self.save(x.shape)
        return x.reshape(6, 4)

    def backward(self, grad):
        (shape,) = self.saved
        return (grad.reshape(shape, order="F"),), {}


@fault("reversed rows: not reversed back", "flipped", inputs=normal(4, 3))
class ReverseForgotten(lf.Gate):
    def forward(self, x):
        self.save()
        return x[::-1]

    def backward(self, grad):
        return (grad,), {}


@fault("slice: put back at the beginning", "shifted", inputs=normal(6, 3))
class SliceMisplaced(lf.Gate):
    def forward(self, x):
        self.save(x.shape)
        return x[2:5]

    def backward(self, grad):
        (shape,) = self.saved
        dx = np.zeros(shape)
        dx[:3] = grad
        return (dx,), {}


@fault("running sum: summed forwards again", "transposed Jacobian", inputs=normal(4, 5))
class RunningSum(lf.Gate):
    def forward(self, x):
        self.save()
        return np.cumsum(x, axis=1)

    def backward(self, grad):
        return (np.cumsum(grad, axis=1),), {}


@fault("mean: 1/n forgotten", "factor N", inputs=normal(4, 5))
class MeanForgotten(lf.Gate):
    def forward(self, x):
        self.save(x.shape)
        return x.mean(axis=1)

    def backward(self, grad):
        (shape,) = self.saved
        return (np.broadcast_to(grad[:, None], shape).copy(),), {}


@fault("maximum of each row: grad to all", "mask missing", inputs=normal(4, 5))
class RowMaximum(lf.Gate):
    def forward(self, x):
        self.save(x)
        return x.max(axis=1)

    def backward(self, grad):
        (x,) = self.saved
        return (np.broadcast_to(grad[:, None], x.shape).copy(),), {}
