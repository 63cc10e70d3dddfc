"""Numbers, arrays and gates in few words."""

import numpy as np
import pytest

import layerflow as lf
from layerflow.report.graph.wording import formula_of, label_of, local_gradient_of, number, summarize


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-12.0, "-12"),
        (0.731058, "0.731"),
        (1234.56, "1235"),
        (99_999.4, "99999"),
        (123_456.0, "1.2e5"),
        (0.001, "0.001"),
        (0.00012345, "1.2e-4"),
        (1e-30, "1.0e-30"),
        (np.float32(0.1), "0.1"),
        (np.nan, "nan"),
        (-np.inf, "-inf"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (2.5, ("2.5",)),
        (np.array([[1.0, 3.0]]), ("1 × 2", "2 ± 1")),
        (np.array([3, 0, 9]), ("3", "0 to 9")),
        (np.array([1.0, np.nan, np.inf]), ("3", "2 non-finite")),
        (np.array([np.nan]), ("1", "no finite value")),
        (np.zeros((0, 4)), ("0 × 4", "empty")),
        (np.array([True, False]), ("2", "0.5 ± 0.5")),
    ],
)
def test_values_are_summed_up(value, lines):
    assert summarize(value).lines == lines


def test_small_arrays_are_heat_maps_of_their_signed_size():
    np.testing.assert_array_equal(summarize(np.array([[2.0, -4.0], [0.0, np.nan]])).cells, [[0.5, -1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(summarize(np.zeros(3)).cells, [[0.0, 0.0, 0.0]])


def test_large_arrays_are_histograms():
    summary = summarize(np.linspace(0.0, 1.0, 1000).reshape(10, 100))
    assert summary.cells is None
    assert len(summary.bars) == 14
    assert summary.bars.max() == 1.0


@pytest.mark.parametrize(
    ("gate", "label"),
    [
        (lf.Add(), "+"),
        (lf.Sum(), "Σ"),
        (lf.Sum(None, False), "Σ"),
        (lf.Sum(axis=0), "Sum(0)"),
        (lf.Power(3), "^3"),
        (lf.Linear(10), "Linear(10)"),
        (lf.Linear(10, bias=False), "Linear(10, bias=False)"),
        (lf.Linear(1000, in_features=1000, bias=False), "Linear(…)"),
        (lf.ReLU(), "ReLU"),
    ],
)
def test_gates_are_named_in_one_word(gate, label):
    assert label_of(gate) == label


def test_formula_and_local_gradient_come_from_the_docstring():
    class Halve(lf.Gate):
        """y = x / 2.

        Local gradient: one half,
        everywhere.
        Source: none.
        """

    class Silent(lf.Gate):
        pass

    assert formula_of(Halve()) == "y = x / 2."
    assert local_gradient_of(Halve()) == "one half, everywhere."
    assert formula_of(Silent()) == local_gradient_of(Silent()) == ""
