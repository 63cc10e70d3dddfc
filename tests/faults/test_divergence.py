"""Steps that produce NaN or infinity: named, saved for a second look, and never taken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import DivergedError
from layerflow.runs.checkpoint import Checkpointer, load_checkpoint
from layerflow.training.schedules import MultiStep
from layerflow.training.trainer import Trainer

EXIT_DIVERGED = 5


class BadBackward(lf.Gate):
    """y = x, with a gradient that is infinite where x exceeds 3."""

    def forward(self, x: Any) -> Any:
        self.save(x)
        return x

    def backward(self, grad: Any) -> Any:
        (x,) = self.saved
        return (np.where(x > 3, np.float32(np.inf), grad),), {}


class Twice(lf.Gate):
    """(x, x / (x - 1)), whose second output is infinite where x is 1."""

    def forward(self, x: Any) -> Any:
        self.save(x)
        return x, x / (x - 1)

    def backward(self, grad: Any, ratio: Any) -> Any:
        (x,) = self.saved
        return (grad - ratio / (x - 1) ** 2,), {}


def fit(gates: list[lf.Gate], x: np.ndarray, **settings: Any) -> Trainer:
    settings = {
        "optimizer": lf.SGD(lr=0.1),
        "loss": lf.SquaredError(),
        "epochs": 2,
        "batch_size": 4,
        "shuffle": False,
    } | settings
    trainer = Trainer(lf.Sequential(*gates), settings.pop("loss"), settings.pop("optimizer"), **settings)
    trainer.fit(x, np.zeros((len(x), 1)))
    return trainer


X = np.linspace(0.5, 1.5, 24).reshape(12, 2)
CASES: dict[str, tuple[list[lf.Gate], np.ndarray, dict[str, Any], list[str]]] = {
    "a logarithm of zero": (
        [lf.Log(), lf.Linear(1)], np.where(np.arange(24).reshape(12, 2) == 17, 0.0, X), {},
        ["epoch 1, step 3", "'model.0' (Log)", "its input: 0 to", "zero or negative"],
    ),
    "a second output": (
        [Twice(), lf.Add(), lf.Linear(1)], np.where(np.arange(24).reshape(12, 2) == 17, 1.0, X + 1), {},
        ["epoch 1, step 3", "first bad output: gate 'model.0' (Twice)", "; 1.", "1 of 8 not finite; its input: 1"],
    ),
    "features without scaling": (
        [lf.Linear(4), lf.Linear(1)], X * 1e30, {}, ["loss", "features are not scaled (up to ", "data.scale"],
    ),
    "a learning rate that is too high": (
        [lf.Linear(1)], X, {"optimizer": lf.SGD(lr=1e18)},
        ["epoch 1, step 3", "learning rate 1e+18", "the weights have grown to"],
    ),
    "an update that overflows": (
        [lf.Linear(1)], X, {"optimizer": lf.SGD(lr=1e39), "epochs": 1},
        ["contain NaN or infinity before this step", "the last update overflowed"],
    ),
    "a bad batch": (
        [lf.Linear(1)], np.where(np.arange(24).reshape(12, 2) == 9, np.nan, X), {},
        ["epoch 1, step 2", "the batch itself contains NaN or infinity"],
    ),
    "a bad gradient": (
        [lf.Linear(2), BadBackward(), lf.Linear(1)], np.where(np.arange(24).reshape(12, 2) > 15, 40.0, X),
        {"optimizer": lf.SGD(lr=0.001)},
        ["gradient contains NaN", "backward of gate 'model.1' (BadBackward)", "upstream gradient", "Backward itself"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("gates", "x", "settings", "words"), CASES.values(), ids=CASES)
def test_the_first_gate_that_went_bad_and_the_likely_cause_are_named(
    gates: list[lf.Gate], x: np.ndarray, settings: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(DivergedError) as caught:
        fit(gates, x, **settings)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_step_that_fails_changes_no_weight(tmp_path: Path) -> None:
    """The last good checkpoint is that of the step before, and the weights in memory are still the same."""
    x = np.where(np.arange(24).reshape(12, 2) == 17, 0.0, X)  # in the third step
    checkpointer = Checkpointer(tmp_path, {}, "1 steps")
    trainer = Trainer(
        lf.Sequential(lf.Log(), lf.Linear(1)), lf.SquaredError(), lf.SGD(lr=0.1), batch_size=4, shuffle=False,
        callbacks=[checkpointer],
    )  # fmt: skip
    with pytest.raises(DivergedError):
        trainer.fit(x, np.zeros((12, 1)))
    checkpointer.wait()
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.npz").snapshot
    assert saved.position == (0, 2)
    np.testing.assert_array_equal(saved.arrays["values"], trainer.state.store.values)


def test_skipped_steps_leave_the_others_as_they_would_be() -> None:
    bad = np.where(np.arange(24).reshape(12, 2) // 8 == 1, np.nan, X)  # the second of three steps
    skipped = fit([lf.Linear(1)], bad, on_divergence="skip", epochs=1)
    without = fit([lf.Linear(1)], np.delete(bad, range(4, 8), axis=0), epochs=1)
    np.testing.assert_array_equal(skipped.state.store.values, without.state.store.values)
    assert skipped.history.last["train_loss"] == without.history.last["train_loss"]


def test_skipping_gives_up_when_most_steps_fail() -> None:
    with pytest.raises(DivergedError, match="2 of the 3 steps of epoch 1"):
        fit([lf.Linear(1)], np.where(np.arange(24).reshape(12, 2) >= 8, np.nan, X), on_divergence="skip")


def test_halving_goes_back_to_the_start_of_the_epoch() -> None:
    """w becomes w (1 - 8 lr), so that it grows with lr 0.4 and shrinks with 0.2."""

    class Limited(lf.Gate):
        """y = x, and infinite beyond a limit, which is passed in the second epoch."""

        def forward(self, x: Any) -> Any:
            return np.where(np.abs(x) > 60, np.float32(np.inf), x)

        def backward(self, grad: Any) -> Any:
            return (grad,), {}

    def train(**settings: Any) -> Trainer:
        return fit(
            [lf.Linear(1, bias=False), Limited()], np.full((12, 1), 2.0), optimizer=lf.SGD(lr=0.4), epochs=4, **settings
        )

    halved = train(on_divergence="halve-lr")
    epochs_before = halved.history["lr"].count(0.4)
    assert 0 < epochs_before < 4
    assert halved.history["lr"] == [0.4] * epochs_before + [0.2] * (4 - epochs_before)
    np.testing.assert_array_equal(
        halved.state.store.values, train(schedule=MultiStep([epochs_before], 0.5)).state.store.values
    )


def test_halving_gives_up_in_the_end() -> None:
    with pytest.raises(DivergedError, match=r"learning rate 9\.7656"):
        fit([lf.Linear(1)], np.full_like(X, np.nan), on_divergence="halve-lr")


# On the command line -------------------------------------------------------------------------------------------------


def diverging(place: Any) -> Any:
    """The rate is such that the third step overflows."""
    return place.config("run.yaml", ("lr: 0.05", "lr: 1e30"))


def test_the_step_is_kept_and_replayed(place: Any) -> None:
    done = place.command("train", diverging(place), "--quiet")
    assert done.code == EXIT_DIVERGED
    assert "layerflow replay runs/run/001" in done.err
    assert json.loads((place.run() / "run.json").read_text())["outcome"] == "diverged"
    replayed = place.command("replay", "runs/run/001")
    assert replayed.code == 0
    told = [line.strip() for line in done.err.splitlines() if "first bad" in line or "likely cause" in line]
    assert len(told) == 2
    for line in told:  # the same finding, to the digit
        assert line in replayed.out
    assert "model.1 (ReLU)" in replayed.out


def test_without_a_failed_step_there_is_nothing_to_replay(place: Any) -> None:
    place.command("train", place.config(), "--quiet")
    done = place.command("replay", "runs/run/001")
    assert done.code == 4
    assert "only a run that diverged" in done.err


@pytest.mark.parametrize("policy", ["skip", "halve-lr"])
def test_the_policy_is_given_and_told(place: Any, policy: str) -> None:
    done = place.command("train", diverging(place), "--quiet", "--on-divergence", policy)
    assert {"skip": "skipped: the objective", "halve-lr": "starts again with half the learning rate"}[
        policy
    ] in done.err
    assert json.loads((place.run() / "run.json").read_text())["on_divergence"] == policy


def test_no_warning_of_numpy_is_seen(place: Any) -> None:
    ended = place.end(place.start("train", diverging(place), "--quiet"))
    assert ended.code == EXIT_DIVERGED
    assert "Warning" not in ended.err
