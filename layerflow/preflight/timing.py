"""Where the time and the memory of a training go, measured on a few real steps."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from layerflow.config.experiment import Experiment
from layerflow.parameter import Array
from layerflow.sweep import backward_sweep, forward_sweep
from layerflow.training.trainer import Trainer

WARM_UP = 3
SECONDS = 0.5  # to measure for
FEWEST, MOST = 5, 200  # rounds


@dataclass(frozen=True)
class GateTime:
    """One gate of the objective: median milliseconds of its two directions, and the bytes it adds to a step.

    Attributes:
        name, gate: its name in the objective, and how one writes it.
        forward, backward: milliseconds.
        share: of the whole step, loading of the batch included.
        shape: of its output.
        parameters: how many numbers it learns.
        memory: bytes of its output and of what it keeps for backward, where no gate before holds them already.
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
    """One step of a training, and what follows for the whole of it.

    Attributes:
        rounds: how many steps were measured.
        batch_size, steps, epochs: as in the training; `steps` are those of an epoch.
        gates: those of the objective, in the order of forward.
        data, optimizer, step: median milliseconds of making a batch, of the update, of a whole step without the batch.
        mean: milliseconds of a step with its batch, interruptions by other processes included: the run will meet them.
        validation: milliseconds for the validation part, once per epoch; 0 where there is none.
        parameter_bytes: values and gradients; optimizer_bytes: what it keeps; activation_bytes: what a step keeps.
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
        """Milliseconds of a step outside gates and optimizer: gathering gradients, looking whether they are finite."""
        return max(0.0, self.step - self.optimizer - sum(gate.forward + gate.backward for gate in self.gates))

    @property
    def epoch_seconds(self) -> float:
        """Seconds per epoch."""
        return (self.steps * self.mean + self.validation) / 1000

    @property
    def run_seconds(self) -> float:
        """Seconds of the whole training, should it not stop early."""
        return self.epochs * self.epoch_seconds


def measure(experiment: Experiment, seconds: float = SECONDS) -> Timing:
    """Take real steps with an experiment (whose weights then have changed), and return medians over them."""
    experiment.prepare()
    trainer = experiment.trainer
    objective, optimizer = trainer.state.objective, trainer.state.optimizer
    forward: list[list[float]] = [[] for _ in objective.steps]
    backward: list[list[float]] = [[] for _ in objective.steps]
    data: list[float] = []
    updates: list[float] = []
    whole: list[float] = []
    start = time.perf_counter()
    with np.errstate(all="ignore"), trainer.limited_threads():
        for number, (making, x, y) in enumerate(_batches(trainer)):
            spent = time.perf_counter() - start
            if number == WARM_UP:
                for times in (*forward, *backward, data, updates, whole):
                    times.clear()
            if number - WARM_UP >= (MOST if spent < seconds else FEWEST):
                break
            data.append(making)
            whole.append(_milliseconds(lambda x=x, y=y: trainer.train_step(x, y)))  # type: ignore[misc]
            updates.append(_milliseconds(lambda: optimizer.step(trainer.state.store)))
            _sweep(trainer, x, y, forward, backward)
        memory = _memory(trainer)
        validation = 0.0
        if trainer.state.validation is not None:
            x_held, y_held = trainer.state.validation
            validation = median(_milliseconds(lambda: trainer.evaluate(x_held, y_held)) for _ in range(3))
    total = median(data) + median(whole)
    gates = [
        GateTime(
            step.name,
            repr(step.gate),
            median(forward[i]),
            median(backward[i]),
            (median(forward[i]) + median(backward[i])) / total,
            np.shape(objective.values[step.writes]),
            sum(parameter.value.size for parameter in step.gate.parameters()),
            memory[i],
        )
        for i, step in enumerate(objective.steps)
    ]
    return Timing(
        len(whole),
        trainer.state.batches.batch_size,
        len(trainer.state.batches),
        trainer.epochs,
        gates,
        median(data),
        median(updates),
        median(whole),
        fmean(data) + fmean(whole),
        validation,
        trainer.state.store.values.nbytes + trainer.state.store.grads.nbytes,
        sum(array.nbytes for name, array in optimizer.state().items() if name.startswith("slot.")),
        sum(memory),
    )


def _batches(trainer: Trainer) -> Iterator[tuple[float, Array, Array]]:
    """Yield the milliseconds that a batch took to make, and the batch, for ever."""
    epoch = 0
    while True:
        begin = time.perf_counter()
        for x, y in trainer.state.batches.epoch(epoch):
            yield (time.perf_counter() - begin) * 1000, x, y
            begin = time.perf_counter()
        epoch += 1


def _sweep(trainer: Trainer, x: Array, y: Array, forward: list[list[float]], backward: list[list[float]]) -> None:
    """Run the objective's two sweeps gate by gate, and note how long each took."""
    objective = trainer.state.objective
    values = objective.values
    for slot, value in zip(objective.input_slots, (x, y), strict=True):
        values[slot] = value
    for slot, parameter in objective.sources.items():
        values[slot] = parameter.value
    for i, step in enumerate(objective.steps):
        forward[i].append(_milliseconds(lambda step=step: forward_sweep((step,), values, True)))  # type: ignore[misc]
    grads: list[Any] = [None] * len(values)
    grads[objective.output_slots[0]] = np.ones_like(values[objective.output_slots[0]])
    for i, step in reversed(list(enumerate(objective.steps))):
        backward[i].append(_milliseconds(lambda step=step: backward_sweep((step,), values, grads)))  # type: ignore[misc]


def _memory(trainer: Trainer) -> list[int]:
    """Return the bytes that each gate adds: arrays that neither batch, parameters nor a gate before it holds."""
    objective = trainer.state.objective
    held = [
        *(objective.values[slot] for slot in objective.input_slots),
        trainer.state.store.values,
        trainer.state.store.grads,
    ]
    seen = {id(_owner(array)) for array in held}
    sizes = []
    for step in objective.steps:
        size = 0
        for array in _arrays((objective.values[step.writes], getattr(step, "saved", step.gate._saved))):
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
    """Return the array that holds the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _milliseconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1000
