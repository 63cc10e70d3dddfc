import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from layerflow.data import SCALERS, Dataset, Divide, Encoding, MinMax, Preprocessing, Scaler, Standard
from layerflow.errors import ConfigError, DataError

X = np.random.default_rng(0).normal(3, [1, 10, 1e-3], (50, 3))
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 5), dtype=np.uint8)


def dataset(x, **options):
    fields = {"y": None, "encoding": None, "classes": None, "name": "set", "checksum": "sha256:"}
    return Dataset(x, **(fields | options))


def test_standard_gives_mean_zero_and_deviation_one():
    scaled = Standard().fit(X).apply(X)
    np.testing.assert_allclose(scaled, (X - X.mean(axis=0)) / X.std(axis=0), rtol=1e-9, atol=1e-12)


def test_min_max_gives_zero_to_one():
    scaled = MinMax().fit(X).apply(X)
    np.testing.assert_array_equal([scaled.min(axis=0), scaled.max(axis=0)], [[0] * 3, [1] * 3])


def test_divide_divides():
    np.testing.assert_array_equal(Divide(255).fit(IMAGES).apply(IMAGES), IMAGES / 255)


def test_images_are_scaled_by_channel():
    scaler = Standard().fit(IMAGES)
    assert scaler.shift.shape == (3, 1, 1)
    scaled = scaler.apply(IMAGES)
    np.testing.assert_allclose(
        [scaled.mean(axis=(0, 2, 3)), scaled.std(axis=(0, 2, 3))], [[0] * 3, [1] * 3], atol=1e-12
    )


@pytest.mark.parametrize("scaler", [Standard(), MinMax()])
@pytest.mark.parametrize("value", [0.1, 0.0, -1e300, 7.0])
def test_a_constant_feature_becomes_zero(scaler, value):
    x = np.full((49, 1), value)
    np.testing.assert_array_equal(scaler.fit(x).apply(x), np.zeros((49, 1)))


@pytest.mark.parametrize("kind", [Standard, MinMax])
def test_what_is_held_back_does_not_change_the_scaling(kind):
    scaler = kind().fit(X[:20])
    np.testing.assert_array_equal(scaler.apply(X)[:20], kind().fit(X[:20]).apply(X[:20]))
    assert not np.array_equal(scaler.scale, kind().fit(X).scale)


@pytest.mark.parametrize("kind", [Standard, MinMax])
def test_a_pass_in_small_blocks_gives_the_same(kind, monkeypatch):
    whole = kind().fit(X)
    monkeypatch.setattr("layerflow.data.batches.BLOCK_VALUES", 7)
    parts = kind().fit(X)
    np.testing.assert_allclose([parts.shift, parts.scale], [whole.shift, whole.scale], rtol=1e-12)


@given(arrays(np.float64, (6, 2), elements=st.floats(-1e150, 1e150)))
def test_any_finite_training_part_is_scaled_to_finite_numbers(x):
    for scaler in (Standard().fit(x), MinMax().fit(x)):
        assert np.isfinite(scaler.apply(x)).all() and (scaler.scale > 0).all()
        assert np.abs(scaler.apply(x)).max() < 1 + np.sqrt(len(x))


@pytest.mark.parametrize("by", [0, 0.0, float("nan"), float("inf")])
def test_dividing_by_nothing_is_refused(by):
    with pytest.raises(ConfigError, match="'by' must be a finite number other than 0"):
        Divide(by)


def test_a_scaler_needs_samples():
    with pytest.raises(DataError, match="cannot fit a scaler to an empty set"):
        Standard().fit(X[:0])


@pytest.mark.parametrize("scaler", [Standard(), MinMax(), Divide(16.0), None])
@pytest.mark.parametrize("x", [X, IMAGES], ids=["table", "images"])
def test_preprocessing_survives_json_exactly(scaler, x):
    learned = Preprocessing.fit(dataset(x, classes=("a", "b")), scaler)
    again = Preprocessing.from_dict(json.loads(json.dumps(learned.to_dict())))
    np.testing.assert_array_equal(again.apply(x), learned.apply(x))
    assert (again.classes, again.task, again.sample_shape) == (("a", "b"), "classification", x.shape[1:])


def test_preprocessing_keeps_the_columns_of_a_table():
    encoding = Encoding(("a", "c"), {"c": ("x", "y")})
    learned = Preprocessing.fit(dataset(X, encoding=encoding))
    again = Preprocessing.from_dict(json.loads(json.dumps(learned.to_dict())))
    assert (again.encoding, again.features, again.task) == (encoding, ("a", "c=x", "c=y"), "regression")


def test_preprocessing_leaves_the_data_alone_and_gives_the_dtype_asked_for():
    before = X.copy()
    scaled = Preprocessing.fit(dataset(X), Standard()).apply(X, np.float32)
    np.testing.assert_array_equal(X, before)
    assert scaled.dtype == np.float32


def test_samples_of_another_width_are_refused():
    with pytest.raises(DataError, match=r"samples have shape \(2,\), but the model was trained on \(3,\)"):
        Preprocessing.fit(dataset(X)).apply(X[:, :2])


def test_an_empty_training_part_is_refused():
    with pytest.raises(DataError, match="set: the training part is empty"):
        Preprocessing.fit(dataset(X[:0]))


@pytest.mark.parametrize(
    "damage", [{"scaler": {"type": "Magic"}}, {"scaler": {"type": "Standard"}}, {"categories": 3}, {"fill": ["x"]}]
)
def test_a_damaged_description_is_refused(damage):
    state = Preprocessing.fit(dataset(X), Standard()).to_dict() | damage
    with pytest.raises(DataError, match=r"damaged .* description"):
        Preprocessing.from_dict(state)


def test_scalers_are_registered_by_name():
    assert all(issubclass(kind, Scaler) and kind.__name__ == name for name, kind in SCALERS.items())
