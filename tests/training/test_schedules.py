"""Schedules: their learning rates against PyTorch's, and the memory of the one that has some."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from layerflow.errors import ConfigError
from layerflow.training import schedules
from layerflow.training.schedules import SCHEDULES, Constant, Cosine, MultiStep, ReduceOnPlateau, Step, Warmup

RECORDED = np.load(Path(__file__).parents[1] / "recorded" / "optimizers.npz")
BASE_LR, LOSSES = float(RECORDED["base_lr"]), RECORDED["losses"].tolist()


def rates(schedule, losses=LOSSES):
    found = []
    for epoch, loss in enumerate(losses):
        found.append(schedule.lr(BASE_LR, epoch, len(losses)))
        schedule.observe({"val_loss": loss, "val_accuracy": 1 - loss})
    assert {type(lr) for lr in found} == {float}
    return found


@pytest.mark.parametrize("index", range(len(RECORDED["schedules"])), ids=RECORDED["schedules"].tolist())
def test_the_rates_equal_the_recorded_ones_of_torch(index):
    schedule = eval(str(RECORDED["schedules"][index]), vars(schedules))
    np.testing.assert_allclose(rates(schedule), RECORDED["rates"][index], rtol=1e-12)


@pytest.mark.torch
def test_the_rates_equal_those_of_the_installed_torch():
    pytest.importorskip("torch")
    path = Path(__file__).parents[2] / "scripts" / "record_optimizers.py"
    spec = importlib.util.spec_from_file_location("record_optimizers", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for expression, expected in script.schedules().items():
        np.testing.assert_allclose(rates(eval(expression, vars(schedules))), expected, rtol=1e-12, err_msg=expression)


def test_every_schedule_is_compared():
    compared = {name.split("(")[0] for name in RECORDED["schedules"].tolist()}
    assert compared == set(SCHEDULES)


def test_cosine_rises_again_after_its_last_epoch_as_in_torch():
    """torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.1) from 1.0, epochs 4 to 9."""
    rates = [Cosine(4, min_lr=0.1).lr(1.0, epoch, 100) for epoch in range(4, 10)]
    rise = 0.45 * math.sqrt(0.5)
    np.testing.assert_allclose(rates, [0.1, 0.55 - rise, 0.55, 0.55 + rise, 1.0, 0.55 + rise], rtol=1e-12)


def test_a_training_no_longer_than_the_warm_up_is_no_problem():
    schedule = Warmup(4, 0.0, after=Cosine())
    assert [schedule.lr(1.0, epoch, 4) for epoch in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    "make", [lambda: ReduceOnPlateau(patience=2), lambda: Warmup(3, after=ReduceOnPlateau(patience=2))]
)
def test_a_resumed_plateau_goes_on_as_if_nothing_had_happened(make):
    whole = rates(make())
    for stop in (0, 5, 12, 13, 14, 25):
        first, second = make(), make()
        rates(first, LOSSES[:stop]) if stop else None
        second.load_state(first.state())
        found = []
        for epoch in range(stop, len(LOSSES)):
            found.append(second.lr(BASE_LR, epoch, len(LOSSES)))
            second.observe({"val_loss": LOSSES[epoch]})
        assert found == whole[stop:]


def test_nan_is_never_progress():
    schedule = ReduceOnPlateau(patience=1)
    for value in (1.0, math.nan, math.nan):
        schedule.observe({"val_loss": value})
    assert schedule.lr(1.0, 3, 10) == pytest.approx(0.1)


def test_progress_of_a_negative_metric_is_progress():
    schedule = ReduceOnPlateau("val_r2", patience=0)
    for value in (-5.0, -4.0, -1.0, 0.5):
        schedule.observe({"val_r2": value})
    assert schedule.lr(1.0, 4, 10) == 1.0


def test_a_base_rate_below_the_lowest_rate_is_left_alone():
    assert ReduceOnPlateau(min_lr=0.1).lr(0.01, 0, 10) == 0.01


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Step(0), "Step: step_size is 0, expected an integer of at least 1"),
        (lambda: Step(2.5), "Step: step_size is 2.5"),
        (lambda: Step(3, gamma=0), r"Step: gamma is 0, expected a number in \(0, inf\)"),
        (lambda: MultiStep(5), r"MultiStep: milestones is 5, expected a list of epochs, such as \[30, 60\]"),
        (lambda: MultiStep([5, "x"]), r"MultiStep: milestones\[1\] is 'x'"),
        (lambda: Cosine(min_lr=-1), "Cosine: min_lr is -1"),
        (lambda: Warmup(2, start_factor=2), r"Warmup: start_factor is 2, expected a number in \[0, 1\]"),
        (lambda: ReduceOnPlateau(factor=1.0), "ReduceOnPlateau: factor is 1.0"),
        (lambda: Step(math.inf), "Step: step_size is inf"),
        (
            lambda: ReduceOnPlateau("valid_loss").observe({"val_loss": 1.0, "loss": 2.0}),
            r"'valid_loss' is not among those measured \(val_loss, loss\), did you mean 'val_loss'\?",
        ),
        (lambda: Constant().load_state({"best": np.array(1.0)}), r"Constant: expected a state of \[\], got \['best'\]"),
        (lambda: ReduceOnPlateau().load_state({}), "ReduceOnPlateau: expected a state of"),
    ],
)
def test_what_cannot_be_is_named(act, message):
    with pytest.raises(ConfigError, match=message):
        act()
