"""Mutated data files of every kind that a reader reads, and the configurations that name them."""

# ruff: noqa: E501 - tables of hostile values stay tables

import gzip
import io
import random
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from case import Case

Files = dict[str, bytes | None]
DAMAGED = frozenset({4})
SAMPLES = 40
OTHERS = [
    b"",
    b"\0",
    b"\x1f\x8b",
    b"PK\3\4",
    b"\x93NUMPY\1\0",
    b"<html><body>404</body></html>",
    b"\xff\xfe" + "a,b,c,kind\n".encode("utf-16-le"),
    bytes(5000),
]
CELLS = ["", " ", "nan", "inf", "-inf", "1e999", "1_000", "one", "0x10", "1,5", "1;5", "'1'", "\x1b[31m", "\u0661", "9" * 400, "x" * 200_000, "é", "\x00", "-", "=1+1", "1e-400", "True", "１"]  # fmt: skip


def _csv(i: int) -> str:
    return f"{i % 7},{i * i % 11},{i % 3 + 0.5},{'yes' if i % 2 else 'no'}"


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz(save: Callable[..., None], **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


@cache
def _kinds() -> dict[str, tuple[str, dict[str, bytes]]]:
    """Return for every kind of reader its source and its files, the one to spoil first."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(SAMPLES, 3)), np.arange(SAMPLES) % 2
    table = "\n".join(["a,b,c,kind", *map(_csv, range(SAMPLES)), ""]).encode()
    mixed = "\n".join(
        [
            '"a; text";b;kind',
            *(f'"{"é;" if i % 3 else "a q"}";{i % 5};{"yes" if i % 2 else "no"}' for i in range(SAMPLES)),
            "",
        ]
    ).encode()
    images = struct.pack(">4B3I", 0, 0, 8, 3, SAMPLES, 2, 2) + rng.bytes(4 * SAMPLES)
    labels = struct.pack(">4BI", 0, 0, 8, 1, SAMPLES) + bytes(y.tolist())
    cifar = b"".join(bytes([i % 10]) + rng.bytes(3072) for i in range(SAMPLES))
    return {
        "CSV": ("{type: CSV, path: d.csv, target: kind}", {"d.csv": table}),
        "CSV mean": ("{type: CSV, path: d.csv, target: kind, missing: mean}", {"d.csv": table}),
        "CSV drop": ("{type: CSV, path: d.csv, target: kind, missing: drop, categorical: [b]}", {"d.csv": table}),
        "CSV quoted": ("{type: CSV, path: d.csv, target: kind, categorical: ['a; text'], delimiter: ;}", {"d.csv": mixed}),
        "CSV regression": ("{type: CSV, path: d.csv, target: a, features: [b, c], task: regression}", {"d.csv": table}),
        "CSV.gz": ("{type: CSV, path: d.csv.gz, target: kind}", {"d.csv.gz": gzip.compress(table, mtime=0)}),
        "NPY": ("{type: NPY, x: x.npy, y: y.npy}", {"x.npy": _npy(x), "y.npy": _npy(y)}),
        "NPY targets": ("{type: NPY, x: x.npy, y: y.npy}", {"y.npy": _npy(y), "x.npy": _npy(x)}),
        "NPZ": ("{type: NPZ, path: d.npz}", {"d.npz": _npz(np.savez, x=x, y=y)}),
        "NPZ compressed": ("{type: NPZ, path: d.npz}", {"d.npz": _npz(np.savez_compressed, x=x, y=y)}),
        "IDX": ("{type: IDX, images: i.idx, labels: l.idx}", {"i.idx": images, "l.idx": labels}),
        "IDX labels": ("{type: IDX, images: i.idx, labels: l.idx}", {"l.idx": labels, "i.idx": images}),
        "IDX.gz": ("{type: IDX, images: i.gz, labels: l.idx}", {"i.gz": gzip.compress(images, mtime=0), "l.idx": labels}),
        "CIFAR10": ("{type: CIFAR10, paths: [c.bin]}", {"c.bin": cifar}),
    }  # fmt: skip


CONFIG = """\
data: {{source: {source}, test: 0.2, validation: null}}
model: [{flatten}Linear]
loss: {loss}
optimizer: {{type: SGD, lr: 0.1}}
train: {{batch_size: 8}}
"""


def _config(kind: str, source: str) -> bytes:
    flatten = "Flatten, " if kind.startswith(("IDX", "CIFAR")) else ""
    return CONFIG.format(
        source=source, flatten=flatten, loss="SquaredError" if "regression" in kind else "SoftmaxCE"
    ).encode()


def data_case(seed: int) -> Case:
    """Return the case of a seed."""
    draw = random.Random(f"data {seed}")
    kind = draw.choice(list(_kinds()))
    source, files = _kinds()[kind]
    name, content = next(iter(files.items()))
    special = next((found for start, found in _SPECIAL.items() if kind.startswith(start)), [])
    mutate = draw.choice([*_ANY, *special, *special])
    what, spoilt, refused = mutate(draw, content)
    config = _config(kind, source)
    sealed = kind.endswith((".gz", "compressed")) or kind == "NPZ"
    laid: Files = {"c.yaml": config, **files, name: spoilt}
    if spoilt == b"missing":
        del laid[name]
    words = draw.choice(
        [
            ["check", "--quick", "c.yaml"],
            ["check", "--quick", "--json", "c.yaml"],
            ["check", "c.yaml"],
            ["train", "--dry-run", "c.yaml"],
        ]
    )
    if draw.random() < 0.15 and not kind.endswith(("targets", "labels")):
        words, refused = ["init", *files][:2] + (["--target", list(files)[1]] if len(files) > 1 else []), frozenset()
    if kind == "CSV regression" and what in ("header", "one class"):
        refused = frozenset()  # the column `kind` is none that it reads
    case = Case(f"{kind}: {what}", laid, words, refused=refused)
    if sealed and words[-2:-1] == ["--json"] and what in ("flipped bits", "cut"):
        case.accepted_as = _right(kind)
    return case


@cache
def _right(kind: str) -> str:
    """Return what is said of the unspoilt file."""
    import tempfile
    from pathlib import Path

    from case import run

    source, files = _kinds()[kind]
    config = _config(kind, source)
    with tempfile.TemporaryDirectory() as folder:
        done = run(
            Case("", {"c.yaml": config, **files}, ["check", "--quick", "--json", "c.yaml"]), Path(folder) / "right"
        )
    assert not done.code, done.err
    return done.out


Spoilt = tuple[str, bytes | None, frozenset[int]]
OPEN: frozenset[int] = frozenset()


# Any kind ----------------------------------------------------------------------------------------------------------


def _cut(draw: random.Random, content: bytes) -> Spoilt:
    return "cut", content[: draw.randrange(len(content))], OPEN


def _flip(draw: random.Random, content: bytes) -> Spoilt:
    spoilt = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8])):
        spoilt[draw.choice([draw.randrange(len(content)), draw.randrange(min(len(content), 130))])] ^= (
            1 << draw.randrange(8)
        )
    return "flipped bits", bytes(spoilt), OPEN


def _splice(draw: random.Random, content: bytes) -> Spoilt:
    at, end = draw.randrange(len(content)), draw.randrange(len(content))
    noise = draw.choice(
        [
            draw.randbytes(draw.randint(0, 50)),
            content[min(at, end) : max(at, end)],
            bytes(draw.randint(1, 100)),
            b"\xff" * 20,
        ]
    )
    return "spliced", content[:at] + noise + content[at + draw.choice([0, 1, len(noise)]) :], OPEN


def _other(draw: random.Random, content: bytes) -> Spoilt:
    other = draw.choice(
        [
            *OTHERS,
            *(next(iter(files.values())) for _, files in _kinds().values()),
            draw.randbytes(draw.randint(1, 3000)),
        ]
    )
    return "another file's content", other, OPEN


def _folder(draw: random.Random, content: bytes) -> Spoilt:
    return draw.choice([("a folder", None, DAMAGED), ("missing", b"missing", DAMAGED), ("empty", b"", DAMAGED)])


def _gzipped(draw: random.Random, content: bytes) -> Spoilt:
    return "gzipped once more", gzip.compress(content), OPEN


_ANY = [_cut, _cut, _flip, _flip, _splice, _splice, _other, _folder, _gzipped]


# Tables ------------------------------------------------------------------------------------------------------------


def _rows(content: bytes) -> list[str]:
    return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode().splitlines()


def _table(rows: list[str], like: bytes, end: str = "\n") -> bytes:
    text = end.join([*rows, ""]).encode("utf-8", "surrogatepass")
    return gzip.compress(text, mtime=0) if like[:2] == b"\x1f\x8b" else text


def _cell(draw: random.Random, content: bytes) -> Spoilt:
    rows = _rows(content)
    for _ in range(draw.choice([1, 1, 3])):
        at = draw.randrange(len(rows))
        mark = ";" if ";" in rows[0] else ","
        cells = rows[at].split(mark)
        cells[draw.randrange(len(cells))] = draw.choice(CELLS)
        rows[at] = mark.join(cells)
    return "cells", _table(rows, content), OPEN


def _ragged(draw: random.Random, content: bytes) -> Spoilt:
    rows = _rows(content)
    at = draw.randrange(1, len(rows))
    rows[at] = draw.choice([rows[at] + (",1" if "," in rows[at] else ";1"), "1", rows[at] + rows[at]])
    return "ragged", _table(rows, content), DAMAGED


def _header(draw: random.Random, content: bytes) -> Spoilt:
    rows = _rows(content)
    mark = ";" if ";" in rows[0] and "," not in rows[0] else ","
    names = rows[0].split(mark)
    ways = [
        [*names[:-1], "knd"],
        [names[0], *names[:-2], names[0]],
        ["", *names[1:]],
        names[1:],
        [*names, "more"],
        [name.upper() for name in names],
    ]
    rows[0] = mark.join(draw.choice(ways))
    return "header", _table(rows if draw.random() < 0.9 else rows[1:], content), DAMAGED


def _text(draw: random.Random, content: bytes) -> Spoilt:
    rows = _rows(content)
    what, spoilt, refused = draw.choice([
        ("CR", _table(rows, content, "\r"), OPEN),
        ("CRLF", _table(rows, content, "\r\n"), OPEN),
        ("header alone", _table(rows[:1], content), DAMAGED),
        ("one row", _table(rows[:2], content), DAMAGED),
        ("one class", _table([rows[0], *rows[1::2]], content), DAMAGED),
        ("blank lines", _table([part for row in rows for part in (row, "", "  ")], content), OPEN),
        ("an open quote", _table([*rows[:5], '"' + rows[5], *rows[6:]], content), DAMAGED),
        ("an endless line", _table([*rows, "1" * 3_000_000], content), DAMAGED),
        ("thousands of columns", _table([",".join(map(str, range(5000)))] * 3, content), DAMAGED),
        ("BOM", b"\xef\xbb\xbf" + "\n".join(rows).encode(), OPEN),
        ("UTF-16", "\n".join(rows).encode("utf-16"), DAMAGED),
        ("another delimiter", _table([row.replace(",", "\t").replace(";", "|") for row in rows], content), DAMAGED),
        ("many classes", _table([rows[0], *(f"{row.rpartition(',')[0]},c{i}" if "," in row else row for i, row in enumerate(rows[1:]))], content), OPEN),
        ("constant", _table([rows[0], *(f"1,1,1,{'yes' if i % 2 else 'no'}" for i in range(40))], content), OPEN),
        ("huge numbers", _table([rows[0], *(f"{'-' if i % 3 else ''}1e308,1e-308,{i}e300,{'yes' if i % 2 else 'no'}" for i in range(40))], content), OPEN),
    ])  # fmt: skip
    return what, spoilt, refused


# Arrays ------------------------------------------------------------------------------------------------------------

_HEADERS = [
    "{'descr': '|O', 'fortran_order': False, 'shape': (40, 3), }", "{'descr': '<f8', 'fortran_order': True, 'shape': (40, 3), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-40, 3), }", "{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 4000000000), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (40, 4), }", "{'descr': '<f8', 'fortran_order': False, 'shape': (), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 3), }", "{'descr': '<U2', 'fortran_order': False, 'shape': (40, 3), }",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (60,), }", "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (40, 3), }",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (40, 3), }", "{'descr': '>f8', 'fortran_order': False, 'shape': (40, 3), }",
    "{'descr': '<f8', 'shape': (40, 3)}", "[" * 200, "{" * 90, "1+1", "__import__('os').system('true')", "{'descr': 'nonsense', 'fortran_order': False, 'shape': (40, 3), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)*9, }", "{'descr': '<f8', 'fortran_order': 3, 'shape': [40, 3], }", "{'descr': '<V8', 'fortran_order': False, 'shape': (40, 3), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1, " * 70 + "), }", "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 120), }",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (480, 1), }", "{'descr': '<g', 'fortran_order': False, 'shape': (20, 3), }", "{'descr': '<f8', 'fortran_order': False, 'shape': (18446744073709551616, 0), }",
]  # fmt: skip


def _npy_header(draw: random.Random, content: bytes) -> Spoilt:
    text = draw.choice(_HEADERS).encode() + b"\n"
    body = content[128:]
    version = draw.choice([b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\x09\0"])
    length = struct.pack("<H" if version == b"\1\0" else "<I", draw.choice([len(text), len(text), len(text), 65535, 0]))
    return "an NPY header", b"\x93NUMPY" + version + length + text + body, OPEN


_ARRAYS: list[Any] = [
    np.full((SAMPLES, 3), np.nan), np.full(SAMPLES, np.inf), np.zeros((SAMPLES, 0)), np.zeros((0, 3)), np.array(3.0), np.zeros(SAMPLES, int), np.zeros((SAMPLES, 3), "S5"),
    np.arange(SAMPLES) + 10**17, -np.arange(SAMPLES), np.arange(SAMPLES) % 2 == 0, np.array(["yes", "no"] * 20), np.full((SAMPLES, 3), 1e308), np.full((SAMPLES, 3), np.iinfo(np.int64).max),
    np.zeros((SAMPLES, 3), complex), np.zeros((SAMPLES, 1, 1, 1, 3)), np.zeros((SAMPLES, 3), "M8[s]"), np.arange(SAMPLES)[:, None] % 2, np.array([b"\xff", b"a"] * 20), np.arange(SAMPLES) * 1.0,
    np.array(["\x1b[31m", "\n"] * 20), np.zeros((SAMPLES, 3), np.float16), np.ones((SAMPLES, 3), np.longdouble), np.full(SAMPLES, 2**64 - 1, np.uint64), np.zeros((3, SAMPLES), order="F"),
]  # fmt: skip


def _npy_array(draw: random.Random, content: bytes) -> Spoilt:
    array = draw.choice(_ARRAYS)
    return f"an array of {array.dtype}, {array.shape}", _npy(array), OPEN


def _npz_arrays(draw: random.Random, content: bytes) -> Spoilt:
    x, y = draw.choice([*_ARRAYS, np.ones((SAMPLES, 3))]), draw.choice([*_ARRAYS, np.arange(SAMPLES) % 2])
    arrays = draw.choice([{"x": x, "y": y}, {"x": x, "y": y}, {"x": x}, {"X": x, "Y": y}, {}, {"x/../y": x, "y": y}])
    return (
        f"arrays of {x.dtype}, {x.shape} and {y.dtype}, {y.shape}",
        _npz(draw.choice([np.savez, np.savez_compressed]), **arrays),
        OPEN,
    )


def _zip(draw: random.Random, content: bytes) -> Spoilt:
    file = io.BytesIO()
    how = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    header = draw.choice(_HEADERS).encode() + b"\n"
    with zipfile.ZipFile(file, "w", how) as archive:
        for name in draw.sample(["x.npy", "y.npy", "x", "../x.npy", "x.npy/", "/etc/x.npy", "é.npy"], 3):
            body = draw.choice(
                [
                    _npy(np.ones((SAMPLES, 3))),
                    _npy(np.arange(SAMPLES) % 2),
                    b"",
                    bytes(8_000_000),
                    b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(960),
                ]
            )
            archive.writestr(name, body)
    spoilt = bytearray(file.getvalue())
    if draw.random() < 0.4:  # a size, a method or a flag of some member is a lie
        start = draw.choice(
            [at for at in range(len(spoilt) - 4) if spoilt[at : at + 4] in (b"PK\1\2", b"PK\3\4", b"PK\5\6")]
        )
        spoilt[start + draw.randrange(4, 30)] = draw.randrange(256)
    return "an archive", bytes(spoilt), OPEN


# Images ------------------------------------------------------------------------------------------------------------


def _idx_header(draw: random.Random, content: bytes) -> Spoilt:
    plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    dimensions = draw.choice([0, 1, 2, 3, 3, 4, 33, 255])
    lengths = [draw.choice([0, 1, 2, 40, 40, 41, 2**16, 2**31, 2**32 - 1]) for _ in range(dimensions)]
    header = bytes(
        [0, draw.choice([0, 0, 1]), draw.choice([8, 8, 9, 11, 12, 13, 14, 10, 255]), dimensions]
    ) + struct.pack(f">{dimensions}I", *lengths)
    spoilt = header + plain[draw.choice([8, 16]) :]
    return f"an IDX header {lengths[:5]}", gzip.compress(spoilt) if plain is not content else spoilt, OPEN


def _bomb(draw: random.Random, content: bytes) -> Spoilt:
    return (
        "a gzip bomb",
        gzip.compress(draw.choice([content[:16], b""]) + bytes(draw.choice([10**5, 10**7, 10**8])), 1),
        OPEN,
    )


def _records(draw: random.Random, content: bytes) -> Spoilt:
    count = draw.choice([1, 2, 5, 39])
    spoilt = bytearray(content)
    spoilt[3073 * draw.randrange(SAMPLES)] = draw.randrange(10, 256)
    return draw.choice(
        [
            ("fewer records", content[: 3073 * count], OPEN),
            ("a label out of range", bytes(spoilt), DAMAGED),
            ("one class", content[:3073] * 20, OPEN),
        ]
    )


_SPECIAL: dict[str, list[Callable[[random.Random, bytes], Spoilt]]] = {
    "CSV": [_cell, _cell, _ragged, _header, _text, _text],
    "NPY": [_npy_header, _npy_header, _npy_array, _npy_array],
    "NPZ": [_npz_arrays, _npz_arrays, _zip, _zip],
    "IDX": [_idx_header, _idx_header, _bomb],
    "CIFAR": [_records, _bomb],
}
