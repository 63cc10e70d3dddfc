"""The folder that every run writes: `runs/<config>/<NNN>/`."""

import csv
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import layerflow

from layerflow.errors import ConfigError
from layerflow.training.history import Record
from layerflow.training.storage import write_atomically
from layerflow.training.observer import Observer


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
        raise ConfigError(f"{parent}: the run folder cannot be made ({error.strerror}); choose another place with --out") from error


class Recorder(Observer):
    """Writes `metrics.jsonl` and `metrics.csv`, a line at the end of each epoch, and `run.json` at both ends of the run.

    Args:
        folder: where to write.
        facts: what `run.json` says beside times, versions and outcome: seed, data checksum, configuration.
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
            **self.facts,
            **results,
            "started": self.started,
            "written": _now(),
            "seconds": round(time.perf_counter() - self.clock, 3),
            "versions": versions(),
        }
        text = json.dumps(run, indent=2)
        write_atomically(self.folder / "run.json", lambda file: file.write(f"{text}\n".encode()))

    def epoch_ended(self, trainer: Any, record: Record) -> None:
        """Append one line to each of the two metrics files."""
        with (self.folder / "metrics.jsonl").open("a") as lines:
            lines.write(json.dumps(record) + "\n")
        with (self.folder / "metrics.csv").open("a", newline="") as table:
            writer = csv.DictWriter(table, record)
            if table.tell() == 0:
                writer.writeheader()
            writer.writerow(record)


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on."""
    return {
        "layerflow": layerflow.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": str(os.cpu_count()),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
