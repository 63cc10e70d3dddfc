"""Measure what a checkpoint costs, beside the step and the epoch that it is taken in.

    python scripts/bench_checkpoint.py configs/digits_mlp.yaml
    python scripts/bench_checkpoint.py configs/digits_mlp.yaml --folder /dev/shm     # a disk that needs no fsync

Every step of some epochs is timed with and without a checkpoint after it, in turn, so that both meet the same machine.
The parts are timed by themselves: taking the state, checksums, writing, and bringing it to the disk (fsync of the file
and of its folder).
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from layerflow.config import load_config
from layerflow.config.experiment import Experiment
from layerflow.training.archive import pack
from layerflow.training.checkpointer import Checkpointer
from layerflow.training.observer import Observer
from layerflow.training.snapshot import capture


class Probe(Observer):
    """Saves after every step of each second epoch, and times both kinds of epochs and each save."""

    def __init__(self, folder: Path) -> None:
        self.checkpointer = Checkpointer(folder, {}, "1 steps", keep=1)
        self.epochs: dict[bool, list[float]] = {True: [], False: []}
        self.saves: list[float] = []

    def training_started(self, trainer: Any) -> None:
        """Make the folder."""
        self.checkpointer.training_started(trainer)
        self.started = time.perf_counter()

    def step_ended(self, trainer: Any) -> None:
        """Save, in each second epoch."""
        if trainer.epoch % 2:
            started = time.perf_counter()
            self.checkpointer.save(trainer)
            self.saves.append(time.perf_counter() - started)

    def epoch_ended(self, trainer: Any, record: dict[str, float]) -> None:
        """Note how long the epoch took."""
        now = time.perf_counter()
        self.epochs[trainer.epoch % 2 == 0].append(now - self.started)
        self.started = now


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--folder", help="where to write (default: the system's temporary folder)")
    arguments = parser.parse_args()
    experiment = Experiment(load_config(arguments.config, [f"train.epochs={arguments.epochs}"]))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        probe = Probe(Path(folder))
        experiment.trainer.observers = [probe]
        experiment.fit()
        plain = statistics.median(probe.epochs[False])
        save = statistics.median(probe.saves)
        size = (Path(folder) / "checkpoints" / "last.npz").stat().st_size
        steps = len(experiment.trainer.batches)
        print(f"{arguments.config}: {steps} steps per epoch, a checkpoint has {size / 1024:.0f} KiB")
        print(f"an epoch without checkpoints      {1e3 * plain:8.2f} ms")
        print(f"an epoch with one at every step   {1e3 * statistics.median(probe.epochs[True]):8.2f} ms")
        print(f"one checkpoint                    {1e3 * save:8.2f} ms   {100 * save / plain:.1f} % of an epoch")
        for name, milliseconds in parts(experiment.trainer, Path(folder)).items():
            print(f"    {name:<30}{milliseconds:8.2f} ms")


def parts(trainer: Any, folder: Path) -> dict[str, float]:
    """Return the median milliseconds of what a checkpoint consists of, for a state in the middle of an epoch."""
    trainer.step = 1
    state = capture(trainer)
    chunks = pack(state.facts, state.arrays)
    content = b"".join(chunks)

    def write(to_disk: bool) -> None:
        with (folder / "probe.tmp").open("wb") as file:
            file.writelines(chunks)
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
        "taking the state": median(lambda: capture(trainer)),
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
