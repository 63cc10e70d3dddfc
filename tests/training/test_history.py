"""Records, the best of them, and patience."""

import math

import pytest

from layerflow.errors import ConfigError
from layerflow.training.history import Best, History


@pytest.mark.parametrize(
    ("metric", "min_delta", "values", "is_best"),
    [
        ("val_loss", 0.0, [1.0, 0.5, 0.5, 0.7, 0.4], [True, True, False, False, True]),
        ("val_accuracy", 0.0, [0.5, 0.6, 0.6, 0.4, 0.7], [True, True, False, False, True]),
        ("val_loss", 0.1, [1.0, 0.95, 0.85, 0.84], [True, False, True, False]),
        ("val_loss", 0.0, [math.nan, 1.0, math.nan, 0.5], [False, True, False, True]),
        ("val_r2", 0.0, [-3.0, -1.0, -2.0, 0.0], [True, True, False, True]),
    ],
)
def test_better_depends_on_the_metric(metric: str, min_delta: float, values: list[float], is_best: list[bool]) -> None:
    best = Best(metric, min_delta)
    assert [best.update({metric: value}, epoch) for epoch, value in enumerate(values, start=1)] == is_best
    last = max(epoch for epoch, wins in enumerate(is_best, start=1) if wins)
    assert best.epoch == last
    assert best.value == values[last - 1]
    assert best.waited == len(values) - last


def test_a_history_gives_columns_and_names_what_it_has() -> None:
    history = History([{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": 1.0}])
    assert history["train_loss"] == [2.0, 1.0]
    assert history.last == {"epoch": 2, "train_loss": 1.0}
    with pytest.raises(ConfigError, match="nothing called 'trainin_loss' was recorded, did you mean 'train_loss'"):
        history["trainin_loss"]
