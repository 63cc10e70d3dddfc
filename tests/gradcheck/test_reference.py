"""A gate beside another one: a reference that it must agree with, a surrogate whose derivative is meant."""

from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import GateError
from layerflow.gradcheck import check_gradients

X = np.random.default_rng(5).normal(size=(5, 4))


class Elementwise(lf.Gate):
    """A forward and a backward that need not belong together."""

    def __init__(self, forward: Any, backward: Any) -> None:
        self.function, self.derivative = forward, backward

    def forward(self, x: Any) -> Any:
        self.save(x)
        return self.function(x)

    def backward(self, grad: Any) -> Any:
        return (self.derivative(grad, self.saved[0]),), {}


class MyLinear(lf.Gate):
    def __init__(self, out_features: int, shift: float = 0.0) -> None:
        self.shift = shift
        self.W = lf.Parameter(np.random.default_rng(0).normal(size=(out_features, 4)))
        self.b = lf.Parameter(np.zeros(out_features))

    def forward(self, x: Any) -> Any:
        self.save(x)
        return x @ self.W.value.T + self.b.value + self.shift

    def backward(self, grad: Any) -> Any:
        (x,) = self.saved
        return (grad @ self.W.value,), {"W": grad.T @ x, "b": grad.sum(axis=0)}


ROUND = Elementwise(np.round, lambda grad, x: grad)
REVERSED = Elementwise(lambda x: x.copy(), lambda grad, x: -0.5 * grad)
STOPPED = Elementwise(lambda x: x.copy(), lambda grad, x: None)
CLIPPED = Elementwise(np.sign, lambda grad, x: grad * (np.abs(x) < 1))

MEANT = {
    "straight through": (ROUND, lambda x: x),
    "a reversed gradient": (REVERSED, lambda x: -0.5 * x),
    "a stopped gradient": (STOPPED, lambda x: 0.0 * x),
    "a gate as surrogate": (CLIPPED, Elementwise(lambda x: np.clip(x, -1, 1), lambda grad, x: grad)),
    "a gate with the same parameters": (MyLinear(3, shift=7.0), lf.Linear(3)),
}


@pytest.mark.parametrize("case", MEANT)
def test_the_derivative_of_the_surrogate_is_right(case: str) -> None:
    gate, surrogate = MEANT[case]
    report = check_gradients(gate, X, surrogate=surrogate)
    assert report, str(report)


@pytest.mark.parametrize("case", ["straight through", "a reversed gradient", "a gate as surrogate"])
def test_without_a_surrogate_or_with_another_one_it_is_wrong(case: str) -> None:
    gate, _ = MEANT[case]
    assert not check_gradients(gate, X)
    assert not check_gradients(gate, X, surrogate=lambda x: 1.001 * x)


def test_a_gradient_that_is_stopped_but_meant_is_missing() -> None:
    assert not check_gradients(STOPPED, X, surrogate=lambda x: x)


@pytest.mark.parametrize("reference", ["ReLU", lf.ReLU()])
def test_a_consistent_but_wrong_gate_differs_from_its_reference(reference: Any) -> None:
    twice = Elementwise(lambda x: 2 * np.maximum(x, 0), lambda grad, x: 2 * grad * (x > 0))
    assert check_gradients(twice, X)
    report = check_gradients(twice, X, against=reference)
    assert not report
    assert [fault.cause for fault in report.faults] == ["differs from ReLU"] * 2
    assert [fault.tensor for fault in report.faults] == ["", "x"]


def test_a_right_gate_agrees_with_its_reference() -> None:
    assert check_gradients(Elementwise(np.tanh, lambda grad, x: grad * (1 - np.tanh(x) ** 2)), X, against="Tanh")
    assert check_gradients(MyLinear(3), X, against="Linear")
    assert check_gradients(MyLinear(3), X, against=lf.Linear(3))


def test_a_reference_finds_what_differs_by_one_in_ten_million() -> None:
    shifted = check_gradients(MyLinear(3, shift=1e-6), X, against="Linear")
    assert [fault.tensor for fault in shifted.faults] == [""]
    assert "forward gives" in str(shifted.faults[0])


def test_a_missing_gradient_and_another_shape_differ_from_the_reference() -> None:
    report = check_gradients(Elementwise(np.tanh, lambda grad, x: None), X, against="Tanh")
    assert any(fault.tensor == "x" and fault.cause == "differs from Tanh" for fault in report.faults)
    column = Elementwise(lambda x: x.sum(axis=1), lambda grad, x: np.repeat(grad[:, None], 4, axis=1))
    assert "forward returns shape (5,), not ()" in str(check_gradients(column, X, against="Sum"))


BAD = {
    "an unknown name": ({"against": "ReLu"}, "did you mean 'ReLU'"),
    "a gate that needs arguments": ({"against": "Linear"}, "give the gate itself"),
    "a reference with other parameters": ({"against": lf.Linear(3)}, "they must have the same shapes"),
    "no function": ({"surrogate": 3}, "give a gate or a function"),
    "a surrogate of another shape": ({"surrogate": np.sum}, r"surrogate=sum returns shape \(\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_compared_is_a_clear_message(case: str) -> None:
    options, message = BAD[case]
    with pytest.raises(GateError, match=message):
        check_gradients(ROUND, X, **options)


def test_a_function_stands_for_no_parameters() -> None:
    with pytest.raises(GateError, match=r"a function has no parameters, but .* has W, b"):
        check_gradients(MyLinear(3), X, surrogate=lambda x: x)
