"""When checkpoints are written, and which ones stay."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerflow.training.callback import Callback
from layerflow.training.checkpoint import BEST, FOLDER, LAST, save_checkpoint
from layerflow.training.divergence import is_finite
from layerflow.training.history import Record
from layerflow.training.interval import Interval
from layerflow.training.signals import Interrupted, Signals
from layerflow.training.snapshot import Snapshot, capture
from layerflow.training.storage import explained

if TYPE_CHECKING:
    from layerflow.training.trainer import Trainer

LARGEST_SHARE = 0.05  # of the time, for checkpoints that are written by the clock


class Checkpointer(Callback):
    """Writes `checkpoints/last.npz` at an interval, at the end, and when a signal asks for it; `best.npz` with it.

    A thread of its own writes, one checkpoint at a time, so that a step waits only while its state is copied, unless
    the disk is slower than the interval.

    Args:
        folder: the run folder.
        run: what the files say of the run.
        every: a number of epochs, or "100 steps", or "10 seconds": then no more than a twentieth of the time is spent.
        keep: how many of the files that `last.npz` replaced stay beside it, under their epoch and step.
        signals: the signals to obey.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any] | None = None,
        every: str | int = "10 seconds",
        keep: int = 1,
        signals: Signals | None = None,
    ) -> None:
        self.folder = folder / FOLDER
        self.run = dict(run or {})
        self.every = Interval.parse(every)
        self.keep = keep
        self.signals = signals or Signals()
        self.lines: list[str] = []
        self.best: Snapshot | None = None
        self.last: tuple[int, int] | None = None  # the position that last.npz is known to hold
        self.writer = ThreadPoolExecutor(1, "checkpoints")
        self.writing: Future[None] | None = None

    def training_started(self, trainer: "Trainer") -> None:
        """Make the folder."""
        with explained(self.folder / LAST):
            self.folder.mkdir(exist_ok=True)
        self.saved, self.cost = time.monotonic(), 0.0

    def step_ended(self, trainer: "Trainer") -> None:
        """Save when it is time, or when a signal asks for it."""
        if self.signals.stop or self.signals.save or self._is_due(trainer, "step"):
            self.save(trainer)

    def epoch_ended(self, trainer: "Trainer", record: Record) -> None:
        """Save likewise, and at the end of the training."""
        self._remember(trainer)
        is_last = trainer.epoch >= trainer.epochs or trainer.history.outcome == "stopped early"
        if is_last or self.signals.stop or self.signals.save or self._is_due(trainer, "epoch"):
            self.save(trainer, is_last)

    def save(self, trainer: "Trainer", is_last: bool = False) -> None:
        """Take the state, and write it beside the training that goes on; what was being written is waited for.

        Raises:
            StorageError: the checkpoint before could not be written.
            Interrupted: a signal asked for the end, which has not come anyway; all is written then.
        """
        self.wait()
        if is_finite(trainer.store.values):  # else the next step will say so, and the last good file stays
            self.lines += [json.dumps(record) for record in trainer.history.records[len(self.lines) :]]
            self.writing = self.writer.submit(self._write, capture(trainer), self.best, list(self.lines))
            self.best = None
        if self.signals.stop or self.signals.save or is_last:
            self.wait()
        self.signals.save = False
        self.saved = time.monotonic()
        if self.signals.stop and not is_last:
            raise Interrupted(self.signals.stop)

    def wait(self) -> None:
        """Wait until everything is on the disk; raises `StorageError` when it could not be written."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()

    def _is_due(self, trainer: "Trainer", unit: str) -> bool:
        if self.every.unit == "second":
            return time.monotonic() - self.saved >= max(self.every.count, self.cost / LARGEST_SHARE)
        if self.every.unit != unit:
            return False
        done = trainer.epoch if unit == "epoch" else trainer.epoch * len(trainer.batches) + trainer.step
        return done % self.every.count == 0

    def _remember(self, trainer: "Trainer") -> None:
        """Take the state of a new best epoch, to be written with the next `last.npz`."""
        best = trainer.history.best
        if best is not None and trainer.step == 0 and best.epoch == trainer.epoch > 0:
            self.best = capture(trainer)

    def _write(self, snapshot: Snapshot, best: Snapshot | None, lines: list[str]) -> None:
        started = time.monotonic()
        if best is not None:  # before last.npz, which from then on would no longer lead to writing it
            save_checkpoint(self.folder / BEST, self.run, best, lines[: best.facts["epoch"]])
        self._retain()
        save_checkpoint(self.folder / LAST, self.run, snapshot, lines)
        self.last = snapshot.position
        self.cost = time.monotonic() - started

    def _retain(self) -> None:
        """Give the present `last.npz` a second name, and forget the oldest."""
        if not self.keep or self.last is None:
            return
        epoch, step = self.last
        with explained(self.folder / LAST):
            numbered = self.folder / f"epoch-{epoch:05d}-step-{step:06d}.npz"
            numbered.unlink(missing_ok=True)
            try:
                os.link(self.folder / LAST, numbered)
            except OSError:  # a file system without links
                shutil.copyfile(self.folder / LAST, numbered)
            numbered_ones = sorted(self.folder.glob("epoch-*-step-*.npz"), key=lambda path: path.stat().st_mtime_ns)
            for old in numbered_ones[: -self.keep]:
                old.unlink()
