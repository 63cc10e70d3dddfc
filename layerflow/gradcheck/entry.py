"""`check_gradients`: every derivative that `backward` returns, against differences of `forward`."""

import time
from collections.abc import Callable
from typing import Any

from layerflow.errors import GateError
from layerflow.gate import Gate
from layerflow.gradcheck.behaviour import observe
from layerflow.gradcheck.examine import RTOL, affordable, examine
from layerflow.gradcheck.models import explain
from layerflow.gradcheck.reference import differences_from, use_surrogate
from layerflow.gradcheck.subject import Subject
from layerflow.gradcheck.verdicts import Report


def check_gradients(
    gate: Gate,
    *inputs: Any,
    seed: int = 0,
    against: Gate | str | None = None,
    surrogate: Gate | Callable[..., Any] | None = None,
    samples: int | None = None,
    rtol: float = RTOL,
) -> Report:
    """Compare all gradients of a gate, or of a whole model, with differences; say what is wrong with those that differ.

    It works on a float64 copy with a random upstream gradient, and compares the gradient of every input and every
    `Parameter`, element by element; integer inputs are labels. With more than `samples` elements in all, each tensor is
    compared along random directions and in a sample of its elements. What the rounding noise of `forward` or `backward`
    hides is counted as not measurable (`report.not_measurable`); a report is not `ok` where it hides a whole tensor.

    Args:
        gate: a gate, `Sequential` or graph; built for the inputs if it is not built yet.
        inputs: real arrays or numbers; integer arrays for labels.
        seed: of the random upstream gradient, of new parameters and of the sample.
        against: a reference gate, or the name of a built-in one, whose forward and gradients must be the same. It finds
            a gate that computes something else than it should, with gradients that fit.
        surrogate: a gate or function whose derivative is meant in place of the gate's own, for straight-through
            estimators (`surrogate=lambda x: x`), reversed gradients (`lambda x: -x`) and stopped ones
            (`lambda x: 0 * x`).
        samples: how many elements are compared one by one, over all tensors; by default 2000, and fewer for a
            model whose forward is expensive.
        rtol: the relative difference that is accepted, beyond the error of the differences themselves.

    Returns:
        A report: `str(report)` for people, `report.ok` (or the report's truth) for code.

    Raises:
        GateError: the gate breaks the contract, its own code raises, or the inputs cannot be differentiated.
    """
    start = time.perf_counter()
    if samples is not None and samples < 1:
        raise GateError(f"samples={samples}: at least one element is compared")
    subject = Subject(gate, inputs, seed)
    if surrogate is not None:
        use_surrogate(subject, surrogate)
    samples = affordable(subject) if samples is None else samples
    observation = observe(subject)
    report = examine(subject, samples, rtol, observation)
    if against is not None:
        report.faults += differences_from(against, gate, subject, observation)
    elif surrogate is None:
        explain(report, subject, samples, rtol)
    report.seed = seed
    report.seconds = time.perf_counter() - start
    return report


def assert_gradients(gate: Gate, *inputs: Any, **options: Any) -> None:
    """Raise `AssertionError` with the report as its text unless `check_gradients` finds everything right.

    Args:
        gate: a gate, `Sequential` or graph.
        *inputs: real arrays or numbers; integer arrays for labels.
        **options: those of `check_gradients`.
    """
    report = check_gradients(gate, *inputs, **options)
    if not report:
        raise AssertionError(str(report))
