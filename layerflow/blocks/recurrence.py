"""Any gate as the step of a recurrence, and backpropagation through time."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape, gates_in
from layerflow.gates.cell import CellGate
from layerflow.gates.initializers import Normal
from layerflow.parameter import Array, Parameter
from layerflow.sweep import Step

TRIALS = 4  # shapes of the states that are tried before the cell is said to change them


class Recurrent(Gate):
    """y_t, states_t = cell(x_t, states_{t-1}) for every time t: one gate, used at each step of a sequence.

    The cell takes one step of the input and its states. It returns its output and its new states, or, like `GRUCell`
    and `LSTMCell`, the new states only, the first of which is then the output as well.

    Shapes: x (batch, time, ...); mask (batch, time), 0 where a sequence has ended: the states stay as they were there,
    and the output is 0 -> y (batch, time, ...), or the last output (batch, ...).
    Local gradient: backpropagation through time, from the last step to the first: the cell's backward gets the upstream
    gradient of y_t and what step t + 1 sent back to the states; its parameters' gradients are summed over time.
    Source: Werbos 1990, Backpropagation Through Time: What It Does and How to Do It.

    Args:
        cell: a gate or a container of two or more inputs.
        state_shapes: the shape of each state, without the batch; by default `cell.hidden_size`, or the shapes that
            the cell returns when it is given them.
        return_sequences: whether to return the outputs of all times, or that of the last one.
        learned_states: whether the states before the first step are parameters, which start near 0, rather than 0; one
            answer for all states, or one for each.

    Raises:
        GateError: a cell that returns another number or other shapes of states than it takes; an input without time; a
            mask of the wrong shape.
    """

    def __init__(
        self,
        cell: Gate,
        state_shapes: Sequence[Sequence[int]] | None = None,
        return_sequences: bool = True,
        learned_states: bool | Sequence[bool] = False,
    ) -> None:
        if not isinstance(cell, Gate):
            raise GateError(f"Recurrent: the cell is {cell!r}, not a gate")
        self.cell, self.return_sequences, self.learned_states = cell, return_sequences, learned_states
        self.state_shapes = None if state_shapes is None else [tuple(shape) for shape in state_shapes]
        count = max(_states_of(cell), 0)
        learned = [learned_states] * count if isinstance(learned_states, bool) else list(learned_states)
        if len(learned) != count:
            raise GateError(f"{self!r}: learned_states has {len(learned)} entries, for a cell of {count} states")
        self.initial = {str(i): Parameter(decay=False) for i, is_learned in enumerate(learned) if is_learned}
        self._states: list[Shape] = []
        self._outputs = 0

    def build(self, rng: "np.random.Generator", shape: Shape, *mask: Shape) -> Shape:
        self._check(shape, mask)
        batch, step = shape[0], (shape[0], *shape[2:])
        states = [(batch, *state) for state in self._settled(rng, step)]
        outputs = self._returned(self.cell.build(rng, step, *states), states)
        if outputs[-len(states) :] != states:
            raise GateError(
                f"{self!r}: the cell returns states of shapes {outputs[-len(states) :]}, but takes {states}"
            )
        self._states, self._outputs = [state[1:] for state in states], len(outputs)
        for i, parameter in self.initial.items():
            parameter.create(self._states[int(i)], lambda wanted: Normal(0.1)(rng, wanted))
        return (*shape[:2], *outputs[0][1:]) if self.return_sequences else outputs[0]

    def forward(self, x: Any, *mask: Any) -> Any:
        self._check(x.shape, [item.shape for item in mask])
        step = self._step(x)
        states = self._start(x)
        is_kept = None if not mask else [mask[0][:, t] != 0 for t in range(x.shape[1])]
        memories, outputs = [], []
        for t in range(x.shape[1]):
            found, memory = step.forward([x[:, t], *states], self.training)
            found = found if isinstance(found, tuple) else (found,)
            output, new = found[0], found[-len(states) :]
            if is_kept is not None:
                new = tuple([_where(is_kept[t], *pair) for pair in zip(new, states, strict=True)])
                output = _where(is_kept[t], output, np.zeros_like(output))
            states = new
            memories.append(memory)
            outputs.append(output)
        self.save(x, is_kept, memories, len(mask), len(states))
        if self.return_sequences:
            return np.stack(outputs, axis=1)
        # Of the outputs of a sequence that has ended, the last one that is not 0 by the mask.
        return outputs[-1] if is_kept is None else _last(outputs, is_kept)

    def backward(self, grad: Any) -> Gradients:
        x, is_kept, memories, masks, count = self.saved
        step, grad_x = self._step(x), np.zeros(x.shape, grad.dtype)
        to_states: list[Any] = [np.zeros((len(x), *state), grad.dtype) for state in self._states]
        learned: dict[str, Any] = {}
        for t in range(x.shape[1] - 1, -1, -1):
            past, to_output = [0] * count, self._upstream(grad, t, x.shape[1], is_kept)
            if is_kept is not None:  # where a sequence has ended, the gradient passes by the cell
                past = [_where(is_kept[t], np.zeros_like(down), down) for down in to_states]
                to_states = [_where(is_kept[t], down, np.zeros_like(down)) for down in to_states]
                to_output = _where(is_kept[t], to_output, np.zeros_like(to_output))
            has_output = self._outputs > count
            upstream = [to_output, *to_states] if has_output else [to_states[0] + to_output, *to_states[1:]]
            input_grads, param_grads = step.backward(upstream, memories[t])
            if input_grads[0] is not None:
                grad_x[:, t] = input_grads[0]
            to_states = [
                past[i] + (np.zeros_like(to_states[i]) if down is None else down)
                for i, down in enumerate(input_grads[1:])
            ]
            for name, found in param_grads.items():
                learned[name] = learned[name] + found if name in learned else found
        grads = {f"cell.{name}": found for name, found in learned.items()}
        grads |= {f"initial.{i}": to_states[int(i)].sum(axis=0) for i in self.initial}
        return (grad_x if x.dtype.kind == "f" else None, *[None] * masks), grads

    def _upstream(self, grad: Any, t: int, length: int, is_kept: list[Array] | None) -> Any:
        """The upstream gradient of the output at time t."""
        if self.return_sequences:
            return grad[:, t]
        is_last = np.full(len(grad), t == length - 1)
        if is_kept is not None:
            is_last = is_kept[t] & ~np.any(is_kept[t + 1 :], axis=0) if t + 1 < length else is_kept[t]
        return _where(is_last, grad, np.zeros_like(grad))

    def _step(self, x: Any) -> Step:
        inputs, outputs = 1 + len(self._states), tuple(range(self._outputs))
        step = Step("cell", self.cell, tuple(range(inputs)), outputs, needs_grad=(True,) * inputs)
        step.gates, step.parameters = tuple(gates_in(self.cell)), tuple(self.cell.parameters())
        return step

    def _start(self, x: Any) -> tuple[Any, ...]:
        """The states before the first step."""
        dtype = x.dtype if x.dtype.kind == "f" else next((p.value.dtype for p in self.cell.parameters()), np.float64)
        states = [np.zeros((len(x), *state), dtype) for state in self._states]
        for i, parameter in self.initial.items():
            states[int(i)] += parameter.value
        return tuple(states)

    def _check(self, shape: Shape, masks: Sequence[Shape]) -> None:
        if len(shape) < 2 or shape[1] == 0:
            raise GateError(f"{self!r}: input of shape {shape}, expected (batch, time, ...), time at least 1")
        if len(masks) > 1 or any(mask != shape[:2] for mask in masks):
            given = ", ".join(map(str, masks))
            raise GateError(f"{self!r}: mask of shape {given} for an input of shape {shape}, expected {shape[:2]}")

    def _settled(self, rng: "np.random.Generator", step: Shape) -> list[Shape]:
        """The shapes of the states: as given, or those which the cell returns unchanged."""
        if self.state_shapes is not None:
            return self.state_shapes
        if self._states:
            return self._states
        count = _states_of(self.cell)
        if count < 1:
            raise GateError(f"{self!r}: the cell must take the input and one state or more; it takes no state")
        width = getattr(self.cell, "hidden_size", None)
        if isinstance(width, int):
            return [(width,)] * count
        states = [step] * count
        for _ in range(TRIALS):
            twin = copy.deepcopy(self.cell)  # a build creates parameters that fit its inputs
            try:
                returned = self._returned(twin.build(copy.deepcopy(rng), step, *states), states)
            except Exception as error:
                raise GateError(
                    f"{self!r}: the shapes of the cell's states could not be found: with {states[0]} it raised "
                    f"{type(error).__name__}: {error}. Write state_shapes=[...], without the batch"
                ) from error
            found = returned[-count:]
            if found == states:
                return [state[1:] for state in states]
            states = found
        raise GateError(f"{self!r}: the cell returns states of other shapes than it is given; write state_shapes=[...]")

    def _returned(self, shapes: Any, states: list[Shape]) -> list[Shape]:
        """The shapes of the outputs as a list, after checking that they are output and states, or states alone."""
        found = list(shapes) if shapes and isinstance(shapes[0], tuple) else [shapes]
        if len(found) - len(states) not in (0, 1):
            raise GateError(
                f"{self!r}: the cell takes {len(states)} states and returns {len(found)} arrays; expected "
                f"{len(states)} states, or an output before them"
            )
        return found


def _states_of(cell: Gate) -> int:
    """How many states a cell takes: its inputs after the first."""
    if isinstance(cell, CellGate):
        return cell.formula.states
    if (slots := getattr(cell, "input_slots", None)) is not None:  # a container
        return len(slots) - 1
    parameters = inspect.signature(type(cell).bare_forward).parameters.values()
    return sum(item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD) for item in parameters) - 2


def _where(is_kept: Array, there: Any, otherwise: Any) -> Any:
    """Choose row by row."""
    return np.where(is_kept.reshape(-1, *(1,) * (np.ndim(there) - 1)), there, otherwise)


def _last(outputs: list[Any], is_kept: list[Array]) -> Any:
    """The last output of each sequence."""
    last = np.zeros_like(outputs[0])
    for output, kept in zip(outputs, is_kept, strict=True):
        last = _where(kept, output, last)
    return last
