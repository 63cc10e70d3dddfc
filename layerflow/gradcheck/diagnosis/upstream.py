"""Gradients in which the upstream gradient was not multiplied in as the chain rule demands."""

from collections.abc import Callable

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding, besides
from layerflow.gradcheck.diagnosis.factors import known_arrays
from layerflow.parameter import Array

PLACE = "where {gate}.backward uses grad"


def ignored(evidence: Evidence) -> Finding | None:
    """analytic = J^T 1."""
    local = _local(evidence)
    if local is None or evidence.output.ndim == 0:
        return None
    for prediction in (local, local / evidence.output.size, local / (evidence.batch or 1)):
        factor = evidence.fitting_factor(prediction)
        if factor is not None:
            formula = f"analytic = what an upstream gradient of ones gives{besides(factor)}"
            return Finding("upstream gradient ignored", formula, "the upstream gradient is not multiplied in", PLACE)
    return None


def added(evidence: Evidence) -> Finding | None:
    """analytic = J^T 1 + upstream, or numeric + upstream."""
    local, upstream = _local(evidence), _as_value(evidence)
    if local is None or upstream is None:
        return None
    if evidence.fits(local + upstream):
        formula = "analytic = local derivative + upstream gradient"
        return Finding("upstream gradient added", formula, "the chain rule multiplies the two", PLACE)
    if evidence.fits(evidence.numeric + upstream):
        formula = "analytic = numeric + upstream gradient"
        return Finding("upstream gradient added", formula, "the upstream gradient is added once too often", PLACE)
    return None


def constant_term(evidence: Evidence) -> Finding | None:
    """backward of an upstream gradient of 0 is not 0."""
    grads = _backward(evidence, 0.0)
    if grads is None or not np.any(np.abs(grads[evidence.known]) > 1e-9 * evidence.scale):
        return None
    if np.all(np.abs(evidence.analytic - grads - evidence.numeric)[evidence.known] <= 1e-7 * evidence.scale):
        return None  # nothing is missing: something is added, and nobody knows what
    formula = "the gradient for an upstream gradient of 0 is not 0"
    meaning = "a term in it is not multiplied by the upstream gradient"
    return Finding("upstream gradient ignored", formula, meaning, PLACE)


def skip_missing(evidence: Evidence) -> Finding | None:
    """analytic = numeric - upstream."""
    if evidence.upstream.shape != evidence.value.shape or not evidence.fits(evidence.numeric - evidence.upstream):
        return None
    formula = "analytic = numeric - upstream gradient"
    meaning = "the path on which the input is passed on unchanged is left out"
    return Finding(
        "skip path missing", formula, meaning, "the sum over all paths from {tensor} to the output in {gate}.backward"
    )


def unchanged(evidence: Evidence) -> Finding | None:
    """analytic = upstream, summed back over the axes along which the tensor was broadcast."""
    upstream = _as_value(evidence)
    if upstream is None:
        upstream = _summed_back(evidence)
    if upstream is None or evidence.output.size < 2 or np.all(np.abs(evidence.analytic) < 1e-12):
        return None
    factor = evidence.fitting_factor(upstream)
    if factor is None:
        return None
    formula = f"analytic = the upstream gradient itself{besides(factor)}"
    return Finding("local derivative missing", formula, "the local derivative is not multiplied in", PLACE)


def _summed_back(evidence: Evidence) -> Array | None:
    """The upstream gradient summed over the outputs that each element reaches, if each output is reached by one."""
    jacobian = evidence.jacobian
    if jacobian is None:
        return None
    reached = np.abs(jacobian) > 1e-9 * np.max(np.abs(jacobian), initial=1e-300)
    if np.any(reached.sum(axis=1) > 1):
        return None
    return np.asarray((evidence.upstream.reshape(-1) @ reached).reshape(evidence.value.shape))


def not_linear(evidence: Evidence) -> Finding | None:
    """A small upstream gradient gives the right gradient, this one does not."""
    small = 2.0**-20
    scaled = _backward(evidence, small)
    if scaled is None:
        return None
    with np.errstate(all="ignore"):
        right = np.abs(scaled / small - evidence.numeric) <= evidence.tolerance(evidence.numeric)
    if not np.all(right[evidence.known]):
        return None
    formula = "the gradient is right for a small upstream gradient, and wrong for a large one"
    return Finding(
        "not linear in the upstream gradient", formula, "backward clips or bends it; it must be linear in grad", PLACE
    )


def _backward(evidence: Evidence, scale: float) -> Array | None:
    """What backward returns for a multiple of the upstream gradient."""
    try:
        evidence.subject.forward()
        grads = evidence.subject.backward([np.asarray(scale * g) for g in evidence.observation.upstream])
    except Exception:  # it may refuse such a gradient
        return None
    return grads.get(evidence.name)


def _local(evidence: Evidence) -> Array | None:
    """The gradient for an upstream gradient of ones."""
    if evidence.jacobian is None:
        return None
    return np.asarray(evidence.jacobian.sum(axis=0).reshape(evidence.value.shape))


def _as_value(evidence: Evidence) -> Array | None:
    """The upstream gradient in the shape of the tensor, where it has that shape or is a single number."""
    if evidence.upstream.shape == evidence.value.shape:
        return evidence.upstream
    return np.full(evidence.value.shape, float(evidence.upstream)) if evidence.upstream.ndim == 0 else None


def masked(evidence: Evidence) -> Finding | None:
    """analytic has the slopes of numeric, chosen by the sign of the upstream gradient or of the output."""
    if not evidence.is_elementwise or evidence.count < 4:
        return None
    slopes = evidence.numeric / evidence.upstream
    low, high = float(np.min(slopes[evidence.known])), float(np.max(slopes[evidence.known]))
    for chosen, other in ((high, low), (low, high)):
        if evidence.fits(evidence.upstream * np.where(evidence.upstream > 0.0, chosen, other)):
            formula = "analytic has its slopes by the sign of the upstream gradient"
            meaning = "the mask must come from what forward saw, not from grad"
            return Finding("mask of the upstream gradient", formula, meaning, "the comparison in {gate}.backward")
    return None


FORMS: dict[str, Callable[[Array], Array]] = {
    "{}": lambda q: q,
    "(1 - {})": lambda q: 1.0 - q,
    "{}^2": lambda q: q**2,
    "(1 - {}^2)": lambda q: 1.0 - q**2,
    "{} (1 - {})": lambda q: q * (1.0 - q),
    "1/{}": lambda q: 1.0 / q,
    "(1 + {})": lambda q: 1.0 + q,
    "sign of {}": np.sign,
    "|{}|": np.abs,
}


def times_array(evidence: Evidence) -> Finding | None:
    """analytic = upstream * a simple function of an array that the gate knows."""
    if evidence.upstream.shape != evidence.value.shape or evidence.count < 4 or not evidence.is_elementwise:
        return None
    for name, q in known_arrays(evidence, intermediates=False):
        for form, function in FORMS.items():
            with np.errstate(all="ignore"):
                factor = evidence.fitting_factor(evidence.upstream * function(q))
            if factor is not None:
                formula = f"analytic = upstream * {form.replace('{}', name)}{besides(factor)}"
                meaning = "that is not the derivative of this function"
                return Finding("wrong local derivative", formula, meaning, "the formula in {gate}.backward")
    return None
