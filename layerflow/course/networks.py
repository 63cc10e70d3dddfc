"""Exercises: layers with weights."""

from collections.abc import Callable
from typing import Any

import numpy as np

import layerflow.gates as lf
from layerflow.course.exercises import Case, Exercise, Generator, built_in, gate_text, normal, sizes

PARAMETERS = "def __init__(self, weight, bias):\n    self.weight, self.bias = lf.Parameter(weight), lf.Parameter(bias)"
WEIGHT = "def __init__(self, weight):\n    self.weight = lf.Parameter(weight)"


def _linear(rng: Generator) -> Case:
    n, k, m = sizes(rng, 3)
    return Case({"weight": normal(rng, m, k), "bias": normal(rng, m)}, (normal(rng, n, k),))


def _norm(rng: Generator) -> Case:
    n, k = sizes(rng, 2, 3, 7)
    return Case({"weight": normal(rng, k), "bias": normal(rng, k)}, (normal(rng, n, k),))


def _rms(rng: Generator) -> Case:
    n, k = sizes(rng, 2, 3, 7)
    return Case({"weight": normal(rng, k)}, (normal(rng, n, k),))


def _embedding(rng: Generator) -> Case:
    tokens, width, n = sizes(rng, 3, 3, 7)
    return Case({"weight": normal(rng, tokens, width)}, (rng.integers(0, tokens, (2, n)),))


def _image(rng: Generator, least: int = 4) -> Any:
    return normal(
        rng, 2, int(rng.integers(1, 3)), 2 * int(rng.integers(least // 2, 4)), 2 * int(rng.integers(least // 2, 4))
    )


def _conv(rng: Generator) -> Case:
    x, k = _image(rng), int(rng.integers(2, 4))
    out = int(rng.integers(1, 4))
    return Case({"weight": normal(rng, out, x.shape[1], k, k), "bias": normal(rng, out)}, (x,))


def _conv1d(rng: Generator) -> Case:
    channels, out, k = int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.integers(2, 4))
    x = normal(rng, 2, channels, int(rng.integers(5, 9)))
    return Case({"weight": normal(rng, out, channels, k), "bias": normal(rng, out)}, (x,))


def _convolution(make: Callable[..., Any]) -> Callable[..., Any]:
    def reference(weight: Any, bias: Any) -> Any:
        return built_in(lambda: make(weight.shape[0], weight.shape[2:]), "weight", "bias")(weight=weight, bias=bias)

    return reference


def _recurrent(gates: int) -> Callable[[Generator], Case]:
    def case(rng: Generator) -> Case:
        n, t, k, h = sizes(rng, 4, 2, 5)
        arguments = {
            "weight_ih": normal(rng, gates * h, k), "weight_hh": normal(rng, gates * h, h),
            "bias_ih": normal(rng, gates * h), "bias_hh": normal(rng, gates * h),
        }  # fmt: skip
        return Case(arguments, (normal(rng, n, t, k),))

    return case


def _sequence(make: Callable[..., Any]) -> Callable[..., Any]:
    def reference(**arrays: Any) -> Any:
        return built_in(lambda: make(arrays["weight_hh"].shape[1]), *arrays)(**arrays)

    return reference


def _attention(rng: Generator) -> Case:
    n, q, k, d, v = sizes(rng, 5, 2, 5)
    return Case(inputs=(normal(rng, n, q, d), normal(rng, n, k, d), normal(rng, n, k, v)))


RECURRENT = (
    "def __init__(self, weight_ih, weight_hh, bias_ih, bias_hh):\n"
    "    self.weight_ih, self.weight_hh = lf.Parameter(weight_ih), lf.Parameter(weight_hh)\n"
    "    self.bias_ih, self.bias_hh = lf.Parameter(bias_ih), lf.Parameter(bias_hh)"
)

EXERCISES = [
    Exercise(
        "linear", "The linear layer: three gradients", "Linear",
        gate_text("Linear", "s = x W^T + b: x (batch, in), W (out, in), b (out,).", PARAMETERS,
                  "self.save(x)\nreturn x @ self.weight.value.T + self.bias.value"),
        ("The gradient of each array has its shape.", "One product of grad, (batch, out), and x gives (out, in).",
         "return (grad @ W,), {'weight': grad.T @ x, 'bias': grad.sum(axis=0)}"),
        _linear, lambda weight, bias: built_in(lambda: lf.Linear(len(bias)), "weight", "bias")(weight=weight, bias=bias),
        no_loops=True,
    ),
    Exercise(
        "batch_norm", "Batch normalisation: everything depends on everything", "BatchNorm",
        gate_text("BatchNorm", "y = weight z + bias, z = (x - mean) / sqrt(var + 1e-5), over the batch: x (batch, features).",
                  PARAMETERS,
                  "scale = np.sqrt(x.var(axis=0) + 1e-5)\nz = (x - x.mean(axis=0)) / scale\nself.save(z, scale)\n"
                  "return self.weight.value * z + self.bias.value"),
        ("The mean and the variance depend on x too.",
         "With g = grad * weight: what is left when its mean, and its part along z, are taken away.",
         "(g - g.mean(axis=0) - z * (g * z).mean(axis=0)) / scale"),
        _norm, lambda weight, bias: built_in(lf.BatchNorm, "weight", "bias")(weight=weight, bias=bias), no_loops=True,
    ),
    Exercise(
        "layer_norm", "The same along the features", "LayerNorm",
        gate_text("LayerNorm", "y = weight z + bias, z = (x - mean) / sqrt(var + 1e-5), over each row: x (batch, features).",
                  PARAMETERS, "...", "..."),
        ("Batch normalisation, with the other axis.", "keepdims=True keeps the means in shape.",
         "weight and bias are summed over the batch."),
        _norm, lambda weight, bias: built_in(lf.LayerNorm, "weight", "bias")(weight=weight, bias=bias), blank="both",
        no_loops=True,
    ),
    Exercise(
        "rms_norm", "Only the size is normalised", "RMSNorm",
        gate_text("RMSNorm", "y = weight x / r, r = sqrt(mean of x^2 over the row + 1e-5): x (batch, features).", WEIGHT,
                  "r = np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5)\nself.save(x, r)\n"
                  "return self.weight.value * x / r"),
        ("r depends on all x of the row.", "dr/dx = x / (n r).", "With g = grad * weight and z = x / r: (g - z * (g * z).mean(axis=1, keepdims=True)) / r"),
        _rms, lambda weight: built_in(lf.RMSNorm, "weight")(weight=weight), no_loops=True,
    ),
    Exercise(
        "dropout", "The same mask in both directions", "Dropout",
        gate_text("Dropout", "y = x mask / (1 - rate); the mask is given: 1 keeps, 0 drops.",
                  "def __init__(self, rate=0.5):\n    self.rate = rate", "...", "...", "x, mask"),
        ("The mask is a constant.", "Backward does what forward did, to the gradient.", "The mask's gradient is None."),
        lambda rng: Case({"rate": float(rng.choice([0.2, 0.5]))}, (normal(rng, 4, 5), rng.integers(0, 2, (4, 5)))),
        lambda rate: _Masked(rate), blank="both", no_loops=True,
    ),
    Exercise(
        "embedding", "Rows that are looked up", "Embedding",
        gate_text("Embedding", "y[..., :] = W[tokens[...]]: tokens, whole numbers -> y (..., width); W (tokens, width).", WEIGHT,
                  "self.save(tokens)\nreturn self.weight.value[tokens]", "...", "tokens"),
        ("A row that occurs twice gets two gradients.", "Plain indexing with += adds only one of them.",
         "np.add.at(zeros, tokens, grad); tokens have no gradient"),
        _embedding, lambda weight: built_in(lambda: lf.Embedding(*weight.shape), "weight")(weight=weight), no_loops=True,
    ),
    Exercise(
        "conv1d", "A convolution over time", "Conv1d",
        gate_text("Conv1d", "y[n, o, t] = sum over c, k of W[o, c, k] x[n, c, t + k] + b[o]: x (batch, channels, length).",
                  PARAMETERS,
                  "windows = np.lib.stride_tricks.sliding_window_view(x, self.weight.value.shape[2], axis=2)\n"
                  "self.save(windows, x.shape)\n"
                  "return np.einsum('nctk,ock->not', windows, self.weight.value) + self.bias.value[:, None]"),
        ("W's gradient: swap the letters in the einsum.", "x[t + k] is used by y[t]: add grad W[k] at t + k.",
         "A loop over k, which is short, is allowed."),
        _conv1d, _convolution(lf.Conv1d),
    ),
    Exercise(
        "conv2d", "A convolution over images", "Conv2d",
        gate_text("Conv2d", "y[n, o, i, j] = sum over c, p, q of W[o, c, p, q] x[n, c, i + p, j + q] + b[o].", PARAMETERS,
                  "windows = np.lib.stride_tricks.sliding_window_view(x, self.weight.value.shape[2:], axis=(2, 3))\n"
                  "self.save(windows, x.shape)\n"
                  "return np.einsum('ncijpq,ocpq->noij', windows, self.weight.value) + self.bias.value[:, None, None]"),
        ("The bias is added at every place of every image.", "W's gradient: swap the letters in the einsum.",
         "For x: for each p, q add grad W[:, :, p, q] to the slice of x that it was multiplied with."),
        _conv, _convolution(lf.Conv2d),
    ),
    Exercise(
        "max_pool", "The largest of each 2 x 2 block", "MaxPool2d",
        gate_text("MaxPool2d", "y = the largest element of each 2 x 2 block: x (batch, channels, height, width), even sizes.",
                  forward="n, c, h, w = x.shape\n"
                          "blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5)\n"
                          "blocks = blocks.reshape(n, c, h // 2, w // 2, 4)\n"
                          "self.save(blocks.argmax(axis=-1), x.shape)\nreturn blocks.max(axis=-1)"),
        ("Only the largest element moves the output.", "Put grad at the argmax of each block, zeros elsewhere.",
         "np.put_along_axis into zeros (..., 4), then undo reshape and transpose."),
        lambda rng: Case(inputs=(_image(rng),)), built_in(lambda: lf.MaxPool2d(2)), no_loops=True,
    ),
    Exercise(
        "avg_pool", "The mean of each 2 x 2 block", "AvgPool2d",
        gate_text("AvgPool2d", "y = the mean of each 2 x 2 block: x (batch, channels, height, width), even sizes.",
                  forward="...", backward="..."),
        ("Reshape, so that the blocks have axes of their own.", "Each of the four gets a quarter of the gradient.",
         "np.repeat twice, or np.kron"),
        lambda rng: Case(inputs=(_image(rng),)), built_in(lambda: lf.AvgPool2d(2)), blank="both", no_loops=True,
    ),
    Exercise(
        "rnn", "Backpropagation through time", "RNN",
        gate_text("RNN", "h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), h_0 = 0: x (batch, time, features) -> (batch, time, hidden).",
                  RECURRENT,
                  "states = [np.zeros((len(x), self.weight_hh.value.shape[1]))]\nfor t in range(x.shape[1]):\n"
                  "    s = x[:, t] @ self.weight_ih.value.T + self.bias_ih.value\n"
                  "    s = s + states[-1] @ self.weight_hh.value.T + self.bias_hh.value\n    states.append(np.tanh(s))\n"
                  "self.save(x, states)\nreturn np.stack(states[1:], axis=1)"),
        ("Go backwards in time, and carry the gradient of the state.",
         "At each step: grad[:, t] plus what comes from step t + 1, times 1 - h^2.",
         "The weights add up over all steps; the state hands on ds @ W_hh."),
        _recurrent(1), _sequence(lf.RNN),
    ),
    Exercise(
        "lstm", "The long short-term memory", "LSTM",
        gate_text("LSTM", "i, f, g, o = the four parts of W_ih x_t + b_ih + W_hh h_(t-1) + b_hh, in this order;\n"
                          "    c_t = s(f) c_(t-1) + s(i) tanh(g), h_t = s(o) tanh(c_t), s the sigmoid; all start from 0.",
                  RECURRENT, "...", "...", "x"),
        ("Save all that forward computes at each step.", "Two gradients go back in time: that of h, and that of c.",
         "dc = dc_next + dh * o * (1 - tanh(c)^2); dc_next = dc * f"),
        _recurrent(4), _sequence(lf.LSTM), blank="both",
    ),
    Exercise(
        "attention", "Scaled dot-product attention", "Attention",
        gate_text("Attention", "y = softmax(q k^T / sqrt(d)) v: q (batch, queries, d), k (batch, keys, d), v (batch, keys, width).",
                  forward="s = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])\n"
                          "e = np.exp(s - s.max(axis=-1, keepdims=True))\np = e / e.sum(axis=-1, keepdims=True)\n"
                          "self.save(q, k, v, p)\nreturn p @ v", x="q, k, v"),
        ("Backwards: the product with v, the softmax, the scale, the product of q and k.",
         "dp = grad v^T; ds = p (dp - the sum of dp p over the row).", "dq = ds k / sqrt(d), dk = ds^T q / sqrt(d)"),
        _attention, built_in(lf.ScaledDotProductAttention), no_loops=True,
    ),
]  # fmt: skip


class _Masked(lf.Multiply):
    """x times a given mask, over 1 - rate."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def forward(self, x: Any, mask: Any) -> Any:
        self.save(mask)
        return x * mask / (1 - self.rate)

    def backward(self, grad: Any) -> Any:
        (mask,) = self.saved
        return (np.asarray(grad * mask / (1 - self.rate)), None), {}
