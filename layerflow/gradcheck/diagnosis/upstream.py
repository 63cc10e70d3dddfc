"""Gradients in which the upstream gradient was not multiplied in as the chain rule demands."""

from collections.abc import Callable

import numpy as np

from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.evidence import Evidence, besides
from layerflow.parameter import Array


def unchanged(evidence: Evidence) -> Finding | None:
    """analytic = upstream, summed back over the axes along which the tensor was broadcast."""
    upstream = _as_value(evidence)
    if upstream is None and evidence.jacobian is not None and np.all(np.count_nonzero(evidence.reached, axis=1) <= 1):
        upstream = (evidence.upstream.reshape(-1) @ evidence.reached).reshape(evidence.value.shape)
    if upstream is None or evidence.output.size < 2 or np.all(np.abs(evidence.analytic) < 1e-12):
        return None
    factor = evidence.fitting_factor(upstream)
    if factor is None:
        return None
    return Finding("local derivative missing", f"analytic = the upstream gradient itself{besides(factor)}")


def ignored(evidence: Evidence) -> Finding | None:
    """analytic = J^T 1."""
    if evidence.jacobian is None or evidence.output.ndim == 0:
        return None
    local = evidence.jacobian.sum(axis=0).reshape(evidence.value.shape)
    for prediction in (local, local / evidence.output.size):
        factor = evidence.fitting_factor(prediction)
        if factor is not None:
            formula = f"analytic = the gradient for an upstream gradient of ones{besides(factor)}"
            return Finding("upstream gradient ignored", formula)
    return None


def added(evidence: Evidence) -> Finding | None:
    """analytic = J^T 1 + upstream, or numeric + upstream."""
    upstream = _as_value(evidence)
    if evidence.jacobian is None or upstream is None:
        return None
    if evidence.fits(evidence.jacobian.sum(axis=0).reshape(evidence.value.shape) + upstream):
        return Finding("upstream gradient added", "analytic = local derivative + upstream gradient")
    if evidence.fits(evidence.numeric + upstream):
        meaning = "the upstream gradient is added once too often"
        return Finding("upstream gradient added", "analytic = numeric + upstream gradient", meaning)
    return None


def constant_term(evidence: Evidence) -> Finding | None:
    """backward of an upstream gradient of 0 is not 0."""
    grads = _backward(evidence, 0.0)
    if grads is None or not np.any(np.abs(grads[evidence.known]) > 1e-9 * evidence.scale):
        return None
    if np.all(np.abs(evidence.analytic - grads - evidence.numeric)[evidence.known] <= 1e-7 * evidence.scale):
        return None  # nothing is missing: something unknown is added
    formula = "the gradient for an upstream gradient of 0 is not 0"
    return Finding("upstream gradient ignored", formula, "a term in it is not multiplied by the upstream gradient")


def not_linear(evidence: Evidence) -> Finding | None:
    """A small upstream gradient gives the right gradient, this one does not."""
    small = 2.0**-20
    scaled = _backward(evidence, small)
    if scaled is None:
        return None
    right = np.abs(scaled / small - evidence.numeric) <= evidence.tolerance(evidence.numeric)
    if not np.all(right[evidence.known]):
        return None
    formula = "the gradient is right for a small upstream gradient, and wrong for a large one"
    return Finding("not linear in the upstream gradient", formula)


def _backward(evidence: Evidence, scale: float) -> Array | None:
    """What backward returns for a multiple of the upstream gradient."""
    try:
        evidence.subject.forward()
        grads = evidence.subject.backward([np.asarray(scale * g) for g in evidence.observation.upstream])
    except Exception:  # it may refuse such a gradient
        return None
    return grads.get(evidence.name)


def _as_value(evidence: Evidence) -> Array | None:
    """The upstream gradient in the shape of the tensor, where it has that shape or is a single number."""
    if evidence.upstream.ndim == 0:
        return np.full(evidence.value.shape, float(evidence.upstream))
    return evidence.upstream if evidence.upstream.shape == evidence.value.shape else None


def masked(evidence: Evidence) -> Finding | None:
    """analytic has the slopes of numeric, chosen by the sign of the upstream gradient."""
    if not evidence.is_elementwise or evidence.count < 4:
        return None
    slopes = (evidence.numeric / evidence.upstream)[evidence.known]
    low, high = float(np.min(slopes)), float(np.max(slopes))
    for chosen, other in ((high, low), (low, high)):
        if evidence.fits(evidence.upstream * np.where(evidence.upstream > 0.0, chosen, other)):
            formula = "analytic chooses its slopes by the sign of the upstream gradient"
            return Finding("mask of the upstream gradient", formula)
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
    if not evidence.is_elementwise or evidence.count < 4:
        return None
    for name, q in evidence.known_arrays(intermediates=False):
        for form, function in FORMS.items():
            factor = evidence.fitting_factor(evidence.upstream * function(q))
            if factor is not None:
                formula = f"analytic = upstream * {form.replace('{}', name)}{besides(factor)}"
                return Finding("wrong local derivative", formula)
    return None
