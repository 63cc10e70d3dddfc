"""Every law can fail: for each there is a gate that breaks this law."""

from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import GateError
from layerflow.testing import LAWS, check_gate, law_tests

X = np.random.default_rng(3).normal(size=(4, 3))


class Cube(lf.Gate):
    """Right; each of the gates below breaks one law."""

    def __init__(self, factor: float = 2.0) -> None:
        self.gamma = lf.Parameter(factor)

    def forward(self, x: Any) -> Any:
        self.save(x)
        return self.gamma.value * x**3

    def backward(self, grad: Any) -> Any:
        (x,) = self.saved
        return (self.gamma.value * 3.0 * grad * x**2,), {"gamma": np.sum(grad * x**3)}


class WrongGradient(Cube):
    def backward(self, grad: Any) -> Any:
        (dx,), grads = super().backward(grad)
        return (dx * 1.01,), grads


class WritesIntoInput(Cube):
    def forward(self, x: Any) -> Any:
        y = super().forward(x.copy())
        x += 1.0
        return y


class WritesIntoGrad(Cube):
    def backward(self, grad: Any) -> Any:
        result = super().backward(grad)
        grad *= 2.0
        return result


class UsesUp(Cube):
    def backward(self, grad: Any) -> Any:
        result = super().backward(grad)
        self.save(np.zeros_like(grad))
        return result


class Clips(Cube):
    def backward(self, grad: Any) -> Any:
        return super().backward(np.clip(grad, -1.0, 1.0))


class Widens(Cube):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * np.float64(1.0)


class NeedsRows(Cube):
    def forward(self, x: Any) -> Any:
        if not x.flags.c_contiguous:
            raise ValueError("rows, please")
        return super().forward(x)


class Silent(lf.Gate, checked=False):
    """Without the checks for use by hand, and without anything saved that would be missed."""

    def forward(self, x: Any) -> Any:
        return 2.0 * x

    def backward(self, grad: Any) -> Any:
        return (2.0 * grad,), {}


class ForgetsArgument(Cube):
    def __init__(self, factor: float = 2.0) -> None:
        super().__init__(factor)
        self.power = 3 if factor == 2.0 else np.random.default_rng().uniform(2.9, 3.1)

    def forward(self, x: Any) -> Any:
        return super().forward(x) + self.power


class DependsOnBatchSize(Cube):
    def forward(self, x: Any) -> Any:
        self.save(x)
        return self.gamma.value * x**3 / len(x)


class Counts(Cube):
    def __init__(self, factor: float = 2.0) -> None:
        super().__init__(factor)
        self.largest = 0.0

    def forward(self, x: Any) -> Any:
        self.largest = max(self.largest, float(x.max()))
        return super().forward(x)


BREAKS = {
    "gradients match differences": WrongGradient,
    "nothing is mutated": WritesIntoInput,
    "backward can be repeated": UsesUp,
    "backward is linear": Clips,
    "dtype is kept": Widens,
    "input need not be contiguous": NeedsRows,
    "backward before forward is an error": Silent,
    "rebuilds from its arguments": lambda: ForgetsArgument(1.5),
    "batch equals stacked samples": DependsOnBatchSize,
    "same result when recorded": Counts,
}


def test_there_is_a_breaking_gate_for_each_law() -> None:
    assert set(BREAKS) == {law.name for law in LAWS}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_right_gate_keeps_the_law(law: Any) -> None:
    assert law.applies(Cube(), (X,))
    law.check(Cube(), (X,))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_a_gate_that_breaks_the_law_is_caught(law: Any) -> None:
    with pytest.raises((AssertionError, GateError)):
        law.check(BREAKS[law.name](), (X,))


@pytest.mark.parametrize(("gate", "line"), [(WritesIntoInput, "x += 1.0"), (WritesIntoGrad, "grad *= 2.0")])
def test_the_line_that_writes_is_quoted(gate: Any, line: str) -> None:
    with pytest.raises(AssertionError, match=r"test_laws.py, line \d+") as caught:
        check_gate(gate(), X)
    assert line in str(caught.value)


def test_a_gate_with_two_modes_is_checked_in_both() -> None:
    class Dropout(lf.Dropout):
        def backward(self, grad: Any) -> Any:
            return super().backward(grad) if self.training else ((0.5 * grad,), {})

    check_gate(lf.Dropout(0.5, seed=0), X)
    with pytest.raises(AssertionError, match="evaluation: Dropout"):
        check_gate(Dropout(0.5, seed=0), X)


def test_check_gate_passes_a_right_gate_and_lists_all_broken_laws() -> None:
    check_gate(Cube(), X)
    with pytest.raises(AssertionError, match="breaks 2 of 10 laws") as caught:
        check_gate(Clips(), 3.0 * X)
    assert "backward is linear" in str(caught.value)


class Declared(Counts):
    recordable = False


class DeclaredInVain(Cube):
    recordable = False


class KeepsLastMean(Cube):
    """State in a plain attribute: the program of a step cannot see it."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__(factor)
        self.steps = 0

    def forward(self, x: Any) -> Any:
        self.steps += 1
        return super().forward(x) + self.steps


def test_a_gate_that_says_it_cannot_be_recorded_is_taken_at_its_word() -> None:
    law = next(law for law in LAWS if law.name == "same result when recorded")
    law.check(Declared(), (X,))
    with pytest.raises(AssertionError, match=r"it can be recorded, so `recordable = False` is wrong"):
        law.check(DeclaredInVain(), (X,))
    with pytest.raises(AssertionError, match=r"float\(\) of an array; keep it an array"):
        law.check(Counts(), (X,))


def test_state_in_a_plain_attribute_is_seen_by_the_law_of_recording() -> None:
    law = next(law for law in LAWS if law.name == "same result when recorded")
    with pytest.raises(AssertionError, match=r"keep it in an lf\.Buffer"):
        law.check(KeepsLastMean(), (X,))


def test_law_tests_makes_one_test_per_gate_and_law() -> None:
    test = law_tests([(Cube(), X), (Clips(), (X,))])
    (mark,) = test.pytestmark  # type: ignore[attr-defined]
    parameters = mark.args[1]
    assert len(parameters) == 2 * len(LAWS)
    assert parameters[0].id == "Cube0-gradients_match_differences"
    broken = []
    for parameter in parameters:
        try:
            test(*parameter.values)
        except AssertionError:
            broken.append(parameter.id)
    assert all(name.startswith("Clips1") for name in broken)
    assert "Clips1-backward_is_linear" in broken


test_laws_of_cube = law_tests([(Cube(), X), (Cube(0.5), X[0])])
