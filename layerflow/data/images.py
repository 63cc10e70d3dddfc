"""Readers for the formats of MNIST and CIFAR-10. Pixels stay bytes until preprocessing."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import (
    GZIP_LARGEST_RATIO,
    DataPath,
    Reader,
    check_file,
    checksum,
    from_arrays,
    is_gzip,
    open_data,
    read_exactly,
    set_name,
)
from layerflow.errors import ConfigError, DataError

IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""The third byte of an IDX file (Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits)."""

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_SHAPE = (3, 32, 32)


@dataclass
class IDX(Reader):
    """Images and labels in the IDX format of MNIST, gzipped or not; x is (samples, 1, height, width).

    Args:
        images: The file with the images: train-images-idx3-ubyte.gz.
        labels: The file with the labels: train-labels-idx1-ubyte.gz; not needed for prediction.
    """

    images: DataPath
    labels: DataPath | None = None

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Read both files; see `Reader.read`."""
        if need_target and self.labels is None:
            raise ConfigError("IDX: 'labels' is missing: give the file with the labels")
        files = [self.images, self.labels] if need_target and self.labels is not None else [self.images]
        x, *labels = map(_read_idx, files)
        if x.ndim < 2:
            raise DataError(f"{self.images}: expected images of shape (samples, height, width), got {x.shape}")
        x = x[:, np.newaxis] if x.ndim == 3 else x
        return from_arrays([x, *labels], files, files, "classification", like)


@dataclass
class CIFAR10(Reader):
    """CIFAR-10 in its binary version: records of a label byte and 3 x 32 x 32 pixels; x is (samples, 3, 32, 32).

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Args:
        paths: The files, read one after the other: [data_batch_1.bin, data_batch_2.bin].
    """

    paths: list[DataPath]

    def __post_init__(self) -> None:
        if not self.paths:
            raise ConfigError("CIFAR10: 'paths' is empty: give at least one file, such as data_batch_1.bin")

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Read all files; see `Reader.read`."""
        records = np.concatenate([_read_cifar10(path) for path in self.paths])
        x = records[:, 1:].reshape(-1, *CIFAR10_SHAPE)
        y = records[:, 0].astype(np.int64) if need_target else None
        return Dataset(x, y, None, CIFAR10_CLASSES, set_name(self.paths[0]), checksum(*self.paths))


def _read_idx(path: str) -> NDArray[Any]:
    with open_data(path) as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_DTYPES or not 1 <= magic[3] <= 4:
            raise DataError(f"{path}: not an IDX file (it starts with {magic.hex(' ')}); give one of MNIST's files")
        dtype, dimensions = np.dtype(IDX_DTYPES[magic[2]]), magic[3]
        lengths = read_exactly(file, 4 * dimensions, path)
        shape = tuple(np.frombuffer(lengths, dtype=">u4").tolist())
        size, header = math.prod(shape) * dtype.itemsize, 4 + 4 * dimensions
        on_disk = check_file(path).stat().st_size
        possible = GZIP_LARGEST_RATIO * on_disk if is_gzip(path) else on_disk - header
        if size > possible:
            declared = f"declares shape {shape}, {size} bytes, but the file holds at most {possible}"
            raise DataError(f"{path}: {declared}; download it again")
        if not size:
            raise DataError(f"{path}: is empty, shape {shape}; give at least one sample")
        content = read_exactly(file, size, path)
        if file.read(1):
            raise DataError(f"{path}: has more bytes than its shape {shape} declares; download it again")
    values = np.frombuffer(content, dtype=dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _read_cifar10(path: str) -> NDArray[np.uint8]:
    record = 1 + math.prod(CIFAR10_SHAPE)
    with open_data(path) as file:
        content = file.read()
    if len(content) % record or not content:
        size = f"{len(content)} bytes are not a multiple of the size of a CIFAR-10 record, {record} bytes"
        raise DataError(f"{path}: {size}; download it again")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
    if (beyond := np.flatnonzero(records[:, 0] > 9)).size:
        row = int(beyond[0])
        raise DataError(f"{path}: label {records[row, 0]} of image {row} is out of range 0 to 9; is it CIFAR-10?")
    return records
