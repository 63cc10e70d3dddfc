"""Recurrent layers over whole sequences, and backpropagation through time.

The input's product is one matrix product over all times, and so are the gradients of the weights; only the state's
product must wait for the step before it. The formulas of the steps stand in `cell.py`.
"""

from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.cell import Formula, Gated, LongShort, elman
from layerflow.gates.initializers import Uniform
from layerflow.gates.windows import as_sizes
from layerflow.parameter import Parameter

NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


class RecurrentLayer(Gate):
    """What the recurrent layers share: weights, the loop over time, and the loop back."""

    def _prepare(self, hidden_size: int, bidirectional: bool, return_sequences: bool, formula: Formula) -> None:
        as_sizes(self, "hidden_size", hidden_size, 1)
        self.hidden_size, self.formula = hidden_size, formula
        self.bidirectional, self.return_sequences = bidirectional, return_sequences
        for suffix in self._suffixes():
            for name in NAMES:
                setattr(self, name + suffix, Parameter(decay=name.startswith("weight")))

    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _weights(self, suffix: str) -> list[Parameter]:
        return [getattr(self, name + suffix) for name in NAMES]

    def build(self, rng: "np.random.Generator", shape: Shape, *mask: Shape) -> Shape:
        self._check(shape, mask, shape[-1] if shape else 0)
        draw, rows = Uniform(self.hidden_size**-0.5), self.formula.parts * self.hidden_size
        for suffix in self._suffixes():
            shapes = (rows, shape[2]), (rows, self.hidden_size), (rows,), (rows,)
            for parameter, wanted in zip(self._weights(suffix), shapes, strict=True):
                parameter.create(wanted, lambda wanted: draw(rng, wanted))
        width = self.hidden_size * len(self._suffixes())
        return (*shape[:2], width) if self.return_sequences else (shape[0], width)

    def _check(self, shape: Shape, masks: Any, features: int) -> None:
        if len(shape) != 3 or shape[2] != features or shape[1] == 0:
            raise GateError(
                f"{self!r}: input of shape {shape}, expected (batch, time, {features or 'features'}), time at least 1"
            )
        if len(masks) > 1 or any(mask != shape[:2] for mask in masks):
            given = ", ".join(map(str, masks))
            raise GateError(f"{self!r}: mask of shape {given} for an input of shape {shape}, expected {shape[:2]}")

    def forward(self, x: Any, *mask: Any) -> Any:
        self._check(x.shape, [item.shape for item in mask], self._weights("")[0].value.shape[1])
        steps = np.swapaxes(x, 0, 1)
        kept_steps = np.swapaxes(mask[0], 0, 1)[:, :, None] != 0 if mask else None
        runs, outputs = [], []
        for suffix in self._suffixes():
            states, kept = self._run(steps, kept_steps, suffix)
            runs.append((states, kept))
            seen = states[:0:-1] if suffix else states[1:]
            if self.return_sequences and kept_steps is not None:
                seen = seen * kept_steps
            outputs.append(np.swapaxes(seen, 0, 1) if self.return_sequences else states[-1])
        self.save(steps, kept_steps, runs, len(mask))
        return np.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0]

    def _run(self, steps: Any, kept_steps: Any, suffix: str) -> tuple[Any, list[Any]]:
        """Return the states h, before the first step and after each, in the order of the run, and what was kept."""
        w_ih, w_hh, b_ih, b_hh = (parameter.value for parameter in self._weights(suffix))
        products = (steps.reshape(-1, steps.shape[2]) @ w_ih.T + b_ih).reshape(*steps.shape[:2], -1)
        states: tuple[Any, ...] = (np.zeros((steps.shape[1], self.hidden_size), products.dtype),) * self.formula.states
        history = np.empty((len(steps) + 1, *states[0].shape), products.dtype)
        history[0], kept = states[0], []
        for count, t in enumerate(self._times(len(steps), suffix), 1):
            new, memory = self.formula.step(products[t], states[0] @ w_hh.T + b_hh, states)
            if kept_steps is not None:
                new = tuple(np.where(kept_steps[t], *pair) for pair in zip(new, states, strict=True))
            states = new
            history[count] = states[0]
            kept.append(memory)
        return history, kept

    def _times(self, length: int, suffix: str) -> range:
        return range(length - 1, -1, -1) if suffix else range(length)

    def backward(self, grad: Any) -> Gradients:
        steps, kept_steps, runs, masks = self.saved
        parts = np.split(grad, len(runs), axis=-1)
        down: Any = 0
        grads: dict[str, Any] = {}
        for suffix, part, (history, kept) in zip(self._suffixes(), parts, runs, strict=True):
            to_x, found = self._run_back(steps, kept_steps, suffix, part, history, kept)
            down = down + to_x
            grads |= {name + suffix: value for name, value in zip(NAMES, found, strict=True)}
        return (np.swapaxes(down, 0, 1), *[None] * masks), grads

    def _run_back(
        self, steps: Any, kept_steps: Any, suffix: str, grad: Any, history: Any, kept: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """Backpropagation through time: the gradient of the states goes from each step to the one before it."""
        w_ih, w_hh, b_ih, _ = (parameter.value for parameter in self._weights(suffix))
        to_a = np.empty((*steps.shape[:2], len(b_ih)), grad.dtype)
        to_b = np.empty_like(to_a)
        zeros = np.zeros(history.shape[1:], grad.dtype)
        down: list[Any] = [zeros] * self.formula.states
        if not self.return_sequences:
            down[0] = grad
        times = self._times(len(steps), suffix)
        for count in range(len(times) - 1, -1, -1):
            t = times[count]
            if self.return_sequences:
                seen = grad[:, t] if kept_steps is None else grad[:, t] * kept_steps[t]
                down[0] = down[0] + seen
            held: list[Any] = [0] * len(down)
            if kept_steps is not None:  # a step that is masked hands the gradient on as it is
                held = [np.where(kept_steps[t], 0, item) for item in down]
                down = [np.where(kept_steps[t], item, 0) for item in down]
            to_a[t], to_b[count], former = self.formula.step_back(kept[count], down)
            down = [item + more for item, more in zip(former, held, strict=True)]
            down[0] = to_b[count] @ w_hh + down[0]
            down = [np.broadcast_to(item, zeros.shape) for item in down]
        rows_a, rows_b = to_a.reshape(-1, to_a.shape[2]), to_b.reshape(-1, to_b.shape[2])
        x_rows, h_rows = steps.reshape(-1, steps.shape[2]), history[:-1].reshape(-1, history.shape[2])
        found = rows_a.T @ x_rows, rows_b.T @ h_rows, rows_a.sum(axis=0), rows_b.sum(axis=0)
        return (rows_a @ w_ih).reshape(steps.shape), found


class RNN(RecurrentLayer):
    """h_t = f(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh) for every step of time, from h_0 = 0; f is tanh or ReLU.

    A mask (batch, time) as second input is 0 where a sequence has ended: there the state stays, and the output is 0.

    Shapes: x (batch, time, features) -> y (batch, time, hidden_size), or the last state (batch, hidden_size);
    weight_ih (hidden_size, features), weight_hh (hidden_size, hidden_size), bias_ih and bias_hh (hidden_size,).
    Local gradient: backpropagation through time. The gradient of h_t is that of y_t plus what step t + 1 sends back,
    and goes through the derivative of RNNCell; the weights add up over all steps.
    Source: Elman 1990, Finding Structure in Time; Werbos 1990, Backpropagation Through Time.

    Args:
        hidden_size: the width of the state.
        nonlinearity: "tanh" or "relu".
        bidirectional: a second pass, with its own weights `..._reverse`, runs from the end; the outputs are joined.
        return_sequences: False returns only the state after the last step that isn't masked.

    Raises:
        GateError: a setting is not one of these; x has another shape or no step; the mask isn't (batch, time).
    """

    def __init__(
        self,
        hidden_size: int,
        nonlinearity: str = "tanh",
        bidirectional: bool = False,
        return_sequences: bool = True,
    ) -> None:
        self._prepare(hidden_size, bidirectional, return_sequences, elman(self, nonlinearity))


class GRU(RecurrentLayer):
    """h_t = (1 - z) n + z h_(t-1) for every step of time, from h_0 = 0; the gates r, z and n are those of GRUCell.

    Shapes: as RNN; weight_ih (3 hidden_size, features), weight_hh (3 hidden_size, hidden_size), bias_ih and bias_hh
    (3 hidden_size,), in the order r, z, n; a mask as in RNN.
    Local gradient: backpropagation through time, as in RNN, with the derivative of GRUCell.
    Source: Cho et al. 2014, arXiv:1406.1078; with r applied after the product, as in PyTorch and cuDNN.

    Args:
        hidden_size: the width of the state.
        bidirectional: a second pass, with its own weights `..._reverse`, runs from the end; the outputs are joined.
        return_sequences: False returns only the state after the last step that isn't masked.

    Raises:
        GateError: as RNN.
    """

    def __init__(self, hidden_size: int, bidirectional: bool = False, return_sequences: bool = True) -> None:
        self._prepare(hidden_size, bidirectional, return_sequences, Gated())


class LSTM(RecurrentLayer):
    """h_t = o tanh(c_t) and c_t = f c_(t-1) + i g for every step of time, from zeros; the gates are those of LSTMCell.

    Shapes: as RNN; weight_ih (4 hidden_size, features), weight_hh (4 hidden_size, hidden_size), bias_ih and bias_hh
    (4 hidden_size,), in the order i, f, g, o; a mask as in RNN.
    Local gradient: backpropagation through time, as in RNN, with the derivative of LSTMCell; c has its own way back.
    Source: Hochreiter and Schmidhuber 1997, Long Short-Term Memory; Gers, Schmidhuber and Cummins 2000 for f.

    Args:
        hidden_size: the width of the states.
        bidirectional: a second pass, with its own weights `..._reverse`, runs from the end; the outputs are joined.
        return_sequences: False returns only the state h after the last step that isn't masked.

    Raises:
        GateError: as RNN.
    """

    def __init__(self, hidden_size: int, bidirectional: bool = False, return_sequences: bool = True) -> None:
        self._prepare(hidden_size, bidirectional, return_sequences, LongShort())
