"""Readers for NumPy files: arrays stay on disk where possible, and nothing is ever unpickled."""

import lzma
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset, Task, listed
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import CHUNK, GZIP_LARGEST_RATIO, DataPath, Reader, check_file, from_arrays, read_exactly
from layerflow.errors import ConfigError, DataError, did_you_mean

Header = tuple[tuple[int, ...], bool, np.dtype[Any]]
"""Shape, whether in Fortran order, and dtype."""

VERSIONS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

MOST_DIMENSIONS = 32
"""The most dimensions that every supported NumPy can hold."""

DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, NotImplementedError, RuntimeError,
    ValueError, OverflowError,
)  # fmt: skip
"""What reading a damaged archive can raise."""


@dataclass
class NPY(Reader):
    """Two `.npy` files, one array each. The features are memory-mapped and may exceed memory.

    Args:
        x: The file with the features: (samples, features) or (samples, channels, height, width).
        y: The file with the targets: (samples,); not needed for prediction.
        task: classification or regression. By default integers and text mean classification, floats regression. In a
            classification, floats must be integers: 1.0 is class '1'.
    """

    x: DataPath
    y: DataPath | None = None
    task: Task | None = None

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Map the features and read the targets; see `Reader.read`."""
        if need_target and self.y is None:
            raise ConfigError("NPY: 'y' is missing: give the file with the targets")
        files = [self.x, self.y] if need_target and self.y is not None else [self.x]
        return from_arrays([*map(_map_npy, files)], files, files, self.task, like)


@dataclass
class NPZ(Reader):
    """One `.npz` file with both arrays. Features saved by `np.savez` are memory-mapped, compressed ones are read.

    Args:
        path: The file.
        x: The name of the array of features: (samples, features) or (samples, channels, height, width).
        y: The name of the array of targets: (samples,); not needed for prediction.
        task: classification or regression. By default integers and text mean classification, floats regression. In a
            classification, floats must be integers: 1.0 is class '1'.
    """

    path: DataPath
    x: str = "x"
    y: str = "y"
    task: Task | None = None

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Map or read the arrays; see `Reader.read`."""
        names = [self.x, self.y] if need_target else [self.x]
        with _open_archive(self.path) as archive:
            arrays = [_read_member(archive, name, self.path) for name in names]
        return from_arrays(arrays, [f"{self.path}: {name}" for name in names], [self.path], self.task, like)


def shapes(path: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array in an `.npz` file, from its header."""
    found = {}
    with _open_archive(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as file:
                found[name] = _read_header(file, f"{path}: {name}")[0]
    return found


@contextmanager
def _open_archive(path: str) -> Iterator[zipfile.ZipFile]:
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DAMAGE as error:
        raise DataError(f"{path}: truncated or corrupt NPZ file ({error}); create it again") from error


def _map_npy(path: str) -> NDArray[Any]:
    with check_file(path).open("rb") as file:
        header = _read_header(file, path, os.fstat(file.fileno()).st_size)
        return _map(path, header, file.tell())


def _map(path: str, header: Header, offset: int) -> NDArray[Any]:
    shape, fortran, dtype = header
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")


def _read_header(file: IO[bytes], where: str, end: int | None = None) -> Header:
    """Read the header of NumPy's format (NEP 1), whose values must go on to `end`.

    Objects, which would have to be unpickled, records and empty arrays are refused.
    """
    try:
        version = npy.read_magic(file)
        if version not in VERSIONS:
            raise ValueError(f"format version {version}")
        with warnings.catch_warnings(action="ignore"):  # about headers that Python 2 wrote, and old names of dtypes
            header: Header = VERSIONS[version](file)
    except (ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        is_legible = isinstance(error, ValueError) and "<" not in str(error)
        reason = str(error).splitlines()[0] if is_legible else "its header is damaged"
        raise DataError(f"{where}: not a valid NPY array ({reason}); write it with np.save or np.savez") from error
    shape, _, dtype = header
    if len(shape) > MOST_DIMENSIONS:
        raise DataError(f"{where}: declares {len(shape)} dimensions, at most {MOST_DIMENSIONS} are possible")
    if dtype.hasobject:
        raise DataError(f"{where}: holds pickled Python objects, which are never loaded; save plain numbers or text")
    if dtype.names or dtype.subdtype or any(type(length) is not int or length < 0 for length in shape):
        raise DataError(f"{where}: expected a plain array, got dtype {dtype} and shape {shape}")
    if end is not None:
        size, found = math.prod(shape) * dtype.itemsize, end - file.tell()
        if not size:
            raise DataError(f"{where}: the array is empty, shape {shape}; give at least one sample and feature")
        if size != found:
            raise DataError(f"{where}: shape {shape} needs {size} bytes, {found} found; create the file again")
    return header


def _read_member(archive: zipfile.ZipFile, name: str, path: str) -> NDArray[Any]:
    """Return an array of the archive: memory-mapped if it is not compressed, read otherwise."""
    names = [member.removesuffix(".npy") for member in archive.namelist()]
    if name not in names:
        raise DataError(f"{path}: no array {name!r}{did_you_mean(name, names)}; it holds {listed(names)}")
    info = archive.infolist()[names.index(name)]
    where = f"{path}: {name}"
    if info.file_size > GZIP_LARGEST_RATIO * max(info.compress_size, 1):
        raise DataError(f"{where}: declares {info.file_size} bytes, more than its {info.compress_size} can hold")
    with archive.open(info) as file:
        header = shape, fortran, dtype = _read_header(file, where, info.file_size)
        if info.compress_type == zipfile.ZIP_STORED:
            offset = file.tell() + _start_of(info, path)
            while file.read(CHUNK):
                pass
            return _map(path, header, offset)
        content = read_exactly(file, info.file_size - file.tell(), where)
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _start_of(info: zipfile.ZipInfo, path: str) -> int:
    """Return the offset of a member's bytes: after its local header (APPNOTE.TXT, 4.3.7)."""
    with Path(path).open("rb") as file:
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
    return info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
