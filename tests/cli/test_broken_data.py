"""Broken data of every kind: exit code 4 and one line that says where and what to do, from `train` and `check`."""

import gzip
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Command = Callable[..., Any]

HEADER = "a,b,y\n"
ROWS = "".join(f"{row},{row * row},{'no' if row % 2 else 'yes'}\n" for row in range(60))


def csv(text: str) -> Callable[[], str]:
    def write() -> str:
        Path("d.csv").write_text(text)
        return "{type: CSV, path: d.csv, target: y}"

    return write


def csv_gz(content: bytes) -> Callable[[], str]:
    def write() -> str:
        Path("d.csv.gz").write_bytes(content)
        return "{type: CSV, path: d.csv.gz, target: y}"

    return write


def npz(**arrays: Any) -> Callable[[], str]:
    def write() -> str:
        np.savez("d.npz", **arrays)
        return "{type: NPZ, path: d.npz}"

    return write


def truncated_npz() -> str:
    np.savez("d.npz", x=np.zeros((60, 3)), y=np.arange(60) % 2)
    Path("d.npz").write_bytes(Path("d.npz").read_bytes()[:-100])
    return "{type: NPZ, path: d.npz}"


def corrupt_npz() -> str:
    np.savez_compressed("d.npz", x=np.random.default_rng(0).normal(size=(60, 3)), y=np.arange(60) % 2)
    content = bytearray(Path("d.npz").read_bytes())
    content[200:220] = bytes(20)
    Path("d.npz").write_bytes(content)
    return "{type: NPZ, path: d.npz}"


def npz_of_pickles() -> str:
    np.savez("d.npz", x=np.array([[{}, {}]] * 60, dtype=object), y=np.arange(60) % 2)
    return "{type: NPZ, path: d.npz}"


def npz_that_is_none() -> str:
    with zipfile.ZipFile("d.npz", "w") as archive:
        archive.writestr("x.npy", b"hello")
        archive.writestr("y.npy", b"hello")
    return "{type: NPZ, path: d.npz}"


def idx(images: bytes, labels: bytes) -> Callable[[], str]:
    def write() -> str:
        Path("images").write_bytes(images)
        Path("labels").write_bytes(labels)
        return "{type: IDX, images: images, labels: labels}"

    return write


IMAGES = struct.pack(">4B3I", 0, 0, 8, 3, 60, 2, 2) + bytes(240)
LABELS = struct.pack(">4BI", 0, 0, 8, 1, 60) + bytes(row % 2 for row in range(60))

BROKEN: dict[str, tuple[Callable[[], str], str]] = {
    "missing file": (lambda: "{type: CSV, path: nowhere.csv, target: y}", "nowhere.csv: no such file"),
    "folder": (lambda: "{type: CSV, path: ., target: y}", "is a directory"),
    "empty file": (csv(""), "the file is empty"),
    "header alone": (csv(HEADER), "no rows below the header"),
    "missing column": (csv(HEADER.replace("y", "z") + ROWS), "no column 'y'"),
    "ragged row": (csv(HEADER + ROWS + "1,2\n"), "d.csv:62: 2 cells, but the header has 3 columns"),
    "text among numbers": (csv(HEADER + "1,one,yes\n" + ROWS), "d.csv:2: column 'b': 'one' is not a number"),
    "NaN": (csv(HEADER + "1,nan,yes\n" + ROWS), "1 missing or infinite value(s): line 2 column 'b'"),
    "infinity": (csv(HEADER + "1,inf,yes\n" + ROWS), "line 2 column 'b'"),
    "one class": (csv(HEADER + ROWS.replace("no", "yes")), "all 60 samples are of the one class 'yes'"),
    "too few rows": (csv(HEADER + "1,2,yes\n3,4,no\n"), "leaves a part empty"),
    "no UTF-8": (
        lambda: Path("d.csv").write_bytes(b"a,b,y\n1,2,\xff\n") and "{type: CSV, path: d.csv, target: y}",
        "d.csv:2: not UTF-8",
    ),
    "quotes that never end": (csv(HEADER + '1,2,"yes\n'), "d.csv:2: not valid CSV"),
    "gzip cut short": (csv_gz(gzip.compress((HEADER + ROWS).encode())[:-20]), "truncated or corrupt gzip file"),
    "no gzip": (csv_gz((HEADER + ROWS).encode()), "is named .gz but is no gzip file"),
    "NPZ cut short": (truncated_npz, "truncated or corrupt NPZ file"),
    "corrupt NPZ": (corrupt_npz, "truncated or corrupt NPZ file"),
    "NPZ of pickles": (npz_of_pickles, "pickled Python objects, which are never loaded"),
    "NPZ of nonsense": (npz_that_is_none, "not a valid NPY array"),
    "NPZ without y": (npz(x=np.zeros((60, 3))), "no array 'y'"),
    "NPZ of unequal lengths": (npz(x=np.zeros((60, 3)), y=np.arange(59) % 2), "59 targets for the 60 samples"),
    "NPZ with NaN": (
        npz(x=np.full((60, 3), np.nan), y=np.arange(60) % 2),
        "180 NaN or infinite value(s), the first at [0, 0]",
    ),
    "empty NPZ": (npz(x=np.zeros((0, 3)), y=np.zeros(0, int)), "the array is empty, shape (0, 3)"),
    "IDX cut short": (idx(IMAGES[:-1], LABELS), "declares shape (60, 2, 2)"),
    "IDX that lies": (
        idx(struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**20, 2**20) + bytes(9), LABELS),
        "download it again",
    ),
    "no IDX": (idx(b"hello world", LABELS), "not an IDX file"),
    "too few labels": (
        idx(IMAGES, struct.pack(">4BI", 0, 0, 8, 1, 4) + bytes([0, 1, 0, 1])),
        "4 targets for the 60 samples",
    ),
}


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_data_are_one_message_with_exit_code_4(
    case: str, command: str, folder: Path, layerflow_command: Command
) -> None:
    write, message = BROKEN[case]
    source = write()
    more = ["--quiet"] if command == "train" else ["--quick"]
    flatten = ["model=[Flatten, Linear]"] if "IDX" in source else []
    done = layerflow_command(command, "iris.yaml", *more, f"data.source={source}", *flatten)
    assert done.code == 4
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not Path("runs").exists()


def test_labels_of_a_test_file_must_be_known(folder: Path, layerflow_command: Command) -> None:
    Path("d.csv").write_text(HEADER + ROWS)
    Path("t.csv").write_text(HEADER + "1,2,maybe\n")
    done = layerflow_command(
        "train",
        "iris.yaml",
        "-q",
        "data.source={type: CSV, path: d.csv, target: y}",
        "data.test={type: CSV, path: t.csv, target: y}",
    )
    assert done.code == 4
    assert "t.csv:2: column 'y': class 'maybe' is not one of 'no', 'yes'" in done.err
