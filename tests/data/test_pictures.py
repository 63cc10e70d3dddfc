"""`Images` in folders and tables, and the augmentation of training batches."""

import numpy as np
import pytest

from layerflow.cli import main
from layerflow.data import AUGMENTATIONS, Batches, Images, Rows
from layerflow.data.augmentation import Brighten, Cutout, Flip, Rotate, Shift
from layerflow.data.batches import ahead
from layerflow.errors import ConfigError, DataError

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(6):
            pixels = RNG.integers(0, 120, (5, 7, 3), np.uint8) + (120 if name == "dog" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def test_a_folder_has_a_class_for_each_of_its_folders(folder):
    data = Images(str(folder)).read()
    assert data.x.shape == (12, 3, 5, 7) and data.x.dtype == np.uint8
    assert data.classes == ("cat", "dog") and data.y.tolist() == [0] * 6 + [1] * 6
    pixels = np.asarray(Image.open(folder / "dog" / "2.png"))
    np.testing.assert_array_equal(data.x[8].transpose(1, 2, 0), pixels)
    grey = Images(str(folder), size=(4, 4), mode="grey").read()
    assert grey.x.shape == (12, 1, 4, 4)


def test_a_table_names_the_files(folder):
    (folder / "list.csv").write_text("path,kind\ncat/1.png,small\ndog/3.png,large\ndog/4.png,large\n")
    data = Images(str(folder / "list.csv"), target="kind").read()
    assert data.classes == ("large", "small") and data.y.tolist() == [1, 0, 0] and data.lines.tolist() == [2, 3, 4]
    assert Images(str(folder / "list.csv")).read(need_target=False).y is None


def test_what_cannot_be_read_is_named(folder):
    content = (folder / "cat" / "0.png").read_bytes()
    (folder / "cat" / "0.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cat/0.png: cannot be read as a picture"):
        Images(str(folder)).read()
    (folder / "cat" / "0.png").write_text("no picture")
    with pytest.raises(DataError, match=r"cat/0.png: cannot be read as a picture"):
        Images(str(folder)).read()
    Image.new("RGB", (9, 5)).save(folder / "cat" / "0.png")
    with pytest.raises(DataError, match=r"is 5 x 7 pixels, but .*0.png is 5 x 9; write size"):
        Images(str(folder)).read()
    (folder / "list.csv").write_text("path,label\nbird/1.png,a\ncat/1.png,b\n")
    with pytest.raises(DataError, match=r"bird/1.png: cannot be read as a picture: .*No such file"):
        Images(str(folder / "list.csv")).read()
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures in folders of this folder"):
        Images(str(folder / "empty")).read()
    with pytest.raises(ConfigError, match="'size' must be two numbers of at least 1"):
        Images(str(folder), size=(0, 4))


CONFIG = """\
data:
  source: {{type: Images, path: {path}}}
  test: 0.25
  validation: null
  scale: {{type: Divide, by: 255}}
  augment: [Flip, {{type: Shift, padding: 1}}, {{type: Rotate, degrees: 5}}, Brighten, {{type: Cutout, size: 1}}]
model: [{{type: Conv2d, out_channels: 4, kernel_size: 3}}, ReLU, GlobalAvgPool, Linear]
loss: SoftmaxCE
optimizer: {{type: Adam, lr: 0.05}}
train: {{epochs: 30, batch_size: 4}}
"""


def test_a_configuration_trains_on_pictures(folder, tmp_path, capsys):
    (tmp_path / "pets.yaml").write_text(CONFIG.format(path=folder))
    assert main(["train", str(tmp_path / "pets.yaml"), "--out", str(tmp_path / "runs"), "--quiet"]) == 0
    assert "accuracy 1.0000" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "runs" / "pets" / "001")]) == 0


X = RNG.normal(size=(6, 2, 5, 4)).astype(np.float32)


def test_flip_mirrors_the_images_it_chooses():
    np.testing.assert_array_equal(Flip(1.0)(X, RNG), X[..., ::-1])
    np.testing.assert_array_equal(Flip(0.0)(X, RNG), X)
    flipped = Flip()(X, np.random.default_rng(1))
    each = [np.array_equal(a, b) for a, b in zip(flipped, X, strict=True)]
    assert 0 < sum(each) < 6


def test_shift_moves_and_brings_in_zeros():
    moved = Shift(2)(X, np.random.default_rng(2))
    padded = np.pad(X, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for before, after in zip(padded, moved, strict=True):
        windows = [before[:, i : i + 5, j : j + 4] for i in range(5) for j in range(5)]
        assert sum(np.array_equal(window, after) for window in windows) == 1
    np.testing.assert_array_equal(Shift(0)(X, RNG), X)


def test_rotation_by_nothing_and_by_a_half_turn():
    np.testing.assert_array_equal(Rotate(0)(X, RNG), X)

    class Half(np.random.Generator):
        def uniform(self, low, high, size):
            return np.full(size, 180.0)

    np.testing.assert_array_equal(Rotate(180)(X, Half(np.random.PCG64())), X[..., ::-1, ::-1])


def test_brightness_is_a_factor_and_cutout_a_square_of_zeros():
    bright = Brighten(0.3)(X, RNG)
    ratio = (bright / X).reshape(6, -1)
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones_like(ratio), rtol=1e-5)
    assert (ratio >= 0.69).all() and (ratio <= 1.31).all() and np.ptp(ratio[:, 0]) > 0
    cut = Cutout(3)(np.ones((50, 1, 9, 9), np.float32), RNG)
    zeros = (cut == 0).sum(axis=(1, 2, 3))
    assert zeros.max() == 9 and zeros.min() >= 4


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_keeps_shape_and_type_and_its_input(name):
    before = X.copy()
    changed = AUGMENTATIONS[name]()(X, np.random.default_rng(3))
    assert changed.shape == X.shape and changed.dtype == X.dtype
    np.testing.assert_array_equal(X, before)
    again = AUGMENTATIONS[name]()(X, np.random.default_rng(3))
    np.testing.assert_array_equal(changed, again)
    if name != "Brighten":
        with pytest.raises(DataError, match=r"samples of shape \(4,\); expected \(channels, height, width\)"):
            AUGMENTATIONS[name]()(np.zeros((3, 4)), RNG)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flip(2), "Flip: 'probability' must be from 0 to 1, got 2"),
        (lambda: Shift(-1), "Shift: 'padding' must be from 0"),
        (lambda: Rotate(200), "Rotate: 'degrees' must be from 0 to 180"),
        (lambda: Brighten(-0.1), "Brighten: 'amount' must be from 0 to 1"),
        (lambda: Cutout(0), "Cutout: 'size' must be from 1"),
    ],
)
def test_impossible_augmentations_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_batches_are_augmented_by_seed_epoch_and_step():
    batches = Batches(X, np.arange(6), 2, seed=4, augment=[Brighten(0.5)])
    first, again, other = ([x for x, _ in batches.epoch(epoch)] for epoch in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])
    (resumed, _), *_ = batches.epoch(1, start=2)
    np.testing.assert_array_equal(resumed, first[2])


def test_a_thread_works_ahead_keeps_the_order_and_raises_errors_where_the_batch_is_used(tmp_path):
    np.save(tmp_path / "x.npy", X)
    rows = Rows(np.load(tmp_path / "x.npy", mmap_mode="r"))
    for (x, y), (a, b) in zip(
        Batches(rows, np.arange(6), 2, 0).epoch(3), Batches(X, np.arange(6), 2, 0).epoch(3), strict=True
    ):
        np.testing.assert_array_equal(x, a)
        np.testing.assert_array_equal(y, b)

    def failing():
        yield 1
        raise DataError("the disk is gone")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(DataError, match="the disk is gone"):
        next(items)
    started = ahead(iter(range(10**9)))
    assert next(started) == 0
    started.close()
