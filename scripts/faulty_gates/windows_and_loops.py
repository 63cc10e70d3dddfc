"""Faulty gates with dilated windows, loops over single elements, and several outputs."""

import numpy as np
from registry import flaws, normal

import layerflow as lf


def drawn(*shape, seed=21):
    """A parameter of random numbers."""
    return lf.Parameter(np.random.default_rng(seed).normal(size=shape))


@flaws(
    normal(3, 2, 11),
    dx=("dilated conv1d: dilation forgotten in dx", "dilation forgotten"),
    dw=("dilated conv1d: dilation forgotten in dW", "dilation forgotten"),
    stride=("dilated conv1d: stride forgotten in dx", "stride forgotten"),
    overlap=("dilated conv1d: written, not added", "overwritten instead of added"),
    cut=("dilated conv1d: padding cut at the end", "shifted"),
)
class DilatedConv1d(lf.Gate):
    flaw = ""

    def __init__(self, stride=2, dilation=3):
        self.stride, self.dilation = stride, dilation
        self.kernel = drawn(4, 2, 3)

    def forward(self, x):
        xp, k = np.pad(x, ((0, 0), (0, 0), (2, 2))), self.kernel.value
        count = (xp.shape[2] - 2 * self.dilation - 1) // self.stride + 1
        out = np.zeros((len(x), 4, count))
        for p in range(count):
            for i in range(3):
                out[:, :, p] += xp[:, :, p * self.stride + i * self.dilation] @ k[:, :, i].T
        self.save(xp)
        return out

    def backward(self, grad):
        (xp,) = self.saved
        k = self.kernel.value
        dxp, dk = np.zeros_like(xp), np.zeros_like(k)
        for p in range(grad.shape[2]):
            for i in range(3):
                at = p * self.stride + i * self.dilation
                undilated = p * self.stride + i
                to = undilated if self.flaw == "dx" else p + i * self.dilation if self.flaw == "stride" else at
                part = grad[:, :, p] @ k[:, :, i]
                dxp[:, :, to] = part if self.flaw == "overlap" else dxp[:, :, to] + part
                dk[:, :, i] += grad[:, :, p].T @ xp[:, :, undilated if self.flaw == "dw" else at]
        return (dxp[:, :, :-4] if self.flaw == "cut" else dxp[:, :, 2:-2],), {"kernel": dk}


@flaws(
    normal(2, 2, 7, 7),
    dx=("dilated conv2d, dilation written as a number: forgotten in dx", "dilation forgotten"),
    rows=("dilated conv2d, dilation written as a number: forgotten in dx, kernel of one channel", "dilation forgotten"),
)
class DilatedConv2d(lf.Gate):
    flaw = ""

    def __init__(self):
        self.kernel = drawn(1 if self.flaw == "rows" else 3, 2, 2, 2)

    def forward(self, x):
        self.save(x)
        k = self.kernel.value
        return sum(
            np.einsum("nchw,fc->nfhw", x[:, :, 2 * i : 5 + 2 * i, 2 * j : 5 + 2 * j], k[:, :, i, j])
            for i in range(2)
            for j in range(2)
        )

    def backward(self, grad):
        (x,) = self.saved
        k = self.kernel.value
        dx, dk = np.zeros_like(x), np.zeros_like(k)
        for i in range(2):
            for j in range(2):
                s = 1 if self.flaw else 2
                dx[:, :, s * i : 5 + s * i, s * j : 5 + s * j] += np.einsum("nfhw,fc->nchw", grad, k[:, :, i, j])
                window = x[:, :, 2 * i : 5 + 2 * i, 2 * j : 5 + 2 * j]
                dk[:, :, i, j] = np.einsum("nfhw,nchw->fc", grad, window)
        return (dx,), {"kernel": dk}


@flaws(
    normal(3, 4),
    weight=("product in three loops: the weight missing in dx", "factor array missing"),
    last=(
        "product in three loops: dx written, not added",
        "sum over positions missing",
        "overwritten instead of added",
    ),
    square=("product in three loops: u for 2u", "factor on a path"),
    path=("product in three loops: path through the squares missing", "path missing"),
)
class ProductInLoops(lf.Gate):
    """y = x w + the squares of x w, element by element."""

    flaw = ""

    def __init__(self):
        self.w = drawn(4, 2)

    def forward(self, x):
        w = self.w.value
        u, y = np.zeros((len(x), 2)), np.zeros((len(x), 2))
        for n in range(len(x)):
            for j in range(2):
                for i in range(4):
                    u[n, j] += x[n, i] * w[i, j]
                y[n, j] = u[n, j] + u[n, j] ** 2
        self.save(x, u)
        return y

    def backward(self, grad):
        x, u = self.saved
        w = self.w.value
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        inner = {"square": u, "path": 0 * u}.get(self.flaw, 2 * u)
        for n in range(len(x)):
            for j in range(2):
                du = grad[n, j] * (1 + inner[n, j])
                for i in range(4):
                    part = du * (1.0 if self.flaw == "weight" else w[i, j])
                    dx[n, i] = part if self.flaw == "last" else dx[n, i] + part
                    dw[i, j] += du * x[n, i]
        return (dx,), {"w": dw}


@flaws(
    normal(5, 3),
    carry=(
        "moving average of numbers: the carry missing",
        "carry between steps missing",
        "diagonal only",
        "path missing",
    ),
    rate=("moving average of numbers: 1 - a missing", "factor of an argument"),
)
class MovingAverage(lf.Gate):
    """m = a m + (1 - a) tanh(x), column by column and number by number."""

    flaw = ""

    def __init__(self, a=0.7):
        self.a = a

    def forward(self, x):
        y = np.zeros_like(x)
        for j in range(x.shape[1]):
            m = 0.0
            for t in range(len(x)):
                m = self.a * m + (1 - self.a) * np.tanh(x[t, j])
                y[t, j] = m
        self.save(x)
        return y

    def backward(self, grad):
        (x,) = self.saved
        dx = np.zeros_like(x)
        for j in range(x.shape[1]):
            dm = 0.0
            for t in reversed(range(len(x))):
                dm = grad[t, j] + (0.0 if self.flaw == "carry" else self.a * dm)
                dx[t, j] = dm * (1.0 if self.flaw == "rate" else 1 - self.a) * (1 - np.tanh(x[t, j]) ** 2)
        return (dx,), {}


@flaws(
    normal(4, 3),
    second=("two outputs: the path of the second missing", "path missing"),
    factor=("two outputs: the path of the second halved", "factor on a path"),
    output=("two outputs: the square for x in the derivative of the second", "evaluated at the output"),
)
class TwoOutputs(lf.Gate):
    """tanh(x w), and the mean of the squares of each row of x."""

    flaw = ""

    def __init__(self):
        self.w = drawn(3, 2)

    def forward(self, x):
        h = np.tanh(x @ self.w.value)
        self.save(x, h)
        return h, np.mean(x**2, axis=1)

    def backward(self, dh, dmean):
        x, h = self.saved
        du = dh * (1 - h**2)
        second = 2 * x * dmean[:, None] / 3
        wrong = {"second": 0 * second, "factor": second / 2, "output": 2 * x**2 * dmean[:, None] / 3}
        second = wrong.get(self.flaw, second)
        return (du @ self.w.value.T + second,), {"w": x.T @ du}
