"""Whole models: all right, or the first guilty gate by name."""

from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.gates import L2Regularizer, LeakyReLU, ReLU, SoftmaxCE, Tanh
from layerflow.gradcheck import check_gradients

X = np.random.default_rng(2).normal(size=(8, 6))


class WrongReLU(ReLU):
    def backward(self, grad: Any) -> Any:
        return (grad,), {}


class Spoiler(Tanh):
    """Right in a row of gates, and a trap wherever another gate needs the same gradient."""

    def backward(self, grad: Any) -> Any:
        (dx,), _ = super().backward(grad)
        grad *= 0.0
        return (dx,), {}


def test_a_right_model_is_right_with_every_parameter() -> None:
    model = lf.Sequential(hidden=lf.Linear(5), act=Tanh(), out=lf.Linear(3))
    report = check_gradients(model, X)
    assert report, str(report)
    names = [tensor.name for tensor in report.tensors]
    assert names == ["x", "hidden.weight", "hidden.bias", "out.weight", "out.bias"]
    assert all(tensor.checked == tensor.size for tensor in report.tensors)


def test_a_graph_with_loss_labels_and_regularizer_is_right() -> None:
    g = lf.ComputationalGraph()
    x, y = g.inputs("x", "y")
    w = g.parameter("W", np.random.default_rng(0).normal(size=(6, 3)))
    SoftmaxCE()(x @ w, y) + L2Regularizer(0.1)(w)
    report = check_gradients(g, X, np.arange(8) % 3)
    assert report, str(report)
    assert [tensor.name for tensor in report.tensors] == ["x", "W"]


def test_shared_weights_and_repeated_gates_are_right() -> None:
    tied = lf.Linear(6)
    assert check_gradients(lf.Sequential(tied, Tanh(), tied, Tanh()), X)


@pytest.mark.parametrize("samples", [None, 40])
def test_the_first_guilty_gate_is_named(samples: int | None) -> None:
    model = lf.Sequential(a=lf.Linear(7), b=LeakyReLU(), c=lf.Linear(6), d=WrongReLU(), e=lf.Linear(5), f=WrongReLU())
    report = check_gradients(model, X, samples=samples)
    assert not report
    assert report.guilty is not None
    name, inner = report.guilty
    assert name == "d"
    assert [diagnosis.cause for diagnosis in inner.diagnoses] == ["mask missing"]
    assert "the first gate that fails on its own, with the inputs it received in the model, is 'd'" in str(report)
    assert not report.diagnoses


def test_a_guilty_gate_in_a_nested_model_has_its_full_name() -> None:
    model = lf.Sequential(first=lf.Linear(6), block=lf.Sequential(act=WrongReLU(), out=lf.Linear(3)))
    report = check_gradients(model, X)
    assert report.guilty is not None
    assert report.guilty[0] == "block.act"


def test_a_gate_that_spoils_its_gradient_is_guilty_though_the_model_is_right() -> None:
    report = check_gradients(lf.Sequential(lf.Linear(5), Spoiler(), lf.Linear(3)), X)
    assert all(tensor.verdict == "ok" for tensor in report.tensors)
    assert not report
    assert report.guilty is not None
    assert report.guilty[0] == "1"
    assert "grad *= 0.0" in str(report)


def test_kinks_of_several_samples_at_once_are_no_failure() -> None:
    model = lf.Sequential(lf.Linear(4, bias=False), ReLU(), lf.Linear(3))
    model.build(np.random.default_rng(0), (8, 6))
    weight = model.parameters()[0]
    weight.value = np.zeros((4, 6))
    weight.value[0, 0] = 1.0
    report = check_gradients(model, X)
    assert report, str(report)
    assert report.kinks


def test_gradients_lost_between_right_gates_are_blamed_on_how_they_are_put_together() -> None:
    class Forgetful(lf.Sequential, checked=False):
        def backward(self, *grads: Any) -> Any:
            (dx,), params = super().backward(*grads)
            return (2.0 * dx,), params

    report = check_gradients(Forgetful(lf.Linear(5), Tanh()), X)
    assert not report
    assert report.guilty is None
    assert "check how the gates are connected" in str(report)
