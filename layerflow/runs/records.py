"""Reads run folders: the facts of a run, its records and results; damaged files are restored where it is possible."""

import json
import math
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from layerflow.config import Config, load_config
from layerflow.config.registry import Registry
from layerflow.config.yaml import dump_yaml, read_document
from layerflow.errors import ConfigError, DataError, StorageError
from layerflow.runs.checkpoint import LAST, find_checkpoint
from layerflow.runs.files import (
    CHECKPOINTS,
    CONFIG,
    LOSSES,
    METRICS,
    MODEL,
    RUN,
    TABLE,
    LockedFolder,
    locked,
    stored_config_file,
    write_atomically,
)
from layerflow.runs.journal import lines_of, table_of
from layerflow.runs.manifest import MANIFEST, damaged_files, is_listed_state
from layerflow.training.history import Record

MARKS = (RUN, METRICS)
READ = (RUN, METRICS, CONFIG, LOSSES)
ABSENT = object()


@dataclass(frozen=True)
class Run:
    """The contents of a run folder.

    Attributes:
        folder: its path.
        facts: `run.json`.
        records: `metrics.jsonl`, one record per finished epoch.
    """

    folder: Path
    facts: dict[str, Any]
    records: list[Record]

    @property
    def outcome(self) -> str:
        """finished, stopped early, interrupted, diverged, failed; a killed run also says running."""
        return str(self.facts.get("outcome", "unknown"))

    @property
    def best(self) -> dict[str, Any]:
        """Metric, value and epoch of the weights that were kept; empty if those of the last epoch were kept."""
        best = self.facts.get("best")
        return best if isinstance(best, dict) and isinstance(best.get("epoch"), int) else {}

    @property
    def kept(self) -> Record:
        """The record of the epoch whose weights were kept."""
        epoch = self.best.get("epoch")
        return next((record for record in self.records if record["epoch"] == epoch), self.records[-1])

    @property
    def figures(self) -> dict[str, float]:
        """Losses and metrics of the kept weights by name, including those on the test part."""
        recorded = {name: value for name, value in self.kept.items() if name.startswith(("train_", "val_"))}
        test = self.facts.get("test")
        return recorded | {f"test_{name}": value for name, value in (test if isinstance(test, dict) else {}).items()}

    @property
    def config_text(self) -> str:
        """The resolved configuration as it was written."""
        return _text(self.folder / CONFIG)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration by dotted key; paths are absolute, so that runs in different folders compare."""
        file = self.folder / CONFIG
        plain = read_document(file).plain()
        if not isinstance(plain, dict) or not plain:
            raise DataError(f"{file}: damaged (not the settings of a run)")
        return {key: self._absolute(value) for key, value in flat(plain)}

    def _absolute(self, value: Any) -> Any:
        is_path = isinstance(value, str) and os.sep in value and "\0" not in value
        return os.path.normpath(self.folder.absolute() / value) if is_path else value


def read_run(folder: Path) -> Run:
    """Read a run folder; raises `DataError` that names the damaged or missing file.

    The last line of `metrics.jsonl` is ignored if it is incomplete, as a killed process leaves it.
    """
    facts = _parse(folder / RUN, _text(folder / RUN))
    if not isinstance(facts, dict):
        raise DataError(f"{folder / RUN}: contains a {type(facts).__name__}, not the facts of a run")
    file = folder / METRICS
    lines = (_text(file) if file.exists() else "").split("\n")
    records = [_record(f"{file}, line {number}", line) for number, line in enumerate(lines[:-1], 1)]
    return Run(folder, facts, records)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the run folders among `paths` and below them, each once; raises `ConfigError` when one does not exist."""
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: no such folder; give run folders, or a folder of runs such as runs/")
        inside = [Path(top) for top, _, files in os.walk(path) if any(mark in files for mark in MARKS)]
        if not inside:
            raise ConfigError(f"{path}: not a run folder and does not contain any (a run folder has run.json)")
        found |= {folder.resolve(): folder for folder in sorted(inside) if folder.resolve() not in found}
    return list(found.values())


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs that recorded at least one epoch, and the reason for each one that is skipped."""
    runs, skipped = [], []
    for folder in folders:
        try:
            require_intact(folder, READ)
            run = read_run(folder)
            if not run.records:
                skipped.append(f"{folder}: no epoch has finished (outcome: {run.outcome})")
            else:
                run.settings  # noqa: B018 - raises if it is damaged
                runs.append(run)
        except (DataError, ConfigError) as error:
            skipped.append(" ".join(str(error).split()))
    return runs, skipped


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except FileNotFoundError:
        raise DataError(f"{file}: missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from None


def _parse(where: Path | str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: damaged ({error})") from None


def _record(where: str, line: str) -> Record:
    record = _parse(where, line)
    if isinstance(record, dict):
        record = {name: math.nan if value is None else value for name, value in record.items()}
        if "epoch" in record and all(type(value) in (int, float) for value in record.values()):
            return record
    raise DataError(f"{where}: not the record of an epoch")


def flat(value: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    """Return a tree of plain values as pairs of a dotted key and a value."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    pairs = [pair for name, item in items for pair in flat(item, f"{key}.{name}" if key else str(name))]
    return pairs or [(key, value)]


def stored_facts(folder: Path) -> dict[str, Any]:
    """Return `run.json`, or nothing if there is none, or it is damaged: a resumed training writes a new one."""
    try:
        content = (folder / RUN).read_bytes()
        if (folder / MANIFEST).exists() and not is_listed_state(folder, RUN, content):
            return {}
        run = json.loads(content)
    except (OSError, ValueError, DataError):
        return {}
    return run if isinstance(run, dict) else {}


def source_of(folder: Path) -> str:
    """Return the file that a run's configuration was read from, which gives the run its name."""
    return str(stored_facts(folder).get("config", f"{folder.resolve().parent.name}.yaml"))


def stored_config(folder: Path, imports: Sequence[str] = ()) -> Config:
    """Return the configuration of a run, under its own name."""
    file = stored_config_file(folder)
    return replace(load_config(file, registry=Registry.builtin(imports)), source=source_of(folder))


# Repair --------------------------------------------------------------------------------------------------------------


def require_intact(folder: Path, names: Collection[str]) -> None:
    """Restore damaged files among `names` and report it on stderr.

    Nothing is judged while another process trains in the folder, nor in a folder without a manifest.

    Raises:
        DataError: a damaged file cannot be restored, or the manifest itself is damaged.
    """
    if not (folder / MANIFEST).exists() or not (damaged := damaged_files(folder, names)):
        return
    try:
        with locked(folder):
            damaged = restore(folder, damaged_files(folder, names))
    except LockedFolder:
        return
    except StorageError:  # nothing can be written there
        damaged = damaged_files(folder, names)
    if damaged:
        problems = "".join(f"\n  {folder / name}: {problem}" for name, problem in damaged.items())
        advice = "there is no intact copy; restore them from a backup, or train again"
        if set(damaged) <= {MODEL, f"{CHECKPOINTS}/{LAST}"}:
            advice = "`layerflow train --resume` on this folder writes them again"
        raise DataError(f"{folder}: damaged files:{problems}\n  {advice}")


def restore(folder: Path, damaged: dict[str, str]) -> dict[str, str]:
    """Restore what the newest intact checkpoint repeats and report it on stderr; return the rest. The lock is held."""
    remaining = dict(damaged)
    checkpoint = find_checkpoint(folder).newest if set(damaged) & {CONFIG, METRICS, TABLE} else None
    if checkpoint is not None:
        records = checkpoint.snapshot.records or []
        copies = {CONFIG: dump_yaml(checkpoint.run.get("config")), METRICS: lines_of(records), TABLE: table_of(records)}
        for name, text in copies.items():
            if name in remaining and is_listed_state(folder, name, text.encode()):
                write_atomically(folder / name, text.encode())
                print(f"{folder / name}: {remaining.pop(name)}; restored from a checkpoint", file=sys.stderr)
    return remaining
