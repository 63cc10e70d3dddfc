"""XLA trains as NumPy does; needs JAX, and is skipped without it."""

import math
import sys
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.engine.interpreter import interpret
from layerflow.engine.recorder import record
from layerflow.errors import ConfigError, EngineError, RecordError

xla = pytest.importorskip("layerflow.engine.xla")


def test_without_jax_the_extra_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    trainer = lf.Trainer(lf.Linear(1), lf.SquaredError(), lf.SGD(0.1), engine="xla", batch_size=4)
    with pytest.raises(ConfigError, match=r"pip install 'layerflow\[xla\]'"):
        trainer.prepare(np.ones((4, 2)), np.ones((4, 1)))


jax = pytest.importorskip("jax")


def trained(engine: str, **settings: Any) -> Any:
    model = lf.Sequential(lf.Linear(8, bias=False), lf.BatchNorm(), lf.ReLU(), lf.Dropout(0.2), lf.Linear(3))
    given = {"loss": lf.SoftmaxCE(), "optimizer": lf.Adam(0.01), "epochs": 3, "batch_size": 8, "dtype": "float64"}
    callbacks = settings.pop("fit", ())
    trainer = lf.Trainer(model, engine=engine, **(given | settings))
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 5)), rng.integers(0, 3, 50)
    trainer.fit(x, y, validation=(x[:20], y[:20]), callbacks=callbacks)
    return trainer


SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {}, "sgd": {"optimizer": lf.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-2)},
    "nadam": {"optimizer": lf.NAdam(0.01)}, "radam": {"optimizer": lf.RAdam(0.01)},
    "lion": {"optimizer": lf.Lion(1e-3)},
    "clipped": {"clip_norm": 0.05}, "regularized": {"regularizer": lf.L2Regularizer(1e-2)},
    "scheduled": {"schedule": lf.Cosine()}, "accumulated": {"accumulate": 2}, "averaged": {"average": lf.EMA(0.9)},
    "frozen": {"freeze": ["0.*"]},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_trains_as_with_numpy(name: str) -> None:
    ours, theirs = (trained(engine, **SETTINGS[name]) for engine in ("xla", "numpy"))
    assert "XLA of jax" in ours.state.engine.machine
    np.testing.assert_allclose(ours.state.store.values, theirs.state.store.values, rtol=1e-9, atol=1e-11)
    for one, other in zip(ours.history.records, theirs.history.records, strict=True):
        for key, value in other.items():
            assert key == "seconds" or math.isclose(one[key], value, rel_tol=1e-8, abs_tol=1e-10), key
    for key, buffer in theirs.model.named_buffers().items():
        np.testing.assert_allclose(ours.model.named_buffers()[key].value, buffer.value, rtol=1e-9)


def test_training_twice_gives_the_same_bits_and_so_does_stopping_in_between() -> None:
    class Stop(lf.Callback):
        def step_ended(self, state: Any) -> None:
            if (state.epoch, state.step) == (1, 3):
                self.snapshot = state.capture()

    stop = Stop()
    whole, again = trained("xla", dtype="float32"), trained("xla", dtype="float32", fit=[stop])
    assert np.array_equal(whole.state.store.values, again.state.store.values)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 5)), rng.integers(0, 3, 50)
    again.fit(x, y, validation=(x[:20], y[:20]), resume=stop.snapshot)
    assert np.array_equal(whole.state.store.values, again.state.store.values)


def test_a_bad_label_ends_the_loop_before_its_step(monkeypatch: Any) -> None:
    monkeypatch.setattr("layerflow.training.many_steps.LONGEST", 100.0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)), rng.integers(0, 3, 80)
    y[61] = 7
    found = []
    for engine in ("xla", "numpy"):
        model = lf.Sequential(lf.Linear(8), lf.Dropout(0.3, seed=1), lf.Linear(3))
        trainer = lf.Trainer(
            model, lf.SoftmaxCE(), lf.SGD(0.1), engine=engine, batch_size=4, shuffle=False, dtype="float64"
        )
        with pytest.raises(lf.GateError, match="label 7 in row 1"):
            trainer.fit(x, y)
        assert trainer.state.step == 15
        found.append(trainer.state.store.values)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-10, atol=1e-12)


def test_a_result_that_is_wrong_is_an_error(monkeypatch: Any) -> None:
    monkeypatch.setitem(xla.KINDS, "dot", lambda jnp, node, x: 1.01 * jnp.matmul(x[0], x[1]))
    with pytest.raises(
        EngineError, match=r"XLA gives other numbers than NumPy.*in the xla engine; train with engine numpy"
    ):
        trained("xla")


def test_what_cannot_be_recorded_is_refused() -> None:
    class Masks(lf.Gate):
        def forward(self, x: Any) -> Any:
            self.save()
            return x + 0 * x[x > 0].sum()

        def backward(self, grad: Any) -> Any:
            return (grad,), {}

    model = lf.Sequential(lf.Linear(3), Masks())
    trainer = lf.Trainer(model, lf.SoftmaxCE(), lf.SGD(0.1), engine="xla", batch_size=8)
    with pytest.raises(RecordError, match=r"x\[mask\]"):
        trainer.prepare(np.ones((8, 4)), np.zeros(8, int))


def test_every_kind_of_node_has_a_rule_that_is_numpys() -> None:
    rng = np.random.default_rng(0)
    x, i = rng.normal(size=(6, 5)), np.array([4, 0, 4])

    def run(active: Any) -> dict[str, Any]:
        a, at = active.input("x", x), active.input("i", i)
        windows = np.lib.stride_tricks.sliding_window_view(a, 3, axis=1)
        changed = a.copy()
        changed[1:5:2, ::-1] = 7.0
        added = a.copy()
        np.add.at(added, (at, at), 1.0)
        return {
            "windows": windows.sum(axis=-1), "changed": changed, "added": added, "gathered": a[at], "turned": a[::-2].T,
            "joined": np.concatenate([a, a * 2], axis=1), "summed": np.cumsum(a, axis=0), "best": a.argmax(axis=1),
            "product": a @ a.T, "flat": a.reshape(3, 10), "wide": np.broadcast_to(a[:, None], (6, 2, 5)) + 0,
            "mask": np.where(a > 0, a, -1), "kinds": (a > 0).sum(axis=0), "cast": a.astype(np.float32),
        }  # fmt: skip

    program = record(run, [sys.modules[__name__]])
    expected = interpret(program, {"x": x, "i": i})
    module = xla.jax()
    found, held = xla.computed(module.numpy, program, {"x": module.numpy.asarray(x), "i": module.numpy.asarray(i)})
    assert all(map(bool, held))
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)
