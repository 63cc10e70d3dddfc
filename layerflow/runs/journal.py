"""What a run records while it trains: its environment, epochs and losses, and the first step that failed."""

import csv
import hashlib
import io
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import layerflow
from layerflow.data.batches import Rows
from layerflow.errors import DataError, DivergedError
from layerflow.parameter import Array
from layerflow.runs.files import (
    DIVERGED,
    LOSSES,
    METRICS,
    RUN,
    TABLE,
    append,
    explained,
    read_archive,
    to_json,
    write_archive,
    write_atomically,
)
from layerflow.runs.manifest import Manifest, state
from layerflow.training.callbacks import Callback
from layerflow.training.history import Record
from layerflow.training.state import Snapshot, State, plain

LOSS = np.dtype("<f8")
FAILED_STEP = "layerflow diverged step 1"


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


# The step that failed, and data that change --------------------------------------------------------------------------


class FailedSteps(Callback):
    """Writes the first failed step to `diverged.npz`, and reports on stderr how this and later ones are handled.

    Attributes:
        count: the number of failed steps.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def step_failed(self, state: State, x: Array, y: Array, error: DivergedError) -> None:
        """Save the state before the step, and its batch."""
        self.count += 1
        if self.count == 1:
            snapshot = state.capture()
            facts = {**snapshot.facts, "format": FAILED_STEP, "message": str(error)}
            facts["generators"] = plain(state.engine.draws)
            write_archive(self.folder / DIVERGED, facts, {**snapshot.arrays, "x": np.asarray(x), "y": y})
            error.add_note(f"inspect this step with: layerflow replay {shlex.quote(str(self.folder))}")
        reason = str(error).splitlines()[0]
        if state.trainer.on_divergence == "skip":
            print(f"epoch {state.epoch + 1}, step {state.step + 1}: skipped: {reason}", file=sys.stderr)
        if state.trainer.on_divergence == "halve-lr":
            print(f"epoch {state.epoch + 1} starts again with half the learning rate: {reason}", file=sys.stderr)


def load_failed_step(folder: Path) -> tuple[Snapshot, Array, Array, str]:
    """Return the state before the failed step, its x and y, and the error message."""
    path = folder / DIVERGED
    if not path.exists():
        raise DataError(f"{path}: no such file; only a run that diverged has a step to replay")
    facts, arrays = read_archive(path)
    if facts.get("format") != FAILED_STEP or not {"x", "y"} <= arrays.keys():
        raise DataError(f"{path}: not a step of this version of layerflow")
    x, y = arrays.pop("x"), arrays.pop("y")
    return Snapshot(facts, arrays), x, y, str(facts.get("message"))


class DataWatch(Callback):
    """Checks before every batch is read, and after every step, that the memory-mapped data files are unchanged.

    Reading beyond the end of a truncated memory map kills the process (SIGBUS), so the thread that reads checks first.
    This is the last callback, for the validation part is read next.
    """

    every_step = False

    def __init__(self, *sources: Any) -> None:
        self.files = {file: found for x in sources if (file := _mapped_file(x)) and (found := _status(file))}

    def training_started(self, state: State) -> None:
        """Have every read preceded by a check."""
        if self.files:
            state.batches.before_read = self.check

    def step_ended(self, state: State) -> None:
        """Check after a step."""
        self.check()

    def check(self) -> None:
        """Raise `DataError` when a file has changed; of one that was replaced, the map still shows the old content."""
        for file, before in self.files.items():
            now = _status(file)
            if now and now[:2] == before[:2] and now != before:
                raise DataError(f"{file}: changed during the training; the last checkpoint was made before the change")

    def epoch_ended(self, state: State, record: Record) -> None:
        """Check again, since writing a checkpoint takes time."""
        self.step_ended(state)


def _mapped_file(x: Any) -> str | None:
    while isinstance(x, Rows):
        x = x.source
    return str(x.filename) if isinstance(x, np.memmap) else None


def _status(file: str) -> tuple[int, ...] | None:
    """Return device, inode, size and time of change."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# The environment -----------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """Return what a result depends on; equal environments give bit-identical results."""
    from threadpoolctl import threadpool_info

    build: dict[str, Any] = np.show_config(mode="dicts") or {}  # type: ignore[assignment]
    blas = build.get("Build Dependencies", {}).get("blas", {})
    pools = [str(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "layerflow": layerflow.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "instructions": " ".join(build.get("SIMD Extensions", {}).get("found", ())),
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "blas_threads": ", ".join(pools),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return one line for each difference between two environments."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name}: {before.get(name, 'unknown')} then, {now.get(name, 'unknown')} now" for name in names]
