"""Gates of several outputs, and gates that hold other gates: checked, diagnosed, and held to every law."""

from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.gradcheck import check_gradients, jacobian, numeric_jacobian
from layerflow.testing import check_gate

X = np.random.default_rng(4).normal(size=(4, 3))


class Moments(lf.Gate):
    """tanh(x w), and the mean of the squares of each row of x; `flaw` says what is wrong."""

    num_outputs = 2

    def __init__(self, flaw: str = "") -> None:
        self.flaw = flaw
        self.w = lf.Parameter(np.random.default_rng(5).normal(size=(3, 2)))

    def forward(self, x: Any) -> Any:
        h = np.tanh(x @ self.w.value)
        self.save(x, h)
        return h, np.mean(x**2, axis=1)

    def backward(self, dh: Any, dmean: Any) -> Any:
        x, h = self.saved
        du = dh * (1 - h**2)
        through_h = du @ self.w.value.T
        through_mean = 2 * x * dmean[:, None] / 3
        if self.flaw == "second path missing":
            through_mean = 0 * through_mean
        elif self.flaw == "first path halved":
            through_h = through_h / 2
        elif self.flaw == "second gradient overwritten":
            dmean *= 0
        return (through_h + through_mean,), {"w": x.T @ du}


class SecondOnly(lf.Gate):
    """The second output of `Moments`; the first is used by nobody."""

    def __init__(self, flaw: str = "") -> None:
        self.moments = Moments(flaw)

    def forward(self, x: Any) -> Any:
        return self.moments.forward(x)[1]

    def backward(self, grad: Any) -> Any:
        (dx,), grads = self.moments.backward(None, grad)
        return (dx,), {f"moments.{name}": g for name, g in grads.items()}


class HoldsUnbuilt(lf.Gate):
    """x + a Linear that is built on its first forward."""

    def __init__(self) -> None:
        self.inner = lf.Linear(3)

    def forward(self, x: Any) -> Any:
        return x + self.inner.forward(x)

    def backward(self, grad: Any) -> Any:
        (dx,), grads = self.inner.backward(grad)
        return (grad + dx,), {f"inner.{name}": g for name, g in grads.items()}


def graph(flaw: str = "", use: tuple[int, ...] = (0, 1)) -> lf.ComputationalGraph:
    """A graph that goes on from some outputs of `Moments` only."""
    g = lf.ComputationalGraph()
    outputs = Moments(flaw)(g.input("x"))
    total = lf.Sum()(outputs[use[0]] * outputs[use[0]])
    for i in use[1:]:
        total = total + lf.Sum()(outputs[i] * outputs[i])
    return g


def test_all_outputs_are_checked() -> None:
    report = check_gradients(Moments(), X)
    assert report, str(report)
    assert [(tensor.name, tensor.verdict, tensor.checked) for tensor in report.tensors] == [
        ("x", "ok", 12),
        ("w", "ok", 6),
    ]


@pytest.mark.parametrize("use", [(0,), (1,), (0, 1)])
def test_outputs_that_nobody_uses_are_no_fault(use: tuple[int, ...]) -> None:
    report = check_gradients(graph(use=use), X)
    assert report, str(report)


def test_a_gate_that_uses_one_output_of_an_inner_gate_is_checked() -> None:
    report = check_gradients(SecondOnly(), X)
    assert report, str(report)
    assert not np.any(numeric_jacobian(SecondOnly(), X, wrt="moments.w"))
    check_gate(SecondOnly(), X)


def test_the_jacobian_has_the_rows_of_all_outputs() -> None:
    assert jacobian(Moments(), X).shape == (4 * 2 + 4, 12)
    np.testing.assert_allclose(jacobian(Moments(), X), numeric_jacobian(Moments(), X), atol=1e-9)


@pytest.mark.parametrize(
    ("flaw", "cause", "quoted"),
    [
        ("second path missing", "path missing", "`x ** 2` held constant in `return h, np.mean(x**2, axis=1)`"),
        ("first path halved", "factor on a path", "through `x @ self.w.value` in `h = np.tanh(x @ self.w.value)`"),
    ],
)
def test_a_fault_in_the_path_of_one_output_is_named(flaw: str, cause: str, quoted: str) -> None:
    (diagnosis,) = check_gradients(Moments(flaw), X).diagnoses
    assert (diagnosis.tensor, diagnosis.cause) == ("x", cause)
    assert quoted in diagnosis.sentence


def test_outputs_are_no_positions_of_one_array() -> None:
    class RowMoments(lf.Gate):
        def forward(self, x: Any) -> Any:
            self.save(x)
            return x.mean(axis=1), np.mean(x**2, axis=1)

        def backward(self, dmean: Any, dsquares: Any) -> Any:
            (x,) = self.saved
            return (np.broadcast_to(dmean[:, None] / x.shape[1], x.shape),), {}

    (diagnosis,) = check_gradients(RowMoments(), X).diagnoses
    assert diagnosis.cause == "path missing"


def test_in_a_model_the_gate_with_the_fault_is_named() -> None:
    report = check_gradients(graph("second path missing"), X)
    assert report.guilty is not None
    name, inner = report.guilty
    assert name == "moments"
    assert [diagnosis.cause for diagnosis in inner.diagnoses] == ["path missing"]
    assert check_gradients(graph("second path missing", use=(0,)), X).guilty is not None  # by itself it is still wrong


def test_each_law_covers_every_output() -> None:
    check_gate(Moments(), X)
    with pytest.raises(AssertionError, match=r"(?s)nothing is mutated.*dmean \*= 0"):
        check_gate(Moments("second gradient overwritten"), X)


def test_a_second_output_in_float32_breaks_the_law_of_dtypes() -> None:
    class Narrow(Moments):
        def forward(self, x: Any) -> Any:
            h, mean = super().forward(x)
            return h, mean.astype(np.float32)

    with pytest.raises(AssertionError, match="output 1 is float32, but all inputs are float64"):
        check_gate(Narrow(), X)


def test_an_output_that_passes_through_float32_is_a_fault() -> None:
    class Narrow(Moments):
        def forward(self, x: Any) -> Any:
            h, mean = super().forward(x)
            return h, mean.astype(np.float32).astype(np.float64)

    assert [
        fault.cause
        for fault in check_gradients(Narrow(), np.repeat(X, 8, axis=0) * np.linspace(0.1, 2, 32)[:, None]).faults
    ] == ["float32 hidden inside"]


def test_a_gate_that_holds_an_unbuilt_gate_is_checked_on_a_copy() -> None:
    gate = HoldsUnbuilt()
    report = check_gradients(gate, X)
    assert report, str(report)
    assert [tensor.name for tensor in report.tensors] == ["x", "inner.weight", "inner.bias"]
    assert not gate.inner.weight.has_value
    check_gate(HoldsUnbuilt(), X)
    assert check_gradients(lf.Sequential(HoldsUnbuilt(), lf.Tanh()), X)
