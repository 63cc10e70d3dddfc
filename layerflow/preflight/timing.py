"""Time and memory of a training, measured on a few real steps."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from layerflow.config.experiment import Experiment
from layerflow.gate import saved_in
from layerflow.parameter import Array
from layerflow.sweep import backward_sweep, forward_sweep
from layerflow.training.state import State
from layerflow.training.trainer import Trainer

WARM_UP = 3
SECONDS = 0.5  # that measuring takes, about
FEWEST, MOST = 5, 200  # steps that are measured


@dataclass(frozen=True)
class GateTime:
    """The time and memory of one gate of the objective.

    Attributes:
        name, gate: its name in the objective, and its repr.
        forward, backward: median milliseconds.
        share: its share of the step, including the time to load the batch.
        shape: the shape of its output.
        parameters: the number of its parameters.
        memory: bytes of its output and of what it saves for backward, unless an earlier gate holds them already.
    """

    name: str
    gate: str
    forward: float
    backward: float
    share: float
    shape: tuple[int, ...]
    parameters: int
    memory: int


@dataclass(frozen=True)
class Timing:
    """The time and memory of one training step, and estimates for the whole run.

    Attributes:
        rounds: the number of steps that were measured.
        batch_size, steps, epochs: as in the training; `steps` is the number of steps per epoch.
        gates: the gates of the objective, in the order of the forward sweep.
        data, optimizer, step: median milliseconds to load a batch, for the update, and for a step without loading.
        mean: mean milliseconds of a step with loading, including interruptions by other processes.
        validation: milliseconds to evaluate the validation part, once per epoch; 0 if there is none.
        parameter_bytes: of values and gradients; optimizer_bytes: of its state; activation_bytes: of one step.
    """

    rounds: int
    batch_size: int
    steps: int
    epochs: int
    gates: list[GateTime]
    data: float
    optimizer: float
    step: float
    mean: float
    validation: float
    parameter_bytes: int
    optimizer_bytes: int
    activation_bytes: int

    @property
    def rest(self) -> float:
        """Milliseconds of a step outside gates and optimizer: collecting gradients and checking for NaN."""
        return max(0.0, self.step - self.optimizer - sum(gate.forward + gate.backward for gate in self.gates))

    @property
    def epoch_seconds(self) -> float:
        """Seconds per epoch."""
        return (self.steps * self.mean + self.validation) / 1000

    @property
    def run_seconds(self) -> float:
        """Seconds of the whole training without early stopping."""
        return self.epochs * self.epoch_seconds


def measure(experiment: Experiment, seconds: float = SECONDS) -> Timing:
    """Take real steps with an experiment (which changes its weights), and return medians over them."""
    experiment.prepare()
    trainer = experiment.trainer
    state = trainer.state
    with np.errstate(all="ignore"), trainer.limited_threads():
        times = _take_steps(trainer, seconds)
        memory = _memory(state)
        validation = 0.0
        if (held := state.validation) is not None:
            validation = median(_milliseconds(lambda: trainer.evaluate(*held)) for _ in range(3))
    total = median(times.data) + median(times.step)
    gates = [
        GateTime(
            step.name,
            repr(step.gate),
            forward := median(times.forward[i]),
            backward := median(times.backward[i]),
            (forward + backward) / total,
            np.shape(state.objective.values[step.writes[0]]),
            sum(parameter.value.size for parameter in step.gate.parameters()),
            memory[i],
        )
        for i, step in enumerate(state.objective.steps)
    ]
    return Timing(
        rounds=len(times.step),
        batch_size=state.batches.batch_size,
        steps=len(state.batches),
        epochs=trainer.epochs,
        gates=gates,
        data=median(times.data),
        optimizer=median(times.update),
        step=median(times.step),
        mean=fmean(times.data) + fmean(times.step),
        validation=validation,
        parameter_bytes=state.store.values.nbytes + state.store.grads.nbytes,
        optimizer_bytes=sum(a.nbytes for name, a in state.optimizer.state().items() if name.startswith("slot.")),
        activation_bytes=sum(memory),
    )


class _Times:
    """Milliseconds of every step taken: loading the batch, the whole step, the update, and the gates one by one."""

    def __init__(self, gates: int) -> None:
        self.data: list[float] = []
        self.step: list[float] = []
        self.update: list[float] = []
        self.forward: list[list[float]] = [[] for _ in range(gates)]
        self.backward: list[list[float]] = [[] for _ in range(gates)]


def _take_steps(trainer: Trainer, seconds: float) -> _Times:
    """Take steps for about the given time, and return the times after the warm-up."""
    state = trainer.state
    times = _Times(len(state.objective.steps))
    start = time.perf_counter()
    for number, (loading, x, y) in enumerate(_batches(state)):
        if number == WARM_UP:
            times = _Times(len(state.objective.steps))
        if number - WARM_UP >= (MOST if time.perf_counter() - start < seconds else FEWEST):
            break
        times.data.append(loading)
        times.step.append(_milliseconds(lambda x=x, y=y: trainer.train_step(x, y)))  # type: ignore[misc]
        times.update.append(_milliseconds(lambda: state.optimizer.step(state.store)))
        _sweep(state, x, y, times)
    return times


def _batches(state: State) -> Iterator[tuple[float, Array, Array]]:
    """Yield batches endlessly, each with the milliseconds it took to load."""
    epoch = 0
    while True:
        begin = time.perf_counter()
        for x, y in state.batches.epoch(epoch):
            yield (time.perf_counter() - begin) * 1000, x, y
            begin = time.perf_counter()
        epoch += 1


def _sweep(state: State, x: Array, y: Array, times: _Times) -> None:
    """Run both sweeps of the objective gate by gate, and record their times."""
    objective = state.objective
    values, memories = objective.values, objective.memories
    for slot, value in zip(objective.input_slots, (x, y), strict=True):
        values[slot] = value
    for slot, parameter in objective.sources.items():
        values[slot] = parameter.value
    for i, step in enumerate(objective.steps):
        times.forward[i].append(_milliseconds(lambda step=step: forward_sweep((step,), values, memories, True)))  # type: ignore[misc]
    grads: list[Any] = [None] * len(values)
    grads[objective.output_slots[0]] = np.ones_like(values[objective.output_slots[0]])
    for i, step in reversed(list(enumerate(objective.steps))):
        times.backward[i].append(_milliseconds(lambda step=step: backward_sweep((step,), values, memories, grads, [])))  # type: ignore[misc]


def _memory(state: State) -> list[int]:
    """Return the bytes that each gate adds: arrays not held by the batch, the parameters or an earlier gate."""
    objective = state.objective
    held = [*(objective.values[slot] for slot in objective.input_slots), state.store.values, state.store.grads]
    seen = {id(_owner(array)) for array in held}
    sizes = []
    for step in objective.steps:
        size = 0
        outputs = [objective.values[slot] for slot in step.writes]
        for array in _arrays((outputs, saved_in(objective.memories[step.writes[0]]))):
            if id(owner := _owner(array)) not in seen:
                seen.add(id(owner))
                size += owner.nbytes
        sizes.append(size)
    return sizes


def _arrays(item: Any) -> Iterator[Array]:
    if isinstance(item, np.ndarray):
        yield item
    elif isinstance(item, list | tuple):
        for part in item:
            yield from _arrays(part)


def _owner(array: Array) -> Array:
    """Return the array that owns the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _milliseconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1000
