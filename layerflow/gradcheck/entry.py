"""`check_gradients`: every derivative that `backward` returns, against differences of `forward`.

`observe` runs the gate once and watches what it touches, `measure` takes the differences (`differences.py`), `compare`
decides on every element (`verdicts.py`), and `diagnose` says what wrong gradients look like (`diagnosis/`).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.errors import GateError
from layerflow.gate import Gate
from layerflow.gradcheck.behaviour import Observation, observe
from layerflow.gradcheck.diagnosis import diagnose
from layerflow.gradcheck.differences import measure
from layerflow.gradcheck.noise import Noise, measure_noise
from layerflow.gradcheck.reference import differences_from, use_surrogate
from layerflow.gradcheck.subject import Subject, Tensor, direction_line, element_line, flat
from layerflow.gradcheck.verdicts import Diagnosis, Measured, Report, TensorReport, compare, summarise
from layerflow.parameter import Parameter

RTOL = 1e-7  # relative difference that is accepted, beyond the error of the differences
SAMPLES = 2000  # elements that are compared one by one, over all tensors; more are sampled
DIRECTIONS = 4  # random directions per sampled tensor
AFFORDABLE = 1e9  # multiplications in forwards, per window of differences
ACTIVATION = 20  # computing an element of an activation takes as long as so many multiplications
FEW = 5  # samples of a batch on which an unexplained fault of a model's gate is diagnosed again


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
    hides is counted as not measurable (`report.not_measurable`); a report is not `ok` if a whole tensor is hidden.

    Args:
        gate: a gate, `Sequential` or graph; built for the inputs if it is not built yet.
        inputs: real arrays or numbers; integer arrays for labels.
        seed: of the random upstream gradient, of new parameters and of the sample.
        against: a reference gate, or the name of a built-in one, whose outputs and gradients must be the same. This
            finds a gate that computes the wrong function and differentiates it correctly.
        surrogate: a gate or function to differentiate in place of the gate's own forward, for straight-through
            estimators (`surrogate=lambda x: x`), reversed gradients (`lambda x: -x`) and stopped ones
            (`lambda x: 0 * x`).
        samples: how many elements are compared one by one, over all tensors; by default 2000, and fewer for a
            model whose forward is expensive.
        rtol: the relative difference that is accepted, beyond the error of the differences themselves.

    Returns:
        A report: `str(report)` to read, `report.ok` (or the report's truth value) for code.

    Raises:
        GateError: the gate breaks the contract, its own code raises, or the inputs cannot be differentiated.
    """
    start = time.perf_counter()
    if samples is not None and samples < 1:
        raise GateError(f"samples={samples}: expected at least 1")
    subject = Subject(gate, inputs, seed)
    if surrogate is not None:
        use_surrogate(subject, surrogate)
    samples = _affordable(subject) if samples is None else samples
    observation = observe(subject)
    report = _check(subject, observation, samples, rtol)
    if against is not None:
        report.faults += differences_from(against, gate, subject, observation)
    elif surrogate is None and isinstance(gate, Container):
        _explain(report, subject, samples, rtol)
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


# One gate, tensor by tensor --------------------------------------------------------------------------------------


def _check(subject: Subject, observation: Observation, samples: int, rtol: float) -> Report:
    """The report on a gate, with the diagnosis of what is wrong; a model's gates are diagnosed one by one."""
    if not subject.tensors:
        raise GateError(f"{subject.written}: nothing to check; it has no parameters and was given no real-valued input")
    report = Report(subject.written, faults=list(observation.faults))
    if any(fault.cause == "nondeterministic forward" for fault in report.faults):
        return report
    noise = measure_noise(subject, observation.upstream)
    measured: list[Measured] = []
    shares = _shares([tensor.value.size for tensor in subject.tensors], samples)
    for tensor, share in zip(subject.tensors, shares, strict=True):
        tensor_report, numbers = _check_tensor(subject, tensor, observation, noise, share, rtol)
        report.tensors.append(tensor_report)
        measured += [numbers] if numbers else []
    wrong = {tensor.name for tensor in report.tensors if tensor.verdict == "wrong"}
    if wrong and not report.faults and not isinstance(subject.gate, Container):
        report.diagnoses, report.notes = diagnose(subject, observation, measured, wrong)
    return report


def _check_tensor(
    subject: Subject, tensor: Tensor, observation: Observation, noise: Noise, share: int, rtol: float
) -> tuple[TensorReport, Measured | None]:
    """Compare `share` elements of a tensor, and random directions if that is not all of them."""
    analytic, value = observation.analytic[tensor.name], tensor.value
    if analytic is None and subject.surrogate is not None:  # a stopped gradient
        analytic = np.zeros(value.shape)
    if value.size == 0 or analytic is None:
        verdict = "empty" if value.size == 0 else "no gradient"
        return TensorReport(tensor.name, tensor.kind, value.shape, verdict, size=value.size), None
    chosen, moves = np.arange(value.size), []
    if share < value.size:
        chosen = np.sort(subject.rng.choice(value.size, share, replace=False))
        moves = [subject.rng.choice([-1.0, 1.0], value.shape) for _ in range(DIRECTIONS)]
    lines = [element_line(subject, tensor, int(i)) for i in chosen]
    lines += [direction_line(subject, tensor, move) for move in moves]
    slopes = np.array([*analytic.flat[chosen], *(np.sum(analytic * move) for move in moves)], dtype=np.float64)
    spread = noise.gradients.get(tensor.name, np.zeros(value.shape))
    jitter = np.array([*spread.flat[chosen], *[np.sum(spread)] * len(moves)])
    found = measure(lines, subject.run(), flat(tuple(observation.upstream)), slopes, noise.output)
    comparison = compare(slopes, found, rtol, jitter)

    def whole(of_lines: Any) -> Any:
        array = np.zeros(value.size, of_lines.dtype)
        array[chosen] = of_lines[: len(chosen)]
        return array.reshape(value.shape)

    numbers = Measured(
        tensor,
        np.asarray(analytic, np.float64),
        numeric=whole(comparison.numeric),
        error=whole(found.error + jitter),
        known=whole(~comparison.is_kink & ~comparison.is_open),
    )
    return summarise(tensor, comparison, chosen), numbers


def _affordable(subject: Subject) -> int:
    """How many elements are compared one by one: fewer, the more a forward costs; the same for the same model."""
    gate = subject.gate
    if isinstance(gate, Container):
        cost = ACTIVATION * sum(math.prod(shape) for shape in gate.shapes.values())
        cost += sum(_multiplications(step.parameters, gate.shapes.get(step.writes[0], ())) for step in gate.steps)
    else:
        rows = max((len(x) for x in subject.inputs if x.ndim), default=1)
        cost = rows * sum(parameter.value.size for parameter in gate.parameters())
    return int(min(SAMPLES, max(AFFORDABLE / max(cost, 1), 1)))


def _multiplications(parameters: Sequence[Parameter], shape: tuple[int, ...]) -> int:
    """How often the parameters are multiplied: once for each place of the output that has all channels."""
    sizes = [parameter.value.shape for parameter in parameters]
    channels = max((width for each in sizes for width in each if width in shape), default=1)
    return sum(map(math.prod, sizes)) * math.prod(shape) // max(channels, 1)


def _shares(sizes: list[int], samples: int) -> list[int]:
    """How many elements of each tensor are compared: all of them, or equal shares of `samples` (at least 8 of each)."""
    if sum(sizes) <= samples:
        return sizes
    shares = dict.fromkeys(range(len(sizes)), 0)
    for rank, index in enumerate(sorted(shares, key=lambda i: sizes[i])):
        shares[index] = min(sizes[index], max(samples // (len(sizes) - rank), 8))
        samples -= shares[index]
    return [shares[i] for i in range(len(sizes))]


# A model, gate by gate -------------------------------------------------------------------------------------------


def _explain(report: Report, subject: Subject, samples: int, rtol: float) -> None:
    """Name the first gate, in the order of forward, that fails by itself; where none does, kinks are no failure.

    The gates of a model whose gradients are right are watched, too: one that overwrites its upstream gradient does harm
    only where another gate needs that gradient.
    """
    report.guilty = _first_guilty(subject, samples, rtol, is_right=report.ok)
    wrong = [tensor for tensor in report.tensors if tensor.verdict == "wrong"]
    if report.guilty is not None or not wrong or report.faults:
        return
    if all(tensor.wrong == tensor.wrong_at_kinks for tensor in wrong):
        report.tensors = [replace(tensor, verdict="ok") if tensor in wrong else tensor for tensor in report.tensors]
        report.notes.append(
            "some elements are close to kinks of several gates at once, where differences of the whole model are "
            "inconclusive; each gate passes on its own, with the inputs it received in the model"
        )
    else:
        report.notes.append(
            "each gate passes on its own, with the inputs it received in the model; check how the gates are connected"
        )


def _first_guilty(subject: Subject, samples: int, rtol: float, is_right: bool) -> tuple[str, Report] | None:
    model = subject.gate
    assert isinstance(model, Container)
    subject.run()
    seen = [[np.array(model.values[slot]) for slot in step.reads] for step in model.steps]
    for step, inputs in zip(model.steps, seen, strict=True):
        part = Subject(step.gate, inputs)
        if not part.tensors:
            continue
        observation = observe(part)
        if is_right:
            report = Report(part.written, faults=observation.faults)
        else:
            report = _check(part, observation, samples, rtol)
        if report.faults or any(tensor.verdict == "wrong" for tensor in report.tensors):
            if not report.faults and not report.diagnoses:
                report.diagnoses = _diagnosed_on_few(step.gate, inputs, samples, rtol)
            return step.name, report
    return None


def _diagnosed_on_few(gate: Gate, inputs: list[Any], samples: int, rtol: float) -> list[Diagnosis]:
    """The diagnosis on the first few samples, all elements of which can be compared."""
    rows = {len(x) for x in inputs if x.ndim}
    if len(rows) != 1 or min(rows) <= FEW:
        return []
    try:
        few = Subject(gate, [x[:FEW] if x.ndim else x for x in inputs])
        return _check(few, observe(few), samples, rtol).diagnoses
    except Exception:  # the gate need not accept fewer samples
        return []
