"""`check_gradients`: every derivative that `backward` returns, against differences of `forward`."""

import time
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate
from layerflow.gradcheck.behaviour import Observation, observe
from layerflow.gradcheck.differences import measure
from layerflow.gradcheck.kinks import Comparison, compare
from layerflow.gradcheck.subject import Subject, Tensor, direction_line, element_line, flat
from layerflow.gradcheck.verdicts import Measured, Report, TensorReport, Worst, element_index
from layerflow.parameter import Array

RTOL = 1e-7  # relative difference up to which a gradient is right (beyond what the numerics cannot resolve)
SAMPLES = 2000  # elements that are compared one by one, over all tensors; more are sampled
DIRECTIONS = 8  # random directions per sampled tensor


def check_gradients(gate: Gate, *inputs: Any, seed: int = 0, samples: int = SAMPLES, rtol: float = RTOL) -> Report:
    """Compare all gradients of a gate (or of a whole model) with differences, and say what is wrong with those that differ.

    It works on a float64 copy with a random upstream gradient, and compares the gradient of every input and every
    `Parameter`, element by element; integer inputs are labels. With more than `samples` elements in all, each tensor is
    compared along random directions and in a sample of its elements.

    Args:
        gate: a gate, `Sequential` or graph; built for the inputs if it is not built yet.
        inputs: real arrays or numbers; integer arrays for labels.
        seed: of the random upstream gradient, of new parameters and of the sample.
        samples: how many elements are compared one by one, over all tensors.
        rtol: the relative difference that is accepted, beyond the error of the differences themselves.

    Returns:
        A report: `str(report)` for people, `report.ok` (or the report's truth) for code.

    Raises:
        GateError: the gate breaks the contract, its own code raises, or the inputs cannot be differentiated.
    """
    start = time.perf_counter()
    report, _ = examine(Subject(gate, inputs, seed), samples, rtol)
    report.seed = seed
    report.seconds = time.perf_counter() - start
    return report


def assert_gradients(gate: Gate, *inputs: Any, seed: int = 0, samples: int = SAMPLES, rtol: float = RTOL) -> None:
    """Raise `AssertionError` with the report as its text unless `check_gradients` finds everything right."""
    report = check_gradients(gate, *inputs, seed=seed, samples=samples, rtol=rtol)
    if not report:
        raise AssertionError(str(report))


def examine(subject: Subject, samples: int = SAMPLES, rtol: float = RTOL) -> tuple[Report, list[Measured]]:
    """The report on a subject, without diagnosis, and the numbers behind it."""
    observation = observe(subject)
    report = Report(subject.written, faults=list(observation.faults))
    measured: list[Measured] = []
    if any(fault.cause == "nondeterministic forward" for fault in report.faults):
        return report, measured
    limits = _shares([tensor.value.size for tensor in subject.tensors], samples)
    for tensor, limit in zip(subject.tensors, limits, strict=True):
        tensor_report, numbers = _examine_tensor(subject, tensor, observation, limit, rtol)
        report.tensors.append(tensor_report)
        measured += [numbers] if numbers else []
    if not subject.tensors:
        raise GateError(f"{subject.written}: nothing to check; it has no parameters and was given no real-valued input")
    return report, measured


def _examine_tensor(
    subject: Subject, tensor: Tensor, observation: Observation, limit: int, rtol: float
) -> tuple[TensorReport, Measured | None]:
    analytic = observation.analytic[tensor.name]
    value = tensor.value
    if value.size == 0 or analytic is None:
        verdict = "empty" if value.size == 0 else "no gradient"
        return TensorReport(tensor.name, tensor.kind, value.shape, verdict, size=value.size), None
    base, weights = flat(observation.output), flat(tuple(observation.upstream))
    chosen = np.arange(value.size) if value.size <= limit else np.sort(subject.rng.choice(value.size, limit, replace=False))
    moves = [] if value.size <= limit else [subject.rng.choice([-1.0, 1.0], value.shape) for _ in range(DIRECTIONS)]
    lines = [element_line(subject, tensor, int(i)) for i in chosen] + [direction_line(subject, tensor, move) for move in moves]
    slopes = np.array([analytic.flat[i] for i in chosen] + [np.sum(analytic * move) for move in moves], dtype=np.float64)
    found = measure(lines, base, weights, slopes)
    comparison = compare(slopes, found, rtol)
    known = np.zeros(value.size, dtype=bool)
    known[chosen] = (~comparison.is_kink & ~comparison.is_open)[: len(chosen)]
    numeric, error = np.zeros(value.size), np.zeros(value.size)
    numeric[chosen], error[chosen] = comparison.numeric[: len(chosen)], found.error[: len(chosen)]
    shape = value.shape
    numbers = Measured(tensor.name, tensor.kind, np.asarray(analytic, np.float64), numeric.reshape(shape), known.reshape(shape), error.reshape(shape))
    return _summarise(tensor, comparison, chosen, len(moves)), numbers


def _summarise(tensor: Tensor, comparison: Comparison, chosen: Array, directions: int) -> TensorReport:
    wrong = int(np.sum(comparison.is_wrong))
    undecided = int(np.sum(comparison.is_open))
    ranked = np.where(comparison.is_open, -1.0, comparison.excess)
    position = int(np.argmax(np.where(comparison.is_wrong, ranked + 1e300, comparison.relative) if wrong else np.where(comparison.is_open, -1.0, comparison.relative)))
    is_direction = position >= len(chosen)
    worst = Worst(
        () if is_direction else element_index(int(chosen[position]), tensor.value.shape),
        float(comparison.analytic[position]),
        float(comparison.numeric[position]),
        float(comparison.relative[position]),
        float(comparison.reachable[position]),
        is_direction,
    )
    kinks = int(np.sum(comparison.is_kink))
    compared = len(chosen) + directions
    verdict = "wrong" if wrong else "undecided" if undecided == compared else "kinks only" if kinks + undecided == compared else "ok"
    return TensorReport(
        tensor.name, tensor.kind, tensor.value.shape, verdict, len(chosen), tensor.value.size, directions, kinks, wrong, undecided, worst
    )


def _shares(sizes: list[int], samples: int) -> list[int]:
    """How many elements of each tensor are compared: all of them, or equal shares of `samples` (at least 16 of each)."""
    if sum(sizes) <= samples:
        return sizes
    left, shares = samples, dict.fromkeys(range(len(sizes)), 0)
    for rank, index in enumerate(sorted(shares, key=lambda i: sizes[i])):
        shares[index] = min(sizes[index], max(left // (len(sizes) - rank), 16))
        left -= shares[index]
    return [shares[i] for i in range(len(sizes))]
