"""The objective is a graph like any other: its gradients are checked as those of a gate are."""

import numpy as np

import layerflow as lf
from layerflow.training.state import Objective


def build(*regularizers: lf.Gate) -> tuple[Objective, lf.Sequential]:
    model = lf.Sequential(lf.Linear(4), lf.Tanh(), lf.Linear(3))
    rng = np.random.default_rng(0)
    model.build(rng, (5, 2))
    objective = Objective(model, lf.SoftmaxCE(), regularizers)
    objective.build(rng, (5, 2), (5,))
    return objective, model


def test_regularizers_are_added_to_the_loss_and_spare_biases() -> None:
    objective, model = build(lf.L2Regularizer(0.1), lf.L1Regularizer(0.2))
    x, y = np.random.default_rng(1).normal(size=(5, 2)), np.array([0, 1, 2, 0, 1])
    for parameter in model.parameters():
        parameter.value = parameter.value + 0.3
    value = objective.forward(x, y)
    matrices = [model["0"].weight.value, model["2"].weight.value]
    penalty = sum(0.1 * np.sum(w**2) + 0.2 * np.sum(np.abs(w)) for w in matrices)
    expected = lf.SoftmaxCE().forward(model.forward(x), y)
    np.testing.assert_allclose(objective.data_loss, expected)
    np.testing.assert_allclose(value, expected + penalty)
    np.testing.assert_array_equal(objective.scores, model.forward(x))


def test_every_gradient_of_the_objective_is_right() -> None:
    objective, model = build(lf.L2Regularizer(0.1), lf.L1Regularizer(0.2))
    x, y = np.random.default_rng(1).normal(size=(5, 2)), np.array([0, 1, 2, 0, 1])
    objective.forward(x, y)
    objective.backward()
    for parameter in model.parameters():
        found = parameter.grad.copy()
        for index in np.ndindex(found.shape):
            kept = parameter.value[index]
            values = []
            for step in (1e-6, -1e-6):
                parameter.value[index] = kept + step
                values.append(objective.forward(x, y))
            parameter.value[index] = kept
            np.testing.assert_allclose(found[index], (values[0] - values[1]) / 2e-6, rtol=1e-6, atol=1e-8)


def test_data_get_no_gradient() -> None:
    objective, _ = build()
    objective.forward(np.ones((5, 2)), np.array([0, 1, 2, 0, 1]))
    inputs, _ = objective.backward()
    assert inputs == (None, None)
