"""The files of a run folder: their names, atomic writes, sealed archives, the lock, and where new folders are made.

A sealed archive is an `.npz` file: named arrays, a description as JSON, and a checksum over every byte; nothing is
pickled. It is what `np.savez` writes and `np.load` reads. The comment at its end is the SHA-256 of all bytes before it,
so that damage is found before anything is used. An intact file may still come from an attacker: its members must be
plain, uncompressed arrays whose sizes add up to no more than the file's.
"""

import errno
import hashlib
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy

from layerflow.data.reader import check_file
from layerflow.errors import ConfigError, DataError, StorageError, did_you_mean
from layerflow.parameter import Array

RUN, CONFIG, MODEL = "run.json", "config.yaml", "model.npz"
METRICS, TABLE, LOSSES = "metrics.jsonl", "metrics.csv", "step_losses.f64"
CHECKPOINTS, DIVERGED = "checkpoints", "diverged.npz"
LOCK, LEFTOVER = ".lock", ".tmp"
DESCRIPTION = "description"  # in an archive: the member that holds it
SEAL = 64  # hexadecimal digits of SHA-256
Content = bytes | bytearray | memoryview


# Writing -------------------------------------------------------------------------------------------------------------


def write_atomically(path: Path, content: Content, sync: bool = True) -> None:
    """Write a new file beside `path` and then rename it to `path`.

    With `sync`, file and folder are flushed to the disk, so that the file also survives a power failure.

    Raises:
        StorageError: it cannot be written; the old file at `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{LEFTOVER}")
    with explained(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
            if sync:
                sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def append(path: Path, content: bytes, size: int) -> bool:
    """Append `content` to a file of `size` bytes: all of it, or nothing.

    Returns False, without writing, if the file is missing, a link, or has another size.
    """
    if path.is_symlink() or not path.is_file():
        return False
    with explained(path), open(path, "ab", buffering=0) as file:
        if file.tell() != size:
            return False
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(size)
            raise
    return True


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk; Windows does so by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of killed processes; only the holder of the folder's lock may do this."""
    with explained(folder):
        for leftover in folder.glob(f".*{LEFTOVER}"):
            leftover.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an `OSError` into a `StorageError` with the path and the reason."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if not path.parent.is_dir():
            reason = f"the folder {path.parent} no longer exists"
        raise StorageError(f"{path}: cannot be written ({reason}); everything saved before is intact") from error


def to_json(value: Any, indent: int | None = None) -> str:
    """Return plain values as standard JSON, which has no NaN and no infinity: they become null."""

    def standard(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: standard(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [standard(inner) for inner in item]
        return None if isinstance(item, float) and not math.isfinite(item) else item

    return json.dumps(standard(value), indent=indent, allow_nan=False)


# Sealed archives -----------------------------------------------------------------------------------------------------


class DamagedFile(DataError):
    """A file whose checksum is wrong."""


def pack(description: Mapping[str, Any], arrays: Mapping[str, Array]) -> memoryview:
    """Return the bytes of a sealed file; equal contents give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **{DESCRIPTION: np.frombuffer(json.dumps(description).encode(), np.uint8)}, **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"0" * SEAL
    content = buffer.getbuffer()
    content[-SEAL:] = hashlib.sha256(content[:-SEAL]).hexdigest().encode()
    return content


def unpack(content: bytes, where: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return description and arrays of a sealed file's bytes.

    Raises:
        DamagedFile: the checksum is wrong.
        DataError: the checksum is right, but the file holds something other than plain arrays.
    """
    body, seal = content[:-SEAL], content[-SEAL:]
    if hashlib.sha256(body).hexdigest().encode() != seal:
        raise DamagedFile(f"{where}: damaged or truncated: the checksum of its {len(content)} bytes is wrong")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            is_compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if is_compressed or sum(member.file_size for member in members) > len(content):
                raise DataError(f"{where}: declares more data than its {len(content)} bytes can hold")
            arrays = {
                m.filename.removesuffix(".npy"): _array(archive.read(m), f"{where}: {m.filename}") for m in members
            }
        description = json.loads(arrays.pop(DESCRIPTION).tobytes())
        if not isinstance(description, dict):
            raise ValueError("its description is not a mapping")
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError, RuntimeError, struct.error) as error:
        raise DataError(f"{where}: not a file written by layerflow ({type(error).__name__}: {error})") from error
    return description, arrays


def write_archive(path: Path, description: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a sealed file atomically."""
    write_atomically(path, pack(description, arrays))


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return description and arrays of a sealed file; raises `DataError` if it is anything else."""
    file = check_file(str(path))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return unpack(content, str(path))


def _array(content: bytes, where: str) -> Array:
    file = io.BytesIO(content)
    if npy.read_magic(file) != (1, 0):
        raise ValueError(f"{where} has an unknown format")
    shape, fortran, dtype = npy.read_array_header_1_0(file)
    start = file.tell()
    if dtype.hasobject or dtype.names or any(length < 0 for length in shape):
        raise DataError(f"{where}: holds {dtype} of shape {shape}; only plain numbers and text are read")
    if len(content) - start != math.prod(shape) * dtype.itemsize:
        raise DataError(f"{where}: shape {shape} of {dtype} does not fit its {len(content) - start} bytes")
    return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran else "C").copy()


# The lock ------------------------------------------------------------------------------------------------------------


class LockedFolder(StorageError):
    """Another process holds the lock of a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the operating system releases it when the process ends, in whatever way.

    Raises:
        LockedFolder: another process holds it.
        StorageError: the lock file cannot be created.
    """
    path = folder / LOCK
    lock = FileLock(path)
    with explained(path):
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link; remove it")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise LockedFolder(
                f"{folder}: {_holder(folder)} is writing to this folder; wait until it has ended, or stop it"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _holder(folder: Path) -> str:
    try:
        return f"process {int(json.loads((folder / RUN).read_text())['pid'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


# Folders -------------------------------------------------------------------------------------------------------------


def parent_of_runs(out: Path, name: str) -> Path:
    """Return the folder of all runs called `name`.

    Raises:
        ConfigError: `name` is not a plain name, and would lead out of `out`.
    """
    is_plain = name not in ("", ".", "..") and name.isprintable() and not set(name) & set("/\\:")
    if not is_plain:
        raise ConfigError(
            f"{name!r} cannot be the name of a run folder; use a plain name without / \\ and :, "
            "and choose the place with --out"
        )
    return out / name


def create_run_folder(out: Path, name: str) -> Path:
    """Make and return the next free `out/name/NNN`, counted from 001; an existing folder is never touched."""
    parent = parent_of_runs(out, name)
    try:
        _make(parent)
        number = max((int(entry.name) for entry in numbered_runs(parent)), default=0) + 1
        while True:
            folder = parent / f"{number:03d}"
            try:
                folder.mkdir()
            except FileExistsError:  # another process was faster
                number += 1
            else:
                sync_folder(parent)
                return folder
    except OSError as error:
        reason = f"the run folder cannot be created ({error.strerror}); choose another place with --out"
        raise ConfigError(f"{parent}: {reason}") from error


def _make(folder: Path) -> None:
    """Make a folder and its parents, each flushed to the disk, so that no power failure loses what is put into it."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        sync_folder(place.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def checkpoint_folder(run: Path) -> Path:
    """Return the folder of a run's checkpoints; a symbolic link in its place is refused, as it may lead anywhere."""
    folder = run / CHECKPOINTS
    if folder.is_symlink():
        raise StorageError(f"{folder}: is a symbolic link, expected a folder; remove the link")
    return folder


def numbered_runs(parent: Path) -> list[Path]:
    """Return the numbered folders in `parent`, the newest first."""
    folders = [entry for entry in parent.iterdir() if entry.name.isdigit()] if parent.is_dir() else []
    return sorted(folders, key=lambda entry: int(entry.name), reverse=True)


def stored_config_file(folder: Path) -> Path:
    """Return the configuration of a run; raises `ConfigError` when the folder is not a run folder."""
    if not folder.is_dir():
        siblings = [str(entry) for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise ConfigError(f"{folder}: no such run folder{did_you_mean(folder, siblings)}")
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder}: not a run folder: it has no {CONFIG}")
    return folder / CONFIG
