"""Runs ranked, and what differs between two."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from layerflow.errors import ConfigError
from layerflow.report.comparison import (
    ABSENT,
    default_metric,
    difference,
    figures_of,
    grouped,
    ranked,
    varying_settings,
)
from layerflow.runs.records import Run, read_run

RunFolder = Callable[..., Path]


@pytest.fixture
def run(run_folder: RunFolder) -> Callable[..., Run]:
    """Write and read a run."""
    return lambda *args, **kwargs: read_run(run_folder(*args, **kwargs))


def names(runs: list[Run]) -> list[str]:
    """Return what the runs are called."""
    return [run.folder.name for run in runs]


def test_losses_rank_upwards_accuracies_downwards_and_what_lacks_them_comes_last(run: Callable[..., Run]) -> None:
    runs = [run("nan", [math.nan]), run("high", [2.0]), run("low", [0.1]), run("untested", [1.0], test=None)]
    assert names(ranked(runs, "val_loss")) == ["low", "untested", "high", "nan"]
    assert names(ranked(runs, "val_accuracy")) == ["low", "untested", "high", "nan"]
    assert names(ranked(runs, "test_accuracy"))[-1] == "untested"


def test_an_unknown_metric_is_named_with_its_neighbour(run: Callable[..., Run]) -> None:
    with pytest.raises(ConfigError, match=r"--by test_acuracy: .* did you mean 'test_accuracy'"):
        ranked([run("a")], "test_acuracy")


def test_the_default_metric_is_the_one_that_chose_the_weights_and_never_the_test_part(run: Callable[..., Run]) -> None:
    assert (
        default_metric([run("none", best=None), run("a", best={"metric": "val_accuracy", "epoch": 1})])
        == "val_accuracy"
    )
    assert default_metric([run("only", best=None)]) == "train_loss"


def test_settings_that_vary_are_listed_by_key(run: Callable[..., Run], run_folder: RunFolder) -> None:
    config = (run("a").folder / "config.yaml").read_text()
    runs = [
        read_run(run_folder("b", config=config)),
        read_run(run_folder("c", config=config.replace("0.1", "0.2").replace("seed: 0\n", ""))),
    ]
    assert varying_settings(runs) == {"seed": [0, ABSENT], "optimizer.lr": [0.1, 0.2]}


def test_a_setting_of_another_type_is_a_difference(run_folder: RunFolder) -> None:
    runs = [read_run(run_folder(name, config=f"flag: {value}\n")) for name, value in (("a", "1"), ("b", "true"))]
    assert varying_settings(runs) == {"flag": [1, True]}


def test_the_same_twice_differs_in_nothing(run: Callable[..., Run]) -> None:
    found = difference(run("a", [1.0, math.nan]), run("b", [1.0, math.nan]))
    assert not (found.settings or found.data or found.environment)
    assert (found.parting_epoch, found.common_epochs, found.is_unexplained) == (None, 2, False)
    assert found.figures["test_loss"] == (0.7, 0.7)


def test_the_first_epoch_where_the_losses_part_is_found_to_the_last_bit(run: Callable[..., Run]) -> None:
    found = difference(run("a", [1.0, 0.5, 0.4]), run("b", [1.0, math.nextafter(0.5, 1), 0.4]))
    assert found.parting_epoch == 2
    assert found.parting["train_loss"] == (0.5, math.nextafter(0.5, 1))
    assert found.is_unexplained


def test_differences_of_data_and_environment_explain(run: Callable[..., Run]) -> None:
    found = difference(
        run("a", [1.0]), run("b", [2.0], data={"name": "x", "checksum": "sha256:1"}, versions={"numpy": "2.1"})
    )
    assert found.data == {"checksum": ("sha256:0", "sha256:1")}
    assert found.environment == {"numpy": ("2.0", "2.1")}
    assert not found.is_unexplained


def test_a_longer_run_parts_nowhere(run: Callable[..., Run]) -> None:
    found = difference(run("a", [1.0, 0.5]), run("b", [1.0, 0.5, 0.25]))
    assert (found.parting_epoch, found.common_epochs) == (None, 2)


def test_groups_have_mean_and_spread_over_their_runs(run: Callable[..., Run]) -> None:
    members = [
        ({"lr": 1}, run("a", [1.0])),
        ({"lr": 2}, run("b", [0.2])),
        ({"lr": 1}, run("c", [4.0])),
        ({"lr": 3}, None),
    ]
    best, second, failed = grouped(members, "val_loss")
    assert [group.settings["lr"] for group in (best, second, failed)] == [2, 1, 3]
    assert second.mean("val_loss") == 2.5
    assert second.spread("val_loss") == pytest.approx(math.sqrt(2 * 1.5**2))  # of a sample: n - 1
    assert math.isnan(best.spread("val_loss"))
    assert math.isnan(failed.mean("val_loss"))
    assert "test_accuracy" in figures_of([best, second, failed])


def test_groups_rank_an_accuracy_the_other_way(run: Callable[..., Run]) -> None:
    members = [({"lr": 1}, run("a", [1.0])), ({"lr": 2}, run("b", [0.2]))]
    assert [group.settings["lr"] for group in grouped(members, "val_accuracy")] == [2, 1]


def test_a_run_that_is_not_finite_does_not_spoil_the_mean(run: Callable[..., Run]) -> None:
    (group,) = grouped([({}, run("a", [1.0])), ({}, run("b", [math.nan]))], "val_loss")
    assert group.mean("val_loss") == 1.0
    assert len(group.runs) == 2
