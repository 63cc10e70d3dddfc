"""What a wrong gradient looks like: hypotheses, tested against the numbers; the best supported one is stated.

A hypothesis is a function that predicts the analytic gradient and returns a `Finding` if the prediction fits every
element that can be compared. Where none fits, nothing is said: a wrong diagnosis is worse than none.
"""

import numpy as np

from layerflow.gradcheck.behaviour import Observation
from layerflow.gradcheck.diagnosis import (
    contributions,
    factors,
    masks,
    normalisation,
    operation_search,
    places,
    points,
    unexplained,
    upstream,
)
from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding, Hypothesis
from layerflow.gradcheck.diagnosis.replay import Replay
from layerflow.gradcheck.subject import Subject
from layerflow.gradcheck.verdicts import Diagnosis, Measured

# The order decides where several fit: what is said of one state of affairs comes from the simplest description of it.
HYPOTHESES: tuple[Hypothesis, ...] = (
    factors.not_finite,
    points.stale,
    factors.always_zero,
    factors.constant_factor,
    places.swapped,
    places.turned,
    places.blocks_swapped,
    places.shifted,
    places.rows_cut,
    masks.mask,
    masks.slopes_exchanged,
    masks.label_term,
    factors.missing_factor,
    upstream.unchanged,
    upstream.ignored,
    upstream.added,
    upstream.skip_missing,
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
    contributions.upstream_turned,
    contributions.stride_forgotten,
    factors.term_added,
    upstream.constant_term,
    operation_search.wrong_operation,
    normalisation.statistics_terms,
    factors.factor_along_axis,
    places.misplaced,
    upstream.not_linear,
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
        if numbers.name not in wrong:
            continue
        evidence = Evidence(subject, observation, numbers, measured, replay)
        if not evidence.known.any():
            continue
        with np.errstate(all="ignore"):  # a hypothesis that overflows does not agree with anything
            finding = next((finding for test in HYPOTHESES if (finding := test(evidence)) is not None), None)
        if finding is not None:
            found.append(_stated(subject, numbers.name, finding))
        else:
            notes.append(unexplained.pattern(evidence))
    return found, notes


def _stated(subject: Subject, tensor: str, finding: Finding) -> Diagnosis:
    def filled(text: str) -> str:
        return text.replace("{gate}", subject.name).replace("{tensor}", tensor)

    sentence = filled(f"{{gate}}.{{tensor}}: {finding.formula}; {finding.meaning}")
    return Diagnosis(tensor, finding.cause, sentence, filled(finding.place))
