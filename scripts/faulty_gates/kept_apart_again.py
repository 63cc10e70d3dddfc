"""A second set kept apart, written when the first had been seen: other gates, other habits of writing.

Every class is right with `flaw = ""`.
"""

import numpy as np
from registry import flaws, normal

import layerflow as lf


def drawn(*shape, seed=11):
    return lf.Parameter(0.7 * np.random.default_rng(seed).normal(size=shape))


@flaws(
    normal(4, 3, 5),
    carry=("LSTM in arrays: dc not carried", "carry between steps missing", "path missing"),
    forget=("LSTM in arrays: dc carried by i, not f", "wrong local derivative"),
    state=("LSTM in arrays: dU with the new state", "wrong local derivative"),
    candidate=("LSTM in arrays: 1 - g for 1 - g^2", "wrong local derivative"),
    bias=("LSTM in arrays: db of one step", "some steps missing", "sum over positions missing"),
    first=("LSTM in arrays: loop ends before the first step", "part not reached", "some steps missing"),
    samples=("LSTM in arrays: dW divided by the batch", "factor 1/N"),
)
class LSTMInArrays(lf.Gate):
    flaw = ""

    def __init__(self):
        self.W, self.U, self.b = drawn(5, 8), drawn(2, 8, seed=12), drawn(8, seed=13)

    def forward(self, x):
        steps, n, _ = x.shape
        i, f, o, g = (np.zeros((steps, n, 2)) for _ in range(4))
        c, h, tanh_c = np.zeros((steps + 1, n, 2)), np.zeros((steps + 1, n, 2)), np.zeros((steps, n, 2))
        for t in range(steps):
            a = x[t] @ self.W.value + h[t - 1] @ self.U.value + self.b.value
            i[t] = 1.0 / (1.0 + np.exp(-a[:, 0:2]))
            f[t] = 1.0 / (1.0 + np.exp(-a[:, 2:4]))
            o[t] = 1.0 / (1.0 + np.exp(-a[:, 4:6]))
            g[t] = np.tanh(a[:, 6:8])
            c[t] = f[t] * c[t - 1] + i[t] * g[t]
            tanh_c[t] = np.tanh(c[t])
            h[t] = o[t] * tanh_c[t]
        self.save(x, i, f, o, g, c, h, tanh_c)
        return h[:-1].copy()

    def backward(self, grad):
        x, i, f, o, g, c, h, tanh_c = self.saved
        steps = len(x)
        dx, dW, dU, db = (np.zeros_like(p) for p in (x, self.W.value, self.U.value, self.b.value))
        dh, dc = np.zeros_like(grad[0]), np.zeros_like(grad[0])
        for t in range(steps - 1, 0 if self.flaw == "first" else -1, -1):
            dh = dh + grad[t]
            dc = dc + dh * o[t] * (1 - tanh_c[t] ** 2)
            slope = 1 - g[t] if self.flaw == "candidate" else 1 - g[t] ** 2
            da = np.hstack(
                (
                    dc * g[t] * i[t] * (1 - i[t]),
                    dc * c[t - 1] * f[t] * (1 - f[t]),
                    dh * tanh_c[t] * o[t] * (1 - o[t]),
                    dc * i[t] * slope,
                )
            )
            dx[t] = da @ self.W.value.T
            dW += x[t].T @ da
            dU += h[t if self.flaw == "state" else t - 1].T @ da
            db = da.sum(axis=0) if self.flaw == "bias" else db + da.sum(axis=0)
            dh = da @ self.U.value.T
            dc = np.zeros_like(dc) if self.flaw == "carry" else dc * (i[t] if self.flaw == "forget" else f[t])
        return (dx,), {"W": dW / x.shape[1] if self.flaw == "samples" else dW, "U": dU, "b": db}


@flaws(
    normal(2, 3, 5),
    overlap=(
        "transposed convolution: dw of the last position",
        "sum over positions missing",
        "overwritten instead of added",
    ),
    flipped=("transposed convolution: kernel turned in dx", "kernel not flipped"),
    stride=("transposed convolution: stride forgotten in dx", "stride forgotten", "wrong local derivative"),
    channels=("transposed convolution: channels of dw exchanged", "transposed"),
)
class TransposedConv1d(lf.Gate):
    flaw = ""

    def __init__(self):
        self.w = drawn(3, 3, 4)

    def forward(self, x):
        n, _, length = x.shape
        out = np.zeros((n, 3, 2 * length + 2))
        for p in range(length):
            out[:, :, 2 * p : 2 * p + 4] += np.einsum("nc,cfk->nfk", x[:, :, p], self.w.value)
        self.save(x)
        return out

    def backward(self, grad):
        (x,) = self.saved
        w = self.w.value[..., ::-1] if self.flaw == "flipped" else self.w.value
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for p in range(x.shape[2]):
            start = p if self.flaw == "stride" else 2 * p
            dx[:, :, p] = np.einsum("nfk,cfk->nc", grad[:, :, start : start + 4], w)
            part = np.einsum("nc,nfk->cfk", x[:, :, p], grad[:, :, 2 * p : 2 * p + 4])
            dw = part if self.flaw == "overlap" else dw + part
        return (dx,), {"w": np.swapaxes(dw, 0, 1) if self.flaw == "channels" else dw}


@flaws(
    normal(3, 2, 4, 4),
    nothing=("instance norm: statistics held constant", "statistics terms missing"),
    mean=("instance norm: mean over the batch, too", "sum over the wrong axis"),
    variance=("instance norm: variance term missing", "variance term missing"),
    scale=("instance norm: scale missing in dx", "factor array missing"),
    root=("instance norm: var for std", "factor array too often", "factor array missing", "factor per index"),
)
class InstanceNorm(lf.Gate):
    flaw = ""

    def __init__(self):
        self.scale, self.shift = drawn(2), drawn(2, seed=12)

    def forward(self, x):
        m = np.mean(x, axis=(2, 3), keepdims=True)
        v = np.var(x, axis=(2, 3), keepdims=True)
        y = (x - m) / np.sqrt(v + 1e-5)
        self.save(y, v)
        return self.scale.value[None, :, None, None] * y + self.shift.value[None, :, None, None]

    def backward(self, grad):
        y, v = self.saved
        s = self.scale.value[None, :, None, None]
        g = grad if self.flaw == "scale" else grad * s
        axes = (0, 2, 3) if self.flaw == "mean" else (2, 3)
        first, second = g.mean(axis=axes, keepdims=True), y * (g * y).mean(axis=axes, keepdims=True)
        dx = g if self.flaw == "nothing" else g - first if self.flaw == "variance" else g - first - second
        dx = dx / (v + 1e-5 if self.flaw == "root" else np.sqrt(v + 1e-5))
        return (dx,), {"scale": (grad * y).sum(axis=(0, 2, 3)), "shift": grad.sum(axis=(0, 2, 3))}


@flaws(
    normal(4, 5),
    sum=("log-softmax: sum of the upstream gradient forgotten", "upstream gradient ignored"),
    term=("log-softmax: second term forgotten", "local derivative missing", "normaliser held constant", "path missing"),
    sign=("log-softmax: sign of the second term", "sign on a path", "factor on a path"),
    axis=("log-softmax: sum over the samples", "sum over the wrong axis"),
)
class LogSoftmax(lf.Gate):
    flaw = ""

    def forward(self, x):
        logs = x - np.log(np.sum(np.exp(x), axis=1, keepdims=True))
        self.save(logs)
        return logs

    def backward(self, grad):
        p = np.exp(self.saved[0])
        total = grad.sum(axis=0 if self.flaw == "axis" else 1, keepdims=True)
        total = {"sum": 1.0, "term": 0.0, "sign": -total}.get(self.flaw, total)
        return (grad - p * total,), {}


@flaws(
    lambda rng: (rng.normal(size=(5, 4)), rng.normal(size=(5, 4))),
    norm=(
        "cosine similarity: norms held constant",
        "path missing",
        "variance term missing",
        "statistics terms missing",
    ),
    swapped=("cosine similarity: da and db exchanged", "gradient of another"),
    scale=("cosine similarity: one norm not divided by", "factor array too often", "factor per row"),
)
class Cosine(lf.Gate):
    flaw = ""

    def forward(self, a, b):
        na, nb = np.linalg.norm(a, axis=1, keepdims=True), np.linalg.norm(b, axis=1, keepdims=True)
        c = np.sum(a * b, axis=1, keepdims=True) / (na * nb)
        self.save(a, b, na, nb, c)
        return c[:, 0]

    def backward(self, grad):
        a, b, na, nb, c = self.saved
        g = grad[:, None]
        inner = 0.0 if self.flaw == "norm" else 1.0
        da = g * (b / (na * nb) - inner * c * a / na**2)
        db = g * (a / (na * nb) - c * b / nb**2)
        da = da * nb if self.flaw == "scale" else da
        return ((db, da) if self.flaw == "swapped" else (da, db)), {}


@flaws(
    normal(6, 4),
    gate=("gated linear unit: path through the gate missing", "path missing", "part not reached"),
    slope=("gated linear unit: sigmoid derived as s", "wrong local derivative"),
    exchanged=("gated linear unit: halves exchanged", "blocks swapped"),
    open=("gated linear unit: gate not multiplied in", "factor array missing", "local derivative missing"),
)
class GLU(lf.Gate):
    flaw = ""

    def forward(self, x):
        a, b = np.split(x, 2, axis=1)
        s = 1 / (1 + np.exp(-b))
        self.save(a, s)
        return a * s

    def backward(self, grad):
        a, s = self.saved
        da = grad if self.flaw == "open" else grad * s
        db = grad * a * (s if self.flaw == "slope" else s * (1 - s))
        db = np.zeros_like(db) if self.flaw == "gate" else db
        return (np.concatenate([db, da] if self.flaw == "exchanged" else [da, db], axis=1),), {}


@flaws(
    normal(3, 4, 5),
    times=("weighted mean over the sequence: 1/steps forgotten", "factor N"),
    last=("weighted mean over the sequence: to the last step only", "part not reached"),
    weight=("weighted mean over the sequence: dweight of one sample", "batch sum missing"),
    negative=("weighted mean over the sequence: sign", "sign"),
)
class WeightedMean(lf.Gate):
    flaw = ""

    def __init__(self):
        self.weight = drawn(4)

    def forward(self, x):
        self.save(x)
        return np.mean(x * self.weight.value[:, None], axis=1)

    def backward(self, grad):
        (x,) = self.saved
        dx = grad[:, None] * self.weight.value[:, None] / (1 if self.flaw == "times" else 4)
        dx = -dx if self.flaw == "negative" else dx
        if self.flaw == "last":
            dx[:, :-1] = 0
        parts = (grad[:, None] * x).sum(axis=2) / 4
        return (dx,), {"weight": parts[0] if self.flaw == "weight" else parts.sum(axis=0)}
