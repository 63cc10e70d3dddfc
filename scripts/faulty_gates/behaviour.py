"""Gates that touch or keep what they should not, and faults that hide in a model."""

import numpy as np
from elementwise import ReLUInverted, ReLUNoMask, TanhAtInput
from layers import Affine, BiasAxis, BiasNever, WeightTransposed, wide
from losses import SoftmaxDiagonal
from registry import fault, normal

import layerflow as lf

X = normal(5, 4)


@fault("affine: keeps the first x", "stale values", inputs=X, gate=wide)
class FirstInput(Affine):
    x = None

    def forward(self, x):
        if self.x is None:
            self.x = x
        self.save()
        return x @ self.weight.value.T + self.bias.value

    def backward(self, grad):
        return (self.dx(grad, self.x),), {"weight": self.dweight(grad, self.x), "bias": self.dbias(grad)}


@fault("ReLU: keeps the first mask", "stale values", inputs=X)
class FirstMask(lf.Gate):
    def __init__(self):
        self.cache = {}

    def forward(self, x):
        self.cache.setdefault("mask", x > 0)
        self.save()
        return np.maximum(x, 0)

    def backward(self, grad):
        return (grad * self.cache["mask"],), {}


@fault("ReLU: x[x < 0] = 0", "input overwritten by forward", inputs=X)
class InPlaceForward(lf.Gate):
    def forward(self, x):
        x[x < 0] = 0
        self.save(x)
        return x

    def backward(self, grad):
        (x,) = self.saved
        return (grad * (x > 0),), {}


@fault("centring: x -= mean", "input overwritten by forward", inputs=X)
class InPlaceCentre(lf.Gate):
    def forward(self, x):
        x -= x.mean(axis=0)
        self.save()
        return x.copy()

    def backward(self, grad):
        return (grad - grad.mean(axis=0),), {}


@fault("ReLU: grad[x < 0] = 0", "upstream gradient overwritten by backward", inputs=X)
class InPlaceBackward(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.maximum(x, 0)

    def backward(self, grad):
        (x,) = self.saved
        grad[x < 0] = 0
        return (grad,), {}


@fault("tanh: grad *= 1 - y^2", "upstream gradient overwritten by backward", inputs=X)
class InPlaceTanh(lf.Gate):
    def forward(self, x):
        y = np.tanh(x)
        self.save(y)
        return y

    def backward(self, grad):
        (y,) = self.saved
        grad *= 1 - y**2
        return (grad,), {}


@fault(
    "cross-entropy: p[label] -= 1",
    "stored array overwritten by backward",
    inputs=lambda rng: (rng.normal(size=(5, 4)), rng.integers(0, 4, 5)),
)
class InPlaceEntropy(lf.Gate):
    def forward(self, scores, labels):
        e = np.exp(scores)
        p = e / e.sum(axis=1, keepdims=True)
        self.save(p, labels)
        return -np.mean(np.log(p[np.arange(len(p)), labels]))

    def backward(self, grad):
        p, labels = self.saved
        p[np.arange(len(p)), labels] -= 1
        return (grad * p / len(p), None), {}


@fault("square: saved x *= 2", "stored array overwritten by backward", inputs=X)
class InPlaceSquare(lf.Gate):
    def forward(self, x):
        self.save(x.copy())
        return x**2

    def backward(self, grad):
        (x,) = self.saved
        x *= 2
        return (grad * x,), {}


@fault("affine: dW adds up in the gate", "backward not repeatable", inputs=X, gate=wide)
class Accumulates(Affine):
    total = 0.0

    def dweight(self, grad, x):
        self.total = self.total + grad.T @ x
        return self.total


@fault("affine: updates itself in backward", "parameter overwritten by backward", inputs=X, gate=wide)
class Updates(Affine):
    def dweight(self, grad, x):
        self.weight.value = self.weight.value - 0.01 * (grad.T @ x)
        return grad.T @ x


@fault("dropout: np.random", "nondeterministic forward", inputs=X)
class GlobalDropout(lf.Gate):
    def forward(self, x):
        mask = (np.random.random(x.shape) < 0.5) * 2.0
        self.save(mask)
        return x * mask

    def backward(self, grad):
        (mask,) = self.saved
        return (grad * mask,), {}


@fault("running mean in a plain array", "nondeterministic forward", inputs=X)
class PlainStatistics(lf.Gate):
    def __init__(self):
        self.mean = np.zeros(4)

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0)
        self.save()
        return x - self.mean

    def backward(self, grad):
        return (grad - 0.1 * grad.mean(axis=0),), {}


class Dropout(lf.Gate):
    def __init__(self, rate=0.3):
        self.rate = rate
        self.rng = np.random.default_rng(3)

    def forward(self, x):
        mask = self.rng.random(x.shape) >= self.rate
        self.save(mask)
        return x * mask / (1 - self.rate)


@fault("dropout: 1/(1 - rate) missing", "factor of an argument", inputs=normal(6, 5), gate=lambda cls: cls(0.3))
class DropoutScale(Dropout):
    def backward(self, grad):
        (mask,) = self.saved
        return (grad * mask,), {}


@fault("dropout: mask missing", "mask missing", inputs=normal(6, 5), gate=lambda cls: cls(0.3))
class DropoutMask(Dropout):
    def backward(self, grad):
        return (grad / (1 - self.rate),), {}


@fault("dropout: a new mask in backward", "backward not repeatable", inputs=normal(6, 5), gate=lambda cls: cls(0.3))
class DropoutDrawsAgain(Dropout):
    def backward(self, grad):
        return (grad * (self.rng.random(grad.shape) >= self.rate) / (1 - self.rate),), {}


@fault("affine: float32 in forward", "float32 hidden inside", inputs=X, gate=wide)
class NarrowAffine(Affine):
    def forward(self, x):
        self.save(x)
        return (
            x.astype(np.float32) @ self.weight.value.T.astype(np.float32) + self.bias.value.astype(np.float32)
        ).astype(float)


@fault("affine: dW in float32, returned as float64", "float32 hidden inside", inputs=X, gate=wide)
class NarrowGradient(Affine):
    def dweight(self, grad, x):
        return (grad.astype(np.float32).T @ x.astype(np.float32)).astype(float)


@fault("affine: dW transposed, and mean for sum", "transposed", inputs=normal(6, 4))
class TransposedMean(Affine):
    def dweight(self, grad, x):
        return x.T @ grad / len(x)


@fault("affine: dW transposed, db over the wrong axis", "transposed", "sum over the wrong axis", inputs=normal(4, 4))
class TwoFaults(BiasAxis, WeightTransposed):
    pass


@fault("softmax: diagonal only, and the sign", "diagonal only", inputs=normal(5, 4))
class DiagonalSign(SoftmaxDiagonal):
    def backward(self, grad):
        (dx,), _ = super().backward(grad)
        return (-dx,), {}


MODELS = {
    "a model whose ReLU has no mask": (lambda: lf.Sequential(lf.Linear(6), ReLUNoMask(), lf.Linear(3)), "mask missing"),
    "a model whose first ReLU is inverted": (
        lambda: lf.Sequential(lf.Linear(6), ReLUInverted(), lf.Linear(5), lf.Linear(3)),
        "mask inverted",
    ),
    "a model with 1 - x^2 for tanh": (
        lambda: lf.Sequential(lf.Linear(6), TanhAtInput(), lf.Linear(3)),
        "evaluated at the input",
    ),
    "a model whose last bias never learns": (lambda: lf.Sequential(lf.Linear(4), BiasNever(3, 4)), "always zero"),
    "a model with an affine gate transposed": (
        lambda: lf.Sequential(lf.Linear(4), WeightTransposed(), lf.Linear(3)),
        "transposed",
    ),
    "a model whose ReLU writes into grad": (
        lambda: lf.Sequential(lf.Linear(6), InPlaceBackward(), lf.Linear(3)),
        "upstream gradient overwritten by backward",
    ),
}
for title, (make, cause) in MODELS.items():
    fault(title, cause, inputs=normal(8, 5))(make)


@fault("square root: 1/0 in backward", "not finite", inputs=X)
class DividesByZero(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.sqrt(np.abs(x))

    def backward(self, grad):
        (x,) = self.saved
        with np.errstate(divide="ignore"):
            return (grad / (x - x),), {}


@fault("affine: None for x", "no gradient returned", inputs=X, gate=wide)
class Withholds(Affine):
    def dx(self, grad, x):
        return None


@fault("mean of squares: grad twice", "upstream gradient twice", inputs=X)
class GradTwice(lf.Gate):
    def forward(self, x):
        self.save(x)
        return np.mean(x**2)

    def backward(self, grad):
        (x,) = self.saved
        return (grad * grad * 2 * x / x.size,), {}
