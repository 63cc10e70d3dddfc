"""Run folders, read back: what a run was, what it recorded, and what came of it."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from layerflow.config.document import read_document
from layerflow.errors import ConfigError, DataError
from layerflow.training.history import Record

MARKS = ("run.json", "metrics.jsonl")


@dataclass(frozen=True)
class Run:
    """A run folder's contents.

    Attributes:
        folder: where it lies.
        facts: `run.json`.
        records: `metrics.jsonl`, one record per finished epoch.
    """

    folder: Path
    facts: dict[str, Any]
    records: list[Record]

    @property
    def outcome(self) -> str:
        """finished, stopped early, interrupted, diverged, failed; running also stands in the folder of a killed run."""
        return str(self.facts.get("outcome", "unknown"))

    @property
    def best(self) -> dict[str, Any]:
        """Metric, value and epoch of the weights that were kept; empty when those of the last epoch were."""
        best = self.facts.get("best")
        return best if isinstance(best, dict) and isinstance(best.get("epoch"), int) else {}

    @property
    def kept(self) -> Record:
        """The record of the epoch whose weights were kept."""
        epoch = self.best.get("epoch")
        return next((record for record in self.records if record["epoch"] == epoch), self.records[-1])

    @property
    def figures(self) -> dict[str, float]:
        """Losses and metrics of the kept weights by name, those on the test part among them."""
        recorded = {name: value for name, value in self.kept.items() if name.startswith(("train_", "val_"))}
        test = self.facts.get("test")
        return recorded | {f"test_{name}": value for name, value in (test if isinstance(test, dict) else {}).items()}

    @property
    def config_text(self) -> str:
        """The resolved configuration as it was written."""
        return _text(self.folder / "config.yaml")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration by dotted key; paths are absolute, so that runs in different folders compare."""
        file = self.folder / "config.yaml"
        plain = read_document(file).plain()
        if not isinstance(plain, dict) or not plain:
            raise DataError(f"{file}: damaged (not the settings of a run)")
        return {key: self._absolute(value) for key, value in _flat(plain, "")}

    def _absolute(self, value: Any) -> Any:
        is_path = isinstance(value, str) and os.sep in value and "\0" not in value
        return os.path.normpath(self.folder.absolute() / value) if is_path else value


def read_run(folder: Path) -> Run:
    """Read a run folder; raises `DataError` that says what is damaged or missing in it.

    The last line of `metrics.jsonl` is left out when it was cut off in the middle, as a killed process leaves it.
    """
    facts = _parse(folder / "run.json", _text(folder / "run.json"))
    if not isinstance(facts, dict):
        raise DataError(f"{folder / 'run.json'}: holds a {type(facts).__name__}, not the facts of a run")
    file = folder / "metrics.jsonl"
    lines = (_text(file) if file.exists() else "").split("\n")
    records = [_record(f"{file}, line {number}", line) for number, line in enumerate(lines[:-1], 1)]
    return Run(folder, facts, records)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Return the run folders among `paths` and below them, each once; raises `ConfigError` when one does not exist."""
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: no such folder; give run folders, or a folder of them such as runs/")
        inside = [Path(top) for top, _, files in os.walk(path) if any(mark in files for mark in MARKS)]
        if not inside:
            raise ConfigError(f"{path}: no run folder, and none in it (a run folder holds run.json)")
        found |= {folder.resolve(): folder for folder in sorted(inside) if folder.resolve() not in found}
    return list(found.values())


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs that recorded at least one epoch, and for each of the others why it is left out."""
    runs, skipped = [], []
    for folder in folders:
        try:
            run = read_run(folder)
            if not run.records:
                skipped.append(f"{folder}: no epoch was finished (outcome: {run.outcome})")
            else:
                run.settings  # noqa: B018 - a damaged one is found here
                runs.append(run)
        except (DataError, ConfigError) as error:
            skipped.append(str(error).split("\n")[0])
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
    is_number = isinstance(record, dict) and all(type(value) in (int, float) for value in record.values())
    if not is_number or "epoch" not in record:
        raise DataError(f"{where}: not the record of an epoch")
    return record  # type: ignore[no-any-return]


def _flat(value: Any, key: str) -> Iterable[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if not items:
        return [(key, value)]
    return [pair for name, item in items for pair in _flat(item, f"{key}.{name}" if key else str(name))]
