"""Several inputs and outputs, targets of other shapes, weights of samples, gradients of several batches."""

import dataclasses

import numpy as np
import pytest

import layerflow as lf

RNG = np.random.default_rng(4)
IMAGE, TABLE = RNG.normal(size=(60, 4)), RNG.normal(size=(60, 2))
KIND, AGE = (IMAGE[:, 0] > 0).astype(int), TABLE @ [1.0, -2.0]


def two_by_two():
    graph = lf.ComputationalGraph()
    image, table = graph.inputs("image", "table")
    both = lf.Concatenate()(lf.Linear(6)(image), lf.Linear(6)(table))
    h = lf.Tanh()(both)
    graph.add("kind", lf.Linear(2), h)
    graph.add("age", lf.Linear(1), h)
    graph.output("age", "kind")
    return graph


def two_trained(**settings):
    options = {"epochs": 60, "batch_size": 10, "seed": 0} | settings
    losses = {"kind": lf.SoftmaxCE(), "age": lf.SquaredError()}
    return lf.Trainer(two_by_two(), losses, lf.Adam(0.02), **options)


def test_inputs_and_outputs_are_matched_by_name():
    trainer = two_trained(loss_weights={"age": 0.5})
    x, y = {"table": TABLE, "image": IMAGE}, {"kind": KIND, "age": AGE}
    history = trainer.fit(x, y, validation=(x, y))
    last = history.last
    assert last["val_kind_accuracy"] > 0.95 and last["val_age_rmse"] < 0.5
    assert last["val_loss"] == pytest.approx(last["val_kind_loss"] + 0.5 * last["val_age_loss"], rel=1e-5)
    assert {"train_kind_accuracy", "train_age_r2", "train_kind_loss", "val_age_mae"} <= set(last)
    scores = trainer.predict(x)
    assert scores["kind"].shape == (60, 2) and scores["age"].shape == (60, 1)
    found = trainer.evaluate(x, y)
    assert found["kind_accuracy"] == last["val_kind_accuracy"]
    assert set(history.baseline) == {"kind_accuracy", "age_rmse", "age_mae", "age_r2"}


def test_another_trainer_of_a_trained_model_names_its_outputs_right():
    trainer = two_trained(epochs=1)
    x = {"image": IMAGE, "table": TABLE}
    trainer.fit(x, {"kind": KIND, "age": AGE})
    scores = dataclasses.replace(trainer).predict(x)  # the graph's outputs are age and kind, in this order
    assert scores["kind"].shape == (60, 2) and scores["age"].shape == (60, 1)


def test_the_objective_of_several_outputs_has_the_gradients_of_differences():
    trainer = two_trained(dtype="float64", batch_size=7)
    trainer.prepare({"image": IMAGE, "table": TABLE}, {"kind": KIND, "age": AGE}, sample_weight=np.arange(60) % 3 + 0.5)
    x, y = next(trainer.state.batches.epoch(0))
    arrays = *x.parts.values(), *y.parts.values()
    assert len(arrays) == 5
    assert lf.check_gradients(trainer.state.objective, *arrays).ok


def test_early_stopping_and_metrics_name_the_output():
    trainer = two_trained(
        epochs=200,
        early_stopping=lf.EarlyStopping("val_kind_accuracy", patience=3),
        metrics={"kind": ["f1"], "age": []},
    )
    x, y = {"image": IMAGE, "table": TABLE}, {"kind": KIND, "age": AGE}
    with pytest.raises(lf.ConfigError, match="'val_kind_accuracy' is not recorded"):
        trainer.fit(x, y, validation=(x, y))
    trainer = dataclasses.replace(trainer, metrics={"kind": ["accuracy"], "age": []})
    history = trainer.fit(x, y, validation=(x, y))
    assert history.outcome == "stopped early"
    assert not any("age_r" in name for name in history.last)


X, Y = {"image": IMAGE, "table": TABLE}, {"kind": KIND, "age": AGE}
BAD = [
    (lambda: two_trained().fit({"image": IMAGE}, Y), lf.DataError, "x lacks 'table', an input of the model"),
    (lambda: two_trained().fit({**X, "tabel": TABLE}, Y), lf.DataError, "'tabel', .* did you mean 'table'"),
    (
        lambda: two_trained().fit({**X, "table": TABLE[:5]}, Y),
        lf.DataError,
        "same number of samples: image 60, table 5",
    ),
    (lambda: two_trained().fit(X, {"kind": KIND}), lf.DataError, "y is 'kind'; expected a dict with the targets of"),
    (lambda: two_trained().fit(X, KIND), lf.DataError, "y is a ndarray; expected a dict"),
    (lambda: two_trained(metrics={"kid": []}).fit(X, Y), lf.ConfigError, "metrics for 'kid', .* did you mean 'kind'"),
    (
        lambda: lf.Trainer(two_by_two(), lf.SoftmaxCE(), lf.SGD(0.1)).fit(X, KIND),
        lf.ConfigError,
        r"the model has 2 outputs \(age, kind\); give a loss for each",
    ),
    (
        lambda: lf.Trainer(two_by_two(), {"kind": lf.SoftmaxCE(), "agee": lf.Huber()}, lf.SGD(0.1)).fit(
            X, {"kind": KIND, "agee": AGE}
        ),
        lf.ConfigError,
        "a loss for 'agee', but the model has no output of this name, did you mean 'age'",
    ),
    (
        lambda: lf.Trainer(lf.Sequential(lf.Linear(2)), lf.SoftmaxCE(), lf.SGD(0.1)).fit(IMAGE, {"y": KIND}),
        lf.DataError,
        "y is a dict of 'y', but there is one loss",
    ),
]


@pytest.mark.parametrize(("use", "error", "message"), BAD, ids=range(len(BAD)))
def test_what_does_not_fit_is_named(use, error, message):
    with pytest.raises(error, match=message):
        use()


def classifier(**settings):
    options = {"epochs": 30, "batch_size": 20, "seed": 1, "dtype": "float64"} | settings
    loss = options.pop("loss", lf.SoftmaxCE())
    return lf.Trainer(lf.Sequential(lf.Linear(2)), loss, lf.SGD(0.5), **options)


def test_a_weight_of_0_leaves_a_sample_out_and_2_counts_it_twice():
    weights = np.ones(60)
    weights[:10] = 0
    options = {"batch_size": 60, "shuffle": False}
    left_out, without = classifier(**options), classifier(**options | {"batch_size": 50})
    left_out.fit(IMAGE, KIND, sample_weight=weights)
    without.fit(IMAGE[10:], KIND[10:])
    np.testing.assert_allclose(left_out.predict(IMAGE), without.predict(IMAGE), rtol=1e-10)
    weights[:10] = 2
    twice, doubled = classifier(**options), classifier(**options | {"batch_size": 70})
    twice.fit(IMAGE, KIND, weights)
    doubled.fit(np.concatenate([IMAGE, IMAGE[:10]]), np.concatenate([KIND, KIND[:10]]))
    np.testing.assert_allclose(twice.predict(IMAGE), doubled.predict(IMAGE), rtol=1e-10)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(5), r"sample_weight has shape \(5,\), expected \(60,\)"),
        (-np.ones(60), "sample_weight is -1.0 in row 0; weights are finite and 0 or more"),
        ((IMAGE, KIND), r"write validation=\(x, y\)"),
    ],
)
def test_wrong_weights_are_named(weights, message):
    with pytest.raises(lf.DataError, match=message):
        classifier().fit(IMAGE, KIND, weights)


@pytest.mark.parametrize("batch_size", [20, 16])
def test_accumulated_batches_step_as_one_batch_of_all_their_samples(batch_size):
    parts = classifier(batch_size=batch_size, accumulate=4, shuffle=False, epochs=5)
    whole = classifier(batch_size=60, shuffle=False, epochs=5)
    parts.fit(IMAGE, KIND)
    whole.fit(IMAGE, KIND)
    np.testing.assert_allclose(parts.predict(IMAGE), whole.predict(IMAGE), rtol=1e-10)
    assert parts.state.optimizer.steps == 5


def test_an_accumulation_that_is_broken_off_continues_exactly():
    def make():
        return classifier(batch_size=10, accumulate=4, epochs=2)

    snapshots = []

    class Keep(lf.Callback):
        def step_ended(self, state):
            snapshots.append(state.capture())

    expected = make()
    expected.fit(IMAGE, KIND, callbacks=[Keep()])
    continued = make()
    continued.fit(IMAGE, KIND, resume=snapshots[1])
    np.testing.assert_array_equal(continued.predict(IMAGE), expected.predict(IMAGE))


def test_labels_at_every_position_of_a_sequence_are_learned_and_padding_is_ignored():
    tokens = RNG.integers(0, 5, (80, 7))
    labels = np.where(np.arange(7) < RNG.integers(3, 8, (80, 1)), (tokens + 1) % 5, -1)
    model = lf.Sequential(lf.Embedding(5, 8), lf.Linear(5))
    trainer = lf.Trainer(
        model,
        lf.SoftmaxCE(ignore_index=-1),
        lf.Adam(0.05),
        epochs=40,
        batch_size=20,
        metrics=["accuracy", "perplexity"],
    )
    last = trainer.fit(tokens, labels, validation=(tokens, labels)).last
    assert last["val_accuracy"] == 1.0
    assert 1.0 < last["val_perplexity"] < 1.2
    assert np.log(last["val_perplexity"]) == pytest.approx(last["val_loss"], rel=1e-2)


def test_several_yes_or_no_questions_are_a_task_of_their_own():
    y = (IMAGE[:, :3] > 0).astype(int)
    model = lf.Sequential(lf.Linear(3))
    metrics = ["accuracy", "exact_match", "f1", "f1_2", "roc_auc", "average_precision"]
    trainer = lf.Trainer(model, lf.SigmoidCE(), lf.Adam(0.1), epochs=60, metrics=metrics)
    last = trainer.fit(IMAGE, y, validation=(IMAGE, y)).last
    assert min(last[f"val_{name}"] for name in metrics) > 0.9


def test_images_may_be_targets():
    images = RNG.normal(size=(30, 1, 6, 6))
    model = lf.Sequential(lf.Conv2d(4, 3, padding="same"), lf.Tanh(), lf.Conv2d(1, 3, padding="same"))
    trainer = lf.Trainer(model, lf.SquaredError(), lf.Adam(0.01), epochs=60, batch_size=10)
    history = trainer.fit(images, 0.3 * images)
    assert history["train_loss"][-1] < 0.05 * history["train_loss"][0]
    assert history.last["train_r2"] > 0.9


def median_error(scores, targets):
    return float(np.median(np.abs(scores[:, 0] - targets)))


median_error.higher_is_better = False


def test_a_function_is_a_metric_and_may_stop_the_training():
    model = lf.Sequential(lf.Linear(1))
    trainer = lf.Trainer(
        model,
        lf.SquaredError(),
        lf.SGD(0.05),
        epochs=500,
        metrics=["rmse", median_error],
        early_stopping=lf.EarlyStopping("val_median_error", patience=5, min_delta=1e-4),
        best="val_median_error",
    )
    history = trainer.fit(TABLE, AGE, validation=(TABLE, AGE))
    assert history.outcome == "stopped early"
    assert history["val_median_error"][-1] < 0.05
    assert history.best.value == min(history["val_median_error"])


def test_the_best_epoch_by_a_function_is_the_one_of_its_highest_value():
    def negative_error(scores, targets):
        return -median_error(scores, targets)

    model = lf.Sequential(lf.Linear(1))
    options = {"epochs": 8, "metrics": [negative_error], "best": "val_negative_error"}
    trainer = lf.Trainer(model, lf.SquaredError(), lf.SGD(0.4), **options)
    history = trainer.fit(TABLE, AGE, validation=(TABLE, AGE))
    assert history.best.value == max(history["val_negative_error"])
