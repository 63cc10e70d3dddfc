"""`Windows` over a time series, and parts that are split in time."""

import numpy as np
import pytest

from layerflow.config.experiment import load_config_text, read_parts
from layerflow.data import Windows
from layerflow.data.batches import split_in_time
from layerflow.errors import ConfigError, DataError


@pytest.fixture
def path(tmp_path):
    rows = "".join(f"{t},{t * t},{-t},a\n" for t in range(40))
    (tmp_path / "series.csv").write_text(f"t,square,minus,name\n{rows}")
    return str(tmp_path / "series.csv")


def test_a_window_is_followed_by_its_target(path):
    data = Windows(path, target="square", columns=["t", "minus"], length=5, horizon=2, stride=3).read()
    assert data.x.shape == (12, 5, 2) and data.y.shape == (12, 2)
    np.testing.assert_array_equal(data.x[1, :, 0], [3, 4, 5, 6, 7])
    np.testing.assert_array_equal(data.y[1], [64, 81])
    assert data.gap == 2
    one = Windows(path, target="t", length=4).read()
    assert one.y.shape == (36,) and one.y[0] == 4
    assert Windows(path, target="t", length=4).read(need_target=False).x[-1, -1, 0] == 39


def test_no_row_of_one_part_is_in_a_window_of_another(path, tmp_path):
    text = "model: [Flatten, Linear]\nloss: SquaredError\noptimizer: {type: SGD, lr: 0.1}\n"
    source = "data: {source: {type: Windows, path: series.csv, target: t, length: 4, horizon: 2}, validation: 0.2}\n"
    parts = read_parts(load_config_text(source + text, folder=str(tmp_path)))
    ranges = [(part.x.min(), part.y.max()) for part in (parts.train, parts.validation, parts.test)]
    assert ranges[0][1] < ranges[1][0] and ranges[1][1] < ranges[2][0]
    assert ranges[2][1] == 39


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"target": "squar"}, DataError, "'squar', did you mean 'square'"),
        ({"target": "name"}, DataError, "column 'name': 'a' is not a number"),
        ({"target": "t", "length": 40}, DataError, "40 rows are too few for a window of 40 and 1 after it"),
        ({"target": "t", "horizon": 0}, ConfigError, "'horizon' must be at least 1"),
        ({"target": "t", "columns": []}, ConfigError, "'columns' must have at least one name"),
    ],
)
def test_settings_that_do_not_fit_are_named(path, settings, error, message):
    with pytest.raises(error, match=message):
        Windows(path, **settings).read()


def test_a_split_in_time_leaves_the_gap_out():
    kept, held = split_in_time(20, 0.25, 3)
    assert kept.tolist() == list(range(12)) and held.tolist() == list(range(15, 20))
    with pytest.raises(DataError, match="leaves a part empty; give more data, shorter windows"):
        split_in_time(5, 0.2, 4)
