"""A training step in NumPy as one straight-line function: both sweeps of a container, unrolled.

The loops of `layerflow.sweep` look up slots, keep what gates save and check what they return, anew for each step of
each batch. All of it is the same from batch to batch. It is settled once, and what remains is a Python function that
calls the gates' own `forward` and `backward`, one after the other:

    def sweeps(v0, v1):
        matmul(v0, weight0, v2)             # Linear, into an array that is allocated once
        add(v2, bias0, v2)
        v3 = forward1(v2)                   # any other gate
        ...
        d2 = result1[0][0]
        matmul(d2.T, v0, g0)                # the gradient of a weight, straight into the ParameterStore

Gates in `RULES` are written out, into arrays of their own where nothing outside the function can see the difference.
A rule computes the same bits as its gate.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from layerflow.containers.container import Container
from layerflow.engine.rules import Sweeps, Unrolled
from layerflow.gate import CURRENT
from layerflow.parameter import Array
from layerflow.store import ParameterStore

Slot = Callable[[str, float], Any]


class Update(Protocol):
    """What follows the gradients in a step, as the trainer gives it to an engine.

    Attributes:
        steps: how many steps have been taken.
        parts: objects whose modules hold the code.
    """

    steps: int
    parts: Sequence[Any]

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""

    def __call__(self, values: Any, grads: Any, lr: Any, step: Any, slot: Slot) -> None:
        """Change `values` in place, given the gradients; `slot` returns the optimizer's own vectors by name."""

    def vector(self, name: str, start: float) -> Array:
        """The vector of a slot, as long as all values; it is `start` throughout at first."""

    def by_numpy(self) -> Callable[[Array, Array], Array]:
        """The next update in NumPy, a function of values and gradients that leaves everything as it is."""


class NumpyEngine:
    """Runs the two sweeps of a container on batches; the gradients go into the store.

    The first batch of each shape runs through the ordinary sweeps, which check everything that gates return. A function
    is compiled for the following ones. If it raises, the ordinary sweeps repeat the batch and explain the error.

    Args:
        container: the container, built, whose outputs are scalars.
        store: holds all its parameters.
        wanted: the slots whose values `run` returns.
        update: what follows the gradients; of use to engines that take whole steps.

    Attributes:
        name: of the engine.
        machine: what the code was compiled for and what else there is to know about it, in words; empty for NumPy.
        draws: the states of the container's random generators before the last batch, by name.
    """

    name = "numpy"
    machine = ""

    def __init__(
        self, container: Container, store: ParameterStore, wanted: tuple[int, ...], update: Update | None = None
    ) -> None:
        self.container, self.store, self.wanted = container, store, wanted
        self.update: Update | None = None
        self.generators, self.buffers = container.named_generators(), container.named_buffers()
        self.draws: dict[str, Any] = {}
        self.kept: dict[str, Array] = {}  # the buffers before the last batch
        self.compiled: dict[tuple[Any, ...], Sweeps | None] = {}

    def run(self, *inputs: Array) -> tuple[Any, ...]:
        """Run forward and backward; return the values of the wanted slots."""
        self.draws, self.kept = self._state()
        key = tuple([(value.shape, value.dtype) for value in inputs])
        sweeps = self.compiled.get(key)
        if sweeps is None:
            found = self._ordinary(inputs)
            if key not in self.compiled:
                self.compiled[key] = self._compile()
            return found
        try:
            with CURRENT:
                return sweeps(*inputs)
        except Exception:
            self.compiled[key] = None
        return self.repeat(*inputs)

    def take_steps(self, data: Sequence[Array], rows: Array) -> tuple[int, list[Array]]:
        """Take whole steps, update included, on batches of samples: none, with NumPy."""
        return 0, []

    def repeat(self, *inputs: Array) -> tuple[Any, ...]:
        """Run the last batch again through the ordinary sweeps, which leave every value and gradient in the container.

        Generators and buffers start from the same state.
        """
        self._put_back(self.draws, self.kept)
        return self._ordinary(inputs)

    def _compile(self) -> Sweeps | None:
        """Return the function for the batch that has just run; `None` if a gate's backward can run only once.

        Compiling runs backward once more, which leaves generators, buffers and gradients as they were.
        """
        state, grads = self._state(), self.store.grads.copy()
        try:
            return compile_sweeps(self.container, self.store, self.wanted)
        except Exception:
            return None
        finally:
            self._put_back(*state)
            self.store.grads[...] = grads

    def _state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """The states of the generators, and copies of the buffers."""
        draws = {name: generator.bit_generator.state for name, generator in self.generators.items()}
        return draws, {name: buffer.value.copy() for name, buffer in self.buffers.items()}

    def _put_back(self, draws: dict[str, Any], kept: dict[str, Array]) -> None:
        for name, state in draws.items():
            self.generators[name].bit_generator.state = state
        for name, value in kept.items():
            self.buffers[name].value = value

    def _ordinary(self, inputs: Sequence[Array]) -> tuple[Any, ...]:
        self.container.forward(*inputs)
        self.container.backward()
        return tuple([self.container.values[slot] for slot in self.wanted])


def compile_sweeps(container: Container, store: ParameterStore, wanted: tuple[int, ...]) -> Sweeps:
    """Return both sweeps as one function of the inputs; an ordinary forward and backward have just run."""
    code = Unrolled(container, store, wanted)
    steps = [(step, code.rule(step)) for step in container.steps]
    for step, rule in steps:
        rule.forward(code, step)
    for slot in container.output_slots:
        code.arrive(slot, code.name("one", container.values[slot].dtype.type(1)))
    for step, rule in reversed(steps):
        if code.arrived.intersection(step.writes) and (step.parameters or True in step.needs_grad):
            rule.backward(code, step)
    for slot, parameter in container.sources.items():
        if slot in code.arrived:
            code.learn(parameter, f"d{slot}")
    for parameter in store.parameters:
        if parameter not in code.learned:
            code.lines.append(f"{code.grad_of[parameter]}.fill(0)")
    return code.compiled()
