"""Mutated model files and run folders: damaged as a disk does it, and sealed again as an enemy does it."""

# ruff: noqa: E501 - tables of hostile values stay tables

import json
import random
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from case import Case, run

from layerflow.runs.files import pack, unpack

Files = dict[str, bytes | None]
DAMAGED = frozenset({4})
OPEN: frozenset[int] = frozenset()
RUN = "runs/c/001/"
CONFIG = """\
data: {source: {type: CSV, path: d.csv, target: kind, categorical: [c], missing: mean}, test: 0.2, validation: 0.1, scale: Standard}
model: [{type: Linear, out_features: 4}, ReLU, Linear]
loss: SoftmaxCE
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 2, batch_size: 8}
"""
TABLE = "a,b,c,kind\n" + "".join(f"{i % 7},{i * i % 11},{'xyz'[i % 3]},{'yes' if i % 2 else 'no'}\n" for i in range(60))
VALUES = [None, True, 0, -1, 3, 10**9, 10**25, 1.5, float("nan"), float("inf"), "", "text", "float32", "object", "\x1b[31m", "x" * 5000, "../../etc/passwd", [], {}, [[]], [1, 2], ["a", "b"],
          [None] * 3, {"type": "ReLU"}, {"type": "Linear", "out_features": 10**12}, ["ReLU"], {"mean": 1.0}, {"counts": [-1, 5]}, {"counts": [10**12]}, "SquaredError"]  # fmt: skip


@cache
def _trained() -> Files:
    """Train once, and return everything that is in the folder then."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch) / "case"
        done = run(
            Case("", {"c.yaml": CONFIG.encode(), "d.csv": TABLE.encode()}, ["train", "-q", "c.yaml"]),
            folder,
        )
        assert not done.code, done.err
        kept = ("model.npz", "config.yaml", "run.json", "metrics.csv", "metrics.jsonl")
        files: Files = {RUN + name: (folder / RUN / name).read_bytes() for name in kept}
    return {"d.csv": TABLE.encode(), **files}


def model_case(seed: int) -> Case:
    """Return the case of a seed."""
    draw = random.Random(f"models {seed}")
    files = dict(_trained())
    what, refused = draw.choice(_MUTATIONS)(draw, files)
    words = draw.choice([
        ["eval", RUN], ["eval", RUN, "--part", "train", "--json"], ["eval", RUN + "model.npz", "--data", "d.csv"],
        ["predict", RUN, "d.csv"], ["predict", RUN + "model.npz", "d.csv", "--probabilities", "--format", "jsonl"], ["summary", RUN], ["compare", "runs"],
    ])  # fmt: skip
    if words[0] in ("summary", "compare"):
        refused = OPEN
    return Case(f"model: {what}", files, words, refused=refused)


# Damage ------------------------------------------------------------------------------------------------------------


def _bytes(draw: random.Random, files: Files) -> tuple[str, frozenset[int]]:
    content = _model(files)
    at = draw.randrange(len(content))
    kind, spoilt = draw.choice([
        ("cut", content[:at]), ("cut", content[:at]),
        ("a flipped bit", content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]),
        ("a flipped bit", content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]),
        ("noise", content[:at] + draw.randbytes(20) + content[at:]), ("more", content + draw.randbytes(draw.randint(1, 100))),
        ("empty", b""), ("text", b"hello"), ("a table", TABLE.encode()), ("zeros", bytes(len(content))), ("the zip alone", b"PK\5\6" + bytes(18)),
    ])  # fmt: skip
    files[RUN + "model.npz"] = spoilt
    return kind, DAMAGED


def _beside(draw: random.Random, files: Files) -> tuple[str, frozenset[int]]:
    name = draw.choice([name for name in files if not name.endswith("model.npz")])
    content = files[name] or b""
    at = draw.randrange(len(content))
    how, spoilt = draw.choice([
        ("cut", content[:at]), ("a folder", None), ("noise", content[:at] + draw.randbytes(30) + content[at + 5 :]), ("zeros", bytes(500)), ("empty", b""),
        ("brackets", b"[" * 100_000), ("null", b"null"), ("a list", b"[1]"), ("a text", b'"x"'), ("numbers", b'{"data": 3, "config": 4, "seed": [], "outcome": {}, "imports": 7, "versions": 1}'),
    ])  # fmt: skip
    files[name] = spoilt
    if draw.random() < 0.1:
        del files[name]
    return f"{Path(name).name}: {how}", OPEN


# Enmity ------------------------------------------------------------------------------------------------------------


def _model(files: Files) -> bytes:
    content = files[RUN + "model.npz"]
    assert content is not None
    return content


def _seal(files: Files, description: Any, arrays: dict[str, Any]) -> None:
    files[RUN + "model.npz"] = bytes(pack(description, arrays))


def _places(value: Any) -> list[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((value, key), *_places(item))]


def _description(draw: random.Random, files: Files) -> tuple[str, frozenset[int]]:
    description, arrays = unpack(_model(files), "model.npz")
    for _ in range(draw.choice([1, 1, 1, 2])):
        holder, key = draw.choice(_places(description))
        how = draw.choice(["value", "value", "value", "absent", "renamed", "doubled"])
        if how == "absent":
            del holder[key]
        elif how == "renamed" and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        elif how == "doubled" and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = json.loads(json.dumps(draw.choice(VALUES)))
    _seal(files, description, arrays)
    return f"description: {key!r} {how}", OPEN


def _arrays(draw: random.Random, files: Files) -> tuple[str, frozenset[int]]:
    description, arrays = unpack(_model(files), "model.npz")
    name = draw.choice(list(arrays))
    array = arrays[name]
    how, changed = draw.choice([
        ("NaN", array * np.nan), ("infinite", array + np.inf), ("huge", array + 1e30), ("float16", array.astype(np.float16)), ("text", array.astype("U10")),
        ("complex", array.astype(complex)), ("whole", array.astype(np.int64)), ("bool", array > 0), ("transposed", array.T), ("flat", array.reshape(-1)),
        ("empty", array[:0]), ("dates", np.zeros(array.shape, "M8[s]")), ("big-endian", array.astype(">f4")), ("longdouble", array.astype(np.longdouble)), ("absent", None),
    ])  # fmt: skip
    arrays[name] = changed
    if changed is None:
        del arrays[name]
    if draw.random() < 0.2:
        arrays[draw.choice(["parameter/more", "buffer/more", "parameter/", "../escape", "x"])] = array
    _seal(files, description, arrays)
    return f"array: {name!r} {how}", OPEN


def _members(draw: random.Random, files: Files) -> tuple[str, frozenset[int]]:
    """Any byte is another one, and the seal is right again."""
    import hashlib

    content = bytearray(_model(files)[:-64])
    for _ in range(draw.choice([1, 1, 2, 5])):
        content[draw.choice([draw.randrange(len(content)), draw.randrange(len(content)), -draw.randrange(1, 200)])] = (
            draw.randrange(256)
        )
    if draw.random() < 0.2:
        at = draw.randrange(len(content))
        content[at : at + draw.randrange(50)] = draw.randbytes(draw.randrange(50))
    files[RUN + "model.npz"] = bytes(content) + hashlib.sha256(content).hexdigest().encode()
    return "sealed damage", OPEN


_MUTATIONS: list[Callable[[random.Random, Files], tuple[str, frozenset[int]]]] = [
    _bytes,
    _bytes,
    _beside,
    _beside,
    _description,
    _description,
    _description,
    _arrays,
    _members,
    _members,
]
