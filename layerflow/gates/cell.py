"""Recurrent cells: one step of time. Each writes its formula once, and its derivative beside it.

A cell sees two products, a = W_ih x + b_ih of the input and b = W_hh h + b_hh of the state. `step` turns them and the
former states into the new ones; `step_back` takes the gradients of the new states back to a, b and the former states.
"""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.initializers import Uniform
from layerflow.gates.windows import as_sizes
from layerflow.parameter import Parameter


class Formula:
    """The formula of a cell: `parts` blocks of hidden_size rows in its weights, and `states` states."""

    parts = 1
    states = 1

    def step(self, a: Any, b: Any, states: Any) -> tuple[Any, Any]:
        """Return the new states, and what `step_back` needs."""
        raise NotImplementedError

    def step_back(self, kept: Any, grads: Any) -> tuple[Any, Any, Any]:
        """Return the gradients of a, of b and, apart from what flows through b, of the former states."""
        raise NotImplementedError


class Elman(Formula):
    """h' = f(a + b), f being tanh or ReLU."""

    def __init__(self, nonlinearity: str) -> None:
        self.nonlinearity = nonlinearity

    def step(self, a: Any, b: Any, states: Any) -> tuple[Any, Any]:
        total = a + b
        h = np.tanh(total) if self.nonlinearity == "tanh" else np.maximum(total, 0)
        return (h,), h

    def step_back(self, kept: Any, grads: Any) -> tuple[Any, Any, Any]:
        slope = 1 - kept * kept if self.nonlinearity == "tanh" else kept > 0
        down = grads[0] * slope
        return down, down, (0,)


class Gated(Formula):
    """r = s(a_r + b_r), z = s(a_z + b_z), n = tanh(a_n + r b_n), h' = (1 - z) n + z h, s being the sigmoid."""

    parts = 3

    def step(self, a: Any, b: Any, states: Any) -> tuple[Any, Any]:
        (h,) = states
        width = h.shape[-1]
        r, z = np.split(_sigmoid(a[:, : 2 * width] + b[:, : 2 * width]), 2, axis=1)
        n = np.tanh(a[:, 2 * width :] + r * b[:, 2 * width :])
        return (n + z * (h - n),), (r, z, n, b[:, 2 * width :], h)

    def step_back(self, kept: Any, grads: Any) -> tuple[Any, Any, Any]:
        (r, z, n, b_n, h), grad = kept, grads[0]
        to_n = grad * (1 - z) * (1 - n * n)
        to_z = grad * (h - n) * z * (1 - z)
        to_r = to_n * b_n * r * (1 - r)
        return np.concatenate([to_r, to_z, to_n], 1), np.concatenate([to_r, to_z, to_n * r], 1), (grad * z,)


class LongShort(Formula):
    """i, f, o = s(a + b), g = tanh(a_g + b_g), c' = f c + i g, h' = o tanh(c'), s being the sigmoid."""

    parts, states = 4, 2

    def step(self, a: Any, b: Any, states: Any) -> tuple[Any, Any]:
        c, total = states[1], a + b
        width = c.shape[-1]
        i, f = np.split(_sigmoid(total[:, : 2 * width]), 2, axis=1)
        g, o = np.tanh(total[:, 2 * width : 3 * width]), _sigmoid(total[:, 3 * width :])
        new_c = f * c + i * g
        squashed = np.tanh(new_c)
        return (o * squashed, new_c), (i, f, g, o, squashed, c)

    def step_back(self, kept: Any, grads: Any) -> tuple[Any, Any, Any]:
        (i, f, g, o, squashed, c), (grad_h, grad_c) = kept, grads
        grad_c = grad_c + grad_h * o * (1 - squashed * squashed)
        to_i, to_f = grad_c * g * i * (1 - i), grad_c * c * f * (1 - f)
        to_g, to_o = grad_c * i * (1 - g * g), grad_h * squashed * o * (1 - o)
        down = np.concatenate([to_i, to_f, to_g, to_o], 1)
        return down, down, (0, grad_c * f)


def _sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x) as a tanh, which cannot overflow and is the faster of the two."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def elman(gate: Gate, nonlinearity: str) -> Elman:
    """Return the formula of a plain recurrent step."""
    if nonlinearity not in ("tanh", "relu"):
        raise GateError(f"{gate!r}: nonlinearity must be 'tanh' or 'relu', not {nonlinearity!r}")
    return Elman(nonlinearity)


class CellGate(Gate):
    """What the cells share: weights, and the two products."""

    def _prepare(self, hidden_size: int, formula: Formula) -> None:
        as_sizes(self, "hidden_size", hidden_size, 1)
        self.hidden_size, self.formula = hidden_size, formula
        self.weight_ih, self.weight_hh = Parameter(), Parameter()
        self.bias_ih, self.bias_hh = Parameter(decay=False), Parameter(decay=False)

    def build(self, rng: "np.random.Generator", shape: Shape, *states: Shape) -> Any:
        draw = Uniform(self.hidden_size**-0.5)
        rows = self.formula.parts * self.hidden_size
        self._check(shape, states, shape[-1] if shape else 0)
        for parameter, columns in (self.weight_ih, shape[1]), (self.weight_hh, self.hidden_size):
            parameter.create((rows, columns), lambda wanted: draw(rng, wanted))
        for bias in self.bias_ih, self.bias_hh:
            bias.create((rows,), lambda wanted: draw(rng, wanted))
        new = (shape[0], self.hidden_size)
        return new if len(states) == 1 else (new,) * len(states)

    def _check(self, shape: Shape, states: Any, features: int) -> None:
        wanted = (shape[0] if shape else 0, self.hidden_size)
        if len(shape) != 2 or shape[1] != features or list(states) != [wanted] * self.formula.states:
            given = ", ".join(map(str, (shape, *states)))
            raise GateError(
                f"{self!r}: inputs of shapes {given}, expected (batch, {features or 'features'}) and "
                f"{self.formula.states} x (batch, {self.hidden_size})"
            )

    def forward(self, x: Any, *states: Any) -> Any:
        self._check(x.shape, [state.shape for state in states], self.weight_ih.value.shape[1])
        a = x @ self.weight_ih.value.T + self.bias_ih.value
        b = states[0] @ self.weight_hh.value.T + self.bias_hh.value
        new, kept = self.formula.step(a, b, states)
        self.save(x, states[0], kept)
        return new if len(new) > 1 else new[0]

    def backward(self, *grads: Any) -> Gradients:
        x, h, kept = self.saved
        to_a, to_b, (to_h, *others) = self.formula.step_back(kept, grads)
        down = to_b @ self.weight_hh.value + to_h
        return (to_a @ self.weight_ih.value, down, *others), {
            "weight_ih": to_a.T @ x,
            "weight_hh": to_b.T @ h,
            "bias_ih": to_a.sum(axis=0),
            "bias_hh": to_b.sum(axis=0),
        }


class RNNCell(CellGate):
    """h' = f(W_ih x + b_ih + W_hh h + b_hh), f being tanh or ReLU.

    Shapes: x (batch, features), h (batch, hidden_size) -> h' (batch, hidden_size); weight_ih (hidden_size, features),
    weight_hh (hidden_size, hidden_size), bias_ih and bias_hh (hidden_size,).
    Local gradient: with d = g f' for the upstream gradient g, dL/dx = d W_ih, dL/dh = d W_hh, dL/dW_ih = d^T x,
    dL/dW_hh = d^T h, and the biases get the sum of d over the samples.
    Source: Elman 1990, Finding Structure in Time.

    Args:
        hidden_size: the width of the state.
        nonlinearity: "tanh" or "relu".

    Raises:
        GateError: a setting is not one of these; the inputs have other shapes.
    """

    def __init__(self, hidden_size: int, nonlinearity: str = "tanh") -> None:
        self._prepare(hidden_size, elman(self, nonlinearity))


class GRUCell(CellGate):
    """h' = (1 - z) n + z h with gates r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh) and n = tanh(a_n + r b_n).

    a_n and b_n are the third parts of W_ih x + b_ih and W_hh h + b_hh.

    Shapes: x (batch, features), h (batch, hidden_size) -> h' (batch, hidden_size); weight_ih (3 hidden_size,
    features), weight_hh (3 hidden_size, hidden_size), bias_ih and bias_hh (3 hidden_size,), in the order r, z, n.
    Local gradient: dh'/dn = 1 - z, dh'/dz = h - n, dn/dr = b_n (1 - n^2), dh'/dh = z; each gate's slope is s (1 - s).
    Source: Cho et al. 2014, arXiv:1406.1078; with r applied after the product, as in PyTorch and cuDNN.

    Args:
        hidden_size: the width of the state.

    Raises:
        GateError: hidden_size is not a positive integer; the inputs have other shapes.
    """

    def __init__(self, hidden_size: int) -> None:
        self._prepare(hidden_size, Gated())


class LSTMCell(CellGate):
    """h' = o tanh(c') and c' = f c + i g with i, f, o = sigmoid and g = tanh of W_ih x + b_ih + W_hh h + b_hh.

    Shapes: x (batch, features), h and c (batch, hidden_size) -> h' and c' (batch, hidden_size); weight_ih
    (4 hidden_size, features), weight_hh (4 hidden_size, hidden_size), bias_ih and bias_hh (4 hidden_size,), in the
    order i, f, g, o.
    Local gradient: dh'/do = tanh(c'), dh'/dc' = o (1 - tanh(c')^2), dc'/df = c, dc'/dc = f, dc'/di = g, dc'/dg = i.
    Source: Hochreiter and Schmidhuber 1997, Long Short-Term Memory; Gers, Schmidhuber and Cummins 2000 for f.

    Args:
        hidden_size: the width of the states.

    Raises:
        GateError: hidden_size is not a positive integer; the inputs have other shapes.
    """

    num_outputs = 2

    def __init__(self, hidden_size: int) -> None:
        self._prepare(hidden_size, LongShort())
