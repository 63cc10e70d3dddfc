"""The last set kept apart, written when the two before it had been seen.

Every class is right with `flaw = ""`.
"""

import numpy as np
from registry import flaws, normal

import layerflow as lf


def drawn(*shape, seed=21):
    return lf.Parameter(0.6 * np.random.default_rng(seed).normal(size=shape))


@flaws(
    normal(2, 3, 4, 5),
    mean=("2-d batch norm: mean term missing", "mean term missing"),
    batch=("2-d batch norm: means over the batch alone", "sum over the wrong axis"),
    count=("2-d batch norm: divided by N, not N H W", "factor on a path", "factor N"),
    gamma=("2-d batch norm: dgamma not summed over positions", "sum over positions missing"),
    running=("2-d batch norm: running variance in backward", "running statistics", "factor per index"),
)
class BatchNorm2d(lf.Gate):
    flaw = ""

    def __init__(self):
        self.gamma, self.beta = drawn(3), drawn(3, seed=22)
        self.running = lf.Buffer(np.array([0.5, 1.5, 2.5]))

    def forward(self, x):
        axes, shape = (0, 2, 3), (1, 3, 1, 1)
        mu, var = x.mean(axis=axes), x.var(axis=axes)
        std = np.sqrt(var + 1e-5).reshape(shape)
        xhat = (x - mu.reshape(shape)) / std
        self.save(xhat, std)
        return self.gamma.value.reshape(shape) * xhat + self.beta.value.reshape(shape)

    def backward(self, grad):
        xhat, std = self.saved
        g = grad * self.gamma.value.reshape(1, 3, 1, 1)
        axes = (0,) if self.flaw == "batch" else (0, 2, 3)
        count = {"batch": len(g), "count": len(g)}.get(self.flaw, g.size / 3)
        first = g.sum(axis=axes, keepdims=True) / count
        second = xhat * (g * xhat).sum(axis=axes, keepdims=True) / count
        if self.flaw == "running":
            std = np.sqrt(self.running.value + 1e-5).reshape(1, 3, 1, 1)
        dx = (g - (0 if self.flaw == "mean" else first) - second) / std
        dgamma = (grad * xhat)[:, :, -1, -1].sum(axis=0) if self.flaw == "gamma" else (grad * xhat).sum(axis=(0, 2, 3))
        return (dx,), {"gamma": dgamma, "beta": grad.sum(axis=(0, 2, 3))}


@flaws(
    normal(3, 5, 2),
    carry=("Elman network, last state: truncated to one step", "carry between steps missing", "part not reached"),
    u=("Elman network, last state: dU of the last step", "some steps missing", "carry between steps missing"),
    after=("Elman network, last state: dU with h after", "wrong local derivative"),
    mean=("Elman network, last state: mean over the steps", "factor 1/N"),
    slope=("Elman network, last state: tanh not derived", "local derivative missing"),
)
class Elman(lf.Gate):
    flaw = ""

    def __init__(self):
        self.W, self.U = drawn(2, 3), drawn(3, 3, seed=22)

    def forward(self, x):
        h = [np.zeros((len(x), 3))]
        for t in range(x.shape[1]):
            h.append(np.tanh(np.dot(x[:, t], self.W.value) + np.dot(h[-1], self.U.value)))
        self.save(x, h)
        return h[-1]

    def backward(self, grad):
        x, h = self.saved
        dx, dW, dU, dh = np.zeros_like(x), np.zeros((2, 3)), np.zeros((3, 3)), grad
        for t in range(x.shape[1] - 1, -1, -1):
            da = dh if self.flaw == "slope" else dh * (1 - h[t + 1] ** 2)
            dx[:, t] = da @ self.W.value.T
            dW += x[:, t].T @ da
            if self.flaw != "u" or t == x.shape[1] - 1:
                dU += h[t + 1 if self.flaw == "after" else t].T @ da
            dh = da @ self.U.value.T
            if self.flaw == "carry":
                break
        return (dx,), {"W": dW / 5 if self.flaw == "mean" else dW, "U": dU}


@flaws(
    normal(2, 4, 6),
    scale=("two heads: scale of d, not d/2", "factor sqrt(d)", "factor on a path"),
    heads=("two heads: heads exchanged in dx", "blocks swapped", "wrong local derivative", "path missing"),
    cross=("two heads: softmax p (1 - p)", "diagonal only"),
    queries=("two heads: path through the queries missing", "path missing"),
)
class TwoHeads(lf.Gate):
    flaw = ""

    def __init__(self):
        self.wq, self.wk, self.wv = drawn(6, 6), drawn(6, 6, seed=22), drawn(6, 6, seed=23)

    def heads(self, x):
        return x.reshape(*x.shape[:2], 2, 3).transpose(0, 2, 1, 3)

    def forward(self, x):
        q, k, v = (self.heads(x @ w.value) for w in (self.wq, self.wk, self.wv))
        e = np.exp(np.einsum("nhid,nhjd->nhij", q, k) / np.sqrt(3))
        p = e / np.sum(e, axis=3, keepdims=True)
        self.save(x, q, k, v, p)
        return np.einsum("nhij,nhjd->nhid", p, v).transpose(0, 2, 1, 3).reshape(x.shape)

    def backward(self, grad):
        x, q, k, v, p = self.saved
        g = self.heads(grad)
        dv, dp = np.einsum("nhij,nhid->nhjd", p, g), np.einsum("nhid,nhjd->nhij", g, v)
        ds = p * (1 - p) * dp if self.flaw == "cross" else p * (dp - np.sum(dp * p, axis=3, keepdims=True))
        ds = ds / np.sqrt(6 if self.flaw == "scale" else 3)
        dq, dk = np.einsum("nhij,nhjd->nhid", ds, k), np.einsum("nhij,nhid->nhjd", ds, q)
        dq, dk, dv = (d.transpose(0, 2, 1, 3).reshape(x.shape) for d in (dq, dk, dv))
        dx = dk @ self.wk.value.T + dv @ self.wv.value.T
        dx = dx if self.flaw == "queries" else dx + dq @ self.wq.value.T
        dx = dx[..., [3, 4, 5, 0, 1, 2]] if self.flaw == "heads" else dx
        dwq, dwk, dwv = (np.einsum("nti,ntj->ij", x, d) for d in (dq, dk, dv))
        return (dx,), {"wq": dwq, "wk": dwk, "wv": dwv}


@flaws(
    normal(6, 5),
    inner=(
        "GELU by tanh: inner derivative missing",
        "path missing",
        "local derivative missing",
        "wrong local derivative",
    ),
    product=("GELU by tanh: second term of the product missing", "path missing"),
    cube=("GELU by tanh: derivative of the cube missing", "path missing"),
    half=("GELU by tanh: 1/2 forgotten", "factor 2"),
    upstream=("GELU by tanh: grad forgotten", "upstream gradient ignored"),
)
class GELU(lf.Gate):
    flaw = ""

    def forward(self, x):
        inner = 0.8 * (x + 0.05 * x**3)
        t = np.tanh(inner)
        self.save(x, t)
        return 0.5 * x * (1 + t)

    def backward(self, grad):
        x, t = self.saved
        slope = 0.8 * (1.0 if self.flaw == "cube" else 1 + 0.15 * x**2)
        slope = 1.0 if self.flaw == "inner" else slope
        local = 0.5 * (1 + t) + (0 if self.flaw == "product" else 0.5 * x * (1 - t**2) * slope)
        local = 2 * local if self.flaw == "half" else local
        return (local if self.flaw == "upstream" else grad * local,), {}


@flaws(
    normal(2, 3, 5, 5),
    overlap=("depthwise convolution: written, not added", "overwritten instead of added"),
    cut=("depthwise convolution: padding cut at one end", "shifted"),
    turned=("depthwise convolution: kernel turned", "kernel not flipped"),
    row=("depthwise convolution: dw of the last row of positions", "sum over positions missing"),
    channels=("depthwise convolution: a factor per channel", "factor per index"),
)
class Depthwise(lf.Gate):
    flaw = ""

    def __init__(self):
        self.w = drawn(3, 3, 3)

    def forward(self, x):
        xp = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros_like(x)
        for a in range(3):
            for b in range(3):
                out += self.w.value[:, a, b][:, None, None] * xp[:, :, a : a + 5, b : b + 5]
        self.save(xp)
        return out

    def backward(self, grad):
        (xp,) = self.saved
        w = self.w.value[:, ::-1, ::-1] if self.flaw == "turned" else self.w.value
        dxp, dw = np.zeros_like(xp), np.zeros_like(w)
        for a in range(3):
            for b in range(3):
                part = w[:, a, b][:, None, None] * grad
                here = np.s_[:, :, a : a + 5, b : b + 5]
                dxp[here] = part if self.flaw == "overlap" else dxp[here] + part
                product = grad * xp[here]
                dw[:, a, b] = (product[:, :, -1:] if self.flaw == "row" else product).sum(axis=(0, 2, 3))
        dx = dxp[:, :, 2:, 2:] if self.flaw == "cut" else dxp[:, :, 1:-1, 1:-1]
        dx = dx * np.array([1.0, 2.0, 3.0])[:, None, None] if self.flaw == "channels" else dx
        return (dx,), {"w": dw}
