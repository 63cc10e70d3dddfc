"""Attention: scores, softmax and values, with everything that people put around them."""

import numpy as np
from collection import correct

import layerflow as lf


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_grad(p, g):
    return p * (g - np.sum(g * p, axis=-1, keepdims=True))


class DotProductAttention(lf.Gate):
    def __init__(self, causal=False, scale=True):
        self.causal, self.scale = causal, scale

    def forward(self, q, k, v):
        factor = 1 / np.sqrt(q.shape[-1]) if self.scale else 1.0
        s = factor * q @ np.swapaxes(k, -1, -2)
        if self.causal:
            s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -1e9)
        p = softmax(s)
        self.save(q, k, v, p, factor)
        return p @ v

    def backward(self, grad):
        q, k, v, p, factor = self.saved
        dv = np.swapaxes(p, -1, -2) @ grad
        ds = factor * softmax_grad(p, grad @ np.swapaxes(v, -1, -2))
        return (ds @ k, np.swapaxes(ds, -1, -2) @ q, dv), {}


class SelfAttention(lf.Gate):
    """One head with a bias in every projection; the gradient of the key bias is 0."""

    def __init__(self, width, rng, bias=True):
        self.bias = bias
        for name in "qkvo":
            setattr(self, f"w{name}", lf.Parameter(rng.normal(size=(width, width)) / np.sqrt(width)))
            if bias:
                setattr(self, f"b{name}", lf.Parameter(np.zeros(width)))

    def project(self, x, name):
        y = x @ getattr(self, f"w{name}").value
        return y + getattr(self, f"b{name}").value if self.bias else y

    def forward(self, x):
        q, k, v = (self.project(x, name) for name in "qkv")
        p = softmax(q @ np.swapaxes(k, -1, -2) / np.sqrt(x.shape[-1]))
        h = p @ v
        self.save(x, q, k, v, p, h)
        return self.project(h, "o")

    def backward(self, grad):
        x, q, k, v, p, h = self.saved
        grads = {}

        def back(name, inner, g):
            grads[f"w{name}"] = inner.reshape(-1, inner.shape[-1]).T @ g.reshape(-1, g.shape[-1])
            if self.bias:
                grads[f"b{name}"] = g.reshape(-1, g.shape[-1]).sum(axis=0)
            return g @ getattr(self, f"w{name}").value.T

        dh = back("o", h, grad)
        ds = softmax_grad(p, dh @ np.swapaxes(v, -1, -2)) / np.sqrt(x.shape[-1])
        dx = (
            back("q", x, ds @ k) + back("k", x, np.swapaxes(ds, -1, -2) @ q) + back("v", x, np.swapaxes(p, -1, -2) @ dh)
        )
        return (dx,), grads


class AttentionPooling(lf.Gate):
    """A learned query weighs the positions of a sequence; its bias shifts all scores alike."""

    def __init__(self, width, rng):
        self.query, self.bias = lf.Parameter(rng.normal(size=width)), lf.Parameter(0.0)

    def forward(self, x):
        p = softmax(x @ self.query.value + self.bias.value)
        self.save(x, p)
        return np.einsum("bt,btd->bd", p, x)

    def backward(self, grad):
        x, p = self.saved
        ds = softmax_grad(p, np.einsum("bd,btd->bt", grad, x))
        dx = p[..., None] * grad[:, None] + ds[..., None] * self.query.value
        return (dx,), {"query": np.einsum("bt,btd->d", ds, x), "bias": ds.sum()}


class AdditiveAttention(lf.Gate):
    """Bahdanau: scores = v . tanh(x W + c)."""

    def __init__(self, width, rng):
        self.w, self.c = lf.Parameter(rng.normal(size=(width, width))), lf.Parameter(np.zeros(width))
        self.v = lf.Parameter(rng.normal(size=width))

    def forward(self, x):
        h = np.tanh(x @ self.w.value + self.c.value)
        p = softmax(h @ self.v.value)
        self.save(x, h, p)
        return np.sum(p[..., None] * x, axis=1)

    def backward(self, grad):
        x, h, p = self.saved
        ds = softmax_grad(p, np.sum(grad[:, None] * x, axis=-1))
        da = ds[..., None] * self.v.value * (1 - h**2)
        dx = p[..., None] * grad[:, None] + da @ self.w.value.T
        width = x.shape[-1]
        grads = {"w": x.reshape(-1, width).T @ da.reshape(-1, width), "c": da.sum(axis=(0, 1))}
        return (dx,), grads | {"v": np.einsum("bt,btd->d", ds, h)}


class MultiHead(lf.Gate):
    def __init__(self, width, heads, rng):
        self.heads = heads
        self.qkv = lf.Parameter(rng.normal(size=(width, 3 * width)) / np.sqrt(width))

    def split(self, a):
        batch, time, width = a.shape
        return a.reshape(batch, time, self.heads, width // self.heads).transpose(0, 2, 1, 3)

    def merge(self, a):
        batch, heads, time, width = a.shape
        return a.transpose(0, 2, 1, 3).reshape(batch, time, heads * width)

    def forward(self, x):
        q, k, v = (self.split(part) for part in np.split(x @ self.qkv.value, 3, axis=-1))
        factor = q.shape[-1] ** -0.5
        p = softmax(factor * q @ k.transpose(0, 1, 3, 2))
        self.save(x, q, k, v, p, factor)
        return self.merge(p @ v)

    def backward(self, grad):
        x, q, k, v, p, factor = self.saved
        g = self.split(grad)
        ds = factor * softmax_grad(p, g @ v.transpose(0, 1, 3, 2))
        parts = ds @ k, ds.transpose(0, 1, 3, 2) @ q, p.transpose(0, 1, 3, 2) @ g
        d = np.concatenate([self.merge(part) for part in parts], axis=-1)
        return (d @ self.qkv.value.T,), {"qkv": np.einsum("bti,btj->ij", x, d)}


class LinearAttention(lf.Gate):
    """(phi(q) (phi(k)^T v)) / (phi(q) sum phi(k)) with phi = elu + 1."""

    def forward(self, q, k, v):
        fq, fk = (np.where(a > 0, a + 1, np.exp(np.minimum(a, 0))) for a in (q, k))
        kv, total = fk.T @ v, fk.sum(axis=0)
        low = fq @ total
        y = fq @ kv / low[:, None]
        self.save(v, fq, fk, kv, total, low, y)
        return y

    def backward(self, grad):
        v, fq, fk, kv, total, low, y = self.saved
        g = grad / low[:, None]
        dlow = -np.sum(g * y, axis=1)
        dfq = g @ kv.T + dlow[:, None] * total
        dkv = fq.T @ g
        dfk = v @ dkv.T + dlow @ fq
        return (dfq * np.minimum(fq, 1), dfk * np.minimum(fk, 1), fk @ dkv), {}


def sequence(rng, scale=1.0):
    return scale * rng.normal(size=(2, 4, 6))


@correct("scaled dot-product attention")
def _a(rng):
    return DotProductAttention(), sequence(rng), sequence(rng), sequence(rng)


@correct("causal attention")
def _b(rng):
    return DotProductAttention(causal=True), sequence(rng), sequence(rng), sequence(rng)


@correct("attention without scaling, confident")
def _c(rng):
    return DotProductAttention(scale=False), sequence(rng, 4.0), sequence(rng, 4.0), sequence(rng)


@correct("self-attention with a key bias")
def _d(rng):
    return SelfAttention(4, rng), rng.normal(size=(2, 3, 4))


@correct("self-attention without biases, one sequence")
def _e(rng):
    return SelfAttention(4, rng, bias=False), rng.normal(size=(5, 4))


@correct("attention pooling")
def _f(rng):
    return AttentionPooling(4, rng), rng.normal(size=(3, 5, 4))


@correct("additive attention")
def _g(rng):
    return AdditiveAttention(4, rng), rng.normal(size=(3, 5, 4))


@correct("multi-head attention")
def _h(rng):
    return MultiHead(6, 2, rng), sequence(rng)


@correct("linear attention")
def _i(rng):
    return LinearAttention(), rng.normal(size=(5, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 2))


@correct("self-attention in a model")
def _j(rng):
    return lf.Sequential(lf.Linear(4), SelfAttention(4, rng), lf.Linear(2)), rng.normal(size=(2, 3, 5))
