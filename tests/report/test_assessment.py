"""Samples as pictures: which are images, and PNG files that a reader of its own understands."""

import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread

from layerflow.report.assessment import as_images, png_url

RNG = np.random.default_rng(0)


def names(pattern: str, count: int) -> list[str]:
    """Return as many names as wanted."""
    return [pattern.format(n=n, r=n // 8, c=n % 8) for n in range(count)]


@pytest.mark.parametrize(
    ("shape", "features", "expected"),
    [
        ((2, 1, 8, 6), None, (2, 8, 6)),
        ((2, 3, 8, 6), None, (2, 8, 6, 3)),
        ((2, 2, 8, 6), None, (2, 8, 6)),
        ((2, 8, 6), None, (2, 8, 6)),
        ((2, 64), None, (2, 8, 8)),
        ((2, 64), names("p{r}{c}", 64), (2, 8, 8)),
        ((2, 64), names("pixel{n}", 64), (2, 8, 8)),
        ((2, 64), names("{r}x{c}", 64), (2, 8, 8)),
        ((2, 16), names("px_{n}", 16), (2, 4, 4)),
        ((2, 9), names("p{n}", 9), None),
        ((2, 49), None, None),
        ((2, 64), names("x{n}", 64), None),
        ((2, 64), [*names("p{n}", 63), "age"], None),
        ((2, 65), None, None),
    ],
)
def test_images_are_recognised_by_their_shape_or_names(
    shape: tuple[int, ...], features: list[str] | None, expected: tuple[int, ...] | None
) -> None:
    images = as_images(RNG.normal(size=shape), features)
    assert (None if images is None else images.shape) == expected


def test_rows_of_columns_become_rows_of_pixels() -> None:
    images = as_images(np.arange(64.0).reshape(1, 64), None)
    assert images is not None
    np.testing.assert_array_equal(images[0], np.round(np.arange(64.0).reshape(8, 8) * 255 / 63))


def test_equal_values_are_no_division_by_zero() -> None:
    images = as_images(np.ones((2, 64)), None)
    assert images is not None
    assert not images.any()


@pytest.mark.parametrize("shape", [(8, 8), (1, 1), (5, 7), (4, 6, 3)])
def test_a_png_reader_sees_the_same_pixels(shape: tuple[int, ...]) -> None:
    image = RNG.integers(0, 256, shape, np.uint8)
    address = png_url(image)
    assert address.startswith("data:image/png;base64,")
    read = imread(io.BytesIO(base64.b64decode(address.split(",")[1])), format="png")
    np.testing.assert_array_equal(np.round(read * 255), image)
