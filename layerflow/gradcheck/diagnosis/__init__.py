"""What a wrong gradient looks like: hypotheses, tested against the numbers; the best supported one is stated.

A hypothesis is a function that predicts the analytic gradient and returns a `Finding` if the prediction fits every
element that can be compared. Where none fits, nothing is said: a wrong diagnosis is worse than none.
"""

from layerflow.gradcheck.behaviour import Observation
from layerflow.gradcheck.diagnosis import factors, masks, normalisation, points, structure, upstream
from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding, Hypothesis
from layerflow.gradcheck.subject import Subject
from layerflow.gradcheck.verdicts import Diagnosis, Measured

# The order decides where several fit: what is said of one state of affairs comes from the simplest description of it.
HYPOTHESES: tuple[Hypothesis, ...] = (
    factors.not_finite,
    points.stale,
    factors.always_zero,
    factors.constant_factor,
    structure.swapped,
    structure.transposed,
    structure.misplaced,
    structure.rows_cut,
    masks.mask,
    masks.slopes_exchanged,
    masks.label_term,
    factors.missing_factor,
    upstream.unchanged,
    upstream.ignored,
    upstream.added,
    upstream.skip_missing,
    structure.diagonal_only,
    normalisation.statistics_terms,
    structure.transposed_jacobian,
    structure.wrong_axis,
    structure.batch_sum_missing,
    structure.repeated_overwritten,
    factors.sign_lost,
    upstream.squared,
    points.output_for_input,
    points.input_for_output,
    points.parameter_turned,
    factors.factor_along_axis,
    factors.own_value_added,
    upstream.not_linear,
)


def diagnose(subject: Subject, observation: Observation, measured: list[Measured], wrong: set[str]) -> list[Diagnosis]:
    """Say what the gradients named in `wrong` look like; the same cause in several tensors is stated for each."""
    found = []
    for numbers in measured:
        if numbers.name not in wrong:
            continue
        evidence = Evidence(subject, observation, numbers, measured)
        if not evidence.known.any():
            continue
        finding = next((finding for test in HYPOTHESES if (finding := test(evidence)) is not None), None)
        if finding is not None:
            found.append(_stated(subject, numbers.name, finding))
    return found


def _stated(subject: Subject, tensor: str, finding: Finding) -> Diagnosis:
    place = finding.place.replace("{gate}", subject.name).replace("{tensor}", tensor)
    return Diagnosis(tensor, finding.cause, f"{subject.name}.{tensor}: {finding.formula}; {finding.meaning}", place)
