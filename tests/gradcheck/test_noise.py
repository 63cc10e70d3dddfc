"""Rounding noise: measured, not accused, never passed over in silence; and what is wrong is still found."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.gates import SigmoidCE, Softmax, SoftmaxCE
from layerflow.gradcheck import check_gradients
from layerflow.gradcheck.noise import POINTS, deviation, measure_noise
from layerflow.gradcheck.subject import Subject

RNG = np.random.default_rng(9)
X = RNG.normal(size=(6, 4))


class Offset(lf.Gate):
    """tanh(x) + offset - offset, whose backward may be wrong by a factor."""

    def __init__(self, offset: float, factor: float = 1.0) -> None:
        self.offset, self.factor = offset, factor

    def forward(self, x: Any) -> Any:
        y = np.tanh(x)
        self.save(y)
        return y + self.offset - self.offset

    def backward(self, grad: Any) -> Any:
        (y,) = self.saved
        return (self.factor * grad * (1 - y**2),), {}


class Centre(lf.Gate):
    def forward(self, x: Any) -> Any:
        self.save()
        return x - x.mean(axis=0)

    def backward(self, grad: Any) -> Any:
        return (grad - grad.mean(axis=0),), {}


class Narrow(lf.Gate):
    """Computes in float32 and returns float64."""

    def forward(self, x: Any) -> Any:
        self.save()
        return x.astype(np.float32).astype(np.float64)

    def backward(self, grad: Any) -> Any:
        return (grad,), {}


@pytest.mark.parametrize("size", [1e-15, 1e-8, 1e-3])
def test_noise_on_a_smooth_function_is_measured_within_a_factor_of_three(size: float) -> None:
    t = np.linspace(0, 1e-4, POINTS)[:, None]
    table = np.exp(t) * np.arange(1.0, 201.0) + size * np.random.default_rng(0).normal(size=(POINTS, 200))
    found = deviation(table)
    assert size / 3 < np.median(found) < 3 * max(size, 1e-14)


def test_a_smooth_function_has_no_noise_beyond_its_rounding() -> None:
    t = np.linspace(0, 1e-3, POINTS)[:, None]
    assert np.all(deviation(np.cos(t + np.arange(50.0) / 50)) < 1e-15)


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9, 1e12])
def test_the_noise_of_a_cancelled_offset_is_its_last_digit(offset: float) -> None:
    subject = Subject(Offset(offset), [X])
    noise = measure_noise(subject, subject.upstream(subject.forward())).output
    assert np.all(noise >= np.spacing(offset) / 4)
    assert np.all(noise <= np.spacing(offset) * 8)


def test_the_noise_of_backward_is_measured_too() -> None:
    scores = 16 * np.eye(4) + RNG.normal(size=(4, 4))
    subject = Subject(SoftmaxCE(), [scores, np.arange(4)])
    noise = measure_noise(subject, subject.upstream(subject.forward())).gradients["scores"]
    assert np.all(np.diag(noise) > 1e-18)  # p - 1: good to the last digit of 1, not of 1e-7
    assert np.all(np.diag(noise) < 1e-15)


def test_measuring_noise_leaves_values_as_they_were() -> None:
    subject = Subject(lf.Linear(3), [X])
    before = [tensor.value.copy() for tensor in subject.tensors]
    measure_noise(subject, subject.upstream(subject.forward()))
    assert all(np.array_equal(tensor.value, old) for tensor, old in zip(subject.tensors, before, strict=True))


RIGHT: dict[str, Callable[[np.random.Generator], tuple[Any, ...]]] = {
    "centred linear": lambda rng: (lf.Sequential(lf.Linear(4), Centre()), rng.normal(size=(6, 3))),
    "confident cross-entropy": lambda rng: (SoftmaxCE(), 16 * np.eye(4) + rng.normal(size=(4, 4)), np.arange(4)),
    "confident softmax": lambda rng: (Softmax(), 16 * np.eye(4) + rng.normal(size=(4, 4))),
    "certain cross-entropy": lambda rng: (SoftmaxCE(), 40 * np.eye(4) + rng.normal(size=(4, 4)), np.arange(4)),
    "binary cross-entropy of 1000": lambda rng: (
        SigmoidCE(),
        1e3 * rng.normal(size=(5, 3)),
        rng.integers(0, 2, (5, 3)),
    ),
    "a cancelled offset": lambda rng: (Offset(1e6), rng.normal(size=(4, 5))),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_is_not_accused_on_any_seed(case: str) -> None:
    for seed in range(10):
        gate, *inputs = RIGHT[case](np.random.default_rng(seed))
        report = check_gradients(gate, *inputs, seed=seed)
        assert report, f"seed {seed}: {report}"


def test_what_noise_hides_is_counted_and_shown() -> None:
    report = check_gradients(Offset(1e9), X)
    assert report
    assert report.not_measurable == report.tensors[0].not_measurable == X.size
    assert f"{X.size} could not be measured to 1e-5" in str(report)
    assert f"{X.size} not measurable to 1e-5 (rounding noise)" in str(report.tensors[0])
    assert report.as_dict()["not_measurable"] == X.size


def test_a_report_that_measured_nothing_is_not_ok_and_says_so() -> None:
    report = check_gradients(Offset(1e12), X)
    assert not report
    assert report.tensors[0].verdict == "not measurable"
    assert report.tensors[0].wrong == 0
    assert "is inconclusive: rounding noise hides the slopes" in str(report)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_an_error_of_one_in_100000_is_found_beside_noise(offset: float) -> None:
    assert check_gradients(Offset(offset, 1 + 1e-5), X).tensors[0].wrong >= 1


@pytest.mark.parametrize("offset", [1e7, 1e8, 1e9])
def test_what_is_hidden_is_said_element_by_element(offset: float) -> None:
    (tensor,) = check_gradients(Offset(offset, 1 + 1e-5), X).tensors
    assert tensor.wrong + tensor.not_measurable == tensor.size


def test_an_error_beyond_the_noise_is_found() -> None:
    assert check_gradients(Offset(1e9, 1.01), X).tensors[0].verdict == "wrong"


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_the_estimated_error_is_trusted_up_to_a_small_factor(scale: float) -> None:
    class Slightly(lf.Gate):
        def forward(self, x: Any) -> Any:
            self.save(x)
            return scale * np.sin(x)

        def backward(self, grad: Any) -> Any:
            (x,) = self.saved
            return (scale * grad * np.cos(x) * (1 + 1e-9),), {}

    report = check_gradients(Slightly(), np.linspace(-1.0, 1.0, 9), rtol=1e-13)
    assert report.tensors[0].wrong == 9


def test_float32_inside_is_found_and_residues_are_no_evidence_of_it() -> None:
    assert [fault.cause for fault in check_gradients(Narrow(), X).faults] == ["float32 hidden inside"]
    for seed in range(5):
        x = np.random.default_rng(seed).normal(size=(6, 4))
        assert not check_gradients(lf.Sequential(lf.Linear(4), Centre()), x, seed=seed).faults
        assert not check_gradients(Offset(1e9), x, seed=seed).faults


def test_a_false_alarm_is_not_explained_by_an_earlier_forward() -> None:
    class Slightly(lf.Tanh):
        def backward(self, grad: Any) -> Any:
            return (super().backward(grad)[0][0] * (1 + 5e-7),), {}

    report = check_gradients(Slightly(), X)
    assert not report
    assert "stale values" not in {diagnosis.cause for diagnosis in report.diagnoses}


# Gates of others: all seeds and scales by python scripts/bench_gradcheck.py --seeds 100 --scales 1 --sensitivity


def test_there_are_at_least_sixty_right_gates(right_bench: Any) -> None:
    assert len(right_bench.CORRECT) >= 60


def test_right_gates_of_others_are_not_accused(right_bench: Any) -> None:
    assert right_bench.alarms(right_bench.custom(range(1))) == 0


@pytest.mark.slow
def test_right_gates_of_others_are_not_accused_on_many_seeds(right_bench: Any) -> None:
    assert right_bench.alarms(right_bench.custom(range(1, 21))) == 0


@pytest.mark.slow
def test_built_in_gates_are_not_accused_at_any_scale(right_bench: Any) -> None:
    assert right_bench.alarms(right_bench.scaled(range(1))) == 0


@pytest.mark.slow
def test_configurations_are_not_accused_after_training(right_bench: Any) -> None:
    assert right_bench.configurations() == 0


def test_errors_of_one_in_100000_in_single_elements_are_found_or_said_to_be_hidden(right_bench: Any) -> None:
    cases = [case for case in right_bench.custom(range(1)) if case[0] in SENSITIVE]
    assert len(cases) == len(SENSITIVE)
    assert right_bench.sensitivity(cases, per_tensor=1) == 0


SENSITIVE = {
    "self-attention with a key bias",
    "batch norm",
    "GRU cell",
    "convolution of one dimension",
    "softmax loss by division, confident",
    "tanh(x) + 1e6 - 1e6",
    "outputs of 1e-12",
}
