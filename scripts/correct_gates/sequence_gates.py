"""Recurrent cells unrolled in time, embeddings, tied weights, and gates made of gates."""

import numpy as np
from collection import correct

import layerflow as lf


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class ElmanRNN(lf.Gate):
    def __init__(self, width, hidden, rng):
        self.wx, self.wh = (
            lf.Parameter(rng.normal(size=(width, hidden))),
            lf.Parameter(rng.normal(size=(hidden, hidden))),
        )
        self.b = lf.Parameter(np.zeros(hidden))

    def forward(self, x):
        states = [np.zeros((len(x), self.wh.value.shape[0]))]
        for t in range(x.shape[1]):
            states.append(np.tanh(x[:, t] @ self.wx.value + states[-1] @ self.wh.value + self.b.value))
        self.save(x, states)
        return np.stack(states[1:], axis=1)

    def backward(self, grad):
        x, states = self.saved
        dx, carry = np.zeros_like(x), 0.0
        grads = {name: np.zeros_like(getattr(self, name).value) for name in ("wx", "wh", "b")}
        for t in reversed(range(x.shape[1])):
            da = (grad[:, t] + carry) * (1 - states[t + 1] ** 2)
            grads["wx"] += x[:, t].T @ da
            grads["wh"] += states[t].T @ da
            grads["b"] += da.sum(axis=0)
            dx[:, t], carry = da @ self.wx.value.T, da @ self.wh.value.T
        return (dx,), grads


class GRUCell(lf.Gate):
    def __init__(self, width, hidden, rng):
        self.w = lf.Parameter(rng.normal(size=(width + hidden, 2 * hidden)))
        self.u = lf.Parameter(rng.normal(size=(width + hidden, hidden)))

    def forward(self, x, h):
        both = np.concatenate([x, h], axis=1)
        z, r = np.split(sigmoid(both @ self.w.value), 2, axis=1)
        gated = np.concatenate([x, r * h], axis=1)
        n = np.tanh(gated @ self.u.value)
        self.save(both, gated, h, z, r, n)
        return (1 - z) * n + z * h

    def backward(self, grad):
        both, gated, h, z, r, n = self.saved
        width = both.shape[1] - h.shape[1]
        dn = grad * (1 - z) * (1 - n**2)
        dgated = dn @ self.u.value.T
        dr = dgated[:, width:] * h * r * (1 - r)
        da = np.concatenate([grad * (h - n) * z * (1 - z), dr], axis=1)
        dboth = da @ self.w.value.T
        dx, dh = dboth[:, :width] + dgated[:, :width], dboth[:, width:] + dgated[:, width:] * r + grad * z
        return (dx, dh), {"w": both.T @ da, "u": gated.T @ dn}


class LSTMStep(lf.Gate):
    """One step that returns h and c side by side."""

    def __init__(self, width, hidden, rng):
        self.w, self.b = lf.Parameter(rng.normal(size=(width + hidden, 4 * hidden))), lf.Parameter(np.zeros(4 * hidden))

    def forward(self, x, h, c):
        both = np.hstack([x, h])
        i, f, o, g = np.split(both @ self.w.value + self.b.value, 4, axis=1)
        i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        new = f * c + i * g
        self.save(both, x.shape[1], c, i, f, o, g, new)
        return np.hstack([o * np.tanh(new), new])

    def backward(self, grad):
        both, width, c, i, f, o, g, new = self.saved
        dh, dc = np.split(grad, 2, axis=1)
        tanh = np.tanh(new)
        dc = dc + dh * o * (1 - tanh**2)
        parts = [dc * g * i * (1 - i), dc * c * f * (1 - f), dh * tanh * o * (1 - o), dc * i * (1 - g**2)]
        da = np.hstack(parts)
        dboth = da @ self.w.value.T
        return (dboth[:, :width], dboth[:, width:], dc * f), {"w": both.T @ da, "b": da.sum(axis=0)}


class Embed(lf.Gate):
    def __init__(self, count, width, rng):
        self.table = lf.Parameter(rng.normal(size=(count, width)))

    def forward(self, words):
        self.save(words)
        return self.table.value[words]

    def backward(self, grad):
        table = np.zeros_like(self.table.value)
        np.add.at(table, self.saved[0], grad)
        return (None,), {"table": table}


class EmbeddingBag(Embed):
    def forward(self, words):
        return super().forward(words).mean(axis=1)

    def backward(self, grad):
        (words,) = self.saved
        return super().backward(np.repeat(grad[:, None], words.shape[1], axis=1) / words.shape[1])


class TiedAutoencoder(lf.Gate):
    """tanh(x W) W^T: one matrix in both directions."""

    def __init__(self, width, hidden, rng):
        self.w = lf.Parameter(rng.normal(size=(width, hidden)))

    def forward(self, x):
        h = np.tanh(x @ self.w.value)
        self.save(x, h)
        return h @ self.w.value.T

    def backward(self, grad):
        x, h = self.saved
        da = grad @ self.w.value * (1 - h**2)
        return (da @ self.w.value.T,), {"w": x.T @ da + grad.T @ h}


class Block(lf.Gate):
    """x + B(tanh(A(x))) with gates inside."""

    def __init__(self, width):
        self.a, self.b, self.act = lf.Linear(width), lf.Linear(width), lf.Tanh()

    def build(self, rng, shape):
        self.a.build(rng, shape)
        return self.b.build(rng, shape)

    def forward(self, x):
        return x + self.b.forward(self.act.forward(self.a.forward(x)))

    def backward(self, grad):
        (g,), second = self.b.backward(grad)
        (g,), _ = self.act.backward(g)
        (g,), first = self.a.backward(g)
        return (grad + g,), {f"a.{k}": v for k, v in first.items()} | {f"b.{k}": v for k, v in second.items()}


class Maxout(lf.Gate):
    def __init__(self, width, out, rng):
        self.w, self.b = lf.Parameter(rng.normal(size=(width, out, 3))), lf.Parameter(np.zeros((out, 3)))

    def forward(self, x):
        s = np.einsum("bi,iok->bok", x, self.w.value) + self.b.value
        self.save(x, s == s.max(axis=2, keepdims=True))
        return s.max(axis=2)

    def backward(self, grad):
        x, mask = self.saved
        ds = grad[:, :, None] * mask
        grads = {"w": np.einsum("bi,bok->iok", x, ds), "b": ds.sum(axis=0)}
        return (np.einsum("bok,iok->bi", ds, self.w.value),), grads


class Bilinear(lf.Gate):
    def __init__(self, width, out, rng):
        self.w = lf.Parameter(rng.normal(size=(out, width, width)))

    def forward(self, a, b):
        self.save(a, b)
        return np.einsum("bi,oij,bj->bo", a, self.w.value, b)

    def backward(self, grad):
        a, b = self.saved
        da, db = np.einsum("bo,oij,bj->bi", grad, self.w.value, b), np.einsum("bo,oij,bi->bj", grad, self.w.value, a)
        return (da, db), {"w": np.einsum("bo,bi,bj->oij", grad, a, b)}


class Highway(lf.Gate):
    def __init__(self, width, rng):
        self.w, self.t = lf.Parameter(rng.normal(size=(width, width))), lf.Parameter(rng.normal(size=(width, width)))

    def forward(self, x):
        h, gate = np.tanh(x @ self.w.value), sigmoid(x @ self.t.value - 2.0)
        self.save(x, h, gate)
        return gate * h + (1 - gate) * x

    def backward(self, grad):
        x, h, gate = self.saved
        dh, dt = grad * gate * (1 - h**2), grad * (h - x) * gate * (1 - gate)
        dx = dh @ self.w.value.T + dt @ self.t.value.T + grad * (1 - gate)
        return (dx,), {"w": x.T @ dh, "t": x.T @ dt}


@correct("Elman RNN")
def _a(rng):
    return ElmanRNN(3, 4, rng), rng.normal(size=(2, 5, 3))


@correct("GRU cell")
def _b(rng):
    return GRUCell(3, 4, rng), rng.normal(size=(3, 3)), rng.normal(size=(3, 4))


@correct("LSTM step")
def _c(rng):
    return LSTMStep(2, 3, rng), rng.normal(size=(3, 2)), rng.normal(size=(3, 3)), rng.normal(size=(3, 3))


@correct("embedding with repeated words")
def _d(rng):
    return Embed(6, 3, rng), rng.integers(0, 6, (3, 4))


@correct("embedding bag")
def _e(rng):
    return EmbeddingBag(6, 3, rng), rng.integers(0, 6, (3, 4))


@correct("tied autoencoder")
def _f(rng):
    return TiedAutoencoder(5, 3, rng), rng.normal(size=(4, 5))


@correct("residual block of gates")
def _g(rng):
    return Block(4), rng.normal(size=(5, 4))


@correct("maxout")
def _h(rng):
    return Maxout(4, 3, rng), rng.normal(size=(5, 4))


@correct("bilinear form")
def _i(rng):
    return Bilinear(3, 2, rng), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))


@correct("highway layer")
def _j(rng):
    return Highway(4, rng), rng.normal(size=(5, 4))


@correct("one linear layer used three times")
def _k(rng):
    tied = lf.Linear(4)
    return lf.Sequential(tied, lf.Tanh(), tied, lf.Tanh(), tied), rng.normal(size=(5, 4))
