"""Checkpoints, from which a training continues at the exact step: the file format, and when they are written."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np

from layerflow.errors import DataError
from layerflow.runs.files import (
    CHECKPOINTS,
    LEFTOVER,
    checkpoint_folder,
    explained,
    pack,
    read_archive,
    write_atomically,
)
from layerflow.runs.manifest import Expected, Manifest, state_of
from layerflow.training.callbacks import Callback, parse_interval
from layerflow.training.divergence import is_finite
from layerflow.training.history import Record
from layerflow.training.state import Snapshot, State

FORMAT = "layerflow checkpoint 1"
LAST, BEST, NUMBERED = "last.npz", "best.npz", "epoch-*-step-*.npz"
HISTORY = "history"
STOPPING = (signal.SIGINT, signal.SIGTERM)
SAVING = tuple(getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name))
LARGEST_SHARE = 0.05  # of the time, for checkpoints that are written by the clock


# The format ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        path: the file.
        run: facts about the run: its configuration and the checksums of its data.
        snapshot: the state of the training.
    """

    path: Path
    run: dict[str, Any]
    snapshot: Snapshot


@dataclass
class Found:
    """The checkpoints of a folder: the newest intact one, and what is wrong with the damaged ones."""

    newest: Checkpoint | None = None
    damaged: list[str] = field(default_factory=list)


def pack_checkpoint(run: Mapping[str, Any], snapshot: Snapshot, lines: Sequence[str]) -> memoryview:
    """Return the bytes of a checkpoint; `lines` are the records of the finished epochs as JSON."""
    text = np.frombuffer("\n".join(lines).encode(), np.uint8)
    description = {"format": FORMAT, "run": run, "training": snapshot.facts}
    return pack(description, {HISTORY: text, **snapshot.arrays})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; raises `DataError` if the file is damaged or not a checkpoint."""
    description, arrays = read_archive(path)
    try:
        if description["format"] != FORMAT:
            raise ValueError(f"its format is {description['format']!r}")
        records: list[Record] = [json.loads(line) for line in arrays.pop(HISTORY).tobytes().splitlines()]
        snapshot = Snapshot(description["training"], arrays, records)
        if not all(isinstance(number, int) for number in snapshot.position) or len(records) != snapshot.facts["epoch"]:
            raise ValueError("its history does not fit its position")
        return Checkpoint(path, dict(description["run"]), snapshot)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: not a checkpoint of this version of layerflow ({type(error).__name__}: {error})"
        ) from error


def find_checkpoint(run: Path) -> Found:
    """Return the newest intact checkpoint of a run: `last.npz` if it is intact, else the one that is furthest on."""
    found = Found()
    for path in sorted(checkpoint_folder(run).glob("*.npz"), key=lambda path: path.name != LAST):
        try:
            checkpoint = load_checkpoint(path)
        except DataError as error:
            found.damaged.append(str(error))
            continue
        if found.newest is None or checkpoint.snapshot.position > found.newest.snapshot.position:
            found.newest = checkpoint
        if path.name == LAST:
            break
    return found


# Signals -------------------------------------------------------------------------------------------------------------


class Interrupted(KeyboardInterrupt):
    """A signal stopped the training; everything is saved.

    Attributes:
        exit_code: 128 + the signal's number, as a shell reports it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Signals:
    """In this context, SIGINT and SIGTERM stop the training after the current step; SIGHUP and SIGUSR1 save it.

    A second SIGINT or SIGTERM ends the process immediately. Python handles signals in the main thread only; in other
    threads this context does nothing.

    Attributes:
        stop: the number of the signal that asked to stop, or None.
        save: whether a checkpoint was asked for.
    """

    def __init__(self) -> None:
        self.stop: int | None = None
        self.save = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                self._previous[number] = signal.signal(number, self._ask_to_stop)
            for number in SAVING:
                self._previous[number] = signal.signal(number, self._ask_to_save)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop is not None:
            os._exit(128 + number)
        self.stop = number
        os.write(2, b"\nstopping after this step; press Ctrl-C again to stop immediately, without saving\n")

    def _ask_to_save(self, number: int, frame: FrameType | None) -> None:
        self.save = True


# When they are written -----------------------------------------------------------------------------------------------


class Checkpointer(Callback):
    """Writes `checkpoints/last.npz` at an interval, at the end and on a signal, and `best.npz` with it.

    A thread writes one checkpoint at a time, so that a step waits only while its state is copied, unless the disk is
    slower than the interval.

    Args:
        folder: the run folder.
        run: the facts about the run that the files hold.
        every: a number of epochs, or "100 steps", or "10 seconds"; by the clock, at most 5 % of the time is spent.
        keep: how many of the files that `last.npz` replaced are kept beside it, named by epoch and step.
        signals: the signals to obey.
        manifest: of the run folder.
    """

    def __init__(
        self,
        folder: Path,
        run: Mapping[str, Any] | None = None,
        every: str | int = "10 seconds",
        keep: int = 1,
        signals: Signals | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        self.folder = folder / CHECKPOINTS
        self.run = dict(run or {})
        self.every, self.unit = parse_interval(every)
        self.every_step = self.unit == "step"
        self.keep = keep
        self.signals = signals or Signals()
        self.manifest = manifest or Manifest(folder)
        self.lines: list[str] = []
        self.best: Snapshot | None = None
        self.last: tuple[int, int] | None = None  # the position that last.npz is known to hold
        self.writer = ThreadPoolExecutor(1, "checkpoints")
        self.writing: Future[None] | None = None

    def training_started(self, state: State) -> None:
        """Make the folder."""
        with explained(self.folder / LAST):
            checkpoint_folder(self.folder.parent).mkdir(exist_ok=True)
        self.saved, self.cost = time.monotonic(), 0.0

    def step_ended(self, state: State) -> None:
        """Save when it is time, or when a signal asks for it."""
        if self.signals.stop or self.signals.save or self._is_due(state, "step"):
            self.save(state)

    def epoch_ended(self, state: State, record: Record) -> None:
        """Do the same, and save at the end of the training; a new best epoch is written with the next `last.npz`."""
        best = state.history.best
        if best is not None and best.epoch == state.epoch:
            self.best = state.capture()
        is_last = state.epoch >= state.trainer.epochs or state.history.outcome == "stopped early"
        if is_last or self.signals.stop or self.signals.save or self._is_due(state, "epoch"):
            self.save(state, is_last)

    def save(self, state: State, is_last: bool = False) -> None:
        """Copy the state and write it while the training continues, after waiting for the previous write.

        Raises:
            StorageError: the previous checkpoint could not be written.
            Interrupted: a signal asked to stop before the last epoch; everything is written by then.
        """
        self.wait()
        if is_finite(state.store.values):  # else the next step fails, and the last good file stays
            self.lines += [json.dumps(record) for record in state.history.records[len(self.lines) :]]
            self.writing = self.writer.submit(self._write, state.capture(), self.best, list(self.lines))
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

    def _is_due(self, state: State, unit: str) -> bool:
        if self.unit == "second":
            return time.monotonic() - self.saved >= max(self.every, self.cost / LARGEST_SHARE)
        done = state.epoch if unit == "epoch" else state.epoch * len(state.batches) + state.step
        return self.unit == unit and done % self.every == 0

    def _write(self, snapshot: Snapshot, best: Snapshot | None, lines: list[str]) -> None:
        started = time.monotonic()
        contents = {}
        if best is not None:  # before last.npz: a training continued from that would not write best.npz again
            contents[BEST] = pack_checkpoint(self.run, best, lines[: best.facts["epoch"]])
        contents[LAST] = pack_checkpoint(self.run, snapshot, lines)
        with explained(self.folder / LAST):
            kept, surplus = self._kept()
            states: dict[str, Expected] = {_key(name): state_of(content) for name, content in contents.items()}
            states |= {_key(kept.name): self.manifest.now(_key(LAST))} if kept else {}
            self.manifest.expect(states | dict.fromkeys(_key(path.name) for path in surplus))
            if kept:
                _copy(self.folder / LAST, kept)
            for path in surplus:
                path.unlink()
        for name, content in contents.items():
            write_atomically(self.folder / name, content)
        self.last = snapshot.position
        self.cost = time.monotonic() - started

    def _kept(self) -> tuple[Path | None, list[Path]]:
        """Return the name under which the present `last.npz` stays, and the older files that are then too many."""
        if not self.keep or self.last is None:
            return None, []
        epoch, step = self.last
        kept = self.folder / f"epoch-{epoch:05d}-step-{step:06d}.npz"
        older = sorted(set(self.folder.glob(NUMBERED)) - {kept}, key=lambda path: path.stat().st_mtime_ns)
        return kept, older[: max(0, len(older) + 1 - self.keep)]


def _key(name: str) -> str:
    return f"{CHECKPOINTS}/{name}"


def _copy(source: Path, target: Path) -> None:
    """Give a file a second name, or a copy on file systems without hard links; `target` is replaced atomically."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}{LEFTOVER}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # still there if both are names of the same file
