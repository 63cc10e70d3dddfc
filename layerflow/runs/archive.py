"""Sealed `.npz` files: arrays by name, a description as JSON, and a checksum over every byte. No pickle, no surprises.

The file is an ordinary archive of NumPy arrays, stored uncompressed, that `np.load` reads. The comment at its end is
the SHA-256 of all bytes before it, so that damage is found before anything is believed. A file that is whole may still
have been written by an enemy: its members must be plain arrays whose sizes add up to no more than the file's.
"""

import hashlib
import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from layerflow.data.paths import check_file
from layerflow.errors import DataError
from layerflow.parameter import Array
from layerflow.training.storage import write_atomically

DESCRIPTION = "description"
SEAL = 64  # hexadecimal digits of SHA-256
STORED, VERSION, DATE = (
    0,
    45,
    0x21,
)  # 45: sizes of 64 bits; 0x21: 1 January 1980, so that equal contents are equal files
Chunk = bytes | memoryview
FULL = 0xFFFFFFFF  # "see the 64-bit field"


class DamagedFile(DataError):
    """A file is not what was once written."""


def pack(description: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[Chunk]:
    """Return the bytes of a sealed file in pieces, none of which is a copy of an array.

    The layout is that of PKWARE's APPNOTE.TXT 6.3.9 (4.3.7, 4.3.12, 4.3.14 to 4.3.16), written here because a
    checkpoint must cost little: the zipfile module copies every array several times. Array headers are those of NEP 1.
    """
    text = np.frombuffer(json.dumps(description).encode(), np.uint8)
    chunks: list[Chunk] = []
    directory: list[bytes] = []
    offset = 0
    for name, array in {DESCRIPTION: text, **arrays}.items():
        member, start, content = f"{name}.npy".encode(), _npy_header(array), _bytes_of(array)
        size = len(start) + len(content)
        fields = struct.pack("<5H3I", VERSION, 0, STORED, 0, DATE, zlib.crc32(content, zlib.crc32(start)), FULL, FULL)
        extra = struct.pack("<2H2Q", 1, 16, size, size)
        head = b"PK\3\4" + fields + struct.pack("<2H", len(member), len(extra)) + member + extra
        extra = struct.pack("<2H3Q", 1, 24, size, size, offset)
        lengths = struct.pack("<5H2I", len(member), len(extra), 0, 0, 0, 0, FULL)
        directory.append(b"PK\1\2" + struct.pack("<H", VERSION) + fields + lengths + member + extra)
        chunks += (head, start, content)
        offset += len(head) + size
    count, length = len(directory), sum(map(len, directory))
    end = b"PK\6\6" + struct.pack("<Q2H2I4Q", 44, VERSION, VERSION, 0, 0, count, count, length, offset)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, offset + length, 1)
    closing = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 0xFFFF, 0xFFFF, FULL, FULL, SEAL)
    chunks += (*directory, end, locator, closing)
    seal = hashlib.sha256()
    for chunk in chunks:
        seal.update(chunk)
    return [*chunks, seal.hexdigest().encode()]


def unpack(content: bytes, where: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return description and arrays of a sealed file's bytes.

    Raises:
        DamagedFile: the seal is not that of the content.
        DataError: the seal is right, but something else than plain arrays is inside.
    """
    body, seal = content[:-SEAL], content[-SEAL:]
    if hashlib.sha256(body).hexdigest().encode() != seal:
        raise DamagedFile(
            f"{where}: damaged or truncated: its {len(content)} bytes do not have the checksum they were written with"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > len(
                content
            ):
                raise DataError(f"{where}: declares more than its {len(content)} bytes can hold")
            arrays = {
                m.filename.removesuffix(".npy"): _array(archive.read(m), f"{where}: {m.filename}") for m in members
            }
        description = json.loads(arrays.pop(DESCRIPTION).tobytes())
        if not isinstance(description, dict):
            raise ValueError("its description is no mapping")
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
        raise DataError(f"{where}: not a file that layerflow wrote ({type(error).__name__}: {error})") from error
    return description, arrays


def write_archive(path: Path, description: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a sealed file; it is whole, or what was there before is as it was."""
    write_atomically(path, lambda file: file.writelines(pack(description, arrays)))


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return description and arrays of a sealed file; raises `DataError` for whatever else the file is."""
    file = check_file(str(path))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return unpack(content, str(path))


def _npy_header(array: Array) -> bytes:
    text = f"{{'descr': {array.dtype.str!r}, 'fortran_order': False, 'shape': {array.shape}, }}"
    padding = -(len(text) + 11) % 64
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + padding + 1) + text.encode() + b" " * padding + b"\n"


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _array(content: bytes, where: str) -> Array:
    file = io.BytesIO(content)
    if npy.read_magic(file) != (1, 0):
        raise ValueError(f"{where} has an unknown format")
    shape, fortran, dtype = npy.read_array_header_1_0(file)
    start = file.tell()
    if dtype.hasobject or dtype.names or any(length < 0 for length in shape):
        raise DataError(f"{where}: holds {dtype} of shape {shape}; only plain numbers and text are read, never objects")
    if len(content) - start != math.prod(shape) * dtype.itemsize:
        raise DataError(f"{where}: shape {shape} of {dtype} does not fit its {len(content) - start} bytes")
    return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran else "C").copy()
