"""A training that is broken off anywhere and continued ends in the very bits of the one that was left alone."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import ConfigError, DataError
from layerflow.runs.checkpoint import Checkpointer, find_checkpoint, load_checkpoint
from layerflow.runs.run import differences, judged
from layerflow.training.adaptive import OPTIMIZERS
from layerflow.training.callbacks import Callback
from layerflow.training.history import EarlyStopping
from layerflow.training.schedules import Constant, Cosine, Exponential, MultiStep, ReduceOnPlateau, Step, Warmup
from layerflow.training.state import Snapshot, State
from layerflow.training.trainer import Trainer

EPOCHS, STEPS = 4, 6


class Centred(lf.Gate):
    """y = x - running mean of x, which is kept in a buffer and moves in training only."""

    def __init__(self) -> None:
        self.mean = lf.Buffer(np.zeros(5))
        self.noise = np.random.Generator(np.random.MT19937(5))

    def forward(self, x: Any) -> Any:
        if self.training:
            self.mean.value = 0.9 * self.mean.value + 0.1 * x.mean(axis=0) + 0.01 * self.noise.random()
        return x - self.mean.value.astype(x.dtype)

    def backward(self, grad: Any) -> Any:
        return (grad,), {}


class BreakOff(Exception):
    pass


class Breaker(Callback):
    """Saves at a step or at the end of an epoch and breaks the training off there."""

    def __init__(self, folder: Path, epoch: int, step: int) -> None:
        self.saver, self.place = Checkpointer(folder), (epoch, step)

    def training_started(self, state: State) -> None:
        self.saver.training_started(state)

    def step_ended(self, state: State) -> None:
        if (state.epoch, state.step) == self.place:
            self.saver.save(state)
            self.saver.wait()
            raise BreakOff

    def epoch_ended(self, state: State, record: dict[str, float]) -> None:
        self.step_ended(state)


@pytest.fixture(scope="module")
def samples() -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(STEPS * 8 - 3, 5))
    y = (x.sum(axis=1) > 0).astype(np.int64)
    return x, y, (x[:9] + 0.1, y[:9])


def given(samples: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(("x", "y", "validation"), samples, strict=False))


def trainer(**settings: Any) -> Trainer:
    model = settings.pop("model", None) or lf.Sequential(lf.Linear(7), lf.ReLU(), lf.Dropout(0.4), lf.Linear(2))
    settings = {
        "loss": lf.SoftmaxCE(),
        "optimizer": lf.SGD(lr=0.2, momentum=0.9),
        "epochs": EPOCHS,
        "batch_size": 8,
    } | settings
    return Trainer(model, settings.pop("loss"), settings.pop("optimizer"), **settings)


def outcome(trained: Trainer) -> tuple[Any, ...]:
    """Everything a training leaves behind, in a form in which equal means equal bits."""
    records = [{k: v for k, v in r.items() if k != "seconds"} for r in trained.history.records]
    snapshot = trained.state.capture()
    facts = {k: v for k, v in snapshot.facts.items() if k != "seconds"}
    arrays = {k: (v.dtype, v.tobytes()) for k, v in snapshot.arrays.items()}
    return records, facts, arrays, str(trained.state.losses), trained.history.outcome


def check_continuing(
    make: Callable[[], Trainer], samples: tuple[Any, ...], folder: Path, epoch: int, step: int
) -> None:
    """Train undisturbed, broken off and continued, with a new model, and compare."""
    expected = make()
    expected.fit(**given(samples))
    broken = make()
    with pytest.raises(BreakOff):
        broken.fit(**given(samples), callbacks=[Breaker(folder, epoch, step)])
    continued = make()
    continued.fit(**given(samples), resume=load_checkpoint(folder / "checkpoints" / "last.npz").snapshot)
    assert outcome(continued) == outcome(expected)


PLACES = [(0, 1), (1, 0), (1, 3), (2, STEPS), (EPOCHS - 1, STEPS)]


@pytest.mark.parametrize(("epoch", "step"), PLACES)
def test_it_continues_at_any_step(samples: tuple[Any, ...], tmp_path: Path, epoch: int, step: int) -> None:
    check_continuing(trainer, samples, tmp_path, epoch, step)


SCHEDULES: list[Callable[[], Any]] = [
    Constant,
    lambda: Step(2),
    lambda: MultiStep([1, 3]),
    lambda: Exponential(0.7),
    Cosine,
    lambda: Warmup(2, after=Cosine()),
    lambda: ReduceOnPlateau(patience=0, threshold=0.5),
]


@pytest.mark.parametrize(("optimizer", "schedule"), list(itertools.product(OPTIMIZERS, range(len(SCHEDULES)))))
def test_it_continues_with_every_optimizer_and_schedule(
    samples: tuple[Any, ...], tmp_path: Path, optimizer: str, schedule: int
) -> None:
    settings = {"SGD": {"momentum": 0.9, "nesterov": True}, "RMSprop": {"centered": True, "momentum": 0.3}}.get(
        optimizer, {}
    )
    check_continuing(
        lambda: trainer(
            optimizer=OPTIMIZERS[optimizer](lr=0.05, weight_decay=0.01, **settings), schedule=SCHEDULES[schedule]()
        ),
        samples, tmp_path, 2, 2,
    )  # fmt: skip


VARIANTS: dict[str, dict[str, Any]] = {
    "float64": {"dtype": "float64"},
    "clipping": {"clip_norm": 0.1, "clip_value": 0.01},
    "whole batches only": {"drop_last": True},
    "in the order of the data": {"shuffle": False},
    "early stopping": {"early_stopping": EarlyStopping("val_loss", patience=2, min_delta=10.0)},
    "a regularizer": {"regularizer": [lf.L2Regularizer(0.01)]},
    "the best by accuracy": {"best": "train_accuracy"},
    "ready for divergence": {"on_divergence": "halve-lr"},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(("epoch", "step"), [(1, 4), (2, 0)])
def test_it_continues_in_every_variant(
    samples: tuple[Any, ...], tmp_path: Path, settings: dict[str, Any], epoch: int, step: int
) -> None:
    check_continuing(lambda: trainer(**settings), samples, tmp_path, epoch, step)


def test_buffers_and_all_kinds_of_generators_continue(samples: tuple[Any, ...], tmp_path: Path) -> None:
    check_continuing(lambda: trainer(model=lf.Sequential(Centred(), lf.Linear(2))), samples, tmp_path, 1, 3)


def test_without_validation_data_it_continues_too(samples: tuple[Any, ...], tmp_path: Path) -> None:
    check_continuing(trainer, samples[:2], tmp_path, 1, 3)


@pytest.mark.parametrize("policy", ["skip", "halve-lr"])
@pytest.mark.parametrize("step", [1, 4])
def test_it_continues_after_steps_that_left_the_finite_numbers(tmp_path: Path, policy: str, step: int) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(45, 5)).astype(np.float32)
    x[7] = 1e38  # one batch in each epoch overflows
    y = rng.integers(0, 2, size=45)
    if policy == "skip":
        check_continuing(lambda: trainer(on_divergence=policy), (x, y), tmp_path, 1, step)
        return
    x[7] = 1e13  # too much for this learning rate, not for half of it or a quarter
    make = lambda: trainer(on_divergence=policy, optimizer=lf.SGD(lr=0.2), model=lf.Sequential(lf.Linear(2), Fragile()))  # noqa: E731
    check_continuing(make, (x, y), tmp_path, 1, step)


class Fragile(lf.Gate):
    """y = x, and infinite where |x| exceeds 1e26: weights of 1e13 times inputs of 1e13."""

    def forward(self, x: Any) -> Any:
        return np.where(np.abs(x) > 1e26, np.float32(np.inf), x)

    def backward(self, grad: Any) -> Any:
        return (grad,), {}


def test_more_epochs_continue_as_if_they_had_been_asked_for_at_once(samples: tuple[Any, ...], tmp_path: Path) -> None:
    short = trainer(epochs=2, callbacks=[Checkpointer(tmp_path)])
    short.fit(**given(samples))
    long = trainer(epochs=EPOCHS)
    long.fit(**given(samples), resume=load_checkpoint(tmp_path / "checkpoints" / "last.npz").snapshot)
    expected = trainer(epochs=EPOCHS)
    expected.fit(**given(samples))
    assert outcome(long) == outcome(expected)


def test_a_finished_training_resumes_to_its_own_result(samples: tuple[Any, ...], tmp_path: Path) -> None:
    first = trainer(callbacks=[Checkpointer(tmp_path)])
    first.fit(**given(samples))
    again = trainer()
    again.fit(**given(samples), resume=find_checkpoint(tmp_path).newest.snapshot)  # type: ignore[union-attr]
    again.state.losses = first.state.losses  # of the last epoch, which was not taken again
    assert outcome(again) == outcome(first)


# What does not fit ---------------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "another width": ({"model": lf.Sequential(lf.Linear(8), lf.ReLU(), lf.Dropout(0.4), lf.Linear(2))}, "parameters"),
    "another type": ({"dtype": "float64"}, "float32"),
    "no dropout": ({"model": lf.Sequential(lf.Linear(7), lf.ReLU(), lf.Linear(2))}, "random generators"),
    "another optimizer": ({"optimizer": lf.Adam()}, "SGD"),
    "another schedule": ({"schedule": ReduceOnPlateau()}, "schedule"),
}


@pytest.mark.parametrize(("settings", "word"), OTHERS.values(), ids=OTHERS)
def test_the_state_of_another_training_is_refused(
    samples: tuple[Any, ...], settings: dict[str, Any], word: str
) -> None:
    first = trainer(epochs=1)
    first.fit(**given(samples))
    with pytest.raises(ConfigError, match=word):
        trainer(**settings).fit(**given(samples), resume=first.state.capture())


@pytest.mark.parametrize("missing", ["values", "epoch", "generators", "optimizer/steps"])
def test_a_state_with_a_hole_is_refused(samples: tuple[Any, ...], missing: str) -> None:
    first = trainer(epochs=1)
    first.fit(**given(samples))
    whole = first.state.capture()
    holed = Snapshot(
        {k: v for k, v in whole.facts.items() if k != missing}, {k: v for k, v in whole.arrays.items() if k != missing}
    )
    with pytest.raises((DataError, ConfigError)):
        first.state.restore(holed)


# Changed configurations ----------------------------------------------------------------------------------------------


def test_differences_name_every_setting_that_changed() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": None, "same": 3}
    now = {"a": {"b": 1, "c": [1, 4, 5]}, "e": {"f": 2.0}, "same": 3}
    assert {(d.key, str(d)) for d in differences(before, now)} == {
        ("a.c.1", "a.c.1: 2 before, 4 now"),
        ("a.c.2", "a.c.2: nothing before, 5 now"),
        ("d", "d: None before, nothing now"),
        ("e.f", "e.f: nothing before, 2.0 now"),
    }


CHANGES: list[tuple[dict[str, Any], str, Any, Any, str]] = [
    ({}, "train.epochs", 4, 9, ""),
    ({}, "train.epochs", 4, 2, ""),
    ({}, "train.epochs", 4, 1, "epoch 2 has begun"),
    ({"schedule": Cosine()}, "train.epochs", 4, 9, "Cosine"),
    ({"schedule": Cosine(epochs=4)}, "train.epochs", 4, 9, ""),
    ({"schedule": Warmup(3, after=Cosine())}, "train.epochs", 4, 9, ""),  # has not come to the cosine yet
    ({}, "train.checkpoint.every", "1 steps", "5 steps", ""),
    ({}, "optimizer.lr", 0.1, 0.2, "different"),
    ({}, "data.test", 0.2, 0.3, "different"),
    ({}, "data.source.path", "../gone.csv", "here.csv", ""),
    ({}, "data.source.path", "../gone.csv", "nowhere.csv", "different"),
    ({}, "checksums.train", "sha256:1", "sha256:2", "changed"),
    ({"early_stopping": EarlyStopping("train_loss", 3)}, "train.early_stopping.patience", 9, 3, ""),
    (
        {"early_stopping": EarlyStopping("train_loss", 1, 1e9)},
        "train.early_stopping.patience",
        9,
        1,
        "stopped after epoch 2",
    ),
]


@pytest.mark.parametrize(("settings", "key", "before", "now", "objection"), CHANGES)
def test_only_what_leaves_the_past_alone_may_change(
    samples: tuple[Any, ...], tmp_path: Path, settings: dict[str, Any], key: str, before: Any, now: Any, objection: str
) -> None:
    (tmp_path / "here.csv").touch()
    prepared = trainer(**settings)
    prepared.prepare(**given(samples))
    records = [{"epoch": epoch, "train_loss": math.exp(-epoch)} for epoch in (1, 2, 3)]
    snapshot = Snapshot({"epoch": 1, "step": 3} if "early" not in key else {"epoch": 3, "step": 0}, {}, records)
    (difference,) = differences({key: before}, {key: now})
    found = judged(difference, prepared, snapshot, tmp_path).objection
    assert (objection in found) if objection else found == ""
