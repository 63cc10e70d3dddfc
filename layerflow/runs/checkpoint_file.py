"""Checkpoint files: one sealed archive each, from which a training continues at the very step."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.errors import DataError
from layerflow.training.archive import read_archive, write_archive
from layerflow.training.history import Record
from layerflow.training.snapshot import Snapshot

FORMAT = "layerflow checkpoint 1"
FOLDER, LAST, BEST = "checkpoints", "last.npz", "best.npz"
HISTORY = "history"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        path: the file.
        run: what was said of the run: its configuration, its data.
        snapshot: the state of the training.
    """

    path: Path
    run: dict[str, Any]
    snapshot: Snapshot


@dataclass
class Found:
    """The checkpoints of a folder: the newest intact one, and what is wrong with those that are not."""

    newest: Checkpoint | None = None
    damaged: list[str] = field(default_factory=list)


def save_checkpoint(path: Path, run: Mapping[str, Any], snapshot: Snapshot, lines: Sequence[str]) -> None:
    """Write a checkpoint; `lines` are the records of the epochs before, as JSON."""
    text = np.frombuffer("\n".join(lines).encode(), np.uint8)
    description = {"format": FORMAT, "run": run, "training": snapshot.facts}
    write_archive(path, description, {HISTORY: text, **snapshot.arrays})


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; raises `DataError` for a file that is damaged, or none."""
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


def find_checkpoint(folder: Path) -> Found:
    """Return the newest intact checkpoint in a folder: `last.npz` if it is intact, or the most advanced other one."""
    found = Found()
    for path in sorted(folder.glob("*.npz"), key=lambda path: path.name != LAST):
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
