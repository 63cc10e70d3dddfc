"""The native engine: both sweeps of a container as machine code, held to what NumPy gives."""

from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.engine.native.compilation import machine
from layerflow.engine.native.compiled import Compiled
from layerflow.engine.numpy import NumpyEngine
from layerflow.engine.program import Program
from layerflow.engine.recorder import record_gate
from layerflow.errors import EngineError, RecordError
from layerflow.parameter import Array
from layerflow.store import ParameterStore

CHECKED_RUNS = 2  # of each program are done by NumPy as well, and compared
TOLERANCE = {4: 1e-3, 8: 1e-9}  # of the norm of an array, by bytes of a number
NOISE = 100.0  # times what one rounding of every parameter does


class NativeEngine(NumpyEngine):
    """Runs the two sweeps of a container as machine code; see `NumpyEngine` for what it takes and does.

    Both sweeps are recorded and compiled for each shape of batch. NumPy runs the first batch twice, which must give
    equal bits, and the first two batches beside the machine code, whose results must be equal but for rounding. Where
    a guard of the program does not hold, NumPy runs the batch, and explains what is wrong with it.

    Raises:
        RecordError: a gate cannot be recorded. EngineError: machine code and NumPy disagree. ConfigError: llvmlite is
            missing.
    """

    def __init__(self, container: Container, store: ParameterStore, wanted: tuple[int, ...]) -> None:
        super().__init__(container, store, wanted)
        self.machine = str(machine())
        self.steps: dict[tuple[Any, ...], _Sweeps] = {}

    def run(self, *inputs: Array) -> tuple[Any, ...]:
        """Run forward and backward; return the values of the wanted slots, which the next run overwrites."""
        self.draws, self.kept = self._state()
        key = tuple([(value.shape, value.dtype) for value in inputs])
        step = self.steps.get(key)
        if step is None:
            step = self.steps[key] = self.prepare(*inputs)
        if step.runs < CHECKED_RUNS:
            return self._checked(step, inputs)
        if not step.run(inputs):
            return self.repeat(*inputs)
        return step.results

    def prepare(self, *inputs: Array) -> "_Sweeps":
        """Record and compile the sweeps for inputs of these shapes."""
        self.container.training = True
        program = record_gate(self.container, inputs, (), self.wanted)
        return _Sweeps(program, self)

    def _checked(self, step: "_Sweeps", inputs: tuple[Array, ...]) -> tuple[Any, ...]:
        """Run a batch with NumPy too, and compare."""
        expected = self._by_numpy(inputs)
        noise = self._noise(expected, inputs)
        if step.runs == 0:
            again = self._by_numpy(inputs)
            for name, value in expected.items():
                if not np.array_equal(value, again[name], equal_nan=True):
                    raise RecordError(
                        f"{name}: the same batch from the same state gives other numbers the second time, so a program "
                        "would be wrong; a gate keeps what changes from step to step in an lf.Buffer, and randomness "
                        "in a np.random.Generator that is an attribute"
                    )
        step.runs += 1
        if not step.run(inputs):
            return self.repeat(*inputs)
        for name, value in expected.items():
            if not np.isfinite(value).all():
                break  # what follows such a number is nobody's result
            _compare(name, value, step.compiled.outputs[name], noise[name])
        return step.results

    def _noise(self, expected: dict[str, Array], inputs: tuple[Array, ...]) -> dict[str, float]:
        """How far results move when parameters move by a rounding: a bias before a norm has no other gradient."""
        values = self.store.values.copy()
        ways = np.random.default_rng(0).choice([-np.inf, np.inf], values.size).astype(values.dtype)
        try:
            self.store.values[...] = np.nextafter(values, ways)
            moved = self._by_numpy(inputs)
        finally:
            self.store.values[...] = values
        return {name: _distance(value, moved[name]) for name, value in expected.items() if name in moved}

    def _by_numpy(self, inputs: tuple[Array, ...]) -> dict[str, Array]:
        """The results of a batch by the names that the program gives them; state stays as it was."""
        results = self._ordinary(inputs)
        named = {f"slot.{i}": np.array(value) for i, value in enumerate(results)}
        named |= {f"buffer.{name}": buffer.value.copy() for name, buffer in self.buffers.items()}
        parameters = self.container.named_parameters().items()
        named |= {f"grad.{name}": parameter.grad.copy() for name, parameter in parameters if parameter.grad is not None}
        self._put_back(self.draws, self.kept)
        changed = {name for name, value in self.kept.items() if not np.array_equal(value, named[f"buffer.{name}"])}
        return {
            name: value
            for name, value in named.items()
            if not name.startswith("buffer.") or name.removeprefix("buffer.") in changed
        }


class _Sweeps:
    """The machine code for batches of one shape."""

    def __init__(self, program: Program, engine: NativeEngine) -> None:
        parameters = engine.container.named_parameters()
        grads = {f"grad.{name}": parameter.grad for name, parameter in parameters.items()}
        self.program, self.engine, self.runs = program, engine, 0
        self.compiled = Compiled(program, {name: grad for name, grad in grads.items() if grad is not None})
        self.compiled.bind({f"parameter.{name}": parameter.value for name, parameter in parameters.items()})
        self.results = tuple([self.compiled.outputs[f"slot.{i}"] for i in range(len(engine.wanted))])
        self.read = [name for name in engine.buffers if f"buffer.{name}" in self.compiled.slots]
        self.written = [name for name in engine.buffers if f"buffer.{name}" in self.compiled.outputs]

    def run(self, inputs: tuple[Array, ...]) -> bool:
        """Run on a batch; return whether all guards hold, else nothing but gradients has changed."""
        engine, given = self.engine, {f"input.{i}": value for i, value in enumerate(inputs)}
        for draw in self.program.draws:
            drawn = getattr(engine.generators[draw.generator], draw.method)(*draw.arguments, **draw.named)
            given[draw.name] = np.asarray(drawn)
        for name in self.read:
            given[f"buffer.{name}"] = engine.buffers[name].value
        if self.compiled.run(given) is not None:
            return False
        for name in self.written:
            engine.buffers[name].value = self.compiled.outputs[f"buffer.{name}"].copy()
        return True


def _distance(one: Array, other: Array) -> float:
    """The norm of the difference."""
    return float(np.linalg.norm((one.astype(np.float64) - other.astype(np.float64)).ravel()))


def _compare(name: str, expected: Array, found: Array, noise: float) -> None:
    """Raise unless two arrays are equal but for rounding, which moves the results by `noise`."""
    tolerance = TOLERANCE[expected.dtype.itemsize] if expected.dtype.kind == "f" else 0.0
    size, away = float(np.linalg.norm(expected.astype(np.float64).ravel())), _distance(expected, found)
    if not away <= tolerance * size + NOISE * noise:
        raise EngineError(
            f"{name}: the machine code gives other numbers than NumPy, off by {away:.3g} where the norm is {size:.3g}. "
            "This is an error in the native engine; train with engine numpy, and please report it"
        )
