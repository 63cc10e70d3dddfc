"""Gradient clipping by norm and by value."""

import math

import numpy as np
import pytest

from layerflow.errors import ConfigError
from layerflow.training.clipping import clip_by_norm, clip_by_value, global_norm


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e-19, 1e-3, 1.0, 1e3, 1e18, 1e20, 5e37])
def test_the_norm_is_that_of_exact_arithmetic_at_every_size(dtype, scale):
    grads = (np.array([3.0, -4.0, 0.0, 1.5, -2.5]) * scale).astype(dtype)
    expected = math.hypot(*grads.tolist())
    assert global_norm(grads) == pytest.approx(expected, rel=1e-6)
    for share in (0.5, 1e-3):
        clipped = grads.copy()
        assert clip_by_norm(clipped, expected * share) == pytest.approx(expected, rel=1e-6)
        spacing = float(np.finfo(dtype).smallest_subnormal)
        assert math.hypot(*clipped.tolist()) == pytest.approx(expected * share, rel=1e-5, abs=2 * spacing)


def test_a_norm_beyond_the_range_of_float32_is_clipped_too():
    grads = np.full(100_000, 3e38, np.float32)
    assert clip_by_norm(grads, 1.0) == pytest.approx(3e38 * math.sqrt(100_000))
    assert global_norm(grads) == pytest.approx(1.0, rel=1e-5)


def test_a_smaller_gradient_is_left_alone():
    grads = np.array([0.3, -0.4])
    assert clip_by_norm(grads, 0.5) == pytest.approx(0.5)
    assert grads.tolist() == [0.3, -0.4]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_norm_that_is_not_finite_is_returned_and_nothing_is_scaled(bad):
    grads = np.array([1.0, bad, 2.0], np.float32)
    kept = grads.copy()
    assert not math.isfinite(clip_by_norm(grads, 1.0))
    assert grads.tobytes() == kept.tobytes()
    assert not math.isfinite(clip_by_value(grads, 1.0))


def test_clipping_by_value_cuts_each_element_and_returns_the_norm():
    grads = np.array([3.0, -4.0, 0.5], np.float32)
    assert clip_by_value(grads, 1.0) == pytest.approx(math.sqrt(25.25))
    assert grads.tolist() == [1.0, -1.0, 0.5]
    assert grads.dtype == np.float32


@pytest.mark.parametrize("grads", [np.zeros(0), np.zeros(3, np.float32)])
def test_nothing_to_clip_has_norm_zero(grads):
    assert clip_by_norm(grads, 1.0) == 0.0
    assert clip_by_value(grads, 1.0) == 0.0


@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
@pytest.mark.parametrize("limit", [0, -1.0, math.nan, "1"])
def test_an_impossible_limit_is_named(clip, limit):
    with pytest.raises(ConfigError, match=rf"{clip.__name__}: max_\w+ is {limit!r}, expected a number in \(0, inf\)"):
        clip(np.ones(2), limit)
