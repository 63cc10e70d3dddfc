"""Damaged files of every format: whatever the bytes are, reading gives data or a DataError that names the file."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerflow.data import CIFAR10, CSV, IDX, NPY, NPZ, Reader
from layerflow.errors import DataError

ARRAY = np.arange(12.0).reshape(6, 2)


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, ARRAY)
    return buffer.getvalue()


def npz(compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("x.npy", npy())
    return buffer.getvalue()


TABLE = b'a,"b",c\n1,2.5,x\n-3e4,,y\n"7",8,"z\nz"\n'
IMAGES = struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 2) + bytes(8)
FORMATS: dict[str, tuple[bytes, Callable[[str], Reader]]] = {
    "csv": (TABLE, lambda path: CSV(path, categorical=["c"], missing="mean")),
    "csv.gz": (gzip.compress(TABLE, mtime=0), lambda path: CSV(path, categorical=["c"], missing="mean")),
    "npy": (npy(), NPY),
    "stored npz": (npz(zipfile.ZIP_STORED), NPZ),
    "deflated npz": (npz(zipfile.ZIP_DEFLATED), NPZ),
    "lzma npz": (npz(zipfile.ZIP_LZMA), NPZ),
    "idx": (IMAGES, IDX),
    "idx.gz": (gzip.compress(IMAGES, mtime=0), IDX),
    "cifar": (bytes(3073), lambda path: CIFAR10([path])),
}


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_a_data_error_that_names_the_file(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content, reader = FORMATS[name]
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        cut = data.draw(st.integers(0, 3))
        damaged[at : at + cut] = data.draw(st.binary(max_size=4))
        damaged = damaged or bytearray(b"\0")
    path: Path = tmp_path_factory.getbasetemp() / f"damaged {name}"
    path.write_bytes(damaged)
    try:
        assert len(reader(str(path)).read(need_target=False)) > 0
    except DataError as error:
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)
