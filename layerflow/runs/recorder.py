"""The folder that every run writes: `runs/<config>/<NNN>/`."""

import csv
import io
import json
import os
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.errors import ConfigError, did_you_mean
from layerflow.parameter import Array
from layerflow.training.callback import Callback
from layerflow.training.environment import environment
from layerflow.training.history import Record
from layerflow.training.storage import append_whole, explained, write_atomically

if TYPE_CHECKING:
    from layerflow.training.trainer import Trainer

RUN, CONFIG, METRICS, TABLE, LOSSES = "run.json", "config.yaml", "metrics.jsonl", "metrics.csv", "step_losses.f64"
LOSS = np.dtype("<f8")


def create_run_folder(root: Path, name: str) -> Path:
    """Make and return the next free `root/name/NNN`, counted from 001; a folder that exists is never touched."""
    parent = root / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        numbers = [int(entry.name) for entry in parent.iterdir() if entry.name.isdigit()]
        number = max(numbers, default=0) + 1
        while True:
            folder = parent / f"{number:03d}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:  # another process was faster
                number += 1
    except OSError as error:
        reason = f"the run folder cannot be made ({error.strerror}); choose another place with --out"
        raise ConfigError(f"{parent}: {reason}") from error


def newest_run(parent: Path) -> Path:
    """Return the folder with the highest number among the runs in `parent`."""
    folders = [entry for entry in parent.iterdir() if entry.name.isdigit()] if parent.is_dir() else []
    runs = [entry for entry in folders if (entry / CONFIG).is_file()]
    if not runs:
        raise ConfigError(f"{parent}: no run to continue; train without --resume, or name the run: --resume RUN")
    return max(runs, key=lambda entry: int(entry.name))


def stored_config_file(folder: Path) -> Path:
    """Return the configuration of a run; raises `ConfigError` when the folder is none of a run."""
    if not folder.is_dir():
        siblings = [str(entry) for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise ConfigError(f"{folder}: no such run folder{did_you_mean(folder, siblings)}")
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder}: no run folder: it has no {CONFIG}")
    return folder / CONFIG


class Recorder(Callback):
    """Writes the records of a run: `run.json` at both ends of it, and at the end of each epoch

        metrics.jsonl, metrics.csv   one line: the record of the epoch
        step_losses.f64              the objective of each step, as little-endian float64: `np.fromfile(path, "<f8")`

    A resumed training brings the three files back to where it continues.

    Args:
        folder: where to write.
        facts: what `run.json` says beside times, environment and outcome: seed, data checksum, configuration.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder = folder
        self.facts = facts
        self.clock = time.perf_counter()
        self.started = _now()

    def write(self, outcome: str, **results: Any) -> None:
        """Write `run.json` with what is known by now."""
        run = {
            "outcome": outcome,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "pid": os.getpid(),
            **self.facts,
            **results,
            "started": self.started,
            "written": _now(),
            "seconds": round(time.perf_counter() - self.clock, 3),
            "versions": environment(),
        }
        text = json.dumps(run, indent=2)
        write_atomically(self.folder / RUN, lambda file: file.write(f"{text}\n".encode()))

    def training_started(self, trainer: "Trainer") -> None:
        """Take back what was written after the point from which a resumed training continues."""
        records = trainer.history.records
        losses = read_losses(self.folder, trainer.epoch * len(trainer.batches))
        contents = {
            METRICS: "".join(map(_line, records)).encode(),
            TABLE: (_row(records[0], None) + "".join(_row(r, r) for r in records)).encode() if records else b"",
            LOSSES: losses.tobytes(),
        }
        for name, content in contents.items():
            path = self.folder / name
            if (path.read_bytes() if path.exists() else b"") != content:
                write_atomically(path, partial(_write, content))

    def epoch_ended(self, trainer: "Trainer", record: Record) -> None:
        """Append the record and the losses of the epoch's steps."""
        is_first = len(trainer.history.records) == 1
        append_whole(self.folder / METRICS, _line(record).encode())
        append_whole(self.folder / TABLE, ((_row(record, None) if is_first else "") + _row(record, record)).encode())
        append_whole(self.folder / LOSSES, np.array(trainer.losses, LOSS).tobytes())


def read_losses(folder: Path, steps: int | None = None) -> Array:
    """Return the recorded objectives of a run's first steps, or of all; NaN for those that are not recorded."""
    path = folder / LOSSES
    with explained(path):
        content = path.read_bytes() if path.exists() else b""
    losses = np.frombuffer(content[: len(content) // LOSS.itemsize * LOSS.itemsize], LOSS)
    if steps is None:
        return losses
    return np.concatenate((losses[:steps], np.full(max(0, steps - len(losses)), np.nan)))


def _write(content: bytes, file: Any) -> None:
    file.write(content)


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


def _row(names: Record, record: Record | None) -> str:
    """Return a line of the table: the values of a record, or without one the header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    if record is None:
        writer.writeheader()
    else:
        writer.writerow(record)
    return text.getvalue()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
