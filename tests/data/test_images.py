import gzip
import struct

import numpy as np
import pytest

from layerflow.data import CIFAR10, IDX, Divide, Preprocessing
from layerflow.errors import ConfigError, DataError

IMAGES = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
LABELS = np.array([7, 0, 3, 7], dtype=np.uint8)


def idx(array, code=8, shape=None):
    shape = array.shape if shape is None else shape
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_images_and_labels_are_read(write, pack):
    data = IDX(write("images", pack(idx(IMAGES))), write("labels", pack(idx(LABELS)))).read()
    np.testing.assert_array_equal(data.x, IMAGES[:, None], strict=True)
    assert (data.y.tolist(), data.classes) == ([2, 0, 1, 2], ("0", "3", "7"))


@pytest.mark.parametrize("code, dtype", [(9, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_every_number_format_is_read_in_native_byte_order(write, code, dtype):
    data = IDX(write("images", idx(IMAGES[:, 0].astype(dtype), code))).read(need_target=False)
    np.testing.assert_array_equal(data.x, IMAGES[:, 0])
    assert data.x.dtype.isnative and data.y is None


def test_pixels_stay_bytes_until_they_are_scaled(write):
    data = IDX(write("images", idx(IMAGES))).read(need_target=False)
    scaled = Preprocessing.fit(data, Divide(255)).apply(data.x, np.float32)
    np.testing.assert_allclose(scaled, IMAGES[:, None] / 255, rtol=1e-6)
    assert scaled.dtype == np.float32


GOOD = idx(IMAGES)
BAD = {
    "another magic": (b"\x89PNG" + GOOD, "not an IDX file"),
    "no dimensions": (b"\0\0\x08\0" + GOOD, "not an IDX file"),
    "three bytes": (GOOD[:3], "not an IDX file"),
    "half a header": (GOOD[:9], "truncated: 12 bytes declared, 5 found"),
    "truncated": (GOOD[:-5], r"declares shape \(4, 3, 2\), 24 bytes, but the file holds at most 19"),
    "a huge shape": (idx(IMAGES, shape=(2**32 - 1, 2**16, 2**16)), "but the file holds at most 24"),
    "a huge gzipped shape": (gzip.compress(idx(IMAGES, shape=(2**32 - 1, 2**16, 2**16))), "bytes, but the file holds"),
    "a gzipped shape beyond the content": (gzip.compress(idx(IMAGES, shape=(5, 3, 2))), "30 bytes declared, 24 found"),
    "too long": (GOOD + b"\0", "more bytes than its shape"),
    "no images": (idx(IMAGES[:0]), r"is empty, shape \(0, 3, 2\)"),
    "truncated gzip": (gzip.compress(GOOD)[:-12], "truncated or corrupt gzip"),
    "corrupt gzip": (gzip.compress(GOOD)[:10] + b"\xff" * 9, "truncated or corrupt gzip"),
    "labels for images": (idx(LABELS), r"expected images of shape .* got \(4,\)"),
    "NaN": (idx(np.full((1, 2), np.nan, ">f4"), 0x0D), "2 NaN or infinite"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_bad_idx_files_are_refused_in_one_line(write, content, message):
    with pytest.raises(DataError, match=message) as caught:
        IDX(write("images", content), write("labels", idx(LABELS))).read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "message"), [(LABELS[:3], "3 targets for the 4 samples"), (LABELS * 0, "of the one class '0'"),
                            (np.zeros((4, 2), np.uint8), "expected one target per sample")]
)  # fmt: skip
def test_labels_that_do_not_fit_the_images_are_refused(write, labels, message):
    with pytest.raises(DataError, match=message):
        IDX(write("images", GOOD), write("labels", idx(labels))).read()


def test_labels_unknown_to_training_are_out_of_range(write):
    train = IDX(write("images", GOOD), write("labels", idx(LABELS))).read()
    with pytest.raises(DataError, match=r"test\[1\]: class '9' is not one of '0', '3', '7'"):
        IDX(write("images", GOOD), write("test", idx(np.array([7, 9, 3, 7], np.uint8)))).read(
            like=Preprocessing.fit(train)
        )


def test_training_on_images_needs_labels(write):
    with pytest.raises(ConfigError, match="'labels' is missing"):
        IDX(write("images", GOOD)).read()


def records(labels, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return pixels, np.column_stack([np.array(labels, np.uint8), pixels]).tobytes()


def test_batches_of_cifar10_are_joined(write):
    (first, one), (second, two) = records([3, 9]), records([0], seed=1)
    data = CIFAR10([write("1.bin", one), write("2.bin", two)]).read()
    np.testing.assert_array_equal(data.x, np.concatenate([first, second]).reshape(3, 3, 32, 32), strict=True)
    assert data.y.tolist() == [3, 9, 0] and data.classes[9] == "truck" and len(data.classes) == 10
    assert CIFAR10([write("1.bin", one)]).read(need_target=False).y is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (records([1, 10])[1], "label 10 of image 1 is out of range 0 to 9"),
        (records([1, 2])[1][:-1], "6145 bytes are not a multiple of the size of a CIFAR-10 record, 3073 bytes"),
        (b"", "the file is empty"),
    ],
)
def test_bad_batches_of_cifar10_are_refused(write, content, message):
    with pytest.raises(DataError, match=message):
        CIFAR10([write("1.bin", content)]).read()


def test_cifar10_needs_a_file():
    with pytest.raises(ConfigError, match="'paths' is empty"):
        CIFAR10([])
