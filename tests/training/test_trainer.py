"""The trainer: what it minimises, in which steps, what it records, and which weights it leaves."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def samples() -> Arrays:
    """Three classes of a hundred samples, not quite separable."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    centres = np.array([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    return centres[y] + rng.normal(size=(300, 2)), y


def network(*more: lf.Gate) -> lf.Sequential:
    return lf.Sequential(lf.Linear(8), lf.ReLU(), *more, lf.Linear(3))


def trainer(model: lf.Gate | None = None, **settings: Any) -> lf.Trainer:
    settings = {"loss": lf.SoftmaxCE(), "optimizer": lf.SGD(lr=0.1), "epochs": 3} | settings
    return lf.Trainer(model or network(), **settings)


def weights(trained: lf.Trainer) -> np.ndarray:
    return trained.state.store.values.copy()


# The steps -----------------------------------------------------------------------------------------------------------


def test_the_steps_are_those_of_plain_loops(samples: Arrays) -> None:
    x, y = samples
    trained = trainer(
        lf.Sequential(lf.Linear(3)),
        epochs=2,
        batch_size=64,
        shuffle=False,
        dtype="float64",
        regularizer=lf.L2Regularizer(0.01),
    )
    trained.prepare(x, y)
    weight, bias = (parameter.value.copy() for parameter in trained.model.parameters())
    trained.fit(x, y)
    for _ in range(2):
        for start in range(0, 300, 64):
            rows, labels = x[start : start + 64], y[start : start + 64]
            scores = rows @ weight.T + bias
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
            shares[np.arange(len(labels)), labels] -= 1
            weight -= 0.1 * (shares.T @ rows / len(labels) + 2 * 0.01 * weight)
            bias -= 0.1 * shares.mean(axis=0)
    for parameter, expected in zip(trained.model.parameters(), (weight, bias), strict=True):
        np.testing.assert_allclose(parameter.value, expected, rtol=1e-12, atol=1e-14)


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(samples: Arrays) -> None:
    results = []
    for seed in (5, 5, 6):
        trained = trainer(network(lf.Dropout(0.3)), seed=seed)
        results.append((trained.fit(*samples)["train_loss"], weights(trained)))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert not np.array_equal(results[0][1], results[2][1])


def test_a_second_fit_goes_on_from_the_weights_with_a_fresh_schedule(samples: Arrays) -> None:
    trained = trainer(optimizer=lf.SGD(lr=0.1, momentum=0.9), schedule=lf.Cosine(), epochs=5)
    first = trained.fit(*samples)
    second = trained.fit(*samples)
    assert second["lr"] == first["lr"]
    assert second["train_loss"][0] < first["train_loss"][0]
    assert len(second) == 5
    assert first.records != second.records


@pytest.mark.parametrize(("drop_last", "seen"), [(False, 300), (True, 256)])
def test_drop_last_leaves_out_the_rest(samples: Arrays, drop_last: bool, seen: int) -> None:
    class Counter(lf.Callback):
        rows = 0

        def step_ended(self, state: Any) -> None:
            self.rows += len(state.objective.scores)

    counter = Counter()
    trainer(batch_size=128, drop_last=drop_last, epochs=1, callbacks=[counter]).fit(*samples)
    assert counter.rows == seen


@pytest.mark.parametrize("limit", [{"clip_norm": 0.01}, {"clip_value": 0.001}])
def test_clipping_limits_what_a_step_can_change(samples: Arrays, limit: dict[str, float]) -> None:
    trained = trainer(epochs=1, batch_size=300, optimizer=lf.SGD(lr=1.0), **limit)
    trained.prepare(*samples)
    before = weights(trained)
    trained.fit(*samples)
    change = weights(trained) - before
    if "clip_norm" in limit:
        assert np.linalg.norm(change) == pytest.approx(0.01, rel=1e-4)
    else:
        assert np.abs(change).max() == pytest.approx(0.001, rel=1e-4)


def test_predict_returns_the_scores_in_evaluation_mode(samples: Arrays) -> None:
    x, y = samples
    trained = trainer(network(lf.Dropout(0.5)), dtype="float64")
    with pytest.raises(lf.ConfigError, match="no weights yet; call fit"):
        trained.predict(x)
    trained.fit(x, y)
    np.testing.assert_array_equal(trained.predict(x), trained.predict(x.tolist()))
    first, last = trained.model["0"], trained.model["3"]
    hidden = np.maximum(x @ first.weight.value.T + first.bias.value, 0)
    np.testing.assert_allclose(trained.predict(x), hidden @ last.weight.value.T + last.bias.value, rtol=1e-12)


def test_settings_are_frozen_and_replaced_in_a_copy(samples: Arrays) -> None:
    short = trainer(epochs=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        short.epochs = 2  # type: ignore[misc]
    long = dataclasses.replace(short, epochs=2)
    assert [len(trained.fit(*samples)) for trained in (short, long)] == [1, 2]


def test_there_is_no_state_before_the_first_fit() -> None:
    with pytest.raises(lf.ConfigError, match="call fit"):
        _ = trainer().state


@pytest.mark.parametrize(("threads", "parameters", "expected"), [(None, 8, 1), (None, 2**19, None), (3, 8, 3)])
def test_small_steps_use_one_thread(threads: int | None, parameters: int, expected: int | None) -> None:
    from threadpoolctl import threadpool_info

    class Watch(lf.Callback):
        def step_ended(self, state: Any) -> None:
            self.seen = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    watch, before = Watch(), threadpool_info()
    model = lf.Sequential(lf.Linear(parameters // 2, bias=False), lf.Mean(axis=1, keepdims=True))
    trained = trainer(
        model, loss=lf.SquaredError(), epochs=1, batch_size=64, threads=threads, callbacks=[watch], metrics=[]
    )
    trained.fit(np.ones((64, 2)), np.ones((64, 1)))
    assert trained.state.threads == expected
    assert expected is None or watch.seen == {expected}
    assert threadpool_info() == before


def test_reduce_on_plateau_reduces(samples: Arrays) -> None:
    x, _ = samples
    noise = np.random.default_rng(1).integers(0, 3, 300)
    schedule = lf.ReduceOnPlateau(metric="val_loss", factor=0.5, patience=0)
    history = trainer(schedule=schedule, optimizer=lf.SGD(lr=1.0), epochs=12).fit(
        x, noise, validation=(x[:50], noise[50:100])
    )
    assert history["lr"][0] == 1.0
    assert history["lr"][-1] < 0.2
    assert sorted(history["lr"], reverse=True) == history["lr"]


# What it takes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_is_computed_in_the_chosen_type(samples: Arrays, dtype: str) -> None:
    trained = trainer(dtype=dtype)
    trained.fit(*samples)
    assert {parameter.value.dtype for parameter in trained.model.parameters()} == {np.dtype(dtype)}
    assert trained.state.objective.scores.dtype == dtype


def test_constants_of_a_graph_keep_the_chosen_type(samples: Arrays) -> None:
    graph = lf.ComputationalGraph()
    x = graph.input("x")
    graph.output(lf.Linear(3)(x) * 2.0)
    trained = trainer(graph)
    trained.fit(*samples)
    assert trained.state.objective.scores.dtype == np.float32
    assert trained.model.forward(np.zeros((2, 2), np.float32)).dtype == np.float32


def test_a_file_on_disk_trains_as_the_same_array_does(samples: Arrays, tmp_path: Path) -> None:
    x, y = samples
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    in_memory, on_disk = trainer(), trainer()
    in_memory.fit(x, y, validation=(x[:30], y[:30]))
    on_disk.fit(mapped, y, validation=(mapped[:30], y[:30]))
    np.testing.assert_array_equal(weights(on_disk), weights(in_memory))


def test_lists_are_taken_as_they_are() -> None:
    history = trainer(epochs=1, batch_size=2).fit([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 2])
    assert history["train_loss"][0] > 0


def test_a_batch_larger_than_the_data_is_clipped_with_a_warning(samples: Arrays) -> None:
    x, y = samples
    whole = trainer(batch_size=20)
    whole.fit(x[:20], y[:20])
    clipped = trainer(batch_size=64)
    with pytest.warns(UserWarning, match="batch_size is 64, but there are only 20 samples; using batches of 20"):
        clipped.fit(x[:20], y[:20])
    np.testing.assert_array_equal(weights(clipped), weights(whole))


def test_whole_numbers_are_labels_for_one_loss_and_values_for_another(samples: Arrays) -> None:
    x, y = samples
    assert "train_accuracy" in trainer().fit(x, y).last
    regression = trainer(lf.Sequential(lf.Linear(1)), loss=lf.SquaredError(), optimizer=lf.SGD(lr=0.01))
    record = regression.fit(x, y).last
    assert {"train_rmse", "train_mae", "train_r2"} <= set(record)


def test_two_classes_by_one_score(samples: Arrays) -> None:
    x, y = samples
    model = lf.Sequential(lf.Linear(1))
    history = trainer(model, loss=lf.SigmoidCE(), epochs=10, metrics=["accuracy", "f1"]).fit(x, (y == 0).astype(int))
    assert history["train_accuracy"][-1] > 0.85
    assert history["train_f1"][-1] > 0.8


# What it records -----------------------------------------------------------------------------------------------------


def test_recorded_losses_are_those_of_the_data_and_of_the_objective(samples: Arrays) -> None:
    x, y = samples
    model = lf.Sequential(lf.Linear(3))
    regularizers = [lf.L2Regularizer(0.1), lf.L1Regularizer(0.05)]
    trained = trainer(model, epochs=1, batch_size=300, dtype="float64", regularizer=regularizers)
    trained.prepare(x, y)
    weight = model["0"].weight.value.copy()
    start = trained.evaluate(x, y)
    record = trained.fit(x, y).last
    assert record["train_loss"] == pytest.approx(start["loss"])
    assert record["train_accuracy"] == start["accuracy"]
    penalty = 0.1 * np.sum(weight**2) + 0.05 * np.sum(np.abs(weight))
    assert record["train_objective"] == pytest.approx(start["loss"] + penalty)


@pytest.mark.parametrize("batch_size", [64, 300])
def test_recorded_losses_are_means_over_samples_not_batches(samples: Arrays, batch_size: int) -> None:
    """With a learning rate of 0, every batch meets the same weights, and the last one of 64 has 44 samples."""
    x, y = samples
    trained = trainer(
        epochs=1, batch_size=batch_size, optimizer=lf.SGD(lr=0.0), dtype="float64", regularizer=lf.L2Regularizer(0.1)
    )
    record = trained.fit(x, y).last
    weight = np.concatenate([p.value.ravel() for p in trained.model.parameters() if p.decay])
    measured = trained.evaluate(x, y)
    assert record["train_loss"] == pytest.approx(measured["loss"], rel=1e-12)
    assert record["train_accuracy"] == measured["accuracy"]
    assert record["train_objective"] == pytest.approx(measured["loss"] + 0.1 * weight @ weight, rel=1e-12)


def test_without_metrics_only_losses_are_recorded(samples: Arrays) -> None:
    record = trainer(metrics=[]).fit(*samples, validation=samples).last
    assert {name for name in record if name.startswith(("train_", "val_"))} == {"train_loss", "val_loss"}


def test_validation_is_measured_in_evaluation_mode(samples: Arrays) -> None:
    x, y = samples
    trained = trainer(network(lf.Dropout(0.9)), epochs=2)
    record = trained.fit(x, y, validation=(x, y)).last
    assert trained.evaluate(x, y) == trained.evaluate(x, y)
    assert record["val_loss"] != record["train_loss"]
    plain = trainer(lf.Sequential(lf.Dropout(0.5), lf.Linear(3)), epochs=1)
    plain.prepare(x, y)
    scores = x @ plain.model["1"].weight.value.T + plain.model["1"].bias.value
    exps = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected = -np.log(exps[np.arange(300), y] / exps.sum(axis=1)).mean()
    assert plain.evaluate(x, y)["loss"] == pytest.approx(expected, rel=1e-5)
    assert plain.model.training


def test_the_baseline_is_the_majority_class(samples: Arrays) -> None:
    x, y = samples
    history = trainer().fit(x[:250], y[:250], validation=(x[250:], y[250:]))
    assert history.baseline["accuracy"] == pytest.approx(np.mean(y[250:] == 0))


def test_callbacks_see_every_step_and_epoch_in_order(samples: Arrays) -> None:
    class Diary(lf.Callback):
        def __init__(self) -> None:
            self.pages: list[Any] = []

        def training_started(self, state: Any) -> None:
            self.pages.append("start")

        def step_ended(self, state: Any) -> None:
            self.pages.append((state.epoch, state.step))

        def epoch_ended(self, state: Any, record: Any) -> None:
            self.pages.append(record["epoch"])

        def training_ended(self, state: Any) -> None:
            self.pages.append("end")

    diary = Diary()
    trainer(epochs=2, batch_size=150, callbacks=[diary]).fit(*samples)
    assert diary.pages == ["start", (0, 1), (0, 2), 1, (1, 1), (1, 2), 2, "end"]


# Which weights it leaves ---------------------------------------------------------------------------------------------


def overfit(samples: Arrays, **settings: Any) -> tuple[lf.Trainer, lf.History, Arrays]:
    """Train for long on few samples with a large rate, so that the validation loss turns."""
    x, y = samples
    trained = trainer(network(), optimizer=lf.Adam(lr=0.05), epochs=60, batch_size=10, **settings)
    validation = x[30:], y[30:]
    return trained, trained.fit(x[:30], y[:30], validation=validation), validation


def test_the_best_weights_by_validation_loss_are_kept(samples: Arrays) -> None:
    trained, history, validation = overfit(samples)
    losses = history["val_loss"]
    assert history.best is not None
    assert history.best.epoch == 1 + int(np.argmin(losses)) < 60
    assert trained.evaluate(*validation)["loss"] == min(losses) == history.best.value


def test_the_buffers_of_the_best_epoch_are_kept(samples: Arrays) -> None:
    class Counter(lf.Gate):
        """y = x; counts its training sweeps in a buffer."""

        def __init__(self) -> None:
            self.sweeps = lf.Buffer(0.0)

        def forward(self, x: Any) -> Any:
            self.sweeps.value = self.sweeps.value + float(self.training)
            return x

        def backward(self, grad: Any) -> Any:
            return (grad,), {}

    counter = Counter()
    x, y = samples
    trained = trainer(network(counter), optimizer=lf.Adam(lr=0.05), epochs=60, batch_size=10)
    history = trained.fit(x[:30], y[:30], validation=(x[30:], y[30:]))
    assert history.best is not None and history.best.epoch < 60
    assert counter.sweeps.value == 3 * history.best.epoch


def test_another_metric_may_decide_which_weights_are_best(samples: Arrays) -> None:
    trained, history, validation = overfit(samples, best="val_accuracy")
    assert trained.evaluate(*validation)["accuracy"] == max(history["val_accuracy"])


def test_without_validation_the_last_weights_stay(samples: Arrays) -> None:
    x, y = samples
    trained = trainer(batch_size=300, epochs=4)
    history = trained.fit(x, y)
    assert history.best is None
    assert trained.evaluate(x, y)["loss"] < history["train_loss"][-1]


def test_early_stopping_waits_for_its_patience_and_no_longer(samples: Arrays) -> None:
    _, history, _ = overfit(samples, early_stopping=lf.EarlyStopping(patience=4))
    assert history.outcome == "stopped early"
    assert history.best is not None
    assert len(history) == history.best.epoch + 4


def test_early_stopping_watches_any_metric_that_is_recorded(samples: Arrays) -> None:
    stopping = lf.EarlyStopping("val_recall_1", patience=3)
    _, history, _ = overfit(samples, metrics=["top_2", "recall_1"], early_stopping=stopping)
    assert history.outcome == "stopped early"
    recalls = history["val_recall_1"]
    assert len(recalls) == recalls.index(max(recalls)) + 1 + 3


# What it refuses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0, expected an integer of at least 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"clip_norm": 0}, r"clip_norm is 0, expected a number in \(0, inf\)"),
        ({"dtype": "int32"}, "expected 'float32' or 'float64'"),
        ({"best": "val_loss"}, "'val_loss' is not recorded in this run"),
        ({"early_stopping": lf.EarlyStopping("train_acuracy")}, "did you mean 'train_accuracy'"),
        ({"schedule": lf.ReduceOnPlateau("val_loss")}, "metric 'val_loss' is not among those measured"),
        ({"metrics": ["rmse"]}, "no metric 'rmse' for classification"),
        ({"metrics": ["f1_9"]}, "no metric of class 9"),
        ({"metrics": "accuracy"}, r"metrics is 'accuracy', expected a list of names, such as \['accuracy'\]"),
        ({"metrics": [3]}, r"metrics is \[3\], expected a list of names"),
        ({"on_divergence": "go on"}, "on_divergence is 'go on', expected 'stop' or 'skip' or 'halve-lr'"),
        ({"threads": 0}, "threads is 0, expected an integer of at least 1"),
    ],
)
def test_impossible_settings_are_told_before_the_first_step(
    samples: Arrays, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(lf.ConfigError, match=message):
        trainer(**settings).prepare(*samples)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x[:-1], y), lf.DataError, "x has 299 samples but y has 300"),
        (
            lambda x, y: ([x, y], y),
            lf.DataError,
            r"x is a list of arrays, \[\(300, 2\), \(300,\)\]; expected one array",
        ),
        (lambda x, y: ([x, x], y), lf.DataError, r"x is a list of arrays, .*; expected one array"),
        (
            lambda x, y: ({"image": x, "meta": x}, y),
            lf.DataError,
            "x has 2 arrays, 'image', 'meta', but the model takes 1",
        ),
        (lambda x, y: ([["a", "b"]], y[:1]), lf.DataError, "x cannot be converted to float32: could not convert"),
        (lambda x, y: (x, y + 1), lf.GateError, "labels go from 0 to 2"),
        (lambda x, y: (x, y.astype(float)), lf.GateError, "labels are float32"),
        (lambda x, y: (x[:, None, :], y), lf.GateError, "scores of shape"),
    ],
)
def test_data_that_do_not_fit_are_told(
    samples: Arrays, change: Callable[..., Arrays], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        trainer().fit(*change(*samples))


def test_a_model_returns_one_row_of_scores_per_sample(samples: Arrays) -> None:
    class EverySecond(lf.Gate):
        def forward(self, x: Any) -> Any:
            return x[::2]

    class MeanScore(lf.Gate):
        def forward(self, scores: Any, y: Any) -> Any:
            return scores.mean()

    with pytest.raises(lf.DataError, match=r"returns scores of shape \(16, 3\) for 32 samples; expected one row per"):
        trainer(lf.Sequential(lf.Linear(3), EverySecond()), loss=MeanScore()).prepare(*samples)


def test_a_diverging_training_stops_with_the_step_and_leaves_finite_weights(samples: Arrays) -> None:
    x, y = samples
    trained = trainer(lf.Sequential(lf.Linear(1)), loss=lf.SquaredError(), optimizer=lf.SGD(lr=1e4), epochs=100)
    with pytest.raises(lf.DivergedError, match=r"epoch \d+, step \d+, learning rate 10000"):
        trained.fit(x, y.astype(float))
    assert np.isfinite(weights(trained)).all()


class Fragile(lf.Gate):
    """Gives infinity (forward or backward) at one call, and keeps count where it should not."""

    def __init__(self, where: str) -> None:
        self.where, self.count = where, 0

    def build(self, rng: Any, shape: Any) -> Any:
        return shape

    def forward(self, x: Any) -> Any:
        self.save()
        self.count += self.where == "forward"
        return x * np.float32(np.inf) if self.count == 2 else x

    def backward(self, grad: Any) -> Any:
        self.count += self.where == "backward"
        return (grad * np.float32(np.inf) if self.count == 3 else grad,), {}


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_step_that_diverges_once_and_not_again_is_explained(samples: Arrays, where: str) -> None:
    model = lf.Sequential(lf.Linear(3), Fragile(where), lf.Linear(3))
    with pytest.raises(lf.DivergedError, match=r"(?s)when the step was repeated, every number was finite.*lf\.Buffer"):
        lf.Trainer(model, lf.SoftmaxCE(), lf.SGD(lr=0.1), epochs=3, batch_size=4).fit(*samples)
