"""The native engine: training steps as machine code."""

from collections.abc import Sequence

import numpy as np

from layerflow.containers.container import Container
from layerflow.engine.compiling import CompilingEngine
from layerflow.engine.native.compilation import machine
from layerflow.engine.native.compiled import Compiled
from layerflow.engine.native.memory import Layout
from layerflow.engine.numpy import Update
from layerflow.engine.program import Guard, Program
from layerflow.parameter import Array
from layerflow.store import ParameterStore


class NativeEngine(CompilingEngine):
    """Runs training steps as machine code that llvmlite compiles; see `CompilingEngine`.

    Raises:
        ConfigError: llvmlite is missing.
    """

    name, made_by = "native", "the machine code"

    def __init__(
        self, container: Container, store: ParameterStore, wanted: tuple[int, ...], update: Update | None = None
    ) -> None:
        super().__init__(container, store, wanted, update)
        self.notes.append(str(machine()))

    def compiled_sweeps(self, program: Program) -> "_Sweeps":
        return _Sweeps(program, self)

    def compiled_steps(self, program: Program) -> "_Steps":
        return _Steps(program, self)


class _Sweeps:
    """Machine code for both sweeps, for batches of one shape."""

    def __init__(self, program: Program, engine: CompilingEngine) -> None:
        parameters = engine.container.named_parameters()
        grads = {f"grad.{name}": parameter.grad for name, parameter in parameters.items()}
        self.program, self.engine, self.runs = program, engine, 0
        self.compiled = Compiled(program, {name: grad for name, grad in grads.items() if grad is not None})
        self.compiled.bind({f"parameter.{name}": parameter.value for name, parameter in parameters.items()})
        self.outputs, self.trouble = self.compiled.outputs, self.compiled.code.trouble
        self.results = tuple([self.compiled.outputs[f"slot.{i}"] for i in range(len(engine.wanted))])
        self.read = [name for name in engine.buffers if f"buffer.{name}" in self.compiled.slots]
        self.written = [name for name in engine.buffers if f"buffer.{name}" in self.compiled.outputs]

    def run(self, inputs: tuple[Array, ...]) -> bool:
        """Run on a batch; return whether all guards hold, else nothing but gradients has changed."""
        engine, given = self.engine, {f"input.{i}": value for i, value in enumerate(inputs)}
        given |= {draw.name: engine.draw(draw) for draw in self.program.draws}
        given |= {f"buffer.{name}": engine.buffers[name].value for name in self.read}
        if self.compiled.run(given) is not None:
            return False
        for name in self.written:
            engine.buffers[name].value = self.compiled.outputs[f"buffer.{name}"].copy()
        return True


class _Steps:
    """Machine code for whole steps, many in one call, on batches of one shape."""

    def __init__(self, program: Program, engine: CompilingEngine) -> None:
        assert engine.update is not None
        self.program, self.engine, self.update, self.runs = program, engine, engine.update, 0
        inputs = [name for name in program.inputs if name.startswith("input.")]
        series = [draw.name for draw in program.draws] + [f"wanted.{i}" for i in range(len(engine.wanted))]
        states = {name: name for name in program.outputs if name in program.inputs}
        layout = Layout(frozenset(inputs), frozenset(series), states)
        self.compiled = Compiled(program, {"grads": engine.store.grads}, layout)
        self.outputs, self.trouble = self.compiled.outputs, self.compiled.code.trouble
        self.settings = {f"setting.{name}": np.zeros(()) for name in ("lr", "step")}
        self.kept = {name: np.array(engine.buffers[name].value) for name in engine.buffers}
        self.compiled.bind({"values": engine.store.values, **self.settings})
        self.compiled.bind({f"buffer.{name}": array for name, array in self.kept.items()})
        self.written = [name for name in engine.buffers if f"buffer.{name}" in program.outputs]

    def run(self, data: Sequence[Array], rows: Array) -> tuple[int, Guard | None]:
        """Take a step for each row of `rows`; return how many, and the guard before which they end."""
        engine, count = self.engine, len(rows)
        self.settings["setting.lr"][...], self.settings["setting.step"][...] = self.update.lr, self.update.steps + 1
        for name, array in self.kept.items():
            array[...] = engine.buffers[name].value
        drawn = engine.drawn(self.program, count)
        for name, start in self.program.starts.items():  # which are others after a restored state
            self.compiled.bind({f"slot.{name}": self.update.vector(name, start)})
        given = {f"input.{i}": part for i, part in enumerate(data)} | drawn | {"rows": rows}
        done, failed = self.compiled.run_many(given, count)
        self.update.steps += done
        if done < count and drawn:  # the generators are where they are after the steps that were taken
            engine._put_back(engine.draws, {})
            engine.drawn(self.program, done)
        if done:
            for name in self.written:
                engine.buffers[name].value = self.kept[name].copy()
        return done, failed
