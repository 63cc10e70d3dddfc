"""Numeric derivatives: as accurate as they say, on functions whose derivative is known."""

import numpy as np
import pytest

from layerflow.gradcheck.differences import Line, extrapolate, measure

FUNCTIONS = {
    "sine": (np.sin, np.cos),
    "exponential": (np.exp, np.exp),
    "steep": (lambda x: np.exp(20 * x), lambda x: 20 * np.exp(20 * x)),
    "cube": (lambda x: x**3, lambda x: 3 * x**2),
    "straight": (lambda x: 3 * x + 7, lambda x: 3.0),
    "wave": (lambda x: np.sin(50 * x), lambda x: 50 * np.cos(50 * x)),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
}


def slopes_of(function, points):
    """The slopes at some points, measured one by one; what `backward` says is not known."""
    found = []
    for x in points:
        line = Line(
            lambda t, x=x: np.array([function(x + t)]), float(2.0 ** np.ceil(np.log2(max(abs(x), 1.0)))), abs(x)
        )
        found.append(measure([line], np.array([function(x)]), np.ones(1), np.array([np.nan])))
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("x", [-1.3, 0.1, 0.77, 2.0])
def test_smooth_functions_are_known_to_nine_digits(name, x) -> None:
    function, derivative = FUNCTIONS[name]
    (found,) = slopes_of(function, [x])
    assert found.is_smooth[0]
    assert found.numeric[0] == pytest.approx(derivative(x), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_error_is_never_far_larger_than_estimated(name) -> None:
    function, derivative = FUNCTIONS[name]
    points = np.random.default_rng(0).uniform(-2, 2, 30)
    for x, found in zip(points, slopes_of(function, points), strict=True):
        assert abs(found.numeric[0] - derivative(x)) <= 4 * found.error[0] + 1e-15 * abs(derivative(x))


@pytest.mark.parametrize("x", [1e-6, 1e-3, 0.5, 30.0, 1e4, 1e6])
def test_the_step_fits_itself_to_the_scale_of_x(x) -> None:
    (found,) = slopes_of(np.log, [x])
    assert found.is_smooth[0]
    assert found.numeric[0] == pytest.approx(1 / x, rel=1e-6)


@pytest.mark.parametrize("slopes", [(0.0, 1.0), (-1.0, 1.0), (0.2, 0.1), (3.0, -2.0)])
def test_at_a_kink_the_one_sided_slopes_are_measured(slopes) -> None:
    left, right = slopes
    (found,) = slopes_of(lambda x: np.where(x > 0.3, right, left) * (x - 0.3), [0.3])
    assert not found.is_smooth[0]
    assert found.numeric[0] == pytest.approx((left + right) / 2, abs=1e-6)
    assert found.jump[0] == pytest.approx(abs(right - left), abs=1e-6)


@pytest.mark.parametrize("distance", [0.3, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_kink_nearby_is_stepped_over(distance, side) -> None:
    (found,) = slopes_of(lambda x: max(x - 1.0, 0.0), [1.0 + side * distance])
    assert found.is_smooth[0]
    assert found.numeric[0] == pytest.approx(1.0 if side > 0 else 0.0, abs=1e-5)


def test_a_function_that_refuses_points_outside_its_domain_is_still_measured() -> None:
    def root(x):
        if x < 0:
            raise ValueError("negative")
        return np.sqrt(x)

    (found,) = slopes_of(root, [1e-4])
    assert found.numeric[0] == pytest.approx(50.0, rel=1e-6)


def test_extrapolation_is_exact_for_a_polynomial() -> None:
    steps = np.array([0.1, 0.05, 0.025, 0.0125])
    central = np.array([[((1 + h) ** 5 - (1 - h) ** 5) / (2 * h)] for h in steps])
    value, error = extrapolate(central)
    assert value[0] == pytest.approx(5.0, rel=1e-13)
    assert error[0] < 1e-10
