"""The base class of readers, and opening, decompressing and hashing the files they read; every error is one line."""

import gzip
import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset, Task, check_finite, encode_target
from layerflow.data.preprocessing import Preprocessing
from layerflow.errors import DataError, did_you_mean

DataPath = Annotated[str, "path"]
"""The annotation of a reader's argument that is a file: relative paths in a configuration start at its folder."""

GZIP_LARGEST_RATIO = 1032
"""No deflate stream grows by more than this factor when it is decompressed (RFC 1951; zlib's technical details)."""

CHUNK = 1 << 20

ENDINGS = {".csv": "CSV", ".tsv": "CSV", ".npz": "NPZ", ".npy": "NPY", "ubyte": "IDX", ".idx": "IDX", ".bin": "CIFAR10"}
"""The name of the reader for each ending of a file name, without .gz."""

SUPPORTED = f"supported: {', '.join(ENDINGS)}, each also with .gz"


class Reader(ABC):
    """A source of data; subclass it to write your own.

    The constructor's arguments are its keys in a configuration; its docstring explains them. Arguments that are files
    are annotated `DataPath` (or `list[DataPath]`, or `DataPath | None`), so that paths are relative to the folder of
    the configuration. The first argument is the file (or files) with the features.
    """

    @abstractmethod
    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Return the samples.

        Args:
            need_target: False reads for prediction: targets are ignored, and y of the result is None.
            like: The preprocessing fitted to the training data: the result has the same columns, categories and
                classes, or DataError is raised. None finds them in this data.

        Raises:
            DataError: The data is missing, damaged, or does not fit.
        """


def from_arrays(
    arrays: list[NDArray[Any]], where: list[str], files: list[str], task: Task | None, like: Preprocessing | None
) -> Dataset:
    """Return the data set of an array of features and, if it is there, one of targets; messages call them `where`."""
    x, *targets = arrays
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where[0]}: expected real numbers as features, got dtype {x.dtype}")
    if x.ndim < 2:
        raise DataError(f"{where[0]}: expected features of shape (samples, features), got shape {x.shape}")
    check_finite(x, where[0])
    y, classes = None, like.classes if like else None
    if targets:
        target = np.array(targets[0])
        if target.ndim and len(target) != len(x):
            raise DataError(f"{where[1]}: {len(target)} targets for the {len(x)} samples of {where[0]}; give one each")
        y, classes = encode_target(target, where[1], like.task if like else task, classes)
    return Dataset(x, y, None, classes, set_name(files[0]), checksum(*files))


def kind_by_name(file: str) -> str | None:
    """Return the name of the reader for a file, by the ending of its name; None if it is not known."""
    name = file.lower().removesuffix(".gz")
    return next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), None)


def set_name(path: str) -> str:
    """Return the name of a data set: that of its file, without .gz and the extension."""
    return Path(path.removesuffix(".gz")).stem


def near_name(path: Path) -> str:
    """Return `", did you mean 'moons.yaml'?"` for a file beside a missing one, if one has a name like it."""
    try:
        return did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""


def check_file(path: str) -> Path:
    """Return `path` as a Path to a regular file that is not empty.

    Raises DataError if it is missing (with the closest name), a directory, a device, or empty.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise DataError(f"{path}: is a directory, not a file; give the path of a file in it")
        if not file.exists():
            raise DataError(f"{path}: no such file{near_name(file)}")
        if not file.is_file():
            raise DataError(f"{path}: not a regular file; save the data to a file first")
        if file.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return file


def is_gzip(path: str) -> bool:
    """Return whether the file starts like gzip; raises DataError if its name ends in .gz and it does not."""
    with check_file(path).open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if path.endswith(".gz") and not compressed:
        raise DataError(f"{path}: is named .gz but is no gzip file; download it again, or drop .gz from its name")
    return compressed


@contextmanager
def open_data(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading, through gzip if it is compressed; errors while reading are DataErrors."""
    try:
        with gzip.open(path, "rb") if is_gzip(path) else check_file(path).open("rb") as file:
            yield cast(BinaryIO, file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated or corrupt gzip file ({error}); download it again") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def read_exactly(file: IO[bytes], size: int, path: str) -> bytearray:
    """Read exactly `size` bytes, a chunk at a time, so that a header with a wrong size costs no memory."""
    content = bytearray()
    while len(content) < size:
        chunk = file.read(min(CHUNK, size - len(content)))
        if not chunk:
            raise DataError(f"{path}: truncated: {size} bytes declared, {len(content)} found; download it again")
        content += chunk
    return content


def checksum(*paths: str) -> str:
    """Return 'sha256:...' over the bytes of the files, one after the other, without loading them."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with check_file(path).open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as error:
            raise _unreadable(path, error) from error
    return f"sha256:{digest.hexdigest()}"


def _unreadable(path: str, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
