import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from layerflow.data import split
from layerflow.errors import ConfigError, DataError

fractions = st.floats(0.05, 0.95)
labels = st.lists(st.integers(0, 4), min_size=4, max_size=60).map(np.array)


@given(labels, fractions, st.integers(0, 9), st.booleans())
def test_every_sample_is_in_exactly_one_part_and_the_seed_decides_which(y, fraction, seed, stratify):
    sizes = np.unique(y, return_counts=True)[1]
    assume(1 < sizes.max() < len(y) and 0 < int(fraction * len(y) + 0.5) < len(y))
    kept, held = split(y, fraction, seed, stratify)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(y)))
    assert len(kept) and len(held)
    for part, again in zip((kept, held), split(y, fraction, seed, stratify), strict=True):
        np.testing.assert_array_equal(part, again)


@given(labels, fractions, st.integers(0, 9))
def test_stratified_parts_have_every_class_and_its_share(y, fraction, seed):
    names, sizes = np.unique(y, return_counts=True)
    assume(len(names) > 1 and sizes.max() > 1 and 0 < int(fraction * len(y) + 0.5) < len(y))
    _, held = split(y, fraction, seed)
    counts = np.array([(y[held] == name).sum() for name in names])
    assert (counts[sizes == 1] == 0).all()
    several = sizes > 1
    assert (counts[several] >= 1).all() and (counts[several] <= sizes[several] - 1).all()
    total = int(fraction * len(y) + 0.5)
    quota = sizes * total / len(y)
    if ((quota >= 1) & (quota <= sizes - 1)).all():
        assert counts.sum() == total and (np.abs(counts - quota) < 1).all()


@pytest.mark.parametrize(
    ("sizes", "fraction", "held"),
    [
        ([50, 30, 20], 0.1, [5, 3, 2]),
        ([50, 31, 19], 0.1, [5, 3, 2]),
        ([59, 71, 48], 0.2, [12, 14, 10]),
        ([97, 2, 1], 0.1, [9, 1, 0]),
        ([97, 2, 1], 0.99, [96, 1, 0]),
    ],
)
def test_shares_are_as_exact_as_whole_samples_allow(sizes, fraction, held):
    y = np.repeat(np.arange(3), sizes)
    indices = split(y, fraction, seed=3)[1]
    assert np.bincount(y[indices], minlength=3).tolist() == held
    assert indices.tolist() != sorted(indices.tolist())


def test_another_seed_gives_another_split():
    y = np.arange(100) % 2
    assert set(split(y, 0.2, 0)[1]) != set(split(y, 0.2, 1)[1])


def test_a_regression_target_is_split_at_random():
    kept, held = split(np.linspace(0, 1, 11), 0.3, seed=0)
    assert (len(kept), len(held)) == (8, 3)


@pytest.mark.parametrize(
    ("y", "fraction", "seed", "stratify", "error", "message"),
    [
        ([0, 1, 0, 1], 0.0, 0, None, ConfigError, "must be between 0 and 1, got 0.0"),
        ([0, 1, 0, 1], 1.5, 0, None, ConfigError, "must be between 0 and 1, got 1.5"),
        ([0, 1, 0, 1], float("nan"), 0, None, ConfigError, "must be between 0 and 1, got nan"),
        ([0, 1, 0, 1], 0.5, -1, None, ConfigError, "seed must not be negative"),
        ([0.5, 1.5], 0.5, 0, True, ConfigError, "stratify needs classes"),
        ([0, 1, 0], 0.1, 0, None, DataError, r"holding back 0.1 of 3 sample\(s\) leaves a part empty"),
        ([0, 1, 0], 0.9, 0, False, DataError, "leaves a part empty"),
        ([0], 0.5, 0, None, DataError, "leaves a part empty"),
        ([1, 1, 1, 1], 0.5, 0, None, DataError, "all 4 samples are of one class"),
        ([0, 1, 2, 3], 0.5, 0, None, DataError, "every class has one sample only"),
    ],
)
def test_impossible_splits_are_refused(y, fraction, seed, stratify, error, message):
    with pytest.raises(error, match=message):
        split(np.array(y), fraction, seed, stratify)
