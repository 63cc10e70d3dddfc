"""What engines that compile share: programs for each shape of batch, held to what NumPy gives."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from layerflow.containers.container import Container
from layerflow.engine.numpy import NumpyEngine, Update
from layerflow.engine.program import Draw, Guard, Program
from layerflow.engine.recorder import depends_on_settings_alone, detached, record_gate
from layerflow.engine.whole_step import record_step
from layerflow.errors import EngineError, RecordError
from layerflow.gate import gates_in
from layerflow.parameter import Array
from layerflow.store import ParameterStore

CHECKED_RUNS = 2  # of each program are done by NumPy as well, and compared
EPSILON = {4: float(np.finfo(np.float32).eps), 8: float(np.finfo(np.float64).eps)}
TOLERANCE = {4: 1e-3, 8: 1e-9}  # of the norm of an array, by bytes of a number
PLAIN = (bool, float, int, str, type(None))
ROUNDINGS = 100.0  # how many times as far as rounding moves a result it may be off


class CompiledSweeps(Protocol):
    """Both sweeps for batches of one shape.

    Attributes:
        runs: how often they ran.
        results: the values of the wanted slots, after a run.
        outputs: all results of the program by name.
        trouble: what there is to know about the compilation, in words.
    """

    runs: int
    results: tuple[Any, ...]
    outputs: dict[str, Any]
    trouble: str

    def run(self, inputs: tuple[Array, ...]) -> bool:
        """Run on a batch; return whether all guards hold, else nothing but gradients has changed."""


class CompiledSteps(Protocol):
    """Whole steps, many in one call, on batches of one shape; attributes as of `CompiledSweeps`.

    `outputs` has the values of the wanted slots for each step, as "wanted.0" and so on.
    """

    runs: int
    outputs: dict[str, Any]
    trouble: str

    def run(self, data: Sequence[Array], rows: Array) -> tuple[int, Guard | None]:
        """Take a step for each row of `rows`; return how many, and the guard before which they end."""


class CompilingEngine(NumpyEngine):
    """Runs training steps as compiled code; see `NumpyEngine` for what it takes and does.

    Both sweeps, or whole steps with the optimizer's update, are recorded and compiled for each shape of batch. NumPy
    runs the first batch twice, which must give equal bits, and the first two batches beside the compiled code, whose
    results must be equal but for rounding. Where a guard of the program does not hold, NumPy runs the batch, and
    explains what is wrong with it.

    Raises:
        RecordError: a gate cannot be recorded. EngineError: compiled code and NumPy disagree.
    """

    made_by: ClassVar[str] = "the compiled code"

    def __init__(
        self, container: Container, store: ParameterStore, wanted: tuple[int, ...], update: Update | None = None
    ) -> None:
        super().__init__(container, store, wanted)
        self.update = update
        self.notes: list[str] = []
        self.sweeps: dict[tuple[Any, ...], CompiledSweeps] = {}
        self.steps: dict[tuple[Any, ...], CompiledSteps] = {}
        self.watched: list[tuple[dict[str, Any], str]] = []  # settings that programs hold as constants
        self.settings: list[Any] = []

    @abstractmethod
    def compiled_sweeps(self, program: Program) -> CompiledSweeps:
        """Compile both sweeps."""

    @abstractmethod
    def compiled_steps(self, program: Program) -> CompiledSteps:
        """Compile a whole step."""

    @property
    def machine(self) -> str:  # type: ignore[override]
        """What the code was compiled for, and what NumPy does after all."""
        return "; ".join(self.notes)

    @np.errstate(all="ignore")
    def prepare(self, *inputs: Array) -> None:
        """Record and compile what runs such batches."""
        self._look_at_settings()
        self.draws, self.kept = self._state()
        if self._whole_steps(inputs) is None:
            self._whole_sweeps(inputs)

    def run(self, *inputs: Array) -> tuple[Any, ...]:
        """Run forward and backward; return the values of the wanted slots, which the next run overwrites.

        Where whole steps are compiled, this is asked for a batch whose guards do not hold: NumPy runs it.
        """
        if self.update is not None:
            return super().run(*inputs)
        self._look_at_settings()
        self.draws, self.kept = self._state()
        sweeps = self._whole_sweeps(inputs)
        expected = self._expected(inputs) if sweeps.runs < CHECKED_RUNS else {}
        sweeps.runs += 1
        if not sweeps.run(inputs):
            return self.repeat(*inputs)
        self._compare_all(expected, sweeps.outputs)
        return sweeps.results

    def take_steps(self, data: Sequence[Array], rows: Array) -> tuple[int, list[Array]]:
        """Take training steps on batches of samples; return how many, and each step's values of the wanted slots.

        It ends before a step whose guards do not hold, and takes none if the update cannot be recorded.

        Args:
            data: arrays of samples.
            rows: which samples are in which batch, (steps, batch).
        """
        if self.update is None:
            return 0, []
        self._look_at_settings()
        self.draws, self.kept = self._state()
        key = _batch_key(rows.shape[1], data)
        steps = self.steps.get(key) or self._whole_steps([part[rows[0]] for part in data])
        if steps is None:
            return 0, []
        expected: dict[str, tuple[Array, float]] = {}
        if steps.runs < CHECKED_RUNS:
            rows = rows[:1]
            expected = self._expected([part[rows[0]] for part in data])
        before = self.store.values.copy() if expected else None
        changed = self.update.by_numpy() if expected else None
        steps.runs += 1
        done, failed = steps.run(data, rows)
        if failed is not None and depends_on_settings_alone(failed.node):
            del self.steps[key]  # such as the step's number: it is recorded anew with the present one
        found = steps.outputs
        if done and before is not None and changed is not None:
            results = {f"slot.{i}": found[f"wanted.{i}"][0] for i in range(len(self.wanted))}
            names = {id(parameter): name for name, parameter in self.container.named_parameters().items()}
            grads = {f"grad.{names[id(parameter)]}": parameter.grad for parameter in self.store.parameters}
            buffers = {f"buffer.{name}": buffer.value for name, buffer in self.buffers.items()}
            self._compare_all(expected, results | grads | buffers)
            self._compare_values(before, changed(before, self.store.grads), self.store.values)
        return done, [found[f"wanted.{i}"][:done] for i in range(len(self.wanted))]

    def _look_at_settings(self) -> None:
        """Forget all programs if a number in a gate or in the optimizer, such as `dropout.rate`, is another one now."""
        if [held.get(name) for held, name in self.watched] == self.settings and self.watched:
            return
        self.sweeps.clear()
        self.steps.clear()
        holders = [vars(gate) for gate in gates_in(self.container) if not isinstance(gate, Container)]
        holders += [vars(part) for part in (self.update.parts if self.update else ())]
        self.watched = [
            (held, name)
            for held in holders
            for name, value in held.items()
            if _is_plain(value) and name not in ("lr", "steps")
        ]
        self.settings = [held[name] for held, name in self.watched]

    def _whole_steps(self, inputs: Sequence[Array]) -> CompiledSteps | None:
        """The machine code for steps on such batches; `None` if the update cannot be recorded."""
        if self.update is None:
            return None
        self._check_repeatable(inputs)
        try:
            program = record_step(self.container, inputs, self.wanted, self.store, self.update)
        except RecordError as error:
            self._whole_sweeps(inputs)  # raises if it is the model that cannot be recorded
            self.update = None
            self.notes.append(f"the optimizer runs with NumPy: {error}")
            return None
        found = self.steps[_batch_key(len(inputs[0]), inputs)] = self.compiled_steps(program)
        self._note(found.trouble)
        return found

    def _whole_sweeps(self, inputs: Sequence[Array]) -> CompiledSweeps:
        """The machine code for both sweeps on such batches."""
        key = _key(inputs)
        if key not in self.sweeps:
            self._check_repeatable(inputs)
            self.sweeps[key] = self.compiled_sweeps(record_gate(self.container, inputs, (), self.wanted))
            self._note(self.sweeps[key].trouble)
        return self.sweeps[key]

    def _note(self, trouble: str) -> None:
        if trouble and trouble not in self.notes:
            self.notes.append(trouble)

    def _check_repeatable(self, inputs: Sequence[Array]) -> None:
        """Raise unless NumPy gives the same bits for a batch twice."""
        once, again = self._by_numpy(inputs), self._by_numpy(inputs)
        for name, value in once.items():
            if not np.array_equal(value, again[name], equal_nan=True):
                raise RecordError(
                    f"{name}: the same batch from the same state gives other numbers the second time, so a program "
                    "would be wrong; a gate keeps what changes from step to step in an lf.Buffer, and randomness "
                    "in a np.random.Generator that is an attribute"
                )

    def _expected(self, inputs: Sequence[Array]) -> dict[str, tuple[Array, float]]:
        """What NumPy gives for a batch, and how far rounding moves it; nothing where a number is not finite."""
        expected = self._by_numpy(inputs)
        if not all(np.isfinite(value).all() for value in expected.values() if value.dtype.kind == "f"):
            return {}  # what follows such a number is nobody's result
        rounding = self._rounding(expected, inputs)
        return {name: (value, rounding.get(name, 0.0)) for name, value in expected.items()}

    def _rounding(self, expected: dict[str, Array], inputs: Sequence[Array]) -> dict[str, float]:
        """How far rounding moves each result, by what the other precision gives.

        A bias before a batch norm, for example, has no gradient but that: it is measured by those that arrive.
        """
        own = self.store.values.dtype
        other = np.dtype(np.float32 if own == np.float64 else np.float64)
        twin = detached(self.container)
        assert isinstance(twin, Container)
        twin.astype(other)
        twin.training = True
        twin.forward(*[part.astype(other) if part.dtype.kind == "f" else part for part in inputs])
        grads = twin.backward()[1]
        found = {f"slot.{i}": twin.values[slot] for i, slot in enumerate(self.wanted)}
        found |= {f"grad.{name}": grad for name, grad in grads.items()}
        found |= {f"buffer.{name}": buffer.value for name, buffer in twin.named_buffers().items()}
        epsilon = EPSILON[own.itemsize]
        scale = min(epsilon / EPSILON[other.itemsize], 1.0)
        moved = {name: scale * _distance(value, np.asarray(found[name])) for name, value in expected.items()}
        arrived = [float(np.abs(grad).max(initial=0.0)) for grad in twin.grads if grad is not None]
        for name in moved:  # where the terms of a sum cancel exactly
            moved[name] += 10 * epsilon * max(arrived) if name.startswith("grad.") else 0.0
        return moved

    def _by_numpy(self, inputs: Sequence[Array]) -> dict[str, Array]:
        """The results of a batch by the names that a program gives them; state stays as it was."""
        self.container.training = True
        results = self._ordinary(inputs)
        named = {f"slot.{i}": np.array(value) for i, value in enumerate(results)}
        named |= {
            f"buffer.{name}": buffer.value.copy()
            for name, buffer in self.buffers.items()
            if not np.array_equal(self.kept[name], buffer.value)
        }
        parameters = self.container.named_parameters().items()
        named |= {f"grad.{name}": parameter.grad.copy() for name, parameter in parameters if parameter.grad is not None}
        self._put_back(self.draws, self.kept)
        return named

    def draw(self, draw: Draw) -> Array:
        """Repeat the call of a generator."""
        return np.asarray(getattr(self.generators[draw.generator], draw.method)(*draw.arguments, **draw.named))

    def drawn(self, program: Program, count: int) -> dict[str, Array]:
        """The draws of so many steps, in the order in which the steps make them."""
        found: dict[str, list[Array]] = {draw.name: [] for draw in program.draws}
        for _ in range(count if found else 0):
            for draw in program.draws:
                found[draw.name].append(self.draw(draw))
        return {name: np.stack(arrays) for name, arrays in found.items() if arrays}

    def _compare_all(self, expected: dict[str, tuple[Array, float]], found: dict[str, Any]) -> None:
        """Raise unless results are equal but for rounding, which moves them by so much."""
        for name, (value, rounding) in expected.items():
            tolerance = TOLERANCE[value.dtype.itemsize] if value.dtype.kind == "f" else 0.0
            size, away = float(np.linalg.norm(value.astype(np.float64).ravel())), _distance(value, found[name])
            if not away <= tolerance * size + ROUNDINGS * rounding:
                raise self._disagreement(name, away, size)

    def _compare_values(self, before: Array, expected: Array, found: Array) -> None:
        """Raise unless an update is that of NumPy but for rounding."""
        change, size = _distance(before, expected), float(np.linalg.norm(expected.astype(np.float64)))
        away = _distance(expected, found)
        if not away <= TOLERANCE[found.dtype.itemsize] * change + 4 * EPSILON[found.dtype.itemsize] * size:
            raise self._disagreement("the optimizer's update", away, change)

    def _disagreement(self, name: str, away: float, size: float) -> EngineError:
        return EngineError(
            f"{name}: {self.made_by} gives other numbers than NumPy, off by {away:.3g} where the norm is {size:.3g}. "
            f"This is an error in the {self.name} engine; train with engine numpy, and please report it"
        )


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if type(value) is tuple else type(value) in PLAIN


def _key(inputs: Sequence[Array]) -> tuple[Any, ...]:
    return tuple([(value.shape, value.dtype) for value in inputs])


def _batch_key(size: int, data: Sequence[Array]) -> tuple[Any, ...]:
    return (size, *[(part.shape[1:], part.dtype) for part in data])


def _distance(one: Array, other: Array) -> float:
    """The norm of the difference."""
    return float(np.linalg.norm((one.astype(np.float64) - other.astype(np.float64)).ravel()))
