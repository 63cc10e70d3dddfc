"""Notices when a memory-mapped data file changes during a training."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.data import Rows
from layerflow.errors import DataError
from layerflow.training.callbacks import Callback
from layerflow.training.history import Record
from layerflow.training.state import State


@dataclass(frozen=True)
class _State:
    """A file on the disk. A file that replaced another has a new identity; the memory map still shows the old one."""

    identity: tuple[int, int]
    size: int
    modified: int


class DataWatch(Callback):
    """Checks after every step that the memory-mapped data files are unchanged.

    Reading beyond the end of a truncated memory map kills the process (SIGBUS), so this is the last callback, directly
    before the next read.
    """

    def __init__(self, *sources: Any) -> None:
        files = [file for x in sources if (file := _mapped_file(x)) is not None]
        self.files = {file: found for file in files if (found := _state(file)) is not None}

    def step_ended(self, state: State) -> None:
        """Raise `DataError` when a file has changed."""
        for file, before in self.files.items():
            now = _state(file)
            if now is not None and now.identity == before.identity and now != before:
                raise DataError(f"{file}: changed during the training; the last checkpoint was made before the change")

    def epoch_ended(self, state: State, record: Record) -> None:
        """Check again, since writing a checkpoint takes time."""
        self.step_ended(state)


def _mapped_file(x: Any) -> str | None:
    while isinstance(x, Rows):
        x = x.source
    return str(x.filename) if isinstance(x, np.memmap) else None


def _state(file: str) -> _State | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return _State((status.st_dev, status.st_ino), status.st_size, status.st_mtime_ns)
