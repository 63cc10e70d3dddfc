import numpy as np
import pytest

from layerflow.data import Blobs, Moons, Spiral
from layerflow.errors import ConfigError


def test_moons_without_noise_are_two_half_circles():
    data = Moons(samples=101, noise=0.0).read()
    outer, inner = data.x[data.y == 0], data.x[data.y == 1]
    assert (len(outer), len(inner)) == (51, 50)
    np.testing.assert_allclose(np.hypot(*outer.T), 1)
    np.testing.assert_allclose(np.hypot(*(inner - [1, 0.5]).T), 1)
    assert (outer[:, 1] > -1e-9).all() and (inner[:, 1] < 0.5 + 1e-9).all()


def test_spiral_arms_are_turned_copies_of_each_other():
    data = Spiral(samples=60, classes=4, noise=0.0).read()
    arms = data.x.reshape(4, 15, 2) @ [1, 1j]
    np.testing.assert_allclose(np.abs(arms[2]), np.linspace(0.1, 1, 15))
    np.testing.assert_allclose(arms[1:] / arms[:-1], 1j, atol=1e-12)


def test_blobs_scatter_around_their_centers():
    data = Blobs(samples=3000, classes=3, features=5, noise=2.0).read()
    spread = [data.x[data.y == label].std(axis=0) for label in range(3)]
    np.testing.assert_allclose(spread, 2.0, atol=0.2)


@pytest.mark.parametrize("kind", [Moons, Spiral, Blobs])
def test_the_seed_decides_everything(kind):
    data, again, other = kind(seed=1).read(), kind(seed=1).read(), kind(seed=2).read()
    np.testing.assert_array_equal(data.x, again.x)
    assert data.checksum == again.checksum != other.checksum
    assert not np.array_equal(data.x, other.x)
    assert kind().read(need_target=False).y is None
    assert len(data.features) == data.x.shape[1] and len(data.classes) == data.y.max() + 1


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Moons, {"samples": 1}, "'samples' must be at least one per class"),
        (Moons, {"noise": -1.0}, "'noise' must be a finite number of at least 0"),
        (Moons, {"seed": -1}, "'seed' must be at least 0"),
        (Spiral, {"classes": 1}, "'classes' must be at least 2"),
        (Blobs, {"features": 0}, "'features' must be at least 1"),
    ],
)
def test_impossible_options_are_refused(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        kind(**options)
