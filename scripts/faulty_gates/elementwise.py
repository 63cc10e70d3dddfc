"""Activations and arithmetic, as students get them wrong."""

import numpy as np
from registry import fault, normal, pair, positive

import layerflow as lf

X = normal(8, 6)


class ReLU(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.maximum(x, 0)


@fault("ReLU: no mask", "mask missing", inputs=X)
class ReLUNoMask(ReLU):
    def backward(self, grad):
        return (grad,), {}


@fault("ReLU: mask of the wrong side", "mask inverted", inputs=X)
class ReLUInverted(ReLU):
    def backward(self, grad):
        (x,) = self.saved
        return (grad * (x < 0),), {}


@fault("ReLU: threshold at -0.5", "mask too wide", inputs=X)
class ReLUWide(ReLU):
    def backward(self, grad):
        (x,) = self.saved
        return (grad * (x > -0.5),), {}


@fault("ReLU: threshold at 0.5", "mask too narrow", inputs=X)
class ReLUNarrow(ReLU):
    def backward(self, grad):
        (x,) = self.saved
        return (grad * (x > 0.5),), {}


@fault("ReLU: mask of the output with >=", "mask missing", inputs=X)
class ReLUOutputMask(lf.Gate):
    def forward(self, x):
        y = np.maximum(x, 0)
        self.save(y)
        return y

    def backward(self, grad):
        (y,) = self.saved
        return (grad * (y >= 0),), {}


@fault("ReLU: returns the mask", "upstream gradient ignored", inputs=X)
class ReLUMaskOnly(ReLU):
    def backward(self, grad):
        (x,) = self.saved
        return ((x > 0).astype(float),), {}


@fault("ReLU: + for *", "upstream gradient added", inputs=X)
class ReLUAdded(ReLU):
    def backward(self, grad):
        (x,) = self.saved
        return (grad + (x > 0),), {}


@fault("ReLU: zeros", "always zero", inputs=X)
class ReLUZeros(ReLU):
    def backward(self, grad):
        (x,) = self.saved
        return (np.zeros_like(x),), {}


@fault("ReLU: sign", "sign", inputs=X)
class ReLUSign(ReLU):
    def backward(self, grad):
        (x,) = self.saved
        return (-grad * (x > 0),), {}


@fault("LeakyReLU: slopes exchanged", "mask inverted", inputs=X)
class LeakySwapped(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.where(x > 0, x, 0.1 * x)

    def backward(self, grad):
        (x,) = self.saved
        return (np.where(x > 0, 0.1 * grad, grad),), {}


@fault("LeakyReLU: no slope below zero", "mask too narrow", inputs=X)
class LeakyAsReLU(LeakySwapped):
    def backward(self, grad):
        (x,) = self.saved
        return (np.where(x > 0, grad, 0.0),), {}


@fault("LeakyReLU: grad unchanged", "local derivative missing", inputs=X)
class LeakyUnchanged(LeakySwapped):
    def backward(self, grad):
        return (grad,), {}


@fault("clip: no mask", "mask missing", inputs=X)
class ClipNoMask(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.clip(x, -1, 1)

    def backward(self, grad):
        return (grad,), {}


@fault("clip: only the upper bound", "mask too wide", inputs=X)
class ClipHalfMask(ClipNoMask):
    def backward(self, grad):
        (x,) = self.saved
        return (grad * (x < 1),), {}


class Sigmoid(lf.Gate):
    def forward(self, x):
        y = 1 / (1 + np.exp(-x))
        self.save(y)
        return y


@fault("sigmoid: grad unchanged", "local derivative missing", inputs=X)
class SigmoidUnchanged(Sigmoid):
    def backward(self, grad):
        return (grad,), {}


@fault("sigmoid: x (1 - x), x saved", "evaluated at the input", inputs=X)
class SigmoidAtInput(lf.Gate):
    def forward(self, x):
        self.save(x)
        return 1 / (1 + np.exp(-x))

    def backward(self, grad):
        (x,) = self.saved
        return (grad * x * (1 - x),), {}


@fault("sigmoid: sigmoid(y) (1 - sigmoid(y)), y saved", "evaluated at the output", inputs=X)
class SigmoidAtOutput(Sigmoid):
    def backward(self, grad):
        (y,) = self.saved
        s = 1 / (1 + np.exp(-y))
        return (grad * s * (1 - s),), {}


@fault("sigmoid: y (y - 1)", "sign", inputs=X)
class SigmoidSign(Sigmoid):
    def backward(self, grad):
        (y,) = self.saved
        return (grad * y * (y - 1),), {}


@fault("sigmoid: no grad", "upstream gradient ignored", inputs=X)
class SigmoidNoGrad(Sigmoid):
    def backward(self, grad):
        (y,) = self.saved
        return (y * (1 - y),), {}


@fault("sigmoid: grad + y (1 - y)", "upstream gradient added", inputs=X)
class SigmoidAdded(Sigmoid):
    def backward(self, grad):
        (y,) = self.saved
        return (grad + y * (1 - y),), {}


@fault("sigmoid: y alone", "factor array missing", inputs=X)
class SigmoidHalf(Sigmoid):
    def backward(self, grad):
        (y,) = self.saved
        return (grad * (1 - y),), {}


@fault("sigmoid: derivative twice", "local derivative twice", inputs=X)
class SigmoidTwice(Sigmoid):
    def backward(self, grad):
        (y,) = self.saved
        return (grad * (y * (1 - y)) ** 2,), {}


@fault("tanh: 1 - x^2", "evaluated at the input", inputs=X)
class TanhAtInput(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.tanh(x)

    def backward(self, grad):
        (x,) = self.saved
        return (grad * (1 - x**2),), {}


@fault("tanh: 1 - tanh(y)^2", "evaluated at the output", inputs=X)
class TanhAtOutput(lf.Gate):
    def forward(self, x):
        y = np.tanh(x)
        self.save(y)
        return y

    def backward(self, grad):
        (y,) = self.saved
        return (grad * (1 - np.tanh(y) ** 2),), {}


@fault("tanh: 1 - y", "wrong local derivative", inputs=X)
class TanhNoSquare(TanhAtOutput):
    def backward(self, grad):
        (y,) = self.saved
        return (grad * (1 - y),), {}


@fault("tanh: rounds to float32", "float32 hidden inside", inputs=X)
class TanhNarrow(TanhAtOutput):
    def backward(self, grad):
        (y,) = self.saved
        return ((grad * (1 - y**2)).astype(np.float32),), {}


@fault("softplus: sigmoid(y)", "evaluated at the output", inputs=X)
class SoftplusAtOutput(lf.Gate):
    def forward(self, x):
        y = np.log1p(np.exp(x))
        self.save(y)
        return y

    def backward(self, grad):
        (y,) = self.saved
        return (grad / (1 + np.exp(-y)),), {}


class Square(lf.Gate):
    def forward(self, x):
        self.save(x)
        return x**2


@fault("square: x for 2x", "factor 1/2", inputs=X)
class SquareHalf(Square):
    def backward(self, grad):
        (x,) = self.saved
        return (grad * x,), {}


@fault("square: 2 for 2x", "factor array missing", inputs=X)
class SquareConstant(Square):
    def backward(self, grad):
        return (grad * 2,), {}


@fault("cube: 3x for 3x^2", "factor array missing", inputs=X)
class CubeExponent(lf.Gate):
    def forward(self, x):
        self.save(x)
        return x**3

    def backward(self, grad):
        (x,) = self.saved
        return (grad * 3 * x,), {}


@fault("power: n x^n", "factor array too often", inputs=positive(4, 4))
class PowerExponent(lf.Gate):
    def forward(self, x):
        self.save(x)
        return x**2.5

    def backward(self, grad):
        (x,) = self.saved
        return (grad * 2.5 * x**2.5,), {}


@fault("exp: grad unchanged", "factor array missing", inputs=X)
class ExpUnchanged(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.exp(x)

    def backward(self, grad):
        return (grad,), {}


@fault("exp: x for e^x", "evaluated at the input", inputs=X)
class ExpAtInput(ExpUnchanged):
    def backward(self, grad):
        (x,) = self.saved
        return (grad * x,), {}


@fault("log: x for 1/x", "factor array inverted", inputs=positive(4, 4))
class LogInverted(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.log(x)

    def backward(self, grad):
        (x,) = self.saved
        return (grad * x,), {}


@fault("square root: 1/sqrt(x)", "factor 2", inputs=positive(4, 4))
class RootDouble(lf.Gate):
    def forward(self, x):
        y = np.sqrt(x)
        self.save(y)
        return y

    def backward(self, grad):
        (y,) = self.saved
        return (grad / y,), {}


@fault("absolute value: grad unchanged", "local derivative missing", "sign lost", inputs=X)
class AbsUnchanged(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.abs(x)

    def backward(self, grad):
        return (grad,), {}


@fault("SiLU: second term of the product rule missing", "path missing", inputs=X)
class SiLUHalf(lf.Gate):
    def forward(self, x):
        s = 1 / (1 + np.exp(-x))
        self.save(s)
        return x * s

    def backward(self, grad):
        (s,) = self.saved
        return (grad * s,), {}


@fault("x + tanh(x): the first path forgotten", "path missing", inputs=X)
class SkipForgotten(TanhAtOutput):
    def forward(self, x):
        y = np.tanh(x)
        self.save(y)
        return x + y

    def backward(self, grad):
        (y,) = self.saved
        return (grad * (1 - y**2),), {}


@fault("alpha * x: alpha missing", "factor of an argument", inputs=X, gate=lambda cls: cls(alpha=0.3))
class ScaledByConstant(lf.Gate):
    def __init__(self, alpha):
        self.alpha = alpha

    def forward(self, x):
        self.save(x)
        return self.alpha * np.tanh(x)

    def backward(self, grad):
        (x,) = self.saved
        return (grad * (1 - np.tanh(x) ** 2),), {}


@fault("1.7159 tanh(x): derived with 1.5", "constant factor", inputs=X)
class OtherConstant(lf.Gate):
    def forward(self, x):
        self.save(x)
        return 1.7159 * np.tanh(x)

    def backward(self, grad):
        (x,) = self.saved
        return (grad * 1.5 * (1 - np.tanh(x) ** 2),), {}


@fault("tanh: clips the upstream gradient", "not linear in the upstream gradient", inputs=X)
class TanhClips(TanhAtOutput):
    def backward(self, grad):
        (y,) = self.saved
        return (np.clip(grad, -0.9, 0.9) * (1 - y**2),), {}


class Product(lf.Gate):
    def forward(self, a, b):
        self.save(a, b)
        return a * b


@fault("product: a for b", "gradient of another", inputs=pair(4, 3))
class ProductSwapped(Product):
    def backward(self, grad):
        a, b = self.saved
        return (grad * a, grad * b), {}


@fault("product: no gradient for b", "always zero", inputs=pair(4, 3))
class ProductZero(Product):
    def backward(self, grad):
        _, b = self.saved
        return (grad * b, np.zeros_like(b)), {}


@fault("difference: sign of b", "sign", inputs=pair(4, 3))
class DifferenceSign(lf.Gate):
    def forward(self, a, b):
        self.save()
        return a - b

    def backward(self, grad):
        return (grad, grad), {}


class Quotient(lf.Gate):
    def forward(self, a, b):
        self.save(a, b)
        return a / b


@fault("quotient: sign of b", "sign", inputs=pair(4, 3))
class QuotientSign(Quotient):
    def backward(self, grad):
        a, b = self.saved
        return (grad / b, grad * a / b**2), {}


@fault("quotient: b for b^2", "factor array too often", inputs=pair(4, 3))
class QuotientPower(Quotient):
    def backward(self, grad):
        a, b = self.saved
        return (grad / b, -grad * a / b), {}


@fault("maximum: grad to both", "mask missing", inputs=pair(4, 4))
class MaximumBoth(lf.Gate):
    def forward(self, a, b):
        self.save(a > b)
        return np.maximum(a, b)

    def backward(self, grad):
        return (grad, grad), {}


@fault("maximum: masks exchanged", "mask inverted", "gradient of another", inputs=pair(4, 4))
class MaximumExchanged(MaximumBoth):
    def backward(self, grad):
        (first,) = self.saved
        return (grad * ~first, grad * first), {}
