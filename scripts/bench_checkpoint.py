"""Measure what a checkpoint costs, beside the step and the epoch that it is taken in.

    python scripts/bench_checkpoint.py configs/digits_mlp.yaml
    python scripts/bench_checkpoint.py configs/digits_mlp.yaml --folder /dev/shm     # a disk that needs no fsync

Epochs without a checkpoint, with one, and with one after every step take turns, so that all meet the same machine;
medians are shown. The parts are timed by themselves: taking the state, which holds up the training, and what a thread
does meanwhile: checksums, writing, and bringing it to the disk (fsync of the file and of its folder).
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from layerflow.config import load_config
from layerflow.config.experiment import Experiment
from layerflow.runs.checkpoint import Checkpointer
from layerflow.runs.files import pack
from layerflow.training.callbacks import Callback
from layerflow.training.state import State


class Probe(Callback):
    """Takes turns, epoch by epoch: no checkpoint, one in the middle of the epoch, one after every step."""

    def __init__(self, folder: Path) -> None:
        self.checkpointer = Checkpointer(folder, {}, "1 steps", keep=1)
        self.epochs: list[list[float]] = [[], [], []]
        self.holding_up: list[float] = []
        self.until_written: list[float] = []

    def training_started(self, state: State) -> None:
        """Make the folder."""
        self.checkpointer.training_started(state)
        self.started = time.perf_counter()

    def step_ended(self, state: State) -> None:
        """Save, where it is the turn."""
        kind, is_middle = state.epoch % 3, state.step == len(state.batches) // 2
        if kind == 2 or (kind == 1 and is_middle):
            started = time.perf_counter()
            self.checkpointer.save(state)
            if kind == 1:
                self.holding_up.append(time.perf_counter() - started)

    def epoch_ended(self, state: State, record: dict[str, float]) -> None:
        """Note how long the epoch took; what it left to be written belongs to it."""
        self.checkpointer.wait()
        now = time.perf_counter()
        kind = (state.epoch - 1) % 3
        self.epochs[kind].append(now - self.started)
        if kind == 1:
            self.until_written.append(self.checkpointer.cost)
        self.started = time.perf_counter()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--folder", help="where to write (default: the system's temporary folder)")
    arguments = parser.parse_args()
    experiment = Experiment(load_config(arguments.config, [f"train.epochs={arguments.epochs}"]))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        probe = Probe(Path(folder))
        experiment.fit(callbacks=[probe])
        size = (Path(folder) / "checkpoints" / "last.npz").stat().st_size
        plain, one, every = (1e3 * statistics.median(times) for times in probe.epochs)
        steps = len(experiment.trainer.state.batches)

        def line(name: str, milliseconds: float) -> None:
            print(f"{name:<46}{milliseconds:8.2f} ms  {100 * milliseconds / plain:6.1f} % of an epoch")

        print(f"{arguments.config}: {steps} steps per epoch, a checkpoint has {size / 1024:.0f} KiB")
        line("an epoch without checkpoints", plain)
        line("an epoch with one", one)
        line("an epoch with one at every step", every)
        line("  each of these", (every - plain) / steps)
        line("one checkpoint, holding up the training", 1e3 * statistics.median(probe.holding_up))
        line("one checkpoint, until it is on the disk", 1e3 * statistics.median(probe.until_written))
        for name, milliseconds in parts(experiment.trainer.state, Path(folder)).items():
            line(f"  {name}", milliseconds)


def parts(training: State, folder: Path) -> dict[str, float]:
    """Return the median milliseconds of what a checkpoint consists of, for a state in the middle of an epoch."""
    training.step = 1
    state = training.capture()
    content = pack(state.facts, state.arrays)

    def write(to_disk: bool) -> None:
        with (folder / "probe.tmp").open("wb") as file:
            file.write(content)
            file.flush()
            if to_disk:
                os.fsync(file.fileno())
        os.replace(folder / "probe.tmp", folder / "probe")
        if to_disk:
            number = os.open(folder, os.O_RDONLY)
            os.fsync(number)
            os.close(number)

    written = median(lambda: write(False))
    return {
        "taking the state": median(training.capture),
        "packing, with CRC-32 and SHA-256": median(lambda: pack(state.facts, state.arrays)),
        "  of this SHA-256": median(lambda: hashlib.sha256(content).digest()),
        "writing and renaming": written,
        "fsync of file and folder": median(lambda: write(True)) - written,
    }


def median(act: Callable[[], object], rounds: int = 100) -> float:
    """Return the median milliseconds of an act."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    main()
