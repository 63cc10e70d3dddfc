"""Sealed `.npz` files: named arrays, a description as JSON, and a checksum over every byte; nothing is pickled.

The file is what `np.savez` writes and `np.load` reads. The comment at the end of the archive is the SHA-256 of all
bytes before it, so that damage is found before anything is used. An intact file may still come from an attacker: its
members must be plain, uncompressed arrays whose sizes add up to no more than the file's.
"""

import hashlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from layerflow.data.reader import check_file
from layerflow.errors import DataError
from layerflow.parameter import Array
from layerflow.runs.files import write_atomically

DESCRIPTION = "description"
SEAL = 64  # hexadecimal digits of SHA-256


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
            if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(
                content
            ):
                raise DataError(f"{where}: declares more data than its {len(content)} bytes can hold")
            arrays = {
                m.filename.removesuffix(".npy"): _array(archive.read(m), f"{where}: {m.filename}") for m in members
            }
        description = json.loads(arrays.pop(DESCRIPTION).tobytes())
        if not isinstance(description, dict):
            raise ValueError("its description is not a mapping")
    except (
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        EOFError,
        OSError,
        RuntimeError,
        RecursionError,
        struct.error,
    ) as error:
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
