"""The tasks that need a memory."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.data import AddingTask, CopyTask, Parity
from layerflow.errors import ConfigError


def test_what_is_to_be_copied_follows_after_the_mark():
    data = CopyTask(samples=50, length=6, bits=3, shortest=2, seed=1).read()
    assert data.x.shape == (50, 13, 4) and data.y.shape == (50, 13, 3)
    lengths = data.x[:, :, 3].argmax(axis=1)
    assert set(lengths) == {2, 3, 4, 5, 6}
    for x, y, length in zip(data.x, data.y, lengths, strict=True):
        np.testing.assert_array_equal(y[length + 1 : 2 * length + 1], x[:length, :3])
        assert not y[: length + 1].any() and not x[length + 1 :].any() and x[:, 3].sum() == 1


def test_the_two_marked_numbers_are_added():
    data = AddingTask(samples=40, length=9).read()
    marked = data.x[:, :, 1] == 1
    assert (marked[:, :4].sum(axis=1) == 1).all() and (marked[:, 4:].sum(axis=1) == 1).all()
    np.testing.assert_allclose(data.y, (data.x[:, :, 0] * marked).sum(axis=1))


def test_parity_is_that_of_the_ones():
    data = Parity(samples=30, length=5).read()
    np.testing.assert_array_equal(data.y, data.x.sum(axis=(1, 2)) % 2)
    assert data.classes == ("even", "odd")


@pytest.mark.parametrize("kind", [CopyTask, AddingTask, Parity])
def test_the_seed_decides_everything(kind):
    data, again, other = kind(seed=1).read(), kind(seed=1).read(), kind(seed=2).read()
    np.testing.assert_array_equal(data.x, again.x)
    assert data.checksum == again.checksum != other.checksum
    assert kind().read(need_target=False).y is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CopyTask(samples=0), "'samples' must be from 1 to 1,000,000, got 0"),
        (lambda: AddingTask(length=1), "'length' must be from 2"),
        (lambda: CopyTask(bits=0), "'bits' must be from 1"),
        (lambda: CopyTask(shortest=11).read(), "'shortest' must be from 1 to 10, got 11"),
        (lambda: Parity(seed=-1), "'seed' must be from 0"),
    ],
)
def test_impossible_settings_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_recurrent_net_learns_to_add_and_to_copy_a_short_sequence():
    adding = AddingTask(samples=800, length=6).read()
    model = lf.Sequential(lf.GRU(16, return_sequences=False), lf.Linear(1))
    trainer = lf.Trainer(model, lf.SquaredError(), lf.Adam(0.02), epochs=25, batch_size=40)
    assert trainer.fit(adding.x, adding.y).last["train_rmse"] < 0.1  # always answering 1: 0.41
    copying = CopyTask(samples=400, length=2, bits=2).read()
    model = lf.Sequential(lf.LSTM(24), lf.Linear(2))
    trainer = lf.Trainer(model, lf.SigmoidCE(), lf.Adam(0.03), epochs=60, batch_size=40, metrics=["exact_match"])
    assert trainer.fit(copying.x, copying.y).last["train_exact_match"] > 0.99
