import io
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from layerflow.data import NPY, NPZ, Batches, Preprocessing, Rows, Standard, split
from layerflow.errors import ConfigError, DataError

X = np.arange(24.0).reshape(8, 3)
Y = np.array([0, 1, 0, 1, 0, 1, 0, 1])


@pytest.fixture
def npz(tmp_path):
    def write(save=np.savez, **arrays):
        path = str(tmp_path / "data.npz")
        save(path, **arrays)
        return path

    return write


@pytest.fixture
def npy(tmp_path):
    def write(x, y=None):
        np.save(tmp_path / "x.npy", x)
        if y is not None:
            np.save(tmp_path / "y.npy", y)
        return str(tmp_path / "x.npy"), None if y is None else str(tmp_path / "y.npy")

    return write


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("save", "mapped"), [(np.savez, True), (np.savez_compressed, False)])
def test_an_archive_gives_its_arrays_mapped_where_they_are_stored_plainly(npz, save, mapped, order):
    data = NPZ(npz(save, features=np.asarray(X, order=order), y=Y, other=Y), x="features").read()
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    assert isinstance(data.x, np.memmap) is mapped
    assert (data.classes, data.name, data.y.dtype) == (("0", "1"), "data", np.int64)


def test_array_files_are_mapped_and_never_written(npy):
    data = NPY(*npy(X, Y)).read()
    assert isinstance(data.x, np.memmap) and not data.x.flags.writeable
    np.testing.assert_array_equal(data.x, X)


@pytest.mark.parametrize(
    ("y", "task", "classes", "expected"),
    [
        (np.array([3, 1, 3, 2, 2, 1, 1, 3], np.uint8), None, ("1", "2", "3"), [2, 0, 2, 1, 1, 0, 0, 2]),
        (np.array(["b", "a"] * 4), None, ("a", "b"), [1, 0] * 4),
        (np.array([b"b", b"a"] * 4), None, ("a", "b"), [1, 0] * 4),
        (np.array([True, False] * 4), None, ("0", "1"), [1, 0] * 4),
        (np.array([0.5, 2.0] * 4, np.float32), None, None, [0.5, 2.0] * 4),
        (Y, "regression", None, Y.astype(float)),
        (Y.astype(float)[:, None], "classification", ("0", "1"), Y),
    ],
)
def test_the_dtype_of_the_targets_says_what_they_are(npz, y, task, classes, expected):
    data = NPZ(npz(x=X, y=y), task=task).read()
    assert data.classes == classes
    np.testing.assert_array_equal(data.y, expected, strict=False)


def test_reading_for_prediction_needs_no_targets(npz, npy):
    for reader in (NPZ(npz(x=X)), NPY(npy(X)[0])):
        data = reader.read(need_target=False)
        assert data.y is None and data.x.shape == (8, 3)


def test_reading_for_training_needs_targets(npy):
    with pytest.raises(ConfigError, match="'y' is missing"):
        NPY(npy(X)[0]).read()


def test_a_test_file_is_read_with_the_classes_of_training(npz):
    learned = Preprocessing.fit(NPZ(npz(x=X, y=np.array(list("aabbccaa")))).read())
    assert NPZ(npz(x=X[:2], y=np.array(["c", "b"]))).read(like=learned).y.tolist() == [2, 1]
    with pytest.raises(DataError, match=r"y\[1\]: class 'd' is not one of 'a', 'b', 'c'"):
        NPZ(npz(x=X[:2], y=np.array(["c", "d"]))).read(like=learned)


def test_what_is_mapped_stays_on_disk_until_a_batch_is_taken(npy):
    data = NPY(*npy(X, Y)).read()
    kept, held = split(data.y, 0.25, seed=1)
    train = data.take(kept)
    learned = Preprocessing.fit(train, Standard())
    x_train, x_test = learned.apply(train.x, np.float32), learned.apply(data.take(held).x)
    assert all(isinstance(x, Rows) for x in (train.x, x_train, x_test, learned.apply(data.x)))
    assert (x_train.shape, x_train.dtype, x_train.ndim, len(x_train)) == ((6, 3), np.float32, 2, 6)
    expected = (X - X[kept].mean(axis=0)) / X[kept].std(axis=0)
    np.testing.assert_allclose(x_train, expected[kept], rtol=1e-6)
    np.testing.assert_allclose(x_test[0:1], expected[held[:1]], rtol=1e-12)
    batches = Batches(x_train, train.y, batch_size=4, seed=0)
    for (x, y), rows in zip(batches.epoch(0), np.split(batches.order(0), [4]), strict=True):
        np.testing.assert_allclose(x, expected[kept][rows], rtol=1e-6)
        np.testing.assert_array_equal(y, Y[kept][rows])


NAN = np.where(np.arange(24).reshape(8, 3) % 10 == 4, np.nan, X)

BAD = {
    "a missing array": ({"X": X, "y": Y}, r"no array 'x', did you mean 'X'\?; it holds 'X', 'y'"),
    "pickled objects": ({"x": np.array([[{}], [1]], dtype=object), "y": Y}, r"pickled Python objects, which are never"),
    "pickled targets": ({"x": X, "y": np.array([None] * 8)}, r"data.npz: y: holds pickled Python objects"),
    "records": ({"x": np.zeros(8, [("a", float)]), "y": Y}, r"expected a plain array"),
    "one dimension": ({"x": X[:, 0], "y": Y}, r"expected features of shape \(samples, features\), got shape \(8,\)"),
    "text": ({"x": X.astype(str), "y": Y}, r"expected real numbers as features, got dtype <U"),
    "complex numbers": ({"x": X + 1j, "y": Y}, r"expected real numbers as features, got dtype complex128"),
    "no samples": ({"x": X[:0], "y": Y[:0]}, r"the array is empty, shape \(0, 3\)"),
    "another count": ({"x": X, "y": Y[:7]}, r"7 targets for the 8 samples"),
    "a table of targets": ({"x": X, "y": X}, r"expected one target per sample.*got shape \(8, 3\)"),
    "a scalar target": ({"x": X, "y": np.array(1)}, r"expected one target per sample.*got shape \(\)"),
    "NaN": ({"x": NAN, "y": Y}, r"x: 2 NaN or infinite value\(s\), the first at \[1, 1\]"),
    "infinite targets": ({"x": X, "y": np.where(Y, np.inf, 0)}, r"y: 4 NaN or infinite value\(s\), the first at \[1\]"),
    "dates": ({"x": X, "y": Y.astype("M8[D]")}, r"expected numbers or text as targets"),
    "one class": ({"x": X, "y": Y * 0}, r"all 8 samples are of the one class '0'"),
}


@pytest.mark.parametrize(("arrays", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arrays_are_refused_in_one_line(npz, arrays, message):
    with pytest.raises(DataError, match=message) as caught:
        NPZ(npz(**arrays)).read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        (np.array(["a", "b"] * 4), "regression", "holds text, but the task is regression"),
        (np.array([0.5, 1.0] * 4), "classification", r"y\[0\]: 0.5 is no class label"),
    ],
)
def test_targets_that_do_not_fit_the_task_are_refused(npz, y, task, message):
    with pytest.raises(DataError, match=message):
        NPZ(npz(x=X, y=y), task=task).read()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keep", [5, 0.3, 0.6, 0.95])
def test_a_truncated_archive_is_refused(npz, save, keep):
    path = npz(save, x=np.random.default_rng(0).standard_normal((50, 3)), y=np.arange(50) % 2)
    with open(path, "rb+") as file:
        size = file.seek(0, 2)
        file.truncate(keep if keep >= 1 else int(keep * size))
    with pytest.raises(DataError, match="truncated or corrupt NPZ file"):
        NPZ(path).read()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_in_an_archive_is_noticed(npz, save):
    path = npz(save, x=np.random.default_rng(0).standard_normal((500, 3)), y=np.arange(500) % 2)
    with open(path, "rb+") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(DataError, match="truncated or corrupt NPZ file"):
        NPZ(path).read()


def header(shape, version=(1, 0)):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": shape})
    content = bytearray(buffer.getvalue())
    content[6:8] = bytes(version)
    return bytes(content)


HOSTILE = {
    "a shape beyond the file": (header((10**9, 10**6)) + bytes(64), r"needs 8000000000000000 bytes, 64 found"),
    "a shape below the file": (header((1, 1)) + bytes(64), r"needs 8 bytes, 64 found"),
    "a negative shape": (header((-1, 8)) + bytes(64), r"expected a plain array|not a valid NPY"),
    "an unknown version": (header((4, 2), (9, 9)) + bytes(64), r"not a valid NPY array \(.*9"),
    "no array at all": (pickle.dumps([1, 2, 3]), r"not a valid NPY array"),
    "half a header": (header((4, 2))[:40], r"not a valid NPY array"),
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_an_archive_that_lies_is_refused_before_memory_is_taken(tmp_path, compression, content, message):
    path = str(tmp_path / "hostile.npz")
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(DataError, match=message):
        NPZ(path).read(need_target=False)


def test_a_directory_entry_that_declares_more_than_its_bytes_can_hold_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header((2**26, 2)) + bytes(64))
    content = path.read_bytes()
    size = (len(header((1, 1))) + 64).to_bytes(4, "little")
    assert content.count(size) >= 1
    path.write_bytes(content.replace(size, (2**30 + 128).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"declares 1073741952 bytes, more than its .* can hold"):
        NPZ(str(path)).read(need_target=False)


NPY_BAD = {
    "truncated": (lambda content: content[:-8], r"needs 192 bytes, 184 found"),
    "too long": (lambda content: content + b"\0", r"needs 192 bytes, 193 found"),
    "not NumPy's": (lambda content: b"\x89PNG" + content, r"not a valid NPY array"),
    "a lying header": (lambda content: header((10**9, 10**6)) + content[128:], r"needs 8000000000000000 bytes"),
    "empty": (lambda content: b"", r"the file is empty"),
}


@pytest.mark.parametrize(("damage", "message"), NPY_BAD.values(), ids=NPY_BAD.keys())
def test_a_damaged_array_file_is_refused(npy, damage, message):
    x, y = npy(X, Y)
    with open(x, "rb") as file:
        content = damage(file.read())
    with open(x, "wb") as file:
        file.write(content)
    with pytest.raises(DataError, match=message):
        NPY(x, y).read()


def test_training_on_a_file_larger_than_its_share_of_memory_never_loads_it(tmp_path, monkeypatch):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (40_000, 800))
    x[:, 0] = np.arange(40_000) % 251
    x.flush()
    del x
    np.save(tmp_path / "y.npy", np.arange(40_000) % 2)
    monkeypatch.setattr("layerflow.data.batches.BLOCK_VALUES", 1 << 16)
    tracemalloc.start()
    data = NPY(str(tmp_path / "x.npy"), str(tmp_path / "y.npy")).read()
    train = data.take(split(data.y, 0.2, seed=0)[0])
    learned = Preprocessing.fit(train, Standard())
    batches = Batches(learned.apply(train.x, np.float32), train.y, 64, seed=0)
    first, _ = next(batches.epoch(0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert first.shape == (64, 800) and np.isfinite(first).all()
    assert peak < 16e6 < (tmp_path / "x.npy").stat().st_size / 1.9


def header_of(text):
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + len(padded).to_bytes(2, "little") + padded


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((1,) * 72) + bytes(8), "declares 72 dimensions, at most 32 are possible"),
        (header((0, 2**70)), r"the array is empty, shape \(0, 1180591620717411303424\)"),
        (header_of("{'descr': '<U0', 'fortran_order': False, 'shape': (3, 2)}"), r"the array is empty, shape \(3, 2\)"),
        (header_of("{'descr': '<c16', 'fortran_order': False, 'shape': (1, 1)}") + bytes(16), "expected real numbers"),
        (header_of("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1, 1)}") + bytes(8), "a plain array"),
        (header_of("{'descr': '<M8[parsec]', 'fortran_order': False, 'shape': (1, 1)}") + bytes(8), "not a valid NPY"),
        (header_of("{'descr': '|V8', 'fortran_order': False, 'shape': (1, 1)}") + bytes(8), "expected real numbers"),
        (header_of("{'descr': 'a5', 'fortran_order': False, 'shape': (True, 1)}") + bytes(5), "a plain|not a valid"),
        (header_of("(" * 100), "its header is damaged|not a valid NPY"),
        (header_of("'\\d'"), "not a valid NPY"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_a_hostile_header_is_a_data_error_with_the_file(tmp_path, content, message, ending):
    path = tmp_path / f"hostile{ending}"
    if ending == ".npy":
        path.write_bytes(content)
        reader = NPY(str(path))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", content)
        reader = NPZ(str(path))
    with pytest.raises(DataError, match=message) as caught:
        reader.read(need_target=False)
    assert str(caught.value).startswith(str(path))
