"""Elementwise functions and losses: offsets, extreme scales, saturation, and formulas that lose digits."""

import numpy as np
from collection import correct

import layerflow as lf


class Elementwise(lf.Gate):
    """y = f(x), dx = grad * df(x)."""

    def __init__(self, f, df):
        self.f, self.df = f, df

    def forward(self, x):
        self.save(x)
        return self.f(x)

    def backward(self, grad):
        return (grad * self.df(self.saved[0]),), {}


class Affine(lf.Gate):
    """y = scale * x * w + offset - offset."""

    def __init__(self, w, offset=0.0):
        self.w, self.offset = lf.Parameter(w), offset

    def forward(self, x):
        self.save(x)
        return x * self.w.value + self.offset - self.offset

    def backward(self, grad):
        (x,) = self.saved
        return (grad * self.w.value,), {"w": np.sum(grad * x, axis=0)}


class MeanLoss(lf.Gate):
    """The mean of f(prediction, target); targets have no gradient."""

    def __init__(self, f, df):
        self.f, self.df = f, df

    def forward(self, prediction, target):
        self.save(prediction, target)
        return np.mean(self.f(prediction, target))

    def backward(self, grad):
        prediction, target = self.saved
        return (grad * self.df(prediction, target) / prediction.size, None), {}


class NaiveSoftmaxLoss(lf.Gate):
    """-log p[label] with p from exp and a division, (p - 1) / n at the label."""

    def __init__(self, floor=0.0):
        self.floor = floor

    def forward(self, scores, labels):
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        self.save(p, labels)
        return -np.mean(np.log(p[np.arange(len(p)), labels] + self.floor))

    def backward(self, grad):
        p, labels = self.saved
        rows = np.arange(len(p))
        d = p.copy()
        d[rows, labels] -= 1
        right = p[rows, labels]
        return (grad * d * (right / (right + self.floor))[:, None] / len(p), None), {}


class CosineLoss(lf.Gate):
    def forward(self, a, b):
        na, nb = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
        cosine = np.sum(a * b, axis=1, keepdims=True) / (na * nb)
        self.save(a, b, na, nb, cosine)
        return np.mean(1 - cosine)

    def backward(self, grad):
        a, b, na, nb, cosine = self.saved
        da = -(b / (na * nb) - cosine * a / na**2) / len(a)
        db = -(a / (na * nb) - cosine * b / nb**2) / len(a)
        return (grad * da, grad * db), {}


class TripletLoss(lf.Gate):
    def forward(self, a, p, n):
        loss = np.sum((a - p) ** 2, axis=1) - np.sum((a - n) ** 2, axis=1) + 1.0
        self.save(a, p, n, loss > 0)
        return np.maximum(loss, 0).mean()

    def backward(self, grad):
        a, p, n, active = self.saved
        g = 2 * grad * active[:, None] / len(a)
        return (g * (n - p), g * (p - a), g * (a - n)), {}


class GaussianNLL(lf.Gate):
    """The mean of ((y - m) / s)^2 / 2 + log s, with s = exp(v)."""

    def forward(self, m, v, y):
        z = (y - m) * np.exp(-v)
        self.save(z, v)
        return np.mean(z**2 / 2 + v)

    def backward(self, grad):
        z, v = self.saved
        g = grad / z.size
        return (-g * z * np.exp(-v), g * (1 - z**2), None), {}


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def bce(s, t):
    return np.maximum(s, 0) - s * t + np.log1p(np.exp(-np.abs(s)))


FUNCTIONS = {
    "softsign": (lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    "mish": (
        lambda x: x * np.tanh(np.logaddexp(0, x)),
        lambda x: np.tanh(np.logaddexp(0, x)) + x * sigmoid(x) / np.cosh(np.logaddexp(0, x)) ** 2,
    ),
    "swish": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    "hard tanh": (lambda x: np.clip(x, -1, 1), lambda x: (np.abs(x) < 1) * 1.0),
    "arctangent": (np.arctan, lambda x: 1 / (1 + x**2)),
    "tanh(x) + 1e6 - 1e6": (lambda x: np.tanh(x) + 1e6 - 1e6, lambda x: 1 - np.tanh(x) ** 2),
    "x^2 by (x + 1e4)^2 - 2e4 x - 1e8": (lambda x: (x + 1e4) ** 2 - 2e4 * x - 1e8, lambda x: 2 * x),
    "1 - cos(x)": (lambda x: 1 - np.cos(x), np.sin),
    "log(1 + exp(x)) without log1p": (lambda x: np.log(1 + np.exp(x)), sigmoid),
    "sqrt(x^2 + 1e-8)": (lambda x: np.sqrt(x**2 + 1e-8), lambda x: x / np.sqrt(x**2 + 1e-8)),
    "log-cosh": (lambda x: np.logaddexp(x, -x) - np.log(2), np.tanh),
    "sine of 30 x": (lambda x: np.sin(30 * x), lambda x: 30 * np.cos(30 * x)),
    "x |x|": (lambda x: x * np.abs(x), lambda x: 2 * np.abs(x)),
}
for name, (f, df) in FUNCTIONS.items():
    correct(name)(lambda rng, f=f, df=df: (Elementwise(f, df), rng.normal(size=(4, 5))))


@correct("saturated tanh")
def _a(rng):
    return Elementwise(np.tanh, lambda x: 1 - np.tanh(x) ** 2), 15.0 * rng.normal(size=(4, 5))


@correct("weights of 1e12 and inputs of 1e-12")
def _b(rng):
    return Affine(1e12 * rng.normal(size=4)), 1e-12 * rng.normal(size=(5, 4))


@correct("weights of 1e-12 and inputs of 1e12")
def _c(rng):
    return Affine(1e-12 * rng.normal(size=4)), 1e12 * rng.normal(size=(5, 4))


@correct("outputs of 1e-12")
def _d(rng):
    return Elementwise(lambda x: 1e-12 * np.tanh(x), lambda x: 1e-12 * (1 - np.tanh(x) ** 2)), rng.normal(size=(4, 5))


@correct("outputs of 1e12")
def _e(rng):
    return Elementwise(lambda x: 1e12 * np.tanh(x), lambda x: 1e12 * (1 - np.tanh(x) ** 2)), rng.normal(size=(4, 5))


@correct("tanh of 1e12 x")
def _f(rng):
    f, df = lambda x: np.tanh(1e12 * x), lambda x: 1e12 * (1 - np.tanh(1e12 * x) ** 2)
    return Elementwise(f, df), 1e-12 * rng.normal(size=(4, 5))


@correct("an offset of 1e8 that cancels")
def _g(rng):
    return Affine(rng.normal(size=4), offset=1e8), rng.normal(size=(5, 4))


@correct("softmax loss by division, confident")
def _h(rng):
    return NaiveSoftmaxLoss(), 16 * np.eye(4) + rng.normal(size=(4, 4)), np.arange(4)


@correct("softmax loss with a floor in the logarithm")
def _i(rng):
    return NaiveSoftmaxLoss(1e-12), 3 * rng.normal(size=(5, 4)), rng.integers(0, 4, 5)


@correct("binary cross-entropy of scores")
def _j(rng):
    return MeanLoss(bce, lambda s, t: sigmoid(s) - t), 3 * rng.normal(size=(5, 3)), rng.integers(0, 2, (5, 3))


@correct("binary cross-entropy of scores around 1000")
def _k(rng):
    return MeanLoss(bce, lambda s, t: sigmoid(s) - t), 1e3 * rng.normal(size=(5, 3)), rng.integers(0, 2, (5, 3))


@correct("log-cosh loss")
def _l(rng):
    f, df = lambda p, t: np.logaddexp(p - t, t - p) - np.log(2), lambda p, t: np.tanh(p - t)
    return MeanLoss(f, df), rng.normal(size=(5, 3)), rng.normal(size=(5, 3))


@correct("relative squared error")
def _m(rng):
    return (
        MeanLoss(lambda p, t: ((p - t) / t) ** 2, lambda p, t: 2 * (p - t) / t**2),
        rng.normal(size=(5, 3)),
        rng.uniform(1, 2, (5, 3)),
    )


@correct("Poisson loss")
def _n(rng):
    return (
        MeanLoss(lambda s, t: np.exp(s) - t * s, lambda s, t: np.exp(s) - t),
        rng.normal(size=(5, 3)),
        rng.integers(0, 9, (5, 3)),
    )


@correct("cosine loss")
def _o(rng):
    return CosineLoss(), rng.normal(size=(4, 5)), rng.normal(size=(4, 5))


@correct("triplet loss")
def _p(rng):
    return TripletLoss(), *(rng.normal(size=(5, 3)) for _ in range(3))


@correct("Gaussian likelihood with learned variance")
def _q(rng):
    return GaussianNLL(), *(rng.normal(size=(5, 2)) for _ in range(3))
