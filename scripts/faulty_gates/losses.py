"""Softmax, losses and regularizers, as students get them wrong."""

import numpy as np
from registry import fault, labelled, normal

import layerflow as lf


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Softmax(lf.Gate):
    def forward(self, x):
        p = softmax(x)
        self.save(p)
        return p


@fault("softmax: p (1 - p)", "diagonal only", inputs=normal(5, 4))
class SoftmaxDiagonal(Softmax):
    def backward(self, grad):
        (p,) = self.saved
        return (grad * p * (1 - p),), {}


@fault("softmax: zeros", "always zero", inputs=normal(5, 4))
class SoftmaxZeros(Softmax):
    def backward(self, grad):
        (p,) = self.saved
        return (p * 0.0 * grad,), {}


@fault("softmax: p missing outside", "factor array missing", inputs=normal(5, 4))
class SoftmaxOuter(Softmax):
    def backward(self, grad):
        (p,) = self.saved
        return (grad - (grad * p).sum(axis=1, keepdims=True),), {}


@fault("softmax: sum over the batch", "sum over the wrong axis", inputs=normal(5, 4))
class SoftmaxAxis(Softmax):
    def backward(self, grad):
        (p,) = self.saved
        return (p * (grad - (grad * p).sum(axis=0)),), {}


@fault(
    "softmax with a temperature: 1/T missing", "factor of an argument", inputs=normal(5, 4), gate=lambda cls: cls(2.5)
)
class SoftmaxTemperature(lf.Gate):
    def __init__(self, temperature):
        self.temperature = temperature

    def forward(self, x):
        p = softmax(x / self.temperature)
        self.save(p)
        return p

    def backward(self, grad):
        (p,) = self.saved
        return (p * (grad - (grad * p).sum(axis=1, keepdims=True)),), {}


class LogSoftmax(lf.Gate):
    def forward(self, x):
        p = softmax(x)
        self.save(p)
        return np.log(p)


@fault("log-softmax: grad unchanged", "local derivative missing", inputs=normal(5, 4))
class LogSoftmaxUnchanged(LogSoftmax):
    def backward(self, grad):
        return (grad,), {}


@fault("log-softmax: grad (1 - p)", "diagonal only", inputs=normal(5, 4))
class LogSoftmaxDiagonal(LogSoftmax):
    def backward(self, grad):
        (p,) = self.saved
        return (grad * (1 - p),), {}


class CrossEntropy(lf.Gate):
    def forward(self, scores, labels):
        p = softmax(scores)
        self.save(p, labels)
        return -np.mean(np.log(p[np.arange(len(p)), labels]))

    def backward(self, grad):
        p, labels = self.saved
        d = p.copy()
        d[np.arange(len(p)), labels] -= 1
        return (self.dscores(grad, d), None), {}


SCORES = labelled(7, 4)


@fault("cross-entropy: not divided by N", "factor N", inputs=SCORES)
class EntropySum(CrossEntropy):
    def dscores(self, grad, d):
        return grad * d


@fault("cross-entropy: divided by N twice", "factor 1/N", inputs=SCORES)
class EntropyMeanTwice(CrossEntropy):
    def dscores(self, grad, d):
        return grad * d / len(d) / len(d)


@fault("cross-entropy: y - p", "sign", inputs=SCORES)
class EntropySign(CrossEntropy):
    def dscores(self, grad, d):
        return -grad * d / len(d)


@fault("cross-entropy: y - p, and not divided by N", "factor N", inputs=SCORES)
class EntropySignSum(CrossEntropy):
    def dscores(self, grad, d):
        return -grad * d


@fault("cross-entropy: ignores grad", "upstream gradient ignored", inputs=SCORES)
class EntropyNoGrad(CrossEntropy):
    def dscores(self, grad, d):
        return d / len(d)


@fault("cross-entropy: the 1 of the label missing", "label term missing", inputs=SCORES)
class EntropyNoLabel(CrossEntropy):
    def backward(self, grad):
        p, _ = self.saved
        return (grad * p / len(p), None), {}


@fault("cross-entropy: float32 inside forward", "float32 hidden inside", inputs=SCORES)
class EntropyNarrow(CrossEntropy):
    def forward(self, scores, labels):
        p = softmax(scores.astype(np.float32))
        self.save(p, labels)
        return -np.mean(np.log(p[np.arange(len(p)), labels]))

    def dscores(self, grad, d):
        return grad * d / len(d)


class Hinge(lf.Gate):
    def forward(self, scores, labels):
        rows = np.arange(len(scores))
        margins = scores - scores[rows, labels][:, None] + 1
        margins[rows, labels] = 0
        self.save(margins, labels)
        return np.maximum(margins, 0).sum() / len(scores)


@fault("multiclass hinge: no mask", "mask missing", inputs=labelled(8, 5))
class HingeNoMask(Hinge):
    def backward(self, grad):
        margins, labels = self.saved
        d = np.ones_like(margins)
        d[np.arange(len(d)), labels] = -(d.shape[1] - 1)
        return (grad * d / len(d), None), {}


@fault("multiclass hinge: -1 for the count", "label term missing", inputs=labelled(8, 5))
class HingeCount(Hinge):
    def backward(self, grad):
        margins, labels = self.saved
        d = (margins > 0).astype(float)
        d[np.arange(len(d)), labels] = -0.5
        return (grad * d / len(d), None), {}


@fault("multiclass hinge: mask inverted", "mask inverted", inputs=labelled(8, 5))
class HingeInverted(Hinge):
    def backward(self, grad):
        margins, labels = self.saved
        rows = np.arange(len(margins))
        d = (margins <= 0).astype(float)
        d[rows, labels] = 0
        d[rows, labels] = -d.sum(axis=1)
        return (grad * d / len(d), None), {}


class SquaredError(lf.Gate):
    def forward(self, scores, targets):
        self.save(scores - targets)
        return np.mean(np.sum((scores - targets) ** 2, axis=1))

    def backward(self, grad):
        (d,) = self.saved
        d = self.dscores(grad, d)
        return (d, -d), {}


def regression(rng):
    return rng.normal(size=(6, 3)), rng.normal(size=(6, 3))


@fault("squared error: 2 missing", "factor 1/2", inputs=regression)
class SquaredHalf(SquaredError):
    def dscores(self, grad, d):
        return grad * d / len(d)


@fault("squared error: not divided by N", "factor N", inputs=regression)
class SquaredSum(SquaredError):
    def dscores(self, grad, d):
        return grad * 2 * d


@fault("squared error: mean over all elements", "factor 1/N", inputs=regression)
class SquaredMeanAll(SquaredError):
    def dscores(self, grad, d):
        return grad * 2 * d / d.size


@fault("squared error: target minus score", "sign", inputs=regression)
class SquaredSign(SquaredError):
    def dscores(self, grad, d):
        return -grad * 2 * d / len(d)


@fault("squared error: both inputs get the same sign", "sign", inputs=regression)
class SquaredSameSign(SquaredError):
    def backward(self, grad):
        (d,) = self.saved
        d = grad * 2 * d / len(d)
        return (d, d), {}


@fault("absolute error: sign missing", "sign lost", inputs=regression)
class AbsoluteNoSign(lf.Gate):
    def forward(self, scores, targets):
        self.save(scores - targets)
        return np.mean(np.abs(scores - targets))

    def backward(self, grad):
        (d,) = self.saved
        return (grad * np.ones_like(d) / d.size, None), {}


@fault(
    "weighted error: weights missing",
    "factor array missing",
    inputs=lambda rng: (*regression(rng), rng.uniform(0.5, 2.0, 6)),
)
class WeightsForgotten(lf.Gate):
    def forward(self, scores, targets, weights):
        self.save(scores - targets)
        return np.sum(weights[:, None] * (scores - targets) ** 2)

    def backward(self, grad):
        (d,) = self.saved
        return (2 * grad * d, None, None), {}


class Penalty(lf.Gate):
    def __init__(self, strength=0.3):
        self.strength = strength

    def forward(self, weight):
        self.save(weight)
        return self.strength * np.sum(weight**2)


@fault("L2: 2 missing", "factor 1/2", inputs=normal(4, 3), gate=lambda cls: cls(0.3))
class PenaltyHalf(Penalty):
    def backward(self, grad):
        (weight,) = self.saved
        return (grad * self.strength * weight,), {}


@fault("L2: strength missing", "factor of an argument", inputs=normal(4, 3), gate=lambda cls: cls(0.3))
class PenaltyNoStrength(Penalty):
    def backward(self, grad):
        (weight,) = self.saved
        return (grad * 2 * weight,), {}


@fault("L2: weights missing", "factor array missing", inputs=normal(4, 3), gate=lambda cls: cls(0.3))
class PenaltyConstant(Penalty):
    def backward(self, grad):
        (weight,) = self.saved
        return (grad * 2 * self.strength * np.ones_like(weight),), {}


@fault("huber: not clipped", "wrong local derivative", inputs=lambda rng: (2 * rng.normal(size=(6, 3)),))
class HuberOpen(lf.Gate):
    def forward(self, r):
        self.save(r)
        return np.sum(np.where(np.abs(r) <= 1, r**2 / 2, np.abs(r) - 0.5))

    def backward(self, grad):
        (r,) = self.saved
        return (grad * r,), {}
