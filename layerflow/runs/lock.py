"""One process per run folder: a lock that dies with its process, however that ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from layerflow.errors import StorageError
from layerflow.training.storage import explained, without_links

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder; raises `StorageError` when another process holds it."""
    with explained(folder / LOCK):
        file = open(folder / LOCK, "a+", opener=without_links)  # noqa: SIM115 - closed by the `with` below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another one"
            raise StorageError(
                f"{folder}: process {holder} is training in this folder; wait until it has ended, or end it first"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
