"""What a wrong gradient looks like: hypotheses, tested against the numbers; the best supported one is stated.

A hypothesis is a function that predicts the analytic gradient and returns a `Finding` if the prediction fits every
element that can be compared. Where none fits, nothing is said: a wrong diagnosis is worse than none.
"""

import numpy as np

from layerflow.gradcheck.behaviour import Observation
from layerflow.gradcheck.diagnosis import (
    contributions,
    factors,
    normalisation,
    operations,
    places,
    points,
    routes,
    upstream,
)
from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.evidence import Evidence, Hypothesis
from layerflow.gradcheck.diagnosis.probe import WORK, Change, Probe, grouped
from layerflow.gradcheck.diagnosis.recording import Replay
from layerflow.gradcheck.subject import Subject
from layerflow.gradcheck.verdicts import Diagnosis, Measured

# Changes of the operations of forward, in the order in which they are tried.
FAMILIES = (
    routes.edges,
    routes.reductions,
    operations.functions,
    operations.selections,
    operations.products,
    operations.stretches,
    routes.steps,
)


def diagnose(
    subject: Subject, observation: Observation, measured: list[Measured], wrong: set[str]
) -> tuple[list[Diagnosis], list[str]]:
    """Say what the gradients named in `wrong` look like; the same cause in several tensors is stated for each.

    Returns:
        The diagnoses, and a note on each gradient that none explains.
    """
    found: list[Diagnosis] = []
    notes: list[str] = []
    replay = Replay(subject)
    for numbers in measured:
        evidence = Evidence(subject, observation, numbers, measured, replay)
        if evidence.name not in wrong or not evidence.known.any():
            continue
        with np.errstate(all="ignore"):  # a hypothesis that overflows does not agree with anything
            finding = next((finding for test in HYPOTHESES if (finding := test(evidence)) is not None), None)
        if finding is not None:
            found.append(Diagnosis(evidence.name, finding.cause, *finding.stated(subject.name, evidence.name)))
        else:
            notes.append(_pattern(evidence))
    return found, notes


def wrong_operation(evidence: Evidence) -> Finding | None:
    """analytic = the gradient of a forward in which one operation responds differently to its operands.

    Every change is made to one operation (or to all its calls, in a loop over steps); differences of the forward so
    changed are what a backward with this mistake returns. No gate is known to it.
    """
    replay = evidence.replay
    if not replay.calls or not np.all(np.isfinite(evidence.analytic)):
        return None
    probe, groups = Probe(evidence), grouped(replay.calls)
    change: Change
    for change, factor in replay.explained:  # one mistake often affects several gradients
        if probe.screened(change) is not None and probe.explains(change, factor):
            return change.describe(factor)
    for family in FAMILIES:
        fitting: list[tuple[Change, float]] = []
        for change in family(replay.calls, groups):
            if replay.work > WORK:
                break
            found = probe.screened(change)
            if found is not None:
                fitting.append((change, found))
        fitting.sort(key=lambda item: (not (item[1] and item[0].names_factor), item[0].rank))
        for change, factor in fitting:
            if probe.explains(change, factor):
                replay.explained.append((change, factor))
                return change.describe(factor)
    return routes.factor_array(evidence, probe, groups)


# The order decides where several fit: the simplest description of the same numbers comes first.
HYPOTHESES: tuple[Hypothesis, ...] = (
    factors.not_finite,
    points.stale,
    factors.always_zero,
    factors.constant_factor,
    places.swapped,
    places.turned,
    places.blocks_swapped,
    places.shifted,
    places.mask,
    places.slopes_exchanged,
    places.label_term,
    factors.missing_factor,
    upstream.unchanged,
    upstream.ignored,
    upstream.added,
    upstream.masked,
    contributions.same_index,
    contributions.one_position,
    contributions.overwritten,
    contributions.whole_window,
    contributions.averaged,
    normalisation.softmax_axis,
    points.other_turned,
    places.transposed_jacobian,
    places.wrong_axis,
    factors.sign_lost,
    points.input_for_output,
    upstream.times_array,
    points.other_extreme,
    points.other_argument,
    contributions.window_misplaced,
    factors.term_added,
    upstream.constant_term,
    wrong_operation,
    normalisation.statistics_terms,
    factors.factor_along_axis,
    places.misplaced,
    upstream.not_linear,
)


def _pattern(evidence: Evidence) -> str:
    """Where a gradient is wrong that no hypothesis explains, and the ratio of analytic to numeric there."""
    wrong = evidence.wrong
    parts = [f"wrong at {int(np.sum(wrong))} of {evidence.count} elements"]
    for axis, length in enumerate(wrong.shape):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        touched = np.flatnonzero(np.any(wrong, axis=others))
        if 0 < len(touched) <= length // 2:
            parts.append(f"only at index {', '.join(map(str, touched))} of axis {axis}")
    both = wrong & ~evidence.is_zero(evidence.numeric) & np.isfinite(evidence.analytic)
    if np.any(both):
        ratio = evidence.analytic[both] / evidence.numeric[both]
        parts.append(f"analytic/numeric from {np.min(ratio):.3g} to {np.max(ratio):.3g}, median {np.median(ratio):.3g}")
    return f"{evidence.subject.name}.{evidence.name}: cause unknown; {'; '.join(parts)}"
