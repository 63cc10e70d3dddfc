"""Kinks: every subgradient is accepted, nothing else is, and nearness to a kink raises no false alarm."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.gates import AbsoluteError, Maximum, MulticlassSVM, ReLU
from layerflow.gradcheck import check_gradients


class ReLUWithSlope(lf.Gate):
    """ReLU whose slope at the kink is chosen."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def forward(self, x: Any) -> Any:
        self.save(x)
        return np.maximum(x, 0)

    def backward(self, grad: Any) -> Any:
        (x,) = self.saved
        return (grad * np.where(x == 0, self.slope, x > 0),), {}


HALF_AT_KINKS = np.array([[0.0, 1.0, -1.0], [0.0, 0.0, 2.0]])


@pytest.mark.parametrize("slope", [0.0, 0.3, 0.5, 1.0])
def test_any_value_between_the_one_sided_slopes_is_right(slope: float) -> None:
    report = check_gradients(ReLUWithSlope(slope), HALF_AT_KINKS)
    assert report, str(report)
    assert report.kinks == 3
    assert "3 at kinks" in str(report)


@pytest.mark.parametrize("slope", [-0.5, -0.01, 1.01, 2.0])
def test_a_value_outside_the_one_sided_slopes_is_wrong(slope: float) -> None:
    report = check_gradients(ReLUWithSlope(slope), HALF_AT_KINKS)
    assert not report
    assert report.tensors[0].wrong == report.tensors[0].wrong_at_kinks == 3


@pytest.mark.parametrize("gate", [ReLU(), ReLUWithSlope(0.5)])
def test_a_check_at_kinks_alone_fails(gate: lf.Gate) -> None:
    assert not check_gradients(gate, np.zeros(4))


def test_ties_and_exact_margins_are_right() -> None:
    a = np.array([1.0, 2.0, 3.0, -1.0])
    assert check_gradients(Maximum(), a, np.array([1.0, 2.5, 3.0, 4.0]))
    scores = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [2.0, 0.5, 1.7]])
    assert check_gradients(MulticlassSVM(), scores, np.array([1, 1, 0]))
    assert check_gradients(AbsoluteError(), a, np.array([1.0, 2.5, 3.0, 4.0]))


def test_close_to_kinks_there_is_no_false_alarm(bench: ModuleType) -> None:
    # 100,000 elements: python scripts/bench_diagnosis.py --kinks 100000
    rng, seen = np.random.default_rng(11), 0
    while seen < 1500:
        for gate, *inputs in bench.near_kinks(rng):
            report = check_gradients(gate, *inputs)
            assert not any(tensor.wrong for tensor in report.tensors), str(report)
            seen += sum(tensor.checked for tensor in report.tensors)


@pytest.mark.parametrize("slope", [-0.2, 0.97, 1.03])
def test_a_wrong_slope_is_found_close_to_kinks(slope: float) -> None:
    class Wrong(ReLU):
        def backward(self, grad: Any) -> Any:
            (x,) = self.saved
            return (grad * slope * (x > 0),), {}

    near = np.random.default_rng(3).choice([-1.0, 1.0], 60) * 10.0 ** np.random.default_rng(4).uniform(-6, -2, 60)
    report = check_gradients(Wrong(), near)
    assert report.tensors[0].wrong == np.sum(near > 0)


def test_a_fused_layer_whose_samples_lie_on_both_sides_is_right() -> None:
    class Fused(lf.Gate):
        def __init__(self) -> None:
            self.weight = lf.Parameter(np.array([[0.5, -0.25], [1.0, 2.0]]))

        def forward(self, x: Any) -> Any:
            s = x @ self.weight.value.T
            self.save(x, s)
            return np.maximum(s, 0)

        def backward(self, grad: Any) -> Any:
            x, s = self.saved
            grad = grad * (s > 0)
            return (grad @ self.weight.value,), {"weight": grad.T @ x}

    x = np.array([[1.0, 2.0], [-1.0, -2.0], [0.3, 0.7]])  # s = 0 for the first two samples in the first output
    report = check_gradients(Fused(), x)
    assert report, str(report)
    assert report.kinks
