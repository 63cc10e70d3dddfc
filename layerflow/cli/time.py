"""`layerflow time`: measures where a training step spends its time, and estimates the whole training."""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, count
from statistics import median
from typing import Any

import numpy as np

from layerflow.cli import add_command, add_config_options, load_configs
from layerflow.cli.output import as_table
from layerflow.config.experiment import Experiment
from layerflow.gate import saved_in
from layerflow.parameter import Array
from layerflow.sweep import backward_sweep, forward_sweep
from layerflow.training.state import State
from layerflow.training.trainer import Trainer

EXAMPLES = """\
  layerflow time configs/digits_mlp.yaml
  layerflow time configs/digits_mlp.yaml train.batch_size=256 --json
"""

WARM_UP = 3
SECONDS = 0.5  # that measuring takes, about
FEWEST, MOST = 5, 200  # steps that are measured

LONGEST_GATE = 44
UNITS = ("bytes", "kB", "MB", "GB")


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
        if state.validation is not None:
            validation = median(_milliseconds(trainer.evaluate, *state.validation) for _ in range(3))
    data, step, update, *by_gate = np.median(times, axis=0).tolist()
    half = len(by_gate) // 2
    gates = [
        GateTime(
            timed.name,
            repr(timed.gate),
            forward,
            backward,
            (forward + backward) / (data + step),
            np.shape(state.objective.values[timed.writes[0]]),
            sum(parameter.value.size for parameter in timed.gate.parameters()),
            size,
        )
        for timed, forward, backward, size in zip(
            state.objective.steps, by_gate[:half], by_gate[half:], memory, strict=True
        )
    ]
    return Timing(
        rounds=len(times),
        batch_size=state.batches.batch_size,
        steps=len(state.batches),
        epochs=trainer.epochs,
        gates=gates,
        data=data,
        optimizer=update,
        step=step,
        mean=float(np.mean(times, axis=0)[:2].sum()),
        validation=validation,
        parameter_bytes=state.store.values.nbytes + state.store.grads.nbytes,
        optimizer_bytes=sum(a.nbytes for name, a in state.optimizer.state().items() if name.startswith("slot.")),
        activation_bytes=sum(memory),
    )


def _take_steps(trainer: Trainer, seconds: float) -> list[list[float]]:
    """Take steps for about the given time, and return the milliseconds of each one after the warm-up.

    They are those of loading the batch, the whole step, the update, the gates forward, and the gates backward.
    """
    state = trainer.state
    batches = chain.from_iterable(map(state.batches.epoch, count()))
    times: list[list[float]] = []
    start = time.perf_counter()
    while len(times) - WARM_UP < (MOST if time.perf_counter() - start < seconds else FEWEST):
        begin = time.perf_counter()
        x, y = next(batches)
        loading = (time.perf_counter() - begin) * 1000
        step = _milliseconds(trainer.train_step, x, y)
        update = _milliseconds(state.optimizer.step, state.store)
        times.append([loading, step, update, *_sweep(state, x, y)])
    return times[WARM_UP:]


def _sweep(state: State, x: Array, y: Array) -> list[float]:
    """Run both sweeps of the objective gate by gate; return the milliseconds of each gate forward, then backward."""
    objective = state.objective
    values, memories = objective.values, objective.memories
    for slot, value in zip(objective.input_slots, (x, y), strict=True):
        values[slot] = value
    for slot, parameter in objective.sources.items():
        values[slot] = parameter.value
    forward = [_milliseconds(forward_sweep, (step,), values, memories, True) for step in objective.steps]
    grads: list[Any] = [None] * len(values)
    grads[objective.output_slots[0]] = np.ones_like(values[objective.output_slots[0]])
    steps = reversed(objective.steps)
    backward = [_milliseconds(backward_sweep, (step,), values, memories, grads, []) for step in steps]
    return [*forward, *reversed(backward)]


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


def _milliseconds(action: Callable[..., object], *arguments: Any) -> float:
    begin = time.perf_counter()
    action(*arguments)
    return (time.perf_counter() - begin) * 1000


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(
        subparsers, common, "time", "time a few real training steps, gate by gate; write nothing", EXAMPLES
    )
    add_config_options(parser, many=True)
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure each configuration."""
    texts, facts = [], []
    for config in load_configs(arguments):
        experiment = Experiment(config, engine="numpy")
        timing = measure(experiment)
        texts.append(as_text(config.source, timing, type(experiment.trainer.optimizer).__name__))
        estimates = {"rest": timing.rest, "epoch_seconds": timing.epoch_seconds, "run_seconds": timing.run_seconds}
        facts.append({"config": config.source, "unit": "ms", **asdict(timing), **estimates})
    print(json.dumps(facts, indent=2) if arguments.json else "\n\n".join(texts))
    return 0


def as_text(source: str, timing: Timing, optimizer: str) -> str:
    """Return the measurements as text."""
    total = timing.data + timing.step
    rows = [("", "forward ms", "backward ms", "share", "memory", "output")]
    for gate in timing.gates:
        written = gate.gate if len(gate.gate) <= LONGEST_GATE else f"{gate.gate[: LONGEST_GATE - 3]}..."
        times = f"{gate.forward:.4f}", f"{gate.backward:.4f}", f"{gate.share:.1%}"
        shape = " x ".join(map(str, gate.shape)) or "1"
        rows.append((f"{gate.name}  {written}", *times, in_bytes(gate.memory), shape))
    others = {"making the batch": timing.data, f"optimizer  {optimizer}": timing.optimizer, "the rest": timing.rest}
    rows += [(name, f"{value:.4f}", "", f"{value / total:.1%}", "", "") for name, value in others.items()]
    rows.append(("a step", f"{total:.4f}", "", "100.0%", in_bytes(timing.activation_bytes), ""))
    each = f"{timing.steps} step(s) of {timing.batch_size} samples"
    each += f" and {timing.validation:.1f} ms of validation" if timing.validation else ""
    return "\n".join([
        f"{source}: {total:.3f} ms per step (medians of {timing.rounds})",
        as_table(rows, indent="  "),
        f"  memory    parameters and gradients {in_bytes(timing.parameter_bytes)}, "
        f"{optimizer} {in_bytes(timing.optimizer_bytes)}, "
        f"activations of a step {in_bytes(timing.activation_bytes)}",
        f"  training  {timing.epochs} epochs of {each}: about {in_seconds(timing.run_seconds)}",
    ])  # fmt: skip


def in_bytes(size: float) -> str:
    """Return a size in a readable unit."""
    unit = 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g} {UNITS[unit]}"


def in_seconds(seconds: float) -> str:
    """Return a time in a readable unit."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
