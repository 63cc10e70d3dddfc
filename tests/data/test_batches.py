import numpy as np
import pytest

from layerflow.data import Batches
from layerflow.errors import ConfigError, DataError

X = np.arange(20.0).reshape(10, 2)
Y = np.arange(10)


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_an_epoch_gives_every_sample_once(drop_last, sizes):
    batches = Batches(X, Y, 4, seed=0, drop_last=drop_last)
    taken = list(batches.epoch(3))
    assert [len(y) for _, y in taken] == sizes and len(batches) == len(sizes)
    for x, y in taken:
        np.testing.assert_array_equal(x, X[y])
    labels = np.concatenate([y for _, y in taken])
    assert len(set(labels.tolist())) == sum(sizes)
    np.testing.assert_array_equal(labels, batches.order(3)[: sum(sizes)])


def test_the_order_depends_on_seed_and_epoch_and_nothing_else():
    first, again = Batches(X, Y, 4, seed=5), Batches(X[::-1], Y, 2, seed=5)
    list(first.epoch(0))
    np.testing.assert_array_equal(first.order(7), again.order(7))
    orders = {tuple(Batches(X, Y, 4, seed).order(epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_an_epoch_can_be_taken_up_in_its_middle():
    batches = Batches(X, Y, 3, seed=0)
    whole = [y.tolist() for _, y in batches.epoch(2)]
    for start in range(len(batches) + 1):
        assert [y.tolist() for _, y in batches.epoch(2, start)] == whole[start:]


def test_without_shuffling_the_order_is_that_of_the_data():
    batches = Batches(X, Y, 4, seed=0, shuffle=False)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches.epoch(1)]), Y)


def test_batches_of_a_memory_map_are_plain_arrays(tmp_path):
    np.save(tmp_path / "x.npy", X)
    batches = Batches(np.load(tmp_path / "x.npy", mmap_mode="r"), Y, 4, seed=0)
    for x, y in batches.epoch(0):
        np.testing.assert_array_equal(x, X[y])
        assert x.flags.writeable and x.flags.c_contiguous and x.base is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ConfigError, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, ConfigError, "seed must not be negative"),
        ({"batch_size": 11}, DataError, "batch_size is 11, but there are only 10 samples"),
        ({"y": Y[:9]}, DataError, "x has 10 samples but y has 9"),
        ({"x": X[:0], "y": Y[:0]}, DataError, "batch_size is 4, but there are only 0 samples"),
    ],
)
def test_impossible_batches_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        Batches(**({"x": X, "y": Y, "batch_size": 4, "seed": 0} | options))
