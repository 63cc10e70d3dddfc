"""Machine code gives what the interpreter gives, and trains as NumPy does."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.cli import main as layerflow
from layerflow.engine.interpreter import interpret
from layerflow.engine.program import Program
from layerflow.engine.recorder import record, record_gate
from layerflow.errors import ConfigError, EngineError, RecordError
from layerflow.gates.examples import examples
from layerflow.gradcheck.recorded import drawn
from layerflow.gradcheck.subject import Subject, is_real

pytest.importorskip("llvmlite")
from layerflow.engine.native import compilation, stepping
from layerflow.engine.native.compiled import Compiled

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
CASES = [(name, i) for name, cases in examples(np.random.default_rng(0)).items() for i in range(len(cases))]


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: Any) -> Any:
    """Compiled code of the tests goes into a folder of their own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERFLOW_CACHE", str(folder))
        yield folder


def assert_native_equals_interpreter(program: Program, inputs: dict[str, Any], tolerance: float) -> None:
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    expected = interpret(program, arrays)
    compiled = Compiled(program)
    for _ in range(2):  # nothing of the first run is left for the second
        assert compiled.run(arrays) is None
        for name, value in expected.items():
            scale = max(float(np.max(np.abs(value[np.isfinite(value)]), initial=0.0)), 1.0)
            assert compiled.outputs[name].dtype == value.dtype
            np.testing.assert_allclose(
                compiled.outputs[name], value, rtol=tolerance, atol=tolerance * scale, err_msg=name
            )


# Every gate --------------------------------------------------------------------------------------------------------


def case_of(name: str, number: int, dtype: Any) -> tuple[Program, dict[str, Any]]:
    gate, inputs = examples(np.random.default_rng(0))[name][number]
    subject = Subject(gate, inputs)
    own = subject.gate
    own.astype(dtype)
    given = [x.astype(dtype) if is_real(x) else x for x in subject.inputs]
    output = subject.forward(*given)
    subject.restore()
    upstream = [g.astype(dtype) for g in subject.upstream(output)]
    program = record_gate(own, given, upstream)
    state = {f"input.{i}": x for i, x in enumerate(given)} | {f"upstream.{i}": g for i, g in enumerate(upstream)}
    state |= {f"parameter.{key}": cell.value for key, cell in own.named_parameters().items()}
    state |= {f"buffer.{key}": cell.value for key, cell in own.named_buffers().items()}
    return program, state | drawn(program, own)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_a_gate_compiled_equals_numpy(name: str) -> None:
    """One case in each type; all of them with `-m slow`."""
    numbers = [number for each, number in CASES if each == name]
    number = numbers[len(numbers) // 2]
    program, inputs = case_of(name, number, np.float32)
    assert_native_equals_interpreter(program, inputs, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "number"), CASES)
def test_every_case_compiled_equals_numpy(name: str, number: int, dtype: Any) -> None:
    program, inputs = case_of(name, number, dtype)
    assert_native_equals_interpreter(program, inputs, 1e-5 if dtype is np.float32 else 1e-12)


# Functions of numbers ----------------------------------------------------------------------------------------------


def ulps(found: Any, expected: Any) -> Any:
    """How many numbers lie between two."""
    kind = np.int32 if expected.dtype == np.float32 else np.int64
    ordered = [np.where(a.view(kind) < 0, np.iinfo(kind).min - a.view(kind), a.view(kind)) for a in (found, expected)]
    return np.abs(ordered[0].astype(object) - ordered[1].astype(object))


def all_over(dtype: Any, low: float, high: float) -> Any:
    """Numbers of all sizes between two, and those at which something happens."""
    limits = np.finfo(dtype)
    sizes = 2.0 ** RNG.uniform(np.log2(float(limits.smallest_subnormal)) + 1, np.log2(float(limits.max)) - 1, 4000)
    x = np.concatenate([sizes, -sizes, RNG.uniform(-100, 100, 4000), RNG.uniform(-2, 2, 4000)]).astype(dtype)
    special = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, limits.tiny, limits.smallest_subnormal, limits.max]
    x = np.concatenate([x, np.array(special, dtype), np.array([88.7, -87.4, -103.9, 709.7, -745.0, 0.625], dtype)])
    return x[(np.isnan(x)) | ((x >= low) & (x <= high))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("function", "low", "most"),
    [("exp", -np.inf, 2), ("log", -np.inf, 2), ("log1p", -np.inf, 2), ("expm1", -np.inf, 4), ("tanh", -np.inf, 2)],
)
def test_functions_are_within_2_ulp_over_their_whole_range(function: str, low: float, most: int, dtype: Any) -> None:
    x = all_over(dtype, low, np.inf)
    program = record(lambda active: {"y": getattr(np, function)(active.input("x", x))})
    compiled = Compiled(program)
    assert compiled.run({"x": x}) is None
    with np.errstate(all="ignore"):
        # float32 is compared with the rounded result of float64
        expected = getattr(np, function)(x.astype(np.float64)).astype(dtype)
    found = compiled.outputs["y"]
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    known = ~np.isnan(expected)
    away = ulps(found[known], expected[known])
    worst = int(np.argmax(away))
    assert away[worst] <= most, (x[known][worst], found[known][worst], expected[known][worst], away[worst])


ONE = (
    "absolute negative sign sqrt square reciprocal floor ceil trunc rint sin cos tan arcsin arccos arctan sinh cosh "
    "arcsinh arccosh arctanh exp2 log2 log10 cbrt isfinite isinf isnan logical_not signbit deg2rad rad2deg"
)
TWO = (
    "add subtract multiply divide power arctan2 hypot fmod remainder floor_divide maximum minimum fmax fmin copysign "
    "heaviside logaddexp greater greater_equal less less_equal equal not_equal logical_and logical_or logical_xor"
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_elementwise_functions_are_those_of_numpy(dtype: Any) -> None:
    special = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 3.0, np.inf, -np.inf, np.nan, 0.5], dtype)
    x, y = (a.ravel() for a in np.meshgrid(special, special))
    x, y = np.append(x, RNG.normal(size=200).astype(dtype)), np.append(y, RNG.normal(size=200).astype(dtype))
    arguments = dict.fromkeys(ONE.split(), 1) | dict.fromkeys(TWO.split(), 2)
    inputs = {"x": x, "y": y}

    def run(active: Any) -> dict[str, Any]:
        a, b = (active.input(name, value) for name, value in inputs.items())
        return {name: getattr(np, name)(*(a, b)[:count]) for name, count in arguments.items()}

    compiled = Compiled(record(run))
    assert compiled.run(inputs) is None
    with np.errstate(all="ignore"):
        for name, count in arguments.items():
            expected = getattr(np, name)(*(x, y)[:count])
            tolerance = 1e-6 if dtype is np.float32 else 1e-14
            np.testing.assert_allclose(compiled.outputs[name], expected, tolerance, tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_functions_of_integers_are_those_of_numpy(dtype: Any) -> None:
    low = 0 if dtype is np.uint8 else -9
    x, y = RNG.integers(low, 9, (2, 50)).astype(dtype)
    functions = {
        "sum": lambda a, b: a + b, "product": lambda a, b: a * b, "floor": lambda a, b: a // b,
        "rest": lambda a, b: a % b, "ratio": lambda a, b: a / b, "larger": lambda a, b: np.maximum(a, b),
        "smaller": lambda a, b: np.minimum(a, b), "less": lambda a, b: a < b, "bits": lambda a, b: (a & b) | (a ^ b),
        "real": lambda a, b: a.astype(np.float32), "size": lambda a, b: np.abs(a), "sign": lambda a, b: np.sign(a),
        "total": lambda a, b: a.sum(), "matrix": lambda a, b: a.reshape(5, 10) @ b.reshape(10, 5),
        "not": lambda a, b: ~a, "largest": lambda a, b: a.reshape(5, 10).max(axis=1),
        "count": lambda a, b: (a > 0).sum(),
    }  # fmt: skip

    def run(active: Any) -> dict[str, Any]:
        a, b = active.input("x", x), active.input("y", y)
        return {name: function(a, b) for name, function in functions.items()}

    compiled = Compiled(record(run))
    assert compiled.run({"x": x, "y": y}) is None
    with np.errstate(all="ignore"):
        for name, function in functions.items():
            assert np.array_equal(compiled.outputs[name], function(x, y), equal_nan=name == "ratio"), name


def test_nan_goes_through_folds_as_in_numpy() -> None:
    x = RNG.normal(size=(6, 5))
    x[1, 2], x[3, 0], x[4] = np.nan, np.inf, np.nan
    functions = {
        "max": lambda a: a.max(axis=1), "min": lambda a: a.min(axis=0), "argmax": lambda a: a.argmax(axis=1),
        "argmin": lambda a: a.argmin(axis=0), "sum": lambda a: a.sum(axis=1), "all": lambda a: (a > 0).all(axis=1),
    }  # fmt: skip

    def run(active: Any) -> dict[str, Any]:
        a = active.input("x", x)
        return {name: function(a) for name, function in functions.items()}

    compiled = Compiled(record(run))
    compiled.run({"x": x})
    for name, function in functions.items():
        assert np.array_equal(compiled.outputs[name], function(x), equal_nan=True), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(1, 1, 1), (1, 7, 3), (5, 3, 1), (13, 9, 21), (64, 33, 47), (130, 70, 90), (3, 0, 4)]
)
def test_matrix_products_of_all_layouts(rows: int, inner: int, columns: int, dtype: Any) -> None:
    a, b = RNG.normal(size=(rows, inner)).astype(dtype), RNG.normal(size=(inner, columns)).astype(dtype)
    given = {"a": a, "at": a.T.copy(), "b": b, "bt": b.T.copy(), "wide": np.repeat(b, 2, axis=1)}

    def run(active: Any) -> dict[str, Any]:
        x = {name: active.input(name, value) for name, value in given.items()}
        return {
            "plain": x["a"] @ x["b"], "left": x["at"].T @ x["b"], "right": x["a"] @ x["bt"].T,
            "both": x["at"].T @ x["bt"].T, "strided": x["a"] @ x["wide"][:, ::2],
            "added": x["a"] @ x["b"] + x["at"].T @ x["bt"].T, "many": np.stack([x["a"]] * 3) @ np.stack([x["b"]] * 3),
        }  # fmt: skip

    compiled = Compiled(record(run))
    compiled.run(given)
    for name, factor in {"plain": 1, "left": 1, "right": 1, "both": 1, "strided": 1, "added": 2, "many": 1}.items():
        expected = factor * (a @ b) if name != "many" else np.stack([a @ b] * 3)
        tolerance = 1e-5 if dtype is np.float32 else 1e-12
        np.testing.assert_allclose(compiled.outputs[name], expected, rtol=tolerance, atol=10 * tolerance, err_msg=name)


def test_what_is_written_in_place_is_still_read_as_it_was() -> None:
    x = RNG.normal(size=(4, 6))

    def run(active: Any) -> dict[str, Any]:
        a = active.input("x", x)
        out = a * 2
        kept = out + 1
        first = out[1:].copy()
        out[1:] = out[:-1]  # reads what it writes
        both = np.concatenate([out, kept])
        both[0] = 0  # the parts stay what they are
        rows = np.zeros((4, 6))
        rows[[2, 0, 2]] += out[:3]
        np.add.at(rows, [1, 1, 3], out[:3])
        return {"out": out, "kept": kept, "first": first, "both": both, "rows": rows, "again": out - kept}

    program = record(run, [sys.modules[__name__]])
    assert_native_equals_interpreter(program, {"x": x}, 1e-15)


# Training ----------------------------------------------------------------------------------------------------------


def trained(engine: str, **settings: Any) -> tuple[Any, Any]:
    model = lf.Sequential(lf.Linear(16, bias=False), lf.BatchNorm(), lf.ReLU(), lf.Dropout(0.2), lf.Linear(3))
    given = {"loss": lf.SoftmaxCE(), "optimizer": lf.Adam(0.01), "epochs": 3, "batch_size": 16, "dtype": "float64"}
    trainer = lf.Trainer(model, engine=engine, **(given | settings))
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(70, 5)), rng.integers(0, 3, 70)
    return trainer, trainer.fit(x, y, validation=(x[:20], y[:20]))


def test_training_is_that_of_numpy() -> None:
    native, history = trained("native")
    numpy, expected = trained("numpy")
    np.testing.assert_allclose(native.state.store.values, numpy.state.store.values, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-9)
    for name, buffer in native.model.named_buffers().items():
        np.testing.assert_allclose(buffer.value, numpy.model.named_buffers()[name].value, rtol=1e-9)
    assert len(native.state.engine.steps) == 2  # two shapes of batches
    assert not native.state.engine.sweeps


def test_training_twice_gives_the_same_bits() -> None:
    first, second = (trained("native", dtype="float32")[0].state.store.values for _ in range(2))
    assert np.array_equal(first, second)


OPTIMIZERS = {
    "sgd": lf.SGD(0.05),
    "momentum": lf.SGD(0.05, momentum=0.9, weight_decay=1e-2),
    "nesterov": lf.SGD(0.05, momentum=0.9, nesterov=True),
    "dampening": lf.SGD(0.05, momentum=0.9, dampening=0.1),
    "adam": lf.Adam(0.01),
    "amsgrad": lf.Adam(0.01, amsgrad=True, weight_decay=1e-2),
    "adamw": lf.AdamW(0.01),
    "rmsprop": lf.RMSprop(0.01, momentum=0.5, centered=True),
    "adagrad": lf.Adagrad(0.1),
    "adadelta": lf.Adadelta(1.0),
    "adamax": lf.Adamax(0.01),
    "lion": lf.Lion(1e-3),
    "radam": lf.RAdam(0.01),
    "nadam": lf.NAdam(0.01, momentum_decay=0.1, weight_decay=1e-2),
    "lbfgs": lf.LBFGS(0.1),
    "groups": lf.Adam(0.01, groups=[{"match": "0.*", "lr": 1e-3}]),
}
NOT_RECORDED = {"lbfgs"}


def small_training(engine: str, **settings: Any) -> Any:
    model = lf.Sequential(lf.Linear(8), lf.Tanh(), lf.Linear(3))
    given = {"loss": lf.SoftmaxCE(), "optimizer": lf.SGD(0.1), "epochs": 3, "batch_size": 8, "dtype": "float64"}
    trainer = lf.Trainer(model, engine=engine, metrics=["accuracy"], **(given | settings))
    rng = np.random.default_rng(1)
    trainer.fit(rng.normal(size=(50, 5)), rng.integers(0, 3, 50))
    return trainer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_updates_as_with_numpy(name: str) -> None:
    native, numpy = (small_training(engine, optimizer=OPTIMIZERS[name]) for engine in ("native", "numpy"))
    np.testing.assert_allclose(native.state.store.values, numpy.state.store.values, rtol=1e-9, atol=1e-11)
    for key, vector in numpy.state.optimizer.state().items():
        if key.startswith("slot") or key == "steps":
            np.testing.assert_allclose(native.state.optimizer.state()[key], vector, rtol=1e-8, atol=1e-12, err_msg=key)
    assert (native.state.engine.update is None) == (name in NOT_RECORDED)
    assert bool(native.state.engine.sweeps) == (name in NOT_RECORDED)
    assert ("the optimizer runs with NumPy: " in native.state.engine.machine) == (name in NOT_RECORDED)


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_norm": 0.05}, {"clip_value": 0.01}, {"clip_norm": 0.2, "clip_value": 0.05, "optimizer": lf.Adam(0.01)},
        {"accumulate": 2}, {"average": lf.EMA(0.9)}, {"freeze": ["0.*"]}, {"schedule": lf.Cosine()},
        {"regularizer": lf.L2Regularizer(1e-2)}, {"drop_last": True}, {"shuffle": False}, {"batch_size": 50},
    ],
    ids=lambda settings: "_".join(settings),
)  # fmt: skip
def test_every_setting_trains_as_with_numpy(settings: dict[str, Any]) -> None:
    native, numpy = (small_training(engine, **settings) for engine in ("native", "numpy"))
    np.testing.assert_allclose(native.state.store.values, numpy.state.store.values, rtol=1e-9, atol=1e-11)
    for ours, theirs in zip(native.history.records, numpy.history.records, strict=True):
        for name, value in theirs.items():
            if name != "seconds":
                assert math.isclose(ours[name], value, rel_tol=1e-8, abs_tol=1e-10), name


def two_outputs(engine: str, weights: Any) -> Any:
    graph = lf.ComputationalGraph()
    a, b = graph.inputs("a", "b")
    left, right = graph.add("left", lf.Linear(8), [a]), graph.add("right", lf.Linear(8), [b])
    hidden = graph.add("hidden", lf.Tanh(), [left + right])
    graph.output(graph.add("kind", lf.Linear(3), [hidden]), graph.add("size", lf.Linear(1), [hidden]))
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(60, 4)), "b": rng.normal(size=(60, 3))}
    y = {"kind": rng.integers(0, 3, 60), "size": rng.normal(size=(60, 1))}
    losses = {"kind": lf.SoftmaxCE(), "size": lf.SquaredError()}
    settings: dict[str, Any] = {"batch_size": 8, "epochs": 4, "dtype": "float64", "loss_weights": {"size": 0.3}}
    trainer = lf.Trainer(graph, losses, lf.Adam(0.01), engine=engine, **settings)
    trainer.fit(x, y, sample_weight=weights, validation=(x, y))
    return trainer


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 60)], ids=["alike", "weighted"])
def test_several_inputs_and_outputs_train_as_with_numpy(weights: Any) -> None:
    native, numpy = (two_outputs(engine, weights) for engine in ("native", "numpy"))
    assert native.state.engine.update is not None
    for ours, theirs in zip(native.history.records, numpy.history.records, strict=True):
        for name, value in theirs.items():
            assert name == "seconds" or math.isclose(ours[name], value, rel_tol=1e-9, abs_tol=1e-12), name


class Steps(lf.Callback):
    """Counts each step, so that they are taken one by one; may stop before the end."""

    def __init__(self, stop: int = -1) -> None:
        self.count, self.stop = 0, stop

    def step_ended(self, state: Any) -> None:
        self.count += 1
        if self.count == self.stop:
            self.snapshot = state.capture()
            raise KeyboardInterrupt


def trained_in(strides: Any, monkeypatch: Any, **settings: Any) -> Any:
    monkeypatch.setattr("layerflow.training.many_steps.LONGEST", strides)
    return trained("native", dtype="float32", **settings)[0]


def test_steps_one_by_one_and_many_at_once_give_the_same_bits(monkeypatch: Any) -> None:
    steps = Steps()
    one_by_one = trained("native", dtype="float32", callbacks=[steps])[0]
    assert steps.count == 3 * 5
    records = [{k: v for k, v in record.items() if k != "seconds"} for record in one_by_one.history.records]
    for longest in (1e-9, 0.05, 100.0):
        many = trained_in(longest, monkeypatch)
        assert np.array_equal(many.state.store.values, one_by_one.state.store.values)
        assert records == [{k: v for k, v in record.items() if k != "seconds"} for record in many.history.records]
        assert many.state.losses == one_by_one.state.losses
        generators = many.model.named_generators()
        for name, generator in one_by_one.model.named_generators().items():
            assert generator.bit_generator.state == generators[name].bit_generator.state


def test_many_steps_really_are_one_call(monkeypatch: Any) -> None:
    calls: list[int] = []
    take = stepping.NativeEngine.take_steps

    def counted(self: Any, data: Any, rows: Any) -> Any:
        done, found = take(self, data, rows)
        calls.append(done)
        return done, found

    monkeypatch.setattr(stepping.NativeEngine, "take_steps", counted)
    monkeypatch.setattr("layerflow.training.many_steps.LONGEST", 100.0)
    small_training("native", epochs=4, batch_size=2)
    assert max(calls) > 10
    assert sum(calls) == 4 * 25


def test_a_training_that_was_stopped_in_an_epoch_continues_bit_by_bit() -> None:
    whole = trained("native", dtype="float32")[0]
    steps = Steps(stop=8)
    with pytest.raises(KeyboardInterrupt):
        trained("native", dtype="float32", callbacks=[steps])
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(70, 5)), rng.integers(0, 3, 70)
    again = trained("native", dtype="float32", epochs=3)[0]
    again.fit(x, y, validation=(x[:20], y[:20]), resume=steps.snapshot)
    assert np.array_equal(whole.state.store.values, again.state.store.values)
    assert whole.history["val_loss"][1:] == again.history["val_loss"]


def test_a_bad_label_in_the_middle_of_many_steps_leaves_all_before_it(monkeypatch: Any) -> None:
    monkeypatch.setattr("layerflow.training.many_steps.LONGEST", 100.0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)), rng.integers(0, 3, 80)
    y[61] = 7
    found = []
    for engine in ("native", "numpy"):
        model = lf.Sequential(lf.Linear(8), lf.Dropout(0.3, seed=1), lf.Linear(3))
        trainer = lf.Trainer(
            model, lf.SoftmaxCE(), lf.SGD(0.1), engine=engine, batch_size=4, shuffle=False, dtype="float64"
        )
        with pytest.raises(lf.GateError, match="label 7 in row 1"):
            trainer.fit(x, y)
        assert trainer.state.step == 15
        found.append(trainer)
    np.testing.assert_allclose(found[0].state.store.values, found[1].state.store.values, rtol=1e-10, atol=1e-12)


class Changes(lf.Callback):
    """Changes a setting after the first epoch."""

    every_step = False

    def __init__(self, change: Any) -> None:
        self.change = change

    def epoch_ended(self, state: Any, record: Any) -> None:
        if state.epoch == 1:
            self.change(state)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: setattr(state.trainer.model[3], "rate", 0.6),
        lambda state: setattr(state.optimizer, "betas", (0.5, 0.9)),
        lambda state: setattr(state.optimizer, "eps", 1e-2),
    ],
    ids=["dropout", "betas", "eps"],
)
def test_a_setting_that_is_changed_during_the_training_counts(change: Any) -> None:
    native, numpy = (trained(engine, callbacks=[Changes(change)])[0] for engine in ("native", "numpy"))
    np.testing.assert_allclose(native.state.store.values, numpy.state.store.values, rtol=1e-9, atol=1e-11)
    assert not np.allclose(native.state.store.values, trained("native")[0].state.store.values, rtol=1e-3)


def test_a_result_is_never_written_into_a_copy() -> None:
    with pytest.raises(ValueError, match="output:y has gaps"):
        Compiled(small_program(2.0), {"y": np.zeros(10)[::2]})


@pytest.mark.parametrize("on_divergence", ["skip", "halve-lr"])
def test_a_step_that_diverges_is_treated_as_with_numpy(on_divergence: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("layerflow.training.many_steps.LONGEST", 100.0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)), rng.normal(size=(80, 1))
    x[41] = 1e200
    found = []
    for engine in ("native", "numpy"):
        model = lf.Sequential(lf.Linear(4), lf.Dropout(0.3, seed=1), lf.Linear(1))
        trainer = lf.Trainer(
            model, lf.SquaredError(), lf.SGD(0.01, momentum=0.9), engine=engine, batch_size=4, shuffle=False,
            on_divergence=on_divergence, epochs=2, dtype="float64",
        )  # fmt: skip
        try:
            trainer.fit(x, y)
        except lf.DivergedError as error:
            found.append((str(error), trainer.state.store.values))
        else:
            found.append(([r["train_loss"] for r in trainer.history.records], trainer.state.store.values))
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-9, atol=1e-11)
    assert type(found[0][0]) is type(found[1][0])


def test_a_label_that_is_out_of_range_is_explained_by_numpy() -> None:
    model = lf.Sequential(lf.Linear(3))
    trainer = lf.Trainer(model, lf.SoftmaxCE(), lf.SGD(0.1), engine="native", batch_size=4, shuffle=False)
    x, y = RNG.normal(size=(20, 5)), np.tile([0, 1, 2, 0], 5)
    y[17] = 3
    with pytest.raises(lf.GateError, match=r"label 3 in row 1; the scores have 3 columns"):
        trainer.fit(x, y)


def test_divergence_is_explained_and_the_weights_stay() -> None:
    trainer = lf.Trainer(
        lf.Sequential(lf.Linear(1)), lf.SquaredError(), lf.SGD(1e30), engine="native", batch_size=4, epochs=9
    )
    with pytest.raises(lf.DivergedError, match="learning rate"):
        trainer.fit(RNG.normal(size=(16, 2)), RNG.normal(size=(16, 1)))


class Counts(lf.Gate):
    """y = x, a little more each time: state in a plain attribute."""

    def __init__(self) -> None:
        self.steps = 0

    def forward(self, x: Any) -> Any:
        self.steps += 1
        self.save()
        return x + 0.1 * self.steps

    def backward(self, grad: Any) -> Any:
        return (grad,), {}


class Masks(lf.Gate):
    """y = x - the mean of its positive elements: of a shape that depends on the numbers."""

    def forward(self, x: Any) -> Any:
        self.save()
        return x - x[x >= 0].mean()

    def backward(self, grad: Any) -> Any:
        return (grad,), {}


@pytest.mark.parametrize(
    ("gate", "message"),
    [(Counts(), "the same batch from the same state gives other numbers"), (Masks(), r"Masks, .*x\[mask\]")],
)
def test_a_model_that_no_program_can_be_is_refused_before_training(gate: Any, message: str) -> None:
    trainer = lf.Trainer(lf.Sequential(lf.Linear(3), gate), lf.SoftmaxCE(), lf.SGD(0.1), engine="native")
    x, y = RNG.normal(size=(40, 5)), RNG.integers(0, 3, 40)
    with pytest.raises(RecordError, match=message):
        trainer.prepare(x, y)


def test_machine_code_that_disagrees_with_numpy_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "layerflow.engine.native.instructions.ARITHMETIC",
        {"add": "sub", "subtract": "sub", "multiply": "mul", "divide": "div"},
    )
    with pytest.raises(EngineError, match=r"gives other numbers than NumPy, off by .*engine numpy"):
        trained("native")


def test_an_unknown_engine_names_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match=r"engine is 'jax', expected 'numpy' or 'native' or 'xla' or 'auto'"):
        lf.Trainer(lf.Linear(1), lf.SquaredError(), lf.SGD(0.1), engine="jax")


def test_without_llvmlite_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with pytest.raises(ConfigError, match=r"pip install 'layerflow\[native\]'"):
        trained("native")


# The cache ---------------------------------------------------------------------------------------------------------


def small_program(factor: float) -> Program:
    return record(lambda active: {"y": factor * active.input("x", np.ones(5))})


def test_code_is_kept_on_disk_and_damaged_files_are_made_anew(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LAYERFLOW_CACHE", str(tmp_path))
    assert not Compiled(small_program(3.0)).code.is_cached
    assert Compiled(small_program(3.0)).code.is_cached
    (file,) = (tmp_path / "native").iterdir()
    content = file.read_bytes()
    for damaged in (content[:-7], b"", content[:90] + bytes([content[90] ^ 1]) + content[91:], b"\x7fELF garbage"):
        file.write_bytes(damaged)
        compiled = Compiled(small_program(3.0))
        assert not compiled.code.is_cached
        assert compiled.run({"x": np.arange(5.0)}) is None
        assert np.array_equal(compiled.outputs["y"], 3 * np.arange(5.0))
        assert file.read_bytes() == content
    assert len(list((tmp_path / "native").iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LAYERFLOW_CACHE", str(tmp_path / "file"))
    compiled = Compiled(small_program(5.0))
    assert "cannot be kept in" in compiled.code.trouble
    assert compiled.run({"x": np.ones(5)}) is None
    assert np.array_equal(compiled.outputs["y"], np.full(5, 5.0))
    assert "compiled code cannot be kept in" in small_training("native").state.engine.machine


def test_the_cache_lies_in_the_users_folder(monkeypatch: Any) -> None:
    monkeypatch.delenv("LAYERFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setattr("sys.platform", "linux")
    assert compilation.cache_folder() == Path("/somewhere/layerflow/native")


def test_without_a_blas_products_are_own_loops(monkeypatch: Any) -> None:
    here = compilation.machine()
    alone = compilation.Machine(here.cpu, here.features, 4, None)
    monkeypatch.setattr("layerflow.engine.native.compiled.machine", lambda: alone)
    assert str(alone).endswith("4 floats in a vector, own matrix products")
    a, b = RNG.normal(size=(90, 80)), RNG.normal(size=(80, 100))
    compiled = Compiled(record(lambda active: {"y": active.input("a", a) @ active.input("b", b)}))
    compiled.run({"a": a, "b": b})
    np.testing.assert_allclose(compiled.outputs["y"], a @ b, rtol=1e-12, atol=1e-12)


def test_an_input_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x is float64 with 4 elements; the program was recorded for float64 with 5"):
        Compiled(small_program(2.0)).run({"x": np.ones(4)})


# The command line --------------------------------------------------------------------------------------------------

CONFIG = """\
seed: 1
data: {source: {type: CSV, path: %s, target: label}, validation: 0.2}
model: [{type: Linear, out_features: 8}, ReLU, {type: Dropout, rate: 0.1}, {type: Linear, out_features: 3}]
loss: SoftmaxCE
optimizer: {type: Adam, lr: 0.01}
train: {epochs: 4, batch_size: 16%s}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(100, 4)), rng.integers(0, 3, 100)
    rows = "\n".join(",".join([*(f"{v:.4f}" for v in row), "abc"[label]]) for row, label in zip(x, y, strict=True))
    (tmp_path / "table.csv").write_text(f"p,q,r,s,label\n{rows}\n")
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG % ("table.csv", ", engine: native"))
    return file


def facts(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text())


def test_a_run_is_native_resumed_and_verified(config: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "runs"
    assert layerflow(["train", str(config), "-o", str(out), "-q"]) == 0
    whole = out / "c" / "001"
    assert facts(whole)["engine"] == "native"
    assert "LLVM for" in facts(whole)["machine"]
    assert layerflow(["train", str(config), "-o", str(out), "-q", "train.epochs=2"]) == 0
    part = out / "c" / "002"
    assert layerflow(["train", str(config), "-o", str(out), "-q", "--resume", str(part)]) == 0
    assert (part / "metrics.jsonl").read_text().count("\n") == 4
    losses = [(folder / "step_losses.f64").read_bytes() for folder in (whole, part)]
    assert losses[0] == losses[1]
    assert layerflow(["verify", str(whole)]) == 0
    assert "the same" in capsys.readouterr().out


def test_the_engine_of_the_command_line_counts(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    assert layerflow(["train", str(config), "-o", str(out), "-q", "--engine", "numpy"]) == 0
    assert facts(out / "c" / "001")["engine"] == "numpy"
    assert layerflow(["train", str(config), "--engine", "native", "--dry-run"]) == 0


def test_check_tells_whether_the_engine_can_run_the_model(config: Path, capsys: Any) -> None:
    config.write_text(CONFIG % ("table.csv", ""))
    assert layerflow(["check", str(config), "--engine", "native", "--quick"]) == 0
    assert "engine    native, LLVM for" in capsys.readouterr().out


def test_a_gate_that_cannot_be_recorded_leaves_no_run_folder(config: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "own.py").write_text(
        "import layerflow as lf\n\n\nclass Odd(lf.Gate):\n    def forward(self, x):\n        self.save()\n"
        "        return x + 0 * x[x >= 0].mean()\n\n    def backward(self, grad):\n        return (grad,), {}\n"
    )
    config.write_text((CONFIG % ("table.csv", "")).replace("ReLU", "Odd"))
    out, own = ["-o", str(tmp_path / "runs"), "-q"], ["--import", str(tmp_path / "own.py")]
    for command in (["check", "--quick"], ["train", *out], ["train", "--dry-run"]):
        assert layerflow([command[0], str(config), *command[1:], "--engine", "native", *own]) != 0
        assert "own.py:7: x[mask], whose size depends on the numbers" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    config.write_text((CONFIG % ("table.csv", ", engine: native")).replace("ReLU", "Odd"))
    for command in ("summary", "graph", "gradcheck", "time"):  # which run nothing in another engine
        assert layerflow([command, str(config), *own]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_configuration_trains_as_with_numpy(file: Path, tmp_path: Path) -> None:
    """Five epochs in float64: losses equal but for rounding."""
    found = []
    for engine in ("numpy", "native"):
        out = tmp_path / engine
        words = ["train", str(file), "-o", str(out), "-q", "--engine", engine, "dtype=float64", "train.epochs=5"]
        finished = subprocess.run(
            [sys.executable, "-m", "layerflow", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr
        lines = (next(out.rglob("metrics.jsonl"))).read_text().splitlines()
        found.append([json.loads(line) for line in lines])
    for numpy, native in zip(*found, strict=True):
        for name, value in numpy.items():
            if "loss" in name or "objective" in name:
                assert math.isclose(value, native[name], rel_tol=1e-6), (name, value, native[name])


def test_auto_compiles_what_takes_long_enough(monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 5)), rng.integers(0, 3, 64)

    def engine_of(gate: Any, epochs: int) -> str:
        trainer = lf.Trainer(
            lf.Sequential(lf.Linear(4), gate, lf.Linear(3)), lf.SoftmaxCE(), lf.SGD(0.1), epochs=epochs, engine="auto"
        )
        trainer.prepare(x, y)
        return trainer.state.engine.name

    assert engine_of(lf.ReLU(), 10) == "numpy"
    assert engine_of(lf.ReLU(), 1_000_000) == "native"
    assert engine_of(Masks(), 1_000_000) == "numpy"  # cannot be recorded
    monkeypatch.setattr("layerflow.engine.choice.find_spec", lambda name: None)
    assert engine_of(lf.ReLU(), 1_000_000) == "numpy"


def test_gradcheck_runs_gates_as_machine_code(tmp_path: Path, capsys: Any) -> None:
    assert layerflow(["gradcheck", "Linear", "--engine", "native"]) == 0
    (tmp_path / "own.py").write_text(
        "import numpy as np\nimport layerflow as lf\n\n\nclass Odd(lf.Gate):\n    def forward(self, x):\n"
        "        self.save()\n        return x * float(np.max(x) > 1e9) + x\n\n"
        "    def backward(self, grad):\n        return (grad,), {}\n"
    )
    capsys.readouterr()
    assert layerflow(["gradcheck", str(tmp_path / "own.py"), "--shape", "3,4", "--engine", "native"]) == 3
    assert "own.py:8: float() of an array; keep it an array" in capsys.readouterr().out
    assert layerflow(["gradcheck", str(tmp_path / "own.py"), "--shape", "3,4"]) == 0
