"""Faults kept apart while the diagnosis was written: it was measured on them, never fitted to them.

Every class is right with `flaw = ""`. The mistakes are those of course forums and issue trackers.
"""

import numpy as np
from registry import flaws, normal

import layerflow as lf

SEED = 77


def drawn(*shape, scale=0.5):
    return lf.Parameter(scale * np.random.default_rng(SEED).normal(size=shape))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@flaws(
    normal(2, 2, 6, 6),
    overlap=("conv2d, naive loops: dx written for added", "overwritten instead of added"),
    cut=("conv2d, naive loops: padding cut at the end only", "shifted"),
    last=("conv2d, naive loops: dW of the last position", "sum over positions missing", "batch sum missing"),
    stride=("conv2d, naive loops: stride forgotten in dx", "stride forgotten"),
    flipped=("conv2d, naive loops: kernel turned in dx", "kernel not flipped"),
    turned=("conv2d, naive loops: dW turned", "flipped", "misplaced"),
    swapped=("conv2d, naive loops: dW with axes of height and width exchanged", "transposed"),
    bias=("conv2d, naive loops: db a mean over positions", "factor 1/N"),
    sample=("conv2d, naive loops: dW of the last sample", "batch sum missing"),
)
class Conv2d(lf.Gate):
    flaw = ""

    def __init__(self, stride=2, pad=1):
        self.stride, self.pad = stride, pad
        self.weight, self.bias = drawn(3, 2, 3, 3), drawn(3)

    def forward(self, x):
        p, s = self.pad, self.stride
        xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        size = (xp.shape[2] - 3) // s + 1
        out = np.zeros((len(x), 3, size, size))
        for n in range(len(x)):
            for f in range(3):
                for i in range(size):
                    for j in range(size):
                        window = xp[n, :, i * s : i * s + 3, j * s : j * s + 3]
                        out[n, f, i, j] = np.sum(window * self.weight.value[f]) + self.bias.value[f]
        self.save(x, xp)
        return out

    def backward(self, grad):
        x, xp = self.saved
        w, p = self.weight.value, self.pad
        s = self.stride
        dxp, dw = np.zeros_like(xp), np.zeros_like(w)
        for n in range(len(x)):
            for i in range(grad.shape[2]):
                for j in range(grad.shape[3]):
                    here = np.s_[n, :, i * s : i * s + 3, j * s : j * s + 3]
                    at = np.s_[n, :, i : i + 3, j : j + 3] if self.flaw == "stride" else here
                    part = np.tensordot(grad[n, :, i, j], w[..., ::-1, ::-1] if self.flaw == "flipped" else w, 1)
                    if self.flaw == "overlap":
                        dxp[at] = part
                    else:
                        dxp[at] += part
                    one = grad[n, :, i, j][:, None, None, None] * xp[here]
                    dw = one if self.flaw == "last" else dw + one
            if self.flaw == "sample" and n < len(x) - 1:
                dw = np.zeros_like(w)
        dx = dxp[:, :, : -2 * p, : -2 * p] if self.flaw == "cut" else dxp[:, :, p:-p, p:-p]
        dw = dw[..., ::-1, ::-1] if self.flaw == "turned" else dw
        dw = np.swapaxes(dw, 2, 3) if self.flaw == "swapped" else dw
        db = grad.sum(axis=(0, 2, 3))
        return (dx,), {"weight": dw, "bias": db / (grad.size / 3) if self.flaw == "bias" else db}


@flaws(
    normal(2, 2, 7, 7),
    overlap=("max pooling, 3 by 2: written for added", "overwritten instead of added"),
    minimum=("max pooling: the place of the minimum", "minimum for maximum"),
    all=("max pooling: the whole window receives it", "mask missing", "mask too wide", "local derivative missing"),
    mean=("max pooling: shared among the window", "mask missing", "wrong local derivative", "local derivative missing"),
)
class MaxPool(lf.Gate):
    flaw = ""

    def forward(self, x):
        size = (x.shape[2] - 3) // 2 + 1
        out = np.zeros((*x.shape[:2], size, size))
        for i in range(size):
            for j in range(size):
                out[:, :, i, j] = x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max(axis=(2, 3))
        self.save(x)
        return out

    def backward(self, grad):
        (x,) = self.saved
        dx = np.zeros_like(x)
        for n, c, i, j in np.ndindex(*grad.shape):
            window = x[n, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            target = dx[n, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            place = window == (window.min() if self.flaw == "minimum" else window.max())
            if self.flaw == "all":
                target += grad[n, c, i, j]
            elif self.flaw == "mean":
                target += grad[n, c, i, j] / 9
            elif self.flaw == "overlap":
                target[...] = place * grad[n, c, i, j]
            else:
                target += place * grad[n, c, i, j]
        return (dx,), {}


@flaws(
    normal(2, 3, 4, 6),
    window=("average pooling 2 by 3: 1/(kh kw) forgotten", "factor N"),
    one=("average pooling 2 by 3: divided by kh alone", "factor N"),
    twice=("average pooling 2 by 3: divided twice", "factor 1/N"),
)
class MeanPool(lf.Gate):
    flaw = ""

    def forward(self, x):
        n, c, h, w = x.shape
        self.save()
        return x.reshape(n, c, h // 2, 2, w // 3, 3).mean(axis=(3, 5))

    def backward(self, grad):
        count = {"window": 1, "one": 2, "twice": 36}.get(self.flaw, 6)
        return (np.repeat(np.repeat(grad, 2, axis=2), 3, axis=3) / count,), {}


@flaws(
    normal(7, 4),
    nothing=("batchnorm, step by step: dx of constant statistics", "statistics terms missing"),
    mean=("batchnorm, step by step: dmu forgotten", "mean term missing"),
    var=("batchnorm, step by step: dvar forgotten", "variance term missing"),
    eps=("batchnorm, step by step: eps outside the root", "eps in the wrong place", "factor per column"),
    noeps=("batchnorm, step by step: no eps in backward", "eps in the wrong place", "factor per column"),
    running=("batchnorm, step by step: running variance in dx", "running statistics", "factor per column"),
    rows=("batchnorm, step by step: means over the features", "sum over the wrong axis"),
    gamma=("batchnorm, step by step: gamma forgotten in dx", "factor array missing"),
    raw=("batchnorm, step by step: dgamma of x for xhat", "wrong local derivative", "evaluated at the input"),
)
class BatchNorm(lf.Gate):
    flaw = ""

    def __init__(self, eps=1e-3):
        self.eps = eps
        self.gamma, self.beta = drawn(4), drawn(4)
        self.running_var = lf.Buffer(np.array([0.7, 1.3, 2.0, 0.4]))

    def forward(self, x):
        mu = x.mean(axis=0)
        xmu = x - mu
        var = (xmu**2).mean(axis=0)
        sqrtvar = np.sqrt(var + self.eps)
        ivar = 1.0 / sqrtvar
        xhat = xmu * ivar
        self.save(x, xhat, xmu, ivar, var)
        return self.gamma.value * xhat + self.beta.value

    def backward(self, grad):
        x, xhat, xmu, ivar, var = self.saved
        g = grad if self.flaw == "gamma" else grad * self.gamma.value
        if self.flaw == "rows":
            dx = ivar * (g - g.mean(axis=1, keepdims=True) - xhat * (g * xhat).mean(axis=1, keepdims=True))
        elif self.flaw in ("eps", "noeps"):
            scale = 1 / (np.sqrt(var) + (self.eps if self.flaw == "eps" else 0.0))
            dx = scale * (g - g.mean(axis=0) - xhat * (g * xhat).mean(axis=0))
        elif self.flaw == "running":
            dx = g / np.sqrt(self.running_var.value + self.eps)
        else:
            dxmu = g * ivar
            dvar = (g * xmu).sum(axis=0) * -0.5 * ivar**3
            if self.flaw not in ("var", "nothing"):
                dxmu = dxmu + 2 * xmu * dvar / len(x)
            dmu = -dxmu.sum(axis=0)
            dx = dxmu if self.flaw in ("mean", "nothing") else dxmu + dmu / len(x)
        dgamma = (grad * (x if self.flaw == "raw" else xhat)).sum(axis=0)
        return (dx,), {"gamma": dgamma, "beta": grad.sum(axis=0)}


@flaws(
    normal(3, 4, 5),
    nothing=("RMS norm: root of the mean square taken as constant", "path missing", "variance term missing"),
    sign=("RMS norm: sign of the second term", "factor on a path", "sign on a path"),
    sum=("RMS norm: sum for mean in the second term", "factor on a path"),
    weight=("RMS norm: dweight summed over the batch alone, first position", "sum over positions missing"),
)
class RMSNorm(lf.Gate):
    flaw = ""

    def __init__(self):
        self.weight = drawn(5)

    def forward(self, x):
        r = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)
        self.save(x, r)
        return self.weight.value * (x / r)

    def backward(self, grad):
        x, r = self.saved
        g = grad * self.weight.value
        second = x * np.sum(g * x, axis=-1, keepdims=True) / (5 * r**3)
        factor = {"nothing": 0.0, "sign": -1.0, "sum": 5.0}.get(self.flaw, 1.0)
        dweight = grad * x / r
        dweight = dweight[:, 0].sum(axis=0) if self.flaw == "weight" else dweight.sum(axis=(0, 1))
        return (g / r - factor * second,), {"weight": dweight}


@flaws(
    normal(3, 4, 3),
    carry=("tanh RNN, all states out: dh of the next step dropped", "carry between steps missing", "path missing"),
    detach=("tanh RNN, all states out: weights see the last step only", "some steps missing", "path missing"),
    bias=("tanh RNN, all states out: bias of the last step", "some steps missing"),
    tanh=("tanh RNN, all states out: 1 - h for 1 - h^2", "wrong local derivative"),
    whh=("tanh RNN, all states out: dWh with the state after", "wrong local derivative"),
    mean=("tanh RNN, all states out: dWx a mean over the steps", "factor 1/N"),
    turned=("tanh RNN, all states out: Wh for Wh.T", "W for W.T"),
)
class RNN(lf.Gate):
    flaw = ""

    def __init__(self):
        rng = np.random.default_rng(SEED)
        self.wx, self.wh = lf.Parameter(rng.normal(size=(3, 4))), lf.Parameter(0.5 * rng.normal(size=(4, 4)))
        self.b = lf.Parameter(rng.normal(size=4))

    def forward(self, x):
        n, steps, _ = x.shape
        h, states = np.zeros((n, 4)), []
        for t in range(steps):
            h = np.tanh(x[:, t] @ self.wx.value + h @ self.wh.value + self.b.value)
            states.append(h)
        self.save(x, states)
        return np.stack(states, axis=1)

    def backward(self, grad):
        x, states = self.saved
        n, steps, _ = x.shape
        dx, dwx = np.zeros_like(x), np.zeros_like(self.wx.value)
        dwh, db, dh = np.zeros_like(self.wh.value), np.zeros(4), np.zeros((n, 4))
        for t in reversed(range(steps)):
            h = states[t]
            before = states[t - 1] if t else np.zeros((n, 4))
            da = (grad[:, t] + dh) * (1 - h if self.flaw == "tanh" else 1 - h**2)
            dx[:, t] = da @ self.wx.value.T
            if self.flaw != "detach" or t == steps - 1:
                dwx += x[:, t].T @ da
                dwh += (h if self.flaw == "whh" else before).T @ da
            if self.flaw != "bias" or t == steps - 1:
                db += da.sum(axis=0)
            dh = da @ (self.wh.value if self.flaw == "turned" else self.wh.value.T)
            if self.flaw == "carry":
                dh = np.zeros((n, 4))
        return (dx,), {"wx": dwx / steps if self.flaw == "mean" else dwx, "wh": dwh, "b": db}


@flaws(
    lambda rng: (rng.normal(size=(3, 4)), rng.normal(size=(3, 4))),
    update=("GRU cell: z for 1 - z in dh", "wrong local derivative"),
    reset=("GRU cell: the path through the reset gate forgotten", "path missing", "always zero"),
    candidate=("GRU cell: 1 - c for 1 - c^2", "wrong local derivative"),
    sigmoid=("GRU cell: derivative of z is z", "wrong local derivative", "local derivative missing"),
    skip=("GRU cell: z * h not derived by h", "path missing"),
)
class GRUCell(lf.Gate):
    flaw = ""

    def __init__(self):
        rng = np.random.default_rng(SEED)
        self.wz, self.wr, self.wc = (lf.Parameter(0.6 * rng.normal(size=(8, 4))) for _ in range(3))

    def forward(self, x, h):
        both = np.concatenate([x, h], axis=1)
        z, r = sigmoid(both @ self.wz.value), sigmoid(both @ self.wr.value)
        inner = np.concatenate([x, r * h], axis=1)
        c = np.tanh(inner @ self.wc.value)
        self.save(both, inner, z, r, c, h)
        return z * h + (1 - z) * c

    def backward(self, grad):
        both, inner, z, r, c, h = self.saved
        dz = grad * (h - c) * (z if self.flaw == "sigmoid" else z * (1 - z))
        dc = grad * (1 - z) * (1 - c if self.flaw == "candidate" else 1 - c**2)
        dinner = dc @ self.wc.value.T
        dr = dinner[:, 4:] * h * r * (1 - r)
        if self.flaw == "reset":
            dr = np.zeros_like(dr)
        dboth = dz @ self.wz.value.T + dr @ self.wr.value.T
        dx = dboth[:, :4] + dinner[:, :4]
        dh = dboth[:, 4:] + dinner[:, 4:] * r
        if self.flaw != "skip":
            dh += grad * (1 - z if self.flaw == "update" else z)
        return (dx, dh), {"wz": both.T @ dz, "wr": both.T @ dr, "wc": inner.T @ dc}


@flaws(
    lambda rng: (rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), rng.normal(size=(4, 6))),
    scale=("attention of q, k, v: 1/sqrt(d) forgotten", "factor sqrt(d)"),
    cross=("attention of q, k, v: softmax p (1 - p)", "diagonal only"),
    nosum=("attention of q, k, v: softmax without its sum", "path missing", "normaliser held constant"),
    swapped=("attention of q, k, v: dk and dv exchanged", "gradient of another"),
    turned=(
        "attention of q, k, v: dk from dS, not dS.T",
        "transposed",
        "transposed Jacobian",
        "wrong local derivative",
    ),
    values=("attention of q, k, v: dv from P, not P.T", "transposed Jacobian", "W for W.T"),
)
class Attention(lf.Gate):
    flaw = ""

    def forward(self, q, k, v):
        s = q @ k.T / np.sqrt(q.shape[1])
        e = np.exp(s - s.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        self.save(q, k, v, p)
        return p @ v

    def backward(self, grad):
        q, k, v, p = self.saved
        dv = (p if self.flaw == "values" else p.T) @ grad
        dp = grad @ v.T
        ds = p * (dp - np.sum(dp * p, axis=1, keepdims=True))
        ds = p * (1 - p) * dp if self.flaw == "cross" else p * dp if self.flaw == "nosum" else ds
        ds = ds if self.flaw == "scale" else ds / np.sqrt(q.shape[1])
        dk = (ds if self.flaw == "turned" else ds.T) @ q
        return ((ds @ k, dv, dk) if self.flaw == "swapped" else (ds @ k, dk, dv)), {}


@flaws(
    normal(6, 5),
    upstream=("leaky ReLU: masked by grad > 0", "mask of the upstream gradient"),
    times=("leaky ReLU: grad * x", "wrong local derivative"),
    column=("leaky ReLU: weighted per class", "factor per column"),
    row=("leaky ReLU: weighted per sample", "factor per row"),
)
class Leaky(lf.Gate):
    flaw = ""

    def forward(self, x):
        self.save(x)
        return np.where(x > 0, x, 0.1 * x)

    def backward(self, grad):
        (x,) = self.saved
        dx = np.where((grad if self.flaw == "upstream" else x) > 0, grad, 0.1 * grad)
        dx = grad * x if self.flaw == "times" else dx
        dx = dx * np.array([1.0, 2.0, 0.5, 3.0, 1.5]) if self.flaw == "column" else dx
        return (dx * np.arange(1.0, 7.0)[:, None] if self.flaw == "row" else dx,), {}
