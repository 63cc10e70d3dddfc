"""Faulty gates, written as students write them: every one is found, most are named, none is named wrongly."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.gradcheck import check_gradients
from layerflow.gradcheck.diagnosis.recording import Replay
from layerflow.gradcheck.subject import Subject


def test_a_faulty_gate_is_found_and_never_misnamed(faulty: Any, bench: ModuleType) -> None:
    verdict, said = bench.judge(faulty, seed=1)
    expected = "named" if faulty.causes else "unnamed"
    assert verdict == expected, said


def test_nine_of_ten_faults_have_a_name_in_every_half_of_the_bench(bench: ModuleType) -> None:
    assert sum(map(len, bench.HALVES.values())) == len(bench.FAULTY) >= 300
    for half in bench.HALVES.values():
        assert sum(bool(item.causes) for item in half) >= 0.9 * len(half)


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


def test_what_no_hypothesis_explains_is_shown_with_the_place_and_the_size_of_the_error() -> None:
    class OneRow(lf.Tanh):
        def backward(self, grad: Any) -> Any:
            (dx,), grads = super().backward(grad)
            dx = np.array(dx)
            dx[1] *= np.exp(grad[1])
            return (dx,), grads

    report = check_gradients(OneRow(), np.random.default_rng(0).normal(size=(4, 5)))
    assert not report.diagnoses
    (note,) = report.notes
    assert note.startswith("OneRow.x: cause unknown; wrong at 5 of 20 elements; only at index 1 of axis 0; analytic/")


def test_where_two_sizes_coincide_both_are_named() -> None:
    class Mean(lf.Linear):
        def backward(self, grad: Any) -> Any:
            dx, grads = super().backward(grad)
            return dx, grads | {"weight": grads["weight"] / 4}

    rng = np.random.default_rng(0)
    (both,) = check_gradients(Mean(3), rng.normal(size=(4, 4))).diagnoses
    assert "4 is the batch size and the length of axis 1 of x" in both.sentence
    assert "change the batch size to see which" in both.sentence
    (one,) = check_gradients(Mean(3), rng.normal(size=(5, 4))).diagnoses
    assert "4 is the length of axis 1 of x:" in one.sentence


class Composite(lf.Gate):
    """A softmax of a scaled input, times the input."""

    def __init__(self, leave_out: str = "") -> None:
        self.leave_out = leave_out

    def forward(self, x: Any) -> Any:
        e = np.exp(x / 3.0)
        p = e / e.sum(axis=1, keepdims=True)
        self.save(x, p)
        return p * x

    def backward(self, grad: Any) -> Any:
        x, p = self.saved
        g = grad * x
        through_p = p * (g - np.sum(g * p, axis=1, keepdims=True)) / (1.0 if self.leave_out == "scale" else 3.0)
        return ((0.0 if self.leave_out == "x" else grad * p) + (0.0 if self.leave_out == "p" else through_p),), {}


@pytest.mark.parametrize(
    ("leave_out", "cause", "quoted"),
    [
        ("x", "path missing", "with `x` held constant in `return p * x`"),
        ("p", "path missing", "with `p` held constant in `return p * x`"),
        ("scale", "factor on a path", "path through `x` in `e = np.exp(x / 3.0)`"),
    ],
)
def test_a_path_left_out_is_told_by_the_line_of_forward(leave_out: str, cause: str, quoted: str) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5))
    assert check_gradients(Composite(), x)
    (diagnosis,) = check_gradients(Composite(leave_out), x).diagnoses
    assert diagnosis.cause == cause
    assert quoted in diagnosis.sentence
    assert "test_diagnosis.py, line" in diagnosis.sentence


def test_recording_forward_changes_neither_the_output_nor_numpy() -> None:
    class Steps(lf.Gate):
        def __init__(self) -> None:
            self.w = lf.Parameter(np.random.default_rng(1).normal(size=(3, 3)))

        def forward(self, x: Any) -> Any:
            states = np.zeros((len(x) + 1, 3))
            for t, row in enumerate(x):
                states[t + 1] = np.tanh(row + states[t] @ self.w.value)
            first, rest = np.split(states[1:], [1])
            return np.concatenate([first, rest]) * (x > 0)

        def backward(self, grad: Any) -> Any:
            raise NotImplementedError

    zeros, subject = np.zeros, Subject(Steps(), [np.random.default_rng(0).normal(size=(4, 3))])
    replay = Replay(subject)
    assert [call.name for call in replay.calls].count("tanh") == 4
    assert np.zeros is zeros
    assert type(subject.gate.named_parameters()["w"].value) is np.ndarray
    (slopes,) = replay.slopes({}, [lambda t: _moved(subject.inputs[0], t)], [2.0**-13])
    with _moved(subject.inputs[0], 2.0**-13):
        above = subject.run()
    with _moved(subject.inputs[0], -(2.0**-13)):
        below = subject.run()
    assert np.array_equal(slopes, (above - below) * 2.0**12)


@contextmanager
def _moved(array: Any, by: float) -> Iterator[None]:
    array[0, 0] += by
    yield
    array[0, 0] -= by


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
