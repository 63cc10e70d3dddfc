"""Faulty gates, written as students write them: every one is found, most are named, none is named wrongly."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.gradcheck import check_gradients


def test_a_faulty_gate_is_found_and_never_misnamed(faulty: Any, bench: ModuleType) -> None:
    verdict, said = bench.judge(faulty, seed=1)
    expected = "named" if faulty.causes else "unnamed"
    assert verdict == expected, said


def test_nine_of_ten_faults_have_a_name(bench: ModuleType) -> None:
    named = sum(bool(item.causes) for item in bench.FAULTY)
    assert len(bench.FAULTY) >= 60
    assert named >= 0.9 * len(bench.FAULTY)


def test_a_diagnosis_says_what_it_saw_what_it_means_and_where_to_look() -> None:
    class Affine(lf.Linear):
        def backward(self, grad: Any) -> Any:
            dx, grads = super().backward(grad)
            grads["weight"] = grads["weight"] * 32
            return dx, grads

    report = check_gradients(Affine(3), np.random.default_rng(0).normal(size=(32, 4)))
    (diagnosis,) = report.diagnoses
    assert diagnosis.sentence == (
        "Affine.weight: analytic = 32 x numeric everywhere; 32 is the batch size: "
        "the mean over the batch was taken twice or not at all"
    )
    assert diagnosis.place == "the factors in Affine.backward"
    assert f"looks like: {diagnosis}" in str(report)


@pytest.mark.parametrize("seed", range(20))
def test_noise_in_a_gradient_is_given_no_name(seed: int) -> None:
    class Noisy(lf.Linear):
        def backward(self, grad: Any) -> Any:
            (dx,), grads = super().backward(grad)
            rng = np.random.default_rng(1000 + seed)
            return (dx + rng.normal(size=dx.shape),), {
                name: g * rng.uniform(0.5, 2, g.shape) for name, g in grads.items()
            }

    report = check_gradients(Noisy(3), np.random.default_rng(seed).normal(size=(4, 5)))
    assert not report
    assert not report.diagnoses


@pytest.mark.parametrize("factor", [1.37, -0.21])
def test_one_wrong_number_is_too_little_for_a_constant_that_nothing_explains(factor: float) -> None:
    class Scale(lf.Gate):
        def __init__(self) -> None:
            self.gamma = lf.Parameter(1.5)

        def forward(self, x: Any) -> Any:
            self.save(x)
            return self.gamma.value * x

        def backward(self, grad: Any) -> Any:
            (x,) = self.saved
            return (grad * self.gamma.value,), {"gamma": factor * np.sum(grad * x)}

    report = check_gradients(Scale(), np.random.default_rng(0).normal(size=(4, 3)))
    assert not report
    assert not report.diagnoses


def test_an_overwritten_array_is_shown_with_the_guilty_line() -> None:
    class InPlace(lf.Gate):
        def forward(self, x: Any) -> Any:
            self.save(x)
            return np.maximum(x, 0)

        def backward(self, grad: Any) -> Any:
            (x,) = self.saved
            grad[x <= 0] = 0
            return (grad,), {}

    report = check_gradients(InPlace(), np.random.default_rng(0).normal(size=(4, 3)))
    assert not report
    assert all(tensor.verdict == "ok" for tensor in report.tensors)
    (fault,) = report.faults
    assert fault.cause == "upstream gradient overwritten by backward"
    assert "test_diagnosis.py" in fault.sentence
    assert "grad[x <= 0] = 0" in fault.sentence
