"""Groups of parameters with settings of their own, and parameters that are frozen."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.training.adaptive import OPTIMIZERS

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(40, 4)), RNG.integers(0, 3, 40)


def trained(optimizer, epochs=3, **settings):
    model = lf.Sequential(hidden=lf.Linear(5), act=lf.Tanh(), scores=lf.Linear(3))
    trainer = lf.Trainer(model, lf.SoftmaxCE(), optimizer, epochs=epochs, batch_size=8, dtype="float64", **settings)
    trainer.prepare(X, Y)
    start = {name: parameter.value.copy() for name, parameter in model.named_parameters().items()}
    trainer.fit(X, Y)
    return start, {name: parameter.value.copy() for name, parameter in model.named_parameters().items()}, trainer


@pytest.mark.parametrize("kind", [kind for kind in OPTIMIZERS if kind != "LBFGS"])
def test_a_group_whose_lr_is_0_stays_and_the_others_learn(kind):
    start, end, _ = trained(OPTIMIZERS[kind](lr=0.01, groups=[{"match": "hidden.*", "lr": 0.0}]))
    for name in start:
        assert np.array_equal(start[name], end[name]) == name.startswith("hidden."), name


def test_a_group_with_the_settings_of_the_rest_changes_nothing():
    plain = trained(lf.Adam(0.01, weight_decay=0.1))[1]
    grouped = trained(lf.Adam(0.01, weight_decay=0.1, groups=[{"match": "*.bias", "lr": 0.01}]))[1]
    for name in plain:
        np.testing.assert_allclose(grouped[name], plain[name], rtol=1e-12)


def test_a_group_moves_as_with_an_optimizer_of_its_settings():
    weights = RNG.normal(size=(6, 2))
    first, second = lf.Parameter(weights[:3].copy()), lf.Parameter(weights[3:].copy())
    first.name, second.name = "a.weight", "b.weight"
    store = lf.ParameterStore([first, second])
    optimizer = lf.SGD(0.1, momentum=0.9, groups=[{"match": ["b.*"], "lr": 0.02, "momentum": 0.5, "weight_decay": 0.3}])
    alone = [
        lf.ParameterStore([lf.Parameter(weights[:3].copy())]),
        lf.ParameterStore([lf.Parameter(weights[3:].copy())]),
    ]
    others = [lf.SGD(0.1, momentum=0.9), lf.SGD(0.02, momentum=0.5, weight_decay=0.3)]
    for factor in (1.0, 1.0, 0.5, 0.5):  # a schedule halves both
        store.grads[...] = RNG.normal(size=12)
        optimizer.lr, others[0].lr, others[1].lr = 0.1 * factor, 0.1 * factor, 0.02 * factor
        optimizer.step(store)
        for part, (own, other) in enumerate(zip(alone, others, strict=True)):
            own.grads[...] = store.grads[6 * part : 6 * part + 6]
            other.step(own)
    np.testing.assert_allclose(first.value.ravel(), alone[0].values, rtol=1e-13)
    np.testing.assert_allclose(second.value.ravel(), alone[1].values, rtol=1e-13)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"lr": 0.1}], "expected a mapping such as"),
        (["hidden.*"], "expected a mapping such as"),
        ([{"match": "*", "rate": 0.1}], "unknown setting 'rate'"),
        ([{"match": "*", "lr": -1}], "lr is -1"),
        ([{"match": "encoder.*", "lr": 0.1}], r"no parameter is in the group encoder\.\*; there are hidden.weight"),
    ],
)
def test_a_wrong_group_is_named(groups, message):
    with pytest.raises(lf.ConfigError, match=message):
        trained(lf.SGD(0.1, groups=groups))


def test_frozen_parameters_stay_and_do_not_count_in_the_norm():
    start, end, trainer = trained(lf.AdamW(0.01, weight_decay=0.5), freeze=["hidden.*"], clip_norm=1e-9)
    for name in start:
        assert np.array_equal(start[name], end[name]) == name.startswith("hidden."), name
    assert trainer.model["hidden"].weight.frozen
    assert trainer.state.store.trained_size == 5 * 3 + 3
    assert np.any(trainer.model["hidden"].weight.grad)


def test_a_parameter_is_frozen_by_hand_too():
    model = lf.Sequential(lf.Linear(5), lf.Linear(3))
    model.forward(X)
    model[0].weight.frozen = True
    before = model[0].weight.value.copy()
    lf.Trainer(model, lf.SoftmaxCE(), lf.SGD(0.1), epochs=1, dtype="float64").fit(X, Y)
    np.testing.assert_array_equal(model[0].weight.value, before)


def test_a_pattern_that_freezes_nothing_or_everything_is_named():
    with pytest.raises(lf.ConfigError, match=r"freeze: no parameter matches 'encoder\.\*'; there are hidden.weight"):
        trained(lf.SGD(0.1), freeze=["encoder.*"])
    with pytest.raises(lf.ConfigError, match="all parameters are frozen"):
        trained(lf.SGD(0.1), freeze=["*"])
    with pytest.raises(lf.ConfigError, match="freeze is 'hidden', expected a list of patterns"):
        trained(lf.SGD(0.1), freeze="hidden")


def test_initializers_are_chosen_by_the_names_of_new_parameters():
    model = lf.Sequential(lf.GRU(6), lf.Linear(2))
    series = RNG.normal(size=(8, 5, 3))
    trainer = lf.Trainer(
        model,
        lf.SquaredError(),
        lf.SGD(0.1),
        init={"0.weight_hh": "orthogonal", "1.*": "zeros", "*": "normal"},
        batch_size=8,
    )
    trainer.prepare(series, np.zeros((8, 5, 2)))
    whole = model[0].weight_hh.value.astype(float)
    np.testing.assert_allclose(whole.T @ whole, np.eye(6), atol=1e-6)
    assert not model[1].weight.value.any() and 0 < np.abs(model[0].weight_ih.value).max() < 0.1
    kept = model[0].weight_hh.value.copy()
    trainer.prepare(series, np.zeros((8, 5, 2)))  # which is not drawn again
    np.testing.assert_array_equal(model[0].weight_hh.value, kept)
    with pytest.raises(lf.ConfigError, match="init: no parameter matches"):
        lf.Trainer(lf.Sequential(lf.Linear(2)), lf.SquaredError(), lf.SGD(0.1), init={"2.*": "he"}).fit(X, X[:, :2])
