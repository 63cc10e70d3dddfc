"""Averages of the weights."""

import numpy as np
import pytest

import layerflow as lf

RNG = np.random.default_rng(8)
X, Y = RNG.normal(size=(40, 3)), RNG.integers(0, 2, 40)


class Walk(lf.Callback):
    """Keeps the weights after each step and each epoch."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def step_ended(self, state):
        self.steps.append(state.store.values.copy())

    def epoch_ended(self, state, record):
        self.epochs.append(state.store.values.copy())


def fitted(average, walk=None, epochs=6, **fit):
    model = lf.Sequential(lf.Linear(2))
    trainer = lf.Trainer(
        model, lf.SoftmaxCE(), lf.SGD(0.5), epochs=epochs, batch_size=8, dtype="float64", average=average, seed=3
    )
    trainer.fit(X, Y, callbacks=[walk] if walk else [], **fit)
    return trainer


def test_the_moving_average_follows_the_steps():
    walk = Walk()
    trainer = fitted(lf.EMA(0.9), walk)
    expected = walk.steps[0]
    for values in walk.steps[1:]:
        expected = 0.9 * expected + 0.1 * values
    np.testing.assert_allclose(trainer.state.store.values, expected, rtol=1e-12)


def test_the_mean_is_that_of_the_last_epochs():
    walk = Walk()
    trainer = fitted(lf.SWA(0.5), walk)
    np.testing.assert_allclose(trainer.state.store.values, np.mean(walk.epochs[3:], axis=0), rtol=1e-12)


@pytest.mark.parametrize("average", [lf.EMA(0.8), lf.SWA(0.5)], ids=repr)
def test_validation_and_the_best_epoch_are_of_the_average_and_the_steps_go_on_from_the_weights(average):
    plain, averaged = Walk(), Walk()
    fitted(None, plain)
    trainer = fitted(average, averaged, validation=(X, Y))
    np.testing.assert_array_equal(plain.steps, averaged.steps)
    best = min(trainer.history["val_loss"])
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("average", [lf.EMA(0.8), lf.SWA(0.2)], ids=repr)
def test_a_training_that_was_broken_off_continues_exactly(average):
    snapshots = []

    class Keep(lf.Callback):
        def step_ended(self, state):
            snapshots.append(state.capture())

    expected = fitted(average, Keep())
    continued = fitted(average, resume=snapshots[17])
    np.testing.assert_array_equal(continued.state.store.values, expected.state.store.values)


def test_impossible_settings_are_named():
    assert (lf.EMA().decay, lf.SWA().start) == (0.999, 0.75)
    with pytest.raises(lf.ConfigError, match=r"decay is 1"):
        lf.EMA(1)
    with pytest.raises(lf.ConfigError, match=r"start is 1\.5"):
        lf.SWA(1.5)
