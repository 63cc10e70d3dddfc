"""Writing into a run folder so that what was there stays intact, whatever goes wrong."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from layerflow.errors import StorageError

LEFTOVER = ".tmp"


def write_atomically(path: Path, write: Callable[[Any], object]) -> None:
    """Let `write(file)` fill a new file beside `path`, bring it to the disk, and only then put it in its place.

    Raises:
        StorageError: it cannot be written; what was at `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{LEFTOVER}")
    with explained(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        finally:
            temporary.unlink(missing_ok=True)


def append_whole(path: Path, content: bytes) -> None:
    """Append to a file: all of `content`, or nothing of it."""
    with explained(path), open(path, "ab", buffering=0, opener=without_links) as file:
        length = file.tell()
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(length)
            raise


def without_links(path: str, flags: int) -> int:
    """Open a file, but not through a symbolic link: in a folder from a stranger it might lead anywhere."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def sweep_leftovers(folder: Path) -> None:
    """Remove the unfinished files of processes that died while writing; for the one who holds the folder's lock."""
    with explained(folder):
        for leftover in folder.glob(f".*{LEFTOVER}"):
            leftover.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror if path.parent.is_dir() else f"the folder {path.parent} is gone"
        raise StorageError(f"{path}: cannot be written ({reason}); what was saved before is intact") from error
