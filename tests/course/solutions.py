"""What to write into the blanks of the hand-outs, in order: right solutions, kept out of the package."""

SOLUTIONS: dict[str, list[str]] = {
    "add": ["return (grad, grad.copy()), {}"],
    "multiply": ["a, b = self.saved\nreturn (grad * b, grad * a), {}"],
    "divide": ["a, b = self.saved\nreturn (grad / b, -grad * a / b**2), {}"],
    "maximum": ["(mask,) = self.saved\nreturn (grad * mask, grad * ~mask), {}"],
    "fork": ["(x,) = self.saved\nreturn (grad * (2 * x + 3),), {}"],
    "sum_rows": ["(shape,) = self.saved\nreturn (np.broadcast_to(grad[:, None], shape).copy(),), {}"],
    "add_bias": ["return (grad, grad.sum(axis=0)), {}"],
    "matmul": ["a, b = self.saved\nreturn (grad @ b.T, a.T @ grad), {}"],
    "relu": ["(x,) = self.saved\nreturn (grad * (x > 0),), {}"],
    "leaky_relu": [
        "self.save(x > 0)\nreturn np.where(x > 0, x, self.negative_slope * x)",
        "(mask,) = self.saved\nreturn (np.where(mask, grad, self.negative_slope * grad),), {}",
    ],
    "sigmoid": ["(y,) = self.saved\nreturn (grad * y * (1 - y),), {}"],
    "tanh": ["(y,) = self.saved\nreturn (grad * (1 - y * y),), {}"],
    "elu": [
        "y = np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0)))\nself.save(x, y)\nreturn y",
        "x, y = self.saved\nreturn (grad * np.where(x > 0, 1, y + self.alpha),), {}",
    ],
    "softplus": ["(x,) = self.saved\nreturn (grad / (1 + np.exp(-x)),), {}"],
    "silu": ["x, s = self.saved\nreturn (grad * (s + x * s * (1 - s)),), {}"],
    "softmax": ["(p,) = self.saved\nreturn (p * (grad - (grad * p).sum(axis=1, keepdims=True)),), {}"],
    "squared_error": ["(d,) = self.saved\nreturn (grad * 2 * d / len(d), None), {}"],
    "huber": [
        "d = s - t\nself.save(d)\nsize = np.abs(d)\n"
        "h = np.where(size <= self.delta, d**2 / 2, self.delta * (size - self.delta / 2))\nreturn h.sum() / len(d)",
        "(d,) = self.saved\nreturn (grad * np.clip(d, -self.delta, self.delta) / len(d), None), {}",
    ],
    "softmax_ce": [
        "p, labels = self.saved\nd = p.copy()\nd[np.arange(len(labels)), labels] -= 1\nreturn (grad * d / len(d), None), {}"
    ],
    "svm": [
        "rows = np.arange(len(labels))\nm = scores - scores[rows, labels][:, None] + self.margin\nm[rows, labels] = 0\n"
        "self.save(m > 0, labels)\nreturn np.maximum(m, 0).sum() / len(scores)",
        "mask, labels = self.saved\nd = mask.astype(float)\nd[np.arange(len(d)), labels] = -d.sum(axis=1)\n"
        "return (grad * d / len(d), None), {}",
    ],
    "sigmoid_ce": ["sign, m = self.saved\nreturn (-grad * sign / (1 + np.exp(m)) / len(m), None), {}"],
    "clipped_nll": [
        "sign, p = self.saved\ninside = (p > 1e-7) & (p < 1)\n"
        "return (np.where(inside, -sign / (2 * np.where(inside, p, 1)), 0) * grad / len(p), None), {}"
    ],
    "logistic_likelihood": ["sign, p = self.saved\nreturn (-grad * sign * p * (1 - p) / len(p), None), {}"],
    "l2": ["(w,) = self.saved\nreturn (grad * 2 * self.strength * w,), {}"],
    "linear": [
        "(x,) = self.saved\nreturn (grad @ self.weight.value,), {'weight': grad.T @ x, 'bias': grad.sum(axis=0)}"
    ],
    "batch_norm": [
        "z, scale = self.saved\ng = grad * self.weight.value\n"
        "return ((g - g.mean(axis=0) - z * (g * z).mean(axis=0)) / scale,), "
        "{'weight': (grad * z).sum(axis=0), 'bias': grad.sum(axis=0)}"
    ],
    "layer_norm": [
        "scale = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)\nz = (x - x.mean(axis=1, keepdims=True)) / scale\n"
        "self.save(z, scale)\nreturn self.weight.value * z + self.bias.value",
        "z, scale = self.saved\ng = grad * self.weight.value\n"
        "d = g - g.mean(axis=1, keepdims=True) - z * (g * z).mean(axis=1, keepdims=True)\n"
        "return (d / scale,), {'weight': (grad * z).sum(axis=0), 'bias': grad.sum(axis=0)}",
    ],
    "rms_norm": [
        "x, r = self.saved\ng, z = grad * self.weight.value, x / r\n"
        "return ((g - z * (g * z).mean(axis=1, keepdims=True)) / r,), {'weight': (grad * z).sum(axis=0)}"
    ],
    "dropout": [
        "self.save(mask)\nreturn x * mask / (1 - self.rate)",
        "(mask,) = self.saved\nreturn (grad * mask / (1 - self.rate), None), {}",
    ],
    "embedding": [
        "(tokens,) = self.saved\nd = np.zeros_like(self.weight.value)\nnp.add.at(d, tokens, grad)\n"
        "return (None,), {'weight': d}"
    ],
    "conv1d": [
        "windows, shape = self.saved\nw = self.weight.value\ndx = np.zeros(shape)\nfor k in range(w.shape[2]):\n"
        "    dx[:, :, k : k + grad.shape[2]] += np.einsum('not,oc->nct', grad, w[:, :, k])\n"
        "return (dx,), {'weight': np.einsum('not,nctk->ock', grad, windows), 'bias': grad.sum(axis=(0, 2))}"
    ],
    "conv2d": [
        "windows, shape = self.saved\nw = self.weight.value\ndx = np.zeros(shape)\nh, v = grad.shape[2:]\n"
        "for p in range(w.shape[2]):\n    for q in range(w.shape[3]):\n"
        "        dx[:, :, p : p + h, q : q + v] += np.einsum('noij,oc->ncij', grad, w[:, :, p, q])\n"
        "return (dx,), {'weight': np.einsum('noij,ncijpq->ocpq', grad, windows), 'bias': grad.sum(axis=(0, 2, 3))}"
    ],
    "max_pool": [
        "places, shape = self.saved\nn, c, h, w = shape\nd = np.zeros((*places.shape, 4))\n"
        "np.put_along_axis(d, places[..., None], grad[..., None], axis=-1)\n"
        "d = d.reshape(n, c, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5)\nreturn (d.reshape(shape),), {}"
    ],
    "avg_pool": [
        "n, c, h, w = x.shape\nself.save()\nreturn x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))",
        "return (np.repeat(np.repeat(grad, 2, axis=2), 2, axis=3) / 4,), {}",
    ],
    "rnn": [
        "x, states = self.saved\nw, u = self.weight_ih.value, self.weight_hh.value\n"
        "dw, du, db, dx, dh = np.zeros_like(w), np.zeros_like(u), 0, np.zeros_like(x), 0\n"
        "for t in reversed(range(x.shape[1])):\n    ds = (grad[:, t] + dh) * (1 - states[t + 1] ** 2)\n"
        "    dw += ds.T @ x[:, t]\n    du += ds.T @ states[t]\n    db = db + ds.sum(axis=0)\n"
        "    dx[:, t] = ds @ w\n    dh = ds @ u\n"
        "return (dx,), {'weight_ih': dw, 'weight_hh': du, 'bias_ih': db, 'bias_hh': db.copy()}"
    ],
    "lstm": [
        "n, hidden = len(x), self.weight_hh.value.shape[1]\nh = c = np.zeros((n, hidden))\nsteps, out = [], []\n"
        "for t in range(x.shape[1]):\n"
        "    s = x[:, t] @ self.weight_ih.value.T + self.bias_ih.value + h @ self.weight_hh.value.T + self.bias_hh.value\n"
        "    i, f, g, o = np.split(s, 4, axis=1)\n"
        "    i, f, o = [1 / (1 + np.exp(-z)) for z in (i, f, o)]\n    g = np.tanh(g)\n    before, hb = c, h\n"
        "    c = f * c + i * g\n    h = o * np.tanh(c)\n    steps.append((x[:, t], hb, before, i, f, g, o, c))\n    out.append(h)\n"
        "self.save(steps, x.shape)\nreturn np.stack(out, axis=1)",
        "steps, shape = self.saved\nw, u = self.weight_ih.value, self.weight_hh.value\ndw, du, db = 0, 0, 0\n"
        "dx, dh, dc = np.zeros(shape), 0, 0\nfor t in reversed(range(shape[1])):\n"
        "    xt, hb, before, i, f, g, o, c = steps[t]\n    dh = dh + grad[:, t]\n    k = np.tanh(c)\n"
        "    dc = dc + dh * o * (1 - k * k)\n"
        "    parts = [dc * g * i * (1 - i), dc * before * f * (1 - f), dc * i * (1 - g * g), dh * k * o * (1 - o)]\n"
        "    ds = np.concatenate(parts, axis=1)\n    dw, du, db = dw + ds.T @ xt, du + ds.T @ hb, db + ds.sum(axis=0)\n"
        "    dx[:, t], dh, dc = ds @ w, ds @ u, dc * f\n"
        "return (dx,), {'weight_ih': dw, 'weight_hh': du, 'bias_ih': db, 'bias_hh': db.copy()}",
    ],
    "attention": [
        "q, k, v, p = self.saved\ndp = grad @ v.swapaxes(1, 2)\n"
        "ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) / np.sqrt(q.shape[-1])\n"
        "return (ds @ k, ds.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ grad), {}"
    ],
    "sgd": ["values -= self.lr * grads"],
    "momentum": ['v = self.slot("velocity")\nv *= self.momentum\nv += grads\nvalues -= self.lr * v'],
    "rmsprop": [
        's = self.slot("square")\ns *= self.alpha\ns += (1 - self.alpha) * grads**2\n'
        "values -= self.lr * grads / (np.sqrt(s) + self.eps)"
    ],
    "adagrad": ['s = self.slot("square")\ns += grads**2\nvalues -= self.lr * grads / (np.sqrt(s) + 1e-10)'],
    "adam": [
        'm, v, (b1, b2), t = self.slot("m"), self.slot("v"), self.betas, self.steps\nm *= b1\nm += (1 - b1) * grads\n'
        "v *= b2\nv += (1 - b2) * grads**2\n"
        "values -= self.lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + self.eps)"
    ],
    "topological_order": [
        "order = []\n\ndef visit(name):\n    if name not in order:\n        for each in graph[name]:\n            visit(each)\n"
        "        order.append(name)\n\nfor name in graph:\n    visit(name)\nreturn order"
    ],
    "value": [
        "self.data, self.grad, self.parts, self.rule = data, 0.0, (), lambda: None\n\ndef make(result, parts, rule):\n"
        "    result.parts, result.rule = parts, rule\n    return result\n\nself.make = make"
    ],
    "numeric_gradient": [
        "grad = np.zeros(x.shape)\nfor place in np.ndindex(x.shape):\n    old = x[place]\n    x[place] = old + 1e-5\n"
        "    up = f(x)\n    x[place] = old - 1e-5\n    down = f(x)\n    x[place] = old\n"
        "    grad[place] = (up - down) / 2e-5\nreturn grad"
    ],
}

MORE = {
    "value": """
    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        result = Value(self.data + other.data)

        def rule():
            self.grad += result.grad
            other.grad += result.grad

        return self.make(result, (self, other), rule)

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        result = Value(self.data * other.data)

        def rule():
            self.grad += other.data * result.grad
            other.grad += self.data * result.grad

        return self.make(result, (self, other), rule)

    __radd__, __rmul__ = __add__, __mul__

    def tanh(self):
        result = Value(math.tanh(self.data))

        def rule():
            self.grad += (1 - result.data**2) * result.grad

        return self.make(result, (self,), rule)

    def backward(self):
        order = []

        def visit(value):
            if value not in order:
                for each in value.parts:
                    visit(each)
                order.append(value)

        visit(self)
        self.grad = 1.0
        for value in reversed(order):
            value.rule()
"""
}
"""What comes after the filled blank."""


def solved(name: str, text: str) -> str:
    """The hand-out of an exercise with its blanks filled in."""
    lines = []
    bodies = iter(SOLUTIONS[name])
    for line in text.split("\n"):
        if line.strip() == "...":
            indent = line[: len(line) - 3]
            lines += [f"{indent}{each}" if each else "" for each in next(bodies).split("\n")]
        else:
            lines.append(line)
    assert next(bodies, None) is None, name
    return "\n".join(lines).rstrip() + "\n" + MORE.get(name, "")
