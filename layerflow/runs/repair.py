"""Damaged files of a run: found by the manifest, and restored from a checkpoint where it holds a copy."""

import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from layerflow.config.scalars import dump_yaml
from layerflow.errors import DataError, StorageError
from layerflow.runs.checkpoint import LAST, find_checkpoint
from layerflow.runs.files import CHECKPOINTS, CONFIG, METRICS, MODEL, TABLE, LockedFolder, locked, write_atomically
from layerflow.runs.manifest import MANIFEST, damaged_files, is_listed_state
from layerflow.runs.recorder import lines_of, table_of


def require_intact(folder: Path, names: Collection[str]) -> None:
    """Restore damaged files among `names` and report it on stderr.

    Nothing is judged while another process trains in the folder, nor in a folder without a manifest.

    Raises:
        DataError: a damaged file cannot be restored, or the manifest itself is damaged.
    """
    if not (folder / MANIFEST).exists() or not damaged_files(folder, names):
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
        raise DataError(f"{folder}: damaged files:{problems}\n  {_advice(damaged)}")


def restore(folder: Path, damaged: dict[str, str]) -> dict[str, str]:
    """Restore what can be restored and report it on stderr; return the rest. The folder's lock is held."""
    remaining = dict(damaged)
    if set(damaged) & {CONFIG, METRICS, TABLE}:
        for name, content in _copies(folder):
            if name in remaining and is_listed_state(folder, name, content):
                write_atomically(folder / name, content)
                print(f"{folder / name}: {remaining.pop(name)}; restored from a checkpoint", file=sys.stderr)
    return remaining


def _copies(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files that the newest intact checkpoint repeats."""
    checkpoint = find_checkpoint(folder).newest
    if checkpoint is not None:
        records = checkpoint.snapshot.records or []
        yield CONFIG, dump_yaml(checkpoint.run.get("config")).encode()
        yield METRICS, lines_of(records).encode()
        yield TABLE, table_of(records).encode()


def _advice(damaged: Collection[str]) -> str:
    if set(damaged) <= {MODEL, f"{CHECKPOINTS}/{LAST}"}:
        return "`layerflow train --resume` on this folder writes them again"
    return "there is no intact copy; restore them from a backup, or train again"
