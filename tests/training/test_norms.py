"""The sizes of gradient, update and parameters that are recorded at the end of each epoch."""

from typing import Any

import numpy as np
import pytest

import layerflow as lf

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 3)), RNG.integers(0, 2, 24)


def new_trainer(**settings: Any) -> lf.Trainer:
    """Return a trainer for two epochs of three steps."""
    model = lf.Sequential(lf.Linear(4), lf.ReLU(), lf.Linear(2))
    return lf.Trainer(model, lf.SoftmaxCE(), lf.SGD(lr=0.5), epochs=2, batch_size=8, dtype="float64", **settings)


def fit(**settings: Any) -> tuple[lf.Trainer, dict[str, float]]:
    """Train, and return the trainer and the last record."""
    trainer = new_trainer(**settings)
    return trainer, trainer.fit(X, Y).last


def test_a_plain_step_is_the_rate_times_the_gradient() -> None:
    _, record = fit()
    assert record["update_norm"] == pytest.approx(0.5 * record["gradient_norm"], rel=1e-12)
    assert record["gradient_norm"] > 0


def test_the_gradient_is_measured_before_clipping() -> None:
    _, record = fit(clip_norm=1e-3)
    assert record["gradient_norm"] > 1e-2
    assert record["update_norm"] == pytest.approx(0.5 * 1e-3, rel=1e-9)


def test_the_parameters_are_those_before_the_step() -> None:
    trainer, record = fit()
    last = trainer.state.store.values + 0.5 * trainer.state.store.grads
    assert record["parameter_norm"] == pytest.approx(np.linalg.norm(last), rel=1e-12)
    assert record["gradient_norm"] == pytest.approx(np.linalg.norm(trainer.state.store.grads), rel=1e-12)


def test_measuring_changes_nothing() -> None:
    (measured, _), by_hand = fit(), new_trainer()
    by_hand.prepare(X, Y)
    for epoch in range(2):
        for x, y in by_hand.state.batches.epoch(epoch):
            by_hand.state.objective.forward(x, y)
            by_hand.state.objective.backward()
            by_hand.state.optimizer.step(by_hand.state.store)
    np.testing.assert_array_equal(by_hand.state.store.values, measured.state.store.values)
