"""Writes the records of a run while it trains."""

import csv
import hashlib
import io
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.parameter import Array
from layerflow.runs.environment import environment
from layerflow.runs.files import LOSSES, METRICS, RUN, TABLE, append, explained, to_json, write_atomically
from layerflow.runs.manifest import Manifest, state
from layerflow.training.callbacks import Callback
from layerflow.training.history import Record
from layerflow.training.state import State

LOSS = np.dtype("<f8")


class Recorder(Callback):
    """Writes `run.json` at the beginning and the end of a run, and after each epoch

        metrics.jsonl, metrics.csv   one line: the record of the epoch
        step_losses.f64              the objective of each step, as little-endian float64: `np.fromfile(path, "<f8")`

    A resumed training first shortens the three files to the point from which it continues. Their content is kept in
    memory too: a file that something else removes or changes during the training is written again.

    Args:
        folder: the run folder.
        facts: content of `run.json` beside times, environment and outcome: seed, data checksum, configuration.
        manifest: of the folder.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], manifest: Manifest) -> None:
        self.folder, self.facts, self.manifest = folder, facts, manifest
        self.files = {name: _Growing() for name in (METRICS, TABLE, LOSSES)}
        self.clock = time.perf_counter()
        self.started = _now()

    def facts_now(self, outcome: str, **results: Any) -> bytes:
        """Return the content of `run.json` at this moment."""
        run = {
            "outcome": outcome,
            "command": _command(),
            "pid": os.getpid(),
            **self.facts,
            **results,
            "started": self.started,
            "written": _now(),
            "seconds": round(time.perf_counter() - self.clock, 3),
            "versions": environment(),
        }
        return f"{to_json(run, indent=2)}\n".encode()

    def write(self, outcome: str, **results: Any) -> None:
        """Write `run.json`."""
        self.manifest.write({RUN: self.facts_now(outcome, **results)})

    def training_started(self, state: State) -> None:
        """Shorten the files to the point from which a resumed training continues."""
        records = state.history.records
        losses = read_losses(self.folder, state.epoch * len(state.batches))
        contents = {METRICS: lines_of(records).encode(), TABLE: table_of(records).encode(), LOSSES: losses.tobytes()}
        for name, content in contents.items():
            self.files[name] = _Growing()
            self.files[name].add(content)
        self._announce()
        for name, content in contents.items():
            path = self.folder / name
            if path.is_symlink() or not path.exists() or path.read_bytes() != content:
                self._rewrite(name)

    def epoch_ended(self, state: State, record: Record) -> None:
        """Append the record and the losses of the epoch's steps."""
        is_first = len(state.history.records) == 1
        added = {
            METRICS: lines_of([record]).encode(),
            TABLE: table_of([record], with_header=is_first).encode(),
            LOSSES: np.array(state.losses, LOSS).tobytes(),
        }
        sizes = {name: len(file.content) for name, file in self.files.items()}
        for name, content in added.items():
            self.files[name].add(content)
        self._announce()
        for name, content in added.items():
            if not append(self.folder / name, content, sizes[name]):
                print(
                    f"{self.folder / name}: was removed or changed during the training; written again", file=sys.stderr
                )
                self._rewrite(name)

    def _announce(self) -> None:
        states = {name: state(len(file.content), file.digest.hexdigest()) for name, file in self.files.items()}
        self.manifest.expect(states)

    def _rewrite(self, name: str) -> None:
        write_atomically(self.folder / name, self.files[name].content, sync=False)


class _Growing:
    """The content of a file that is appended to, and its checksum."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.digest = hashlib.sha256()

    def add(self, content: bytes) -> None:
        self.content += content
        self.digest.update(content)


def read_losses(folder: Path, steps: int | None = None) -> Array:
    """Return the recorded objectives of a run's first steps, or of all; NaN for those that are not recorded."""
    path = folder / LOSSES
    with explained(path):
        content = path.read_bytes() if path.exists() else b""
    losses = np.frombuffer(content[: len(content) // LOSS.itemsize * LOSS.itemsize], LOSS)
    if steps is None:
        return losses
    return np.concatenate((losses[:steps], np.full(max(0, steps - len(losses)), np.nan)))


def lines_of(records: Sequence[Record]) -> str:
    """Return records as the lines of `metrics.jsonl`."""
    return "".join(f"{to_json(record)}\n" for record in records)


def table_of(records: Sequence[Record], with_header: bool = True) -> str:
    """Return records as the lines of `metrics.csv`."""
    text = io.StringIO(newline="")
    if records:
        writer = csv.DictWriter(text, records[0])
        if with_header:
            writer.writeheader()
        writer.writerows(records)
    return text.getvalue()


def _command() -> list[str]:
    program = Path(sys.argv[0])
    return [program.parent.name if program.name == "__main__.py" else program.name, *sys.argv[1:]]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
