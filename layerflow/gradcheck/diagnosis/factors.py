"""Gradients that are a multiple of the right one."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding, number
from layerflow.gradcheck.diagnosis.sizes import named_factor
from layerflow.parameter import Array

INTERMEDIATES = 60  # of forward's operations, whose results may be a factor


def not_finite(evidence: Evidence) -> Finding | None:
    """analytic = nan or inf."""
    bad = ~np.isfinite(evidence.analytic)
    if not np.any(bad):
        return None
    what = "nan" if np.any(np.isnan(evidence.analytic)) else "inf"
    formula = f"analytic is {what} at {int(np.sum(bad))} of {bad.size} elements"
    meaning = "a division by zero, a logarithm of zero or an overflow, though forward is finite here"
    return Finding("not finite", formula, meaning, "divisions, logarithms and exponentials in {gate}.backward")


def always_zero(evidence: Evidence) -> Finding | None:
    """analytic = 0."""
    if np.any(evidence.analytic) or np.all(evidence.is_zero(evidence.numeric)[evidence.known]):
        return None
    if evidence.kind == "parameter":
        meaning = "the parameter is never reached by backward, so it would never learn"
        return Finding(
            "always zero",
            "analytic = 0 everywhere",
            meaning,
            "the entry for {tensor} in the dict that {gate}.backward returns",
        )
    return Finding(
        "always zero",
        "analytic = 0 everywhere",
        "nothing flows back to this input",
        "what {gate}.backward returns for {tensor}",
    )


def constant_factor(evidence: Evidence) -> Finding | None:
    """analytic = c * numeric."""
    factor = _factor(evidence)
    if factor is None:
        return None
    named = named_factor(evidence, factor)
    if named is None and (_different(evidence) < 3 or abs(factor) > 1e6 or abs(factor) < 1e-6):
        return None
    cause, meaning = named or ("constant factor", "a constant was forgotten, or multiplied in once too often")
    sign = "" if factor > 0 or cause == "sign" else "; the sign is wrong, too"
    formula = (
        "analytic = -numeric everywhere" if factor == -1.0 else f"analytic = {number(factor)} x numeric everywhere"
    )
    return Finding(cause, formula, meaning + sign, "the factors in {gate}.backward")


def missing_factor(evidence: Evidence) -> Finding | None:
    """analytic = numeric times a power of an array that the gate knows: an input, a parameter, the output."""
    if _different(evidence) < 4:
        return None
    place = "the product in {gate}.backward"
    for name, q in known_arrays(evidence):
        with np.errstate(all="ignore"):
            if evidence.fits(evidence.numeric / q):
                return Finding(
                    "factor array missing", f"analytic * {name} = numeric", f"the factor {name} is missing", place
                )
            if evidence.fits(evidence.numeric * q):
                meaning = f"the factor {name} is there once too often"
                return Finding("factor array too often", f"analytic = numeric * {name}", meaning, place)
            if evidence.fits(evidence.numeric * 2.0 / q):
                meaning = f"the factor {name}/2 is missing"
                return Finding("factor array missing", f"analytic * {name}/2 = numeric", meaning, place)
            if evidence.fits(evidence.numeric * q * q) or evidence.fits(evidence.numeric / (q * q)):
                meaning = f"it is multiplied by {name} where it should be divided, or the other way round"
                return Finding(
                    "factor array inverted", f"analytic / numeric is a square of {name} or of 1/{name}", meaning, place
                )
    return None


def factor_along_axis(evidence: Evidence) -> Finding | None:
    """analytic = numeric times a factor that is the same all along some axes."""
    analytic, numeric = evidence.analytic, evidence.numeric
    where = evidence.known & ~evidence.is_zero(numeric)
    if analytic.ndim < 2 or _different(evidence) < 4 or not np.all(np.isfinite(analytic)):
        return None
    ratio = np.divide(analytic, numeric, out=np.zeros(analytic.shape), where=where)
    for size in range(analytic.ndim - 1, 0, -1):
        for axes in combinations(range(analytic.ndim), size):
            counts = where.sum(axis=axes, keepdims=True)
            factors = np.where(counts, ratio.sum(axis=axes, keepdims=True) / np.maximum(counts, 1), 1.0)
            # Each factor takes one element to be found, only the others can speak against it.
            if np.sum(counts) - factors.size < 4 or np.any(np.abs(factors) < 1e-6):
                continue
            if evidence.fits(numeric * factors):
                return _along(evidence, factors, axes)
    return None


def _along(evidence: Evidence, factors: Array, axes: tuple[int, ...]) -> Finding:
    x = evidence.value
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    what = "column" if x.ndim == 2 and kept == [1] else "row" if x.ndim == 2 else f"index of axis {kept[0]}"
    what = what if len(kept) == 1 else f"index of axes {' and '.join(map(str, kept))}"
    known = {
        "standard deviation": x.std(axis=axes),
        "norm": np.sqrt((x**2).sum(axis=axes)),
        "sum": x.sum(axis=axes),
    }
    named = next((name for name, array in known.items() if _proportional(factors, array)), None)
    per = what if what in ("column", "row") else "index"
    listed = ", ".join(f"{factor:.4g}" for factor in factors.reshape(-1)[:4]) + (", ..." if factors.size > 4 else "")
    meaning = (
        f"it is the {what}'s {named}, or its inverse"
        if named
        else f"a factor that depends on the {what} alone is missing or too much: {listed}"
    )
    formula = f"analytic = numeric times one factor per {what}"
    return Finding(f"factor per {per}", formula, meaning, "what {gate}.backward multiplies and divides by")


def _proportional(factors: Array, array: Array) -> bool:
    with np.errstate(all="ignore"):
        for ratio in (factors.reshape(-1) / array.reshape(-1), factors.reshape(-1) * array.reshape(-1)):
            if np.all(np.isfinite(ratio)) and np.ptp(ratio) <= 1e-4 * np.max(np.abs(ratio)):
                return True
    return False


def sign_lost(evidence: Evidence) -> Finding | None:
    """analytic = |local derivative| * upstream, or |numeric|."""
    if _different(evidence) < 2 or np.sum(evidence.right & evidence.known) < 1:
        return None
    candidates = [np.abs(evidence.numeric)]
    if evidence.is_elementwise or evidence.output.ndim == 0:
        upstream = (
            evidence.upstream if evidence.is_elementwise else np.broadcast_to(evidence.upstream, evidence.value.shape)
        )
        candidates.append(np.sign(upstream) * np.abs(evidence.numeric))
    if any(evidence.fits(candidate) for candidate in candidates):
        meaning = "the sign of the local derivative is lost where it is negative"
        return Finding(
            "sign lost",
            "analytic = numeric where it is right, -numeric elsewhere, by the sign of the local derivative",
            meaning,
            "signs in {gate}.backward",
        )
    return None


def term_added(evidence: Evidence) -> Finding | None:
    """analytic = numeric + c * an array that the gate knows, or + c."""
    difference = evidence.analytic - evidence.numeric
    if _different(evidence) < 4 or not np.all(np.isfinite(difference)):
        return None
    known = evidence.known
    arrays = [(evidence.name, evidence.value), *known_arrays(evidence), ("", np.ones(evidence.value.shape))]
    for name, q in arrays:
        size = float(np.sum(q[known] ** 2))
        c = float(np.sum(difference[known] * q[known])) / size if size else 0.0
        if abs(c) < 1e-9 or not evidence.fits(evidence.numeric + c * q):
            continue
        formula = f"analytic - numeric = {number(c)}{' x ' + name if name else ' everywhere'}"
        place = "what is added to the gradient in {gate}.backward"
        if evidence.kind == "parameter" and name == evidence.name:
            meaning = "a regularisation of {tensor} is added in this gate, though its loss is not part of forward"
            return Finding("own value added", formula, meaning, place)
        return Finding("term added", formula, "that term does not belong to the gradient of this forward", place)
    return None


def _different(evidence: Evidence) -> int:
    return int(np.sum(evidence.known & ~evidence.right))


def _factor(evidence: Evidence) -> float | None:
    """The constant c of analytic = c * numeric, if there is one other than 0 and 1."""
    large = evidence.known & (
        np.abs(evidence.numeric) > 1e-4 * np.max(np.abs(evidence.numeric[evidence.known]), initial=0.0)
    )
    if not np.any(large) or not np.all(np.isfinite(evidence.analytic)):
        return None
    factor = float(np.median(evidence.analytic[large] / evidence.numeric[large]))
    rounded = _simplest(factor)
    factor = rounded if rounded and evidence.fits(rounded * evidence.numeric) else factor
    return factor if abs(factor) > 1e-9 and evidence.fits(factor * evidence.numeric) else None


def _simplest(factor: float) -> float | None:
    """The whole number, or one over a whole number, that a factor is within 1e-6."""
    if factor and abs(factor - round(factor)) < 1e-6 * abs(factor):
        return float(round(factor))
    if factor and abs(1.0 / factor - round(1.0 / factor)) < 1e-6 * abs(1.0 / factor):
        return 1.0 / round(1.0 / factor)
    return None


def known_arrays(evidence: Evidence, intermediates: bool = True) -> Iterator[tuple[str, Array]]:
    """The arrays that can be multiplied with the gradient: inputs, parameters, output, and what forward computes."""
    arrays = dict(evidence.real_inputs)
    arrays |= {name: parameter.value for name, parameter in evidence.subject.gate.named_parameters().items()}
    arrays["the output"] = evidence.output
    for call in evidence.replay.calls[:INTERMEDIATES] if intermediates else ():
        arrays.setdefault(f"`{call.expression or call.name}`", call.result)
    for name, array in arrays.items():
        shapes = [array.shape]
        if array.ndim == 1 and evidence.value.ndim == 2 and evidence.value.shape[0] == array.size:
            shapes.append((array.size, 1))
        if array.ndim == 1 and evidence.value.ndim == 4 and evidence.value.shape[1] == array.size:
            shapes.append((1, array.size, 1, 1))
        for shape in shapes:
            try:
                q = np.broadcast_to(array.reshape(shape), evidence.value.shape)
            except ValueError:
                continue
            if np.all(q != 0.0) and np.ptp(q) > 1e-6 * np.max(np.abs(q), initial=0.0):
                yield name, q
