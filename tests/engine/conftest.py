"""A function of arrays as a program, compared with NumPy on other numbers."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layerflow.engine.interpreter import interpret
from layerflow.engine.program import Program
from layerflow.engine.recorder import record


def _program_of(function: Callable[..., Any], *arrays: Any) -> Program:
    """Record a function; the inputs are called "0", "1", ..., and so are the results."""

    def run(active: Any) -> dict[str, Any]:
        results = function(*[active.input(str(i), np.array(x)) for i, x in enumerate(arrays)])
        return {str(i): result for i, result in enumerate(results if isinstance(results, tuple) else (results,))}

    return record(run, [sys.modules[function.__module__]])


def _assert_recorded_equals_numpy(function: Callable[..., Any], recorded_on: Any, run_on: Any) -> None:
    """Record on some arrays, run on others: the results have the values and types that NumPy gives for these."""
    program = _program_of(function, *recorded_on)
    found = interpret(program, {str(i): np.array(x) for i, x in enumerate(run_on)})
    with np.errstate(all="ignore"):
        expected = function(*[np.array(x) for x in run_on])
    for i, value in enumerate(expected if isinstance(expected, tuple) else (expected,)):
        array = np.asarray(value)
        assert found[str(i)].dtype == array.dtype, (found[str(i)].dtype, array.dtype)
        assert found[str(i)].shape == array.shape
        np.testing.assert_allclose(found[str(i)], array, rtol=1e-12, atol=1e-12)


@pytest.fixture
def program_of() -> Callable[..., Program]:
    """Records a function of arrays."""
    return _program_of


@pytest.fixture
def assert_recorded_equals_numpy() -> Callable[..., None]:
    """Records a function on some arrays, runs the program and NumPy on others, and compares."""
    return _assert_recorded_equals_numpy
