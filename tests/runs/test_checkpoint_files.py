"""Checkpoint files: whole, or refused; never believed, and never harmful."""

import hashlib
import io
import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import DataError, LayerflowError
from layerflow.runs.checkpoint import Checkpointer, find_checkpoint, load_checkpoint, pack_checkpoint
from layerflow.runs.files import DamagedFile, pack, read_archive, unpack, write_archive
from layerflow.runs.model import pack_model, read_model_file
from layerflow.training.callbacks import parse_interval
from layerflow.training.state import Snapshot
from layerflow.training.trainer import Trainer

ARRAYS = {
    "float32": np.arange(12, dtype=np.float32).reshape(3, 4),
    "float64": np.array([np.nan, -0.0, np.inf, 5e-324]),
    "int64": np.array(7),
    "text": np.array("SGD"),
    "empty": np.zeros((0, 3)),
    "strided": np.arange(12.0).reshape(3, 4)[:, ::2],
    "in/a/folder": np.array([True, False]),
}


def sealed(description: Any, arrays: dict[str, np.ndarray]) -> bytes:
    return bytes(pack(description, arrays))


def resealed(content: bytes) -> bytes:
    """Give content of an enemy's making the right checksum."""
    return content + hashlib.sha256(content).hexdigest().encode()


@pytest.fixture(scope="module")
def trained() -> Trainer:
    rng = np.random.default_rng(0)
    trainer = Trainer(lf.Sequential(lf.Linear(2)), lf.SoftmaxCE(), lf.SGD(lr=0.1, momentum=0.9), epochs=2, batch_size=4)
    trainer.fit(rng.normal(size=(12, 2)), rng.integers(0, 2, 12))
    return trainer


def test_what_was_written_is_read_to_the_bit(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.npz", {"words": ["a", 1, None]}, ARRAYS)
    description, arrays = read_archive(tmp_path / "a.npz")
    assert description == {"words": ["a", 1, None]}
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape, arrays[name].tobytes()) == (
            array.dtype,
            array.shape,
            array.tobytes(),
        )


def test_numpy_and_unzip_read_it_too(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.npz", {}, ARRAYS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(archive[name], array)
    assert zipfile.ZipFile(tmp_path / "a.npz").testzip() is None


def test_equal_contents_are_equal_files() -> None:
    assert sealed({"a": 1}, ARRAYS) == sealed({"a": 1}, ARRAYS)


# Damage --------------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_detected() -> None:
    content = bytearray(sealed({"a": 1}, {"x": np.arange(4.0)}))
    for position in range(len(content)):
        for bit in range(8):
            content[position] ^= 1 << bit
            with pytest.raises(DamagedFile):
                unpack(bytes(content), "file")
            content[position] ^= 1 << bit
    unpack(bytes(content), "file")


def test_every_truncation_is_detected() -> None:
    content = sealed({"a": 1}, {"x": np.arange(4.0)})
    for length in range(len(content)):
        with pytest.raises(DataError):
            unpack(content[:length], "file")


def test_two_thousand_damages_of_a_real_checkpoint_are_all_detected(trained: Trainer, tmp_path: Path) -> None:
    path = tmp_path / "last.npz"
    path.write_bytes(pack_checkpoint({}, trained.state.capture(), [json.dumps(r) for r in trained.history.records]))
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for number in range(2000):
        damaged, place = bytearray(content), int(rng.integers(len(content)))
        if number % 2:
            damaged[place] ^= 1 << int(rng.integers(8))
        else:
            del damaged[place:]
        with pytest.raises(DamagedFile):
            unpack(bytes(damaged), "last.npz")
    assert load_checkpoint(path).snapshot.position == (2, 0)


# Hostile files -------------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("an object was unpickled",))


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def npy_of(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }"
DESCRIPTION = npy_of(np.frombuffer(b"{}", np.uint8))
MEMBERS: dict[str, list[tuple[str, bytes, int]]] = {
    "a pickled object": [
        ("x.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle.dumps(Bomb())), 0)
    ],
    "a huge shape": [("x.npy", npy(HUGE % 10**12), 0)],
    "a shape beyond all numbers": [("x.npy", npy(HUGE % 2**70), 0)],
    "a negative shape": [("x.npy", npy(HUGE % -8), 0)],
    "no elements, but many": [
        ("x.npy", npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4611686018427387904, 8), }"), 0)
    ],
    "records": [("x.npy", npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }", b"8bytes!!"), 0)],
    "code for a header": [("x.npy", npy("__import__('os').abort()"), 0)],
    "a compressed bomb": [("x.npy", npy(HUGE % 10**7, bytes(8 * 10**7)), zipfile.ZIP_DEFLATED)],
    "no array": [("x.npy", b"hello", 0)],
    "an empty member": [("x.npy", b"", 0)],
    "a description that is no JSON": [("description.npy", npy_of(np.frombuffer(b"{", np.uint8)), 0)],
    "a description without end": [("description.npy", npy_of(np.frombuffer(b"[" * 100_000, np.uint8)), 0)],
    "a description that is a list": [("description.npy", npy_of(np.frombuffer(b"[]", np.uint8)), 0)],
}


def hostile(members: list[tuple[str, bytes, int]]) -> bytes:
    """An archive with the right checksum, whose members are anything."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        if "description.npy" not in [name for name, _, _ in members]:
            archive.writestr("description.npy", DESCRIPTION)
        for name, content, compression in members:
            archive.writestr(name, content, compression)
        archive.comment = b"0" * 64
    return resealed(file.getvalue()[:-64])


@pytest.mark.parametrize("members", MEMBERS.values(), ids=MEMBERS)
def test_a_hostile_file_is_refused_and_costs_no_memory(members: list[tuple[str, bytes, int]], tmp_path: Path) -> None:
    content = hostile(members)
    (tmp_path / "a.npz").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            load_checkpoint(tmp_path / "a.npz")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(content) + 1_000_000


def test_members_that_share_their_bytes_do_not_multiply(tmp_path: Path) -> None:
    """A thousand entries of the directory point to the same array of a megabyte."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("description.npy", DESCRIPTION)
        archive.writestr("x.npy", npy_of(np.zeros(1 << 17)))
        info = archive.infolist()[-1]
        archive.filelist += [info] * 1000
        archive.comment = b"0" * 64
    content = resealed(file.getvalue()[:-64])
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more data than"):
            unpack(content, "file")
        assert tracemalloc.get_traced_memory()[1] < 5 * len(content)
    finally:
        tracemalloc.stop()


def test_names_lead_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_archive(folder / "a.npz", {}, {"../outside": np.zeros(1), "/etc/outside": np.zeros(1)})
    read_archive(folder / "a.npz")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.npz", "run"]


@pytest.mark.parametrize(
    "facts", [{}, {"epoch": 0}, {"epoch": -1, "step": 0}, {"epoch": 3, "step": 0}, {"epoch": 1.5, "step": 0}]
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, facts: dict[str, Any]) -> None:
    (tmp_path / "a.npz").write_bytes(pack_checkpoint({}, Snapshot(facts, {}), []))
    with pytest.raises(DataError, match=r"a\.npz"):
        load_checkpoint(tmp_path / "a.npz")


@pytest.mark.parametrize("damage", ["flip", "cut", "hostile"])
def test_a_damaged_model_file_is_refused(trained: Trainer, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(pack_model(trained.model, {"name": "x"}))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    changed = {"flip": bytes(content), "cut": path.read_bytes()[:-1], "hostile": hostile(MEMBERS["a compressed bomb"])}
    path.write_bytes(changed[damage])
    with pytest.raises(DataError, match=r"model\.npz"):
        read_model_file(path)


# Which one is used ---------------------------------------------------------------------------------------------------


def write(folder: Path, name: str, epoch: int, step: int = 0) -> Path:
    records = ["{}"] * epoch
    path = folder / "checkpoints" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pack_checkpoint({}, Snapshot({"epoch": epoch, "step": step}, {}), records))
    return path


def test_the_newest_intact_checkpoint_is_found(tmp_path: Path) -> None:
    write(tmp_path, "best.npz", 2)
    write(tmp_path, "epoch-00003-step-000000.npz", 3)
    write(tmp_path, "epoch-00003-step-000004.npz", 3, 4)
    last = write(tmp_path, "last.npz", 4)
    assert find_checkpoint(tmp_path).newest.path == last  # type: ignore[union-attr]
    last.write_bytes(last.read_bytes()[:-7])
    found = find_checkpoint(tmp_path)
    assert found.newest is not None
    assert found.newest.snapshot.position == (3, 4)
    assert ["last.npz" in problem for problem in found.damaged] == [True]


def test_no_checkpoint_and_none_intact_are_told_apart(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "absent").damaged == find_checkpoint(tmp_path).damaged == []
    write(tmp_path, "last.npz", 1).write_bytes(b"")
    assert len(find_checkpoint(tmp_path).damaged) == 1


# When they are written -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "keep", "expected"),
    [
        (1, 1, {"last.npz": (4, 0), "epoch-00003-step-000000.npz": (3, 0)}),
        ("3 epochs", 5, {"last.npz": (4, 0), "epoch-00003-step-000000.npz": (3, 0)}),
        (
            "5 steps",
            2,
            {"last.npz": (4, 0), "epoch-00003-step-000001.npz": (3, 1), "epoch-00001-step-000002.npz": (1, 2)},
        ),
        ("1 step", 0, {"last.npz": (4, 0)}),
        ("10 seconds", 1, {"last.npz": (4, 0)}),
    ],
)
def test_the_interval_and_the_number_kept_are_obeyed(
    tmp_path: Path, every: str | int, keep: int, expected: dict[str, tuple[int, int]]
) -> None:
    rng = np.random.default_rng(0)
    trainer = Trainer(
        lf.Sequential(lf.Linear(2)), lf.SoftmaxCE(), lf.SGD(lr=0.1), epochs=4, batch_size=4,
        callbacks=[Checkpointer(tmp_path, {}, every, keep)],
    )  # fmt: skip
    trainer.fit(rng.normal(size=(12, 2)), rng.integers(0, 2, 12))
    found = {path.name: load_checkpoint(path).snapshot.position for path in (tmp_path / "checkpoints").iterdir()}
    assert found == expected


def test_the_best_epoch_has_its_own_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2)), rng.integers(0, 2, 12)
    trainer = Trainer(
        lf.Sequential(lf.Linear(2)), lf.SoftmaxCE(), lf.SGD(lr=0.0), epochs=3, batch_size=4,
        callbacks=[Checkpointer(tmp_path, {}, 1)],
    )  # fmt: skip
    trainer.fit(x, y, validation=(x, y))
    assert load_checkpoint(tmp_path / "checkpoints" / "best.npz").snapshot.position == (1, 0)


@pytest.mark.parametrize(
    "text", ["", "5", "0 epochs", "-1 steps", "1 fortnight", "1.5 epochs", "steps", "99999999999 steps", 0, -3]
)
def test_an_interval_that_is_none_is_refused(text: str | int) -> None:
    with pytest.raises(LayerflowError, match="is not an interval"):
        parse_interval(text)
