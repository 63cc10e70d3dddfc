"""Convolutions, pooling, normalisations, recurrences and attention, as students get them wrong.

Every class is right with `flaw = ""`.
"""

import numpy as np
from registry import flaws, normal

import layerflow as lf


def drawn(*shape, scale=0.6, seed=3):
    return lf.Parameter(scale * np.random.default_rng(seed).normal(size=shape))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@flaws(
    normal(3, 2, 9),
    overlap=("conv1d, im2col: columns written back, not added", "overwritten instead of added"),
    cut=("conv1d, im2col: padding cut at the end", "shifted"),
    uncut=("conv1d, im2col: padding cut at the start, twice", "shifted"),
    last=("conv1d, im2col: dW of the last position", "sum over positions missing"),
    first=("conv1d, im2col: dW of the first position", "sum over positions missing"),
    batch=("conv1d, im2col: dW of the last sample", "batch sum missing"),
    stride=("conv1d, im2col: stride forgotten in dx", "stride forgotten"),
    flipped=("conv1d, im2col: kernel turned in dx", "kernel not flipped"),
    dw_flipped=("conv1d, im2col: dW turned", "flipped"),
    positions=("conv1d, im2col: dW a mean over positions", "factor 1/N"),
    samples=("conv1d, im2col: dW a mean over the batch", "factor 1/N"),
    bias=("conv1d, im2col: db of the last position", "sum over positions missing"),
    channels=("conv1d, im2col: dx with output channels in reverse", "kernel not flipped", "flipped"),
)
class Conv1d(lf.Gate):
    flaw = ""

    def __init__(self, stride=2):
        self.stride = stride
        self.kernel, self.bias = drawn(4, 2, 3), drawn(4)

    def columns(self, xp):
        starts = range(0, xp.shape[2] - 2, self.stride)
        return np.stack([xp[:, :, i : i + 3] for i in starts], axis=1)  # samples, positions, channels, taps

    def forward(self, x):
        cols = self.columns(np.pad(x, ((0, 0), (0, 0), (1, 1))))
        self.save(cols, x.shape)
        out = np.einsum("npck,fck->nfp", cols, self.kernel.value)
        return out + self.bias.value[:, None]

    def backward(self, grad):
        cols, (n, c, length) = self.saved
        weight = self.kernel.value
        weight = weight[..., ::-1] if self.flaw == "flipped" else weight[::-1] if self.flaw == "channels" else weight
        dcols = np.einsum("nfp,fck->npck", grad, weight)
        dxp = np.zeros((n, c, length + 2))
        for p in range(grad.shape[2]):
            start = p if self.flaw == "stride" else p * self.stride
            if self.flaw == "overlap":
                dxp[:, :, start : start + 3] = dcols[:, p]
            else:
                dxp[:, :, start : start + 3] += dcols[:, p]
        dx = dxp[:, :, :-2] if self.flaw == "cut" else dxp[:, :, 2:] if self.flaw == "uncut" else dxp[:, :, 1:-1]
        dw = np.einsum("nfp,npck->pfck", grad, cols)
        dw = {"last": dw[-1], "first": dw[0], "positions": dw.mean(axis=0)}.get(self.flaw, dw.sum(axis=0))
        dw = dw[..., ::-1] if self.flaw == "dw_flipped" else dw / n if self.flaw == "samples" else dw
        if self.flaw == "batch":
            dw = np.einsum("fp,pck->fck", grad[-1], cols[-1])
        db = grad[:, :, -1].sum(axis=0) if self.flaw == "bias" else grad.sum(axis=(0, 2))
        return (dx,), {"kernel": dw, "bias": db}


@flaws(
    normal(2, 2, 5, 5),
    written=("overlapping average pooling: written, not added", "overwritten instead of added"),
    window=("overlapping average pooling: 1/(kh kw) forgotten", "factor N"),
    counted=("overlapping average pooling: averaged over the windows", "mean for sum"),
)
class OverlappingMean(lf.Gate):
    flaw = ""

    def forward(self, x):
        self.save(x.shape)
        return np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3)).mean(axis=(4, 5))

    def backward(self, grad):
        dx, count = np.zeros(self.saved[0]), np.zeros(self.saved[0])
        for i in range(grad.shape[2]):
            for j in range(grad.shape[3]):
                here = np.s_[:, :, i : i + 3, j : j + 3]
                part = grad[:, :, i, j][..., None, None] / (1 if self.flaw == "window" else 9)
                dx[here] = part if self.flaw == "written" else dx[here] + part
                count[here] += 1
        return (dx / count if self.flaw == "counted" else dx,), {}


@flaws(
    normal(2, 3, 4, 4),
    minimum=("max pooling by reshape: argmin", "minimum for maximum"),
    first=("max pooling by reshape: always the first of the window", "misplaced"),
    all=("max pooling by reshape: the whole window", "mask missing"),
)
class BlockMax(lf.Gate):
    flaw = ""

    def forward(self, x):
        n, c, h, w = x.shape
        blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)
        self.save(blocks)
        return blocks.max(axis=4)

    def backward(self, grad):
        (blocks,) = self.saved
        n, c, h, w, _ = blocks.shape
        which = blocks.argmin(axis=4) if self.flaw == "minimum" else blocks.argmax(axis=4)
        mask = np.eye(4)[np.zeros_like(which) if self.flaw == "first" else which]
        mask = np.ones_like(mask) if self.flaw == "all" else mask
        dx = (grad[..., None] * mask).reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        return (dx.reshape(n, c, 2 * h, 2 * w),), {}


@flaws(
    normal(3, 4, 5),
    nothing=("layer norm of sequences: constant statistics", "statistics terms missing"),
    mean=("layer norm of sequences: mean term missing", "mean term missing"),
    var=("layer norm of sequences: variance term missing", "variance term missing"),
    axes=("layer norm of sequences: means over the steps", "sum over the wrong axis"),
    sums=("layer norm of sequences: sums for means", "factor on a path"),
    eps=("layer norm of sequences: eps outside the root", "eps in the wrong place"),
    gamma=("layer norm of sequences: dgamma of the last step", "sum over positions missing"),
    times=("layer norm of sequences: gamma missing in dx", "factor array missing"),
)
class LayerNorm(lf.Gate):
    flaw = ""
    axes = (-1,)

    def __init__(self):
        self.gamma, self.beta = drawn(5), drawn(5)

    def forward(self, x):
        mean, var = x.mean(axis=self.axes, keepdims=True), x.var(axis=self.axes, keepdims=True)
        xhat = (x - mean) / np.sqrt(var + 1e-4)
        self.save(xhat, var)
        return self.gamma.value * xhat + self.beta.value

    def backward(self, grad):
        xhat, var = self.saved
        std = np.sqrt(var) + 1e-4 if self.flaw == "eps" else np.sqrt(var + 1e-4)
        g = grad if self.flaw == "times" else grad * self.gamma.value
        axes = 1 if self.flaw == "axes" else self.axes
        mean = (lambda a: a.sum(axis=axes, keepdims=True)) if self.flaw == "sums" else None
        mean = mean or (lambda a: a.mean(axis=axes, keepdims=True))
        dx = g.copy()
        dx -= 0 if self.flaw in ("nothing", "mean") else mean(g)
        dx -= 0 if self.flaw in ("nothing", "var") else xhat * mean(g * xhat)
        dgamma = (grad * xhat)[:, -1].sum(axis=0) if self.flaw == "gamma" else (grad * xhat).sum(axis=(0, 1))
        return (dx / std,), {"gamma": dgamma, "beta": grad.sum(axis=(0, 1))}


@flaws(
    normal(2, 4, 3, 3),
    mean=("group norm: mean term missing", "mean term missing"),
    var=("group norm: variance term missing", "variance term missing"),
    half=("group norm: variance term halved", "factor on a path"),
)
class GroupNorm(lf.Gate):
    flaw = ""

    def forward(self, x):
        groups = x.reshape(len(x), 2, -1)
        mu = groups.mean(axis=2, keepdims=True)
        centred = groups - mu
        var = np.mean(centred**2, axis=2, keepdims=True)
        std = np.sqrt(var + 1e-5)
        self.save(centred / std, std, x.shape)
        return (centred / std).reshape(x.shape)

    def backward(self, grad):
        xhat, std, shape = self.saved
        g = grad.reshape(xhat.shape)
        dx = g if self.flaw == "mean" else g - g.mean(axis=2, keepdims=True)
        factor = {"var": 0.0, "half": 0.5}.get(self.flaw, 1.0)
        dx = dx - factor * xhat * (g * xhat).mean(axis=2, keepdims=True)
        return ((dx / std).reshape(shape),), {}


@flaws(
    normal(4, 5, 3),
    last=("LSTM, last state out: W of the last step alone", "some steps missing", "carry between steps missing"),
    carry_h=("LSTM, last state out: h not carried back", "carry between steps missing", "path missing"),
    carry_c=("LSTM, last state out: c not carried back", "carry between steps missing", "path missing"),
    bias=("LSTM, last state out: bias of the first step", "some steps missing"),
    swapped=("LSTM, last state out: f and i exchanged in dc", "wrong local derivative"),
    gates=("LSTM, last state out: parts of dW exchanged", "blocks swapped"),
    out=("LSTM, last state out: derivative of the output gate 1 - o", "wrong local derivative"),
    tanh=("LSTM, last state out: derivative of tanh(c) missing", "local derivative missing"),
)
class LSTM(lf.Gate):
    flaw = ""

    def __init__(self):
        self.w, self.u, self.b = drawn(3, 8), drawn(2, 8, seed=4), drawn(8, seed=5)

    def forward(self, x):
        h = c = np.zeros((len(x), 2))
        kept = []
        for t in range(x.shape[1]):
            a = x[:, t] @ self.w.value + h @ self.u.value + self.b.value
            i, f, o = sigmoid(a[:, :2]), sigmoid(a[:, 2:4]), sigmoid(a[:, 4:6])
            g = np.tanh(a[:, 6:])
            before = h, c
            c = f * c + i * g
            tc = np.tanh(c)
            h = o * tc
            kept.append((*before, i, f, o, g, tc))
        self.save(x, kept)
        return h

    def backward(self, grad):
        x, kept = self.saved
        dx, dw, du, db = (np.zeros_like(p) for p in (x, self.w.value, self.u.value, self.b.value))
        dh, dc = grad, np.zeros_like(grad)
        steps = len(kept)
        for t in reversed(range(steps)):
            h, c, i, f, o, g, tc = kept[t]
            dc = dc + dh * o * (1 if self.flaw == "tanh" else 1 - tc**2)
            da_o = dh * tc * ((1 - o) if self.flaw == "out" else o * (1 - o))
            da = [dc * g * i * (1 - i), dc * c * f * (1 - f), da_o, dc * i * (1 - g**2)]
            da = np.concatenate(da, axis=1)
            dx[:, t] = da @ self.w.value.T
            if self.flaw != "last" or t == steps - 1:
                dw += x[:, t].T @ da
                du += h.T @ da
            if self.flaw != "bias" or t == 0:
                db += da.sum(axis=0)
            dh = np.zeros_like(dh) if self.flaw == "carry_h" else da @ self.u.value.T
            dc = np.zeros_like(dc) if self.flaw == "carry_c" else dc * (i if self.flaw == "swapped" else f)
        if self.flaw == "gates":
            dw = dw[:, [2, 3, 0, 1, 4, 5, 6, 7]]
        return (dx,), {"w": dw, "u": du, "b": db}


@flaws(
    normal(2, 4, 6),
    scale=("self-attention: 1/sqrt(d) forgotten in backward", "factor sqrt(d)"),
    cross=("self-attention: cross terms of softmax missing", "diagonal only"),
    mask=("self-attention: dropout mask ignored in backward", "factor array missing"),
    keys=("self-attention: path through the keys missing", "path missing"),
    residual=("self-attention: residual path missing", "path missing"),
    exchanged=("self-attention: dwk and dwv exchanged", "gradient of another"),
    output=("self-attention: wo for wo.T", "W for W.T"),
)
class SelfAttention(lf.Gate):
    flaw = ""

    def __init__(self):
        self.wq, self.wk, self.wv, self.wo = (drawn(6, 6, seed=seed) for seed in range(4))

    def forward(self, x):
        q, k, v = x @ self.wq.value, x @ self.wk.value, x @ self.wv.value
        p = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(6))
        mask = (np.arange(32).reshape(2, 4, 4) % 3 > 0) * 1.5
        dropped = p * mask
        mixed = dropped @ v
        self.save(x, q, k, v, p, mask, dropped, mixed)
        return x + mixed @ self.wo.value

    def backward(self, grad):
        x, q, k, v, p, mask, dropped, mixed = self.saved
        dmixed = grad @ (self.wo.value if self.flaw == "output" else self.wo.value.T)
        dwo = np.einsum("nti,ntj->ij", mixed, grad)
        dv = dropped.transpose(0, 2, 1) @ dmixed
        dp = dmixed @ v.transpose(0, 2, 1)
        dp = dp if self.flaw == "mask" else dp * mask
        ds = p * (1 - p) * dp if self.flaw == "cross" else p * (dp - (dp * p).sum(axis=-1, keepdims=True))
        ds = ds if self.flaw == "scale" else ds / np.sqrt(6)
        dq, dk = ds @ k, ds.transpose(0, 2, 1) @ q
        dx = dq @ self.wq.value.T + dv @ self.wv.value.T
        dx = dx if self.flaw == "keys" else dx + dk @ self.wk.value.T
        dx = dx if self.flaw == "residual" else dx + grad
        dwq, dwk, dwv = (np.einsum("nti,ntj->ij", x, d) for d in (dq, dk, dv))
        dwk, dwv = (dwv, dwk) if self.flaw == "exchanged" else (dwk, dwv)
        return (dx,), {"wq": dwq, "wk": dwk, "wv": dwv, "wo": dwo}


@flaws(
    normal(6, 4),
    upstream=("ReLU: masked by grad > 0", "mask of the upstream gradient"),
    times=("ReLU: grad * x", "wrong local derivative"),
    output=("ReLU: grad * y", "wrong local derivative", "factor array too often"),
    weighted=("ReLU: a weight per class", "factor per column"),
    rows=("ReLU: a weight per sample", "factor per row"),
)
class ReLU(lf.Gate):
    flaw = ""

    def forward(self, x):
        self.save(x)
        return np.maximum(x, 0)

    def backward(self, grad):
        (x,) = self.saved
        dx = {"upstream": grad * (grad > 0), "times": grad * x, "output": grad * np.maximum(x, 0)}
        dx = dx.get(self.flaw, grad * (x > 0))
        dx = dx * np.array([1.0, 0.5, 2.0, 1.5]) if self.flaw == "weighted" else dx
        return (dx * np.linspace(0.5, 1.5, 6)[:, None] if self.flaw == "rows" else dx,), {}


@flaws(
    normal(5, 4),
    hidden=("two layers in one gate: ReLU forgotten", "local derivative missing"),
    output=("two layers in one gate: tanh at the end forgotten", "local derivative missing"),
    w1=("two layers in one gate: dw1 without w2", "path missing", "local derivative missing", "wrong local derivative"),
    mean=("two layers in one gate: db1 a mean", "factor 1/N"),
    input=("two layers in one gate: dw2 with h before ReLU", "wrong local derivative", "evaluated at the input"),
)
class TwoLayers(lf.Gate):
    flaw = ""

    def __init__(self):
        self.w1, self.w2, self.b1 = drawn(4, 6), drawn(6, 6, seed=4), drawn(6, seed=5)

    def forward(self, x):
        a = x @ self.w1.value + self.b1.value
        h = np.maximum(a, 0)
        y = np.tanh(h @ self.w2.value)
        self.save(x, a, h, y)
        return y

    def backward(self, grad):
        x, a, h, y = self.saved
        ds = grad if self.flaw == "output" else grad * (1 - y**2)
        dh = ds if self.flaw == "w1" else ds @ self.w2.value.T
        da = dh if self.flaw == "hidden" else dh * (a > 0)
        db1 = da.mean(axis=0) if self.flaw == "mean" else da.sum(axis=0)
        dw2 = (a if self.flaw == "input" else h).T @ ds
        return (da @ self.w1.value.T,), {"w1": x.T @ da, "w2": dw2, "b1": db1}
