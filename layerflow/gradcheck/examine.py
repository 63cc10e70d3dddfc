"""One subject, tensor by tensor: which elements are compared, and the verdict on each."""

import math

import numpy as np

from layerflow.containers.container import Container
from layerflow.errors import GateError
from layerflow.gradcheck.behaviour import Observation, observe
from layerflow.gradcheck.diagnosis import diagnose
from layerflow.gradcheck.differences import measure
from layerflow.gradcheck.kinks import Comparison, compare
from layerflow.gradcheck.noise import Noise, measure_noise
from layerflow.gradcheck.subject import Subject, Tensor, direction_line, element_line, flat
from layerflow.gradcheck.verdicts import Measured, Report, TensorReport, Worst, element_index
from layerflow.parameter import Array

RTOL = 1e-7  # relative difference up to which a gradient is right (beyond what the numerics cannot resolve)
SAMPLES = 2000  # elements that are compared one by one, over all tensors; more are sampled
DIRECTIONS = 4  # random directions per sampled tensor
AFFORDABLE = 1e9  # multiplications in forwards, per window of differences
ACTIVATION = 20  # multiplications for whose time an element of an activation is computed


def examine(
    subject: Subject, samples: int = SAMPLES, rtol: float = RTOL, observation: Observation | None = None
) -> Report:
    """The report on a subject, with the diagnosis of what is wrong."""
    observation = observe(subject) if observation is None else observation
    if not subject.tensors:
        raise GateError(f"{subject.written}: nothing to check; it has no parameters and was given no real-valued input")
    report = Report(subject.written, faults=list(observation.faults))
    if any(fault.cause == "nondeterministic forward" for fault in report.faults):
        return report
    noise = measure_noise(subject, observation.upstream)
    measured: list[Measured] = []
    limits = _shares([tensor.value.size for tensor in subject.tensors], samples)
    for tensor, limit in zip(subject.tensors, limits, strict=True):
        tensor_report, numbers = _examine_tensor(subject, tensor, observation, noise, limit, rtol)
        report.tensors.append(tensor_report)
        measured += [numbers] if numbers else []
    wrong = {tensor.name for tensor in report.tensors if tensor.verdict == "wrong"}
    if wrong and not report.faults and not isinstance(subject.gate, Container):
        report.diagnoses, report.notes = diagnose(subject, observation, measured, wrong)
    return report


def _examine_tensor(
    subject: Subject, tensor: Tensor, observation: Observation, noise: Noise, limit: int, rtol: float
) -> tuple[TensorReport, Measured | None]:
    analytic = observation.analytic[tensor.name]
    value = tensor.value
    if analytic is None and subject.surrogate is not None:  # a stopped gradient
        analytic = np.zeros(value.shape)
    if value.size == 0 or analytic is None:
        verdict = "empty" if value.size == 0 else "no gradient"
        return TensorReport(tensor.name, tensor.kind, value.shape, verdict, size=value.size), None
    base, weights = subject.run(), flat(tuple(observation.upstream))
    chosen = (
        np.arange(value.size) if value.size <= limit else np.sort(subject.rng.choice(value.size, limit, replace=False))
    )
    moves = [] if value.size <= limit else [subject.rng.choice([-1.0, 1.0], value.shape) for _ in range(DIRECTIONS)]
    lines = [element_line(subject, tensor, int(i)) for i in chosen] + [
        direction_line(subject, tensor, move) for move in moves
    ]
    slopes = np.array(
        [analytic.flat[i] for i in chosen] + [np.sum(analytic * move) for move in moves], dtype=np.float64
    )
    spread = noise.gradients.get(tensor.name, np.zeros(value.shape))
    jitter = np.array([spread.flat[i] for i in chosen] + [np.sum(spread)] * len(moves))
    found = measure(lines, base, weights, slopes, noise.output)
    comparison = compare(slopes, found, rtol, jitter)
    known = np.zeros(value.size, dtype=bool)
    known[chosen] = (~comparison.is_kink & ~comparison.is_open)[: len(chosen)]
    numeric, error = np.zeros(value.size), np.zeros(value.size)
    numeric[chosen], error[chosen] = comparison.numeric[: len(chosen)], (found.error + jitter)[: len(chosen)]
    shape = value.shape
    numbers = Measured(
        tensor.name,
        tensor.kind,
        np.asarray(analytic, np.float64),
        numeric.reshape(shape),
        known.reshape(shape),
        error.reshape(shape),
    )
    return _summarise(tensor, comparison, chosen, len(moves)), numbers


def _summarise(tensor: Tensor, comparison: Comparison, chosen: Array, directions: int) -> TensorReport:
    wrong = int(np.sum(comparison.is_wrong))
    unmeasured = int(np.sum(comparison.is_open))
    position = comparison.worst
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
    if wrong:
        verdict = "wrong"
    elif np.all(comparison.is_useless):
        verdict = "not measurable"
    elif kinks and kinks + unmeasured == compared:
        verdict = "kinks only"
    else:
        verdict = "ok"
    return TensorReport(
        tensor.name,
        tensor.kind,
        tensor.value.shape,
        verdict,
        checked=len(chosen),
        size=tensor.value.size,
        directions=directions,
        kinks=kinks,
        wrong=wrong,
        wrong_at_kinks=int(np.sum(comparison.is_wrong & comparison.is_kink)),
        not_measurable=unmeasured,
        worst=worst,
    )


def affordable(subject: Subject) -> int:
    """How many elements are compared one by one: fewer, the more a forward costs; the same for the same model."""
    rows = max((len(x) for x in subject.inputs if x.ndim), default=1)
    cost = rows * sum(parameter.value.size for parameter in subject.gate.parameters())
    if isinstance(subject.gate, Container):
        cost += ACTIVATION * sum(math.prod(shape) for shape in subject.gate.shapes.values())
    return int(min(SAMPLES, max(AFFORDABLE / max(cost, 1), 1)))


def _shares(sizes: list[int], samples: int) -> list[int]:
    """How many elements of each tensor are compared: all of them, or equal shares of `samples` (at least 8 of each)."""
    if sum(sizes) <= samples:
        return sizes
    left, shares = samples, dict.fromkeys(range(len(sizes)), 0)
    for rank, index in enumerate(sorted(shares, key=lambda i: sizes[i])):
        shares[index] = min(sizes[index], max(left // (len(sizes) - rank), 8))
        left -= shares[index]
    return [shares[i] for i in range(len(sizes))]
