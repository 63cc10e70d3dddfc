"""Gradients that are the right one times a factor, or plus a term, and what such a number is."""

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.evidence import Evidence, listed, number, subsets
from layerflow.parameter import Array


def not_finite(evidence: Evidence) -> Finding | None:
    """analytic = nan or inf."""
    bad = ~np.isfinite(evidence.analytic)
    if not np.any(bad):
        return None
    what = "nan" if np.any(np.isnan(evidence.analytic)) else "inf"
    return Finding("not finite", f"analytic is {what} at {int(np.sum(bad))} of {bad.size} elements")


def always_zero(evidence: Evidence) -> Finding | None:
    """analytic = 0."""
    if np.any(evidence.analytic) or np.all(evidence.is_zero(evidence.numeric)[evidence.known]):
        return None
    if evidence.kind == "input":
        return Finding("always zero", "analytic = 0 everywhere")
    meaning = "backward never computes the gradient of this parameter, so it would never learn"
    place = "the entry for {tensor} in the dict that {gate}.backward returns"
    return Finding("always zero", "analytic = 0 everywhere", meaning, place)


def constant_factor(evidence: Evidence) -> Finding | None:
    """analytic = c * numeric, for a constant c other than 0 and 1."""
    analytic, numeric, known = evidence.analytic, evidence.numeric, evidence.known
    large = known & (np.abs(numeric) > 1e-4 * np.max(np.abs(numeric[known]), initial=0.0))
    if not np.any(large) or not np.all(np.isfinite(analytic)):
        return None
    factor = float(np.median(analytic[large] / numeric[large]))
    simple = _simplest(factor)
    factor = simple if simple and evidence.fits(simple * numeric) else factor
    if abs(factor) <= 1e-9 or not evidence.fits(factor * numeric):
        return None
    cause, meaning = _named_factor(evidence, factor)
    if cause == "constant factor" and (np.sum(evidence.wrong) < 3 or not 1e-6 < abs(factor) < 1e6):
        return None
    if factor == -1.0:
        return Finding(cause, "analytic = -numeric everywhere", meaning)
    sign = "" if factor > 0 else "; the sign is wrong, too"
    return Finding(cause, f"analytic = {number(factor)} x numeric everywhere", meaning + sign)


def missing_factor(evidence: Evidence) -> Finding | None:
    """analytic = numeric times a power of an array that the gate knows: an input, a parameter, the output."""
    if np.sum(evidence.wrong) < 4:
        return None
    numeric = evidence.numeric
    for name, q in evidence.known_arrays():
        missing, inverted = "factor array missing", "factor array inverted"
        candidates = (
            (missing, numeric / q, f"analytic * {name} = numeric", f"the factor {name} is missing"),
            (
                "factor array too often",
                numeric * q,
                f"analytic = numeric * {name}",
                f"there is a factor {name} too many",
            ),
            (missing, numeric * 2.0 / q, f"analytic * {name}/2 = numeric", f"the factor {name}/2 is missing"),
            (inverted, numeric * q * q, f"analytic = numeric * {name}^2", ""),
            (inverted, numeric / (q * q), f"analytic = numeric / {name}^2", ""),
        )
        for cause, prediction, formula, meaning in candidates:
            if evidence.fits(prediction):
                return Finding(cause, formula, meaning)
    return None


def factor_along_axis(evidence: Evidence) -> Finding | None:
    """analytic = numeric times a factor that is the same all along some axes."""
    analytic, numeric = evidence.analytic, evidence.numeric
    where = evidence.known & ~evidence.is_zero(numeric)
    if analytic.ndim < 2 or np.sum(evidence.wrong) < 4 or not np.all(np.isfinite(analytic)):
        return None
    ratio = np.divide(analytic, numeric, out=np.zeros(analytic.shape), where=where)
    for axes in sorted(subsets(analytic.ndim), key=len, reverse=True):
        counts = where.sum(axis=axes, keepdims=True)
        factors = np.where(counts, ratio.sum(axis=axes, keepdims=True) / np.maximum(counts, 1), 1.0)
        # Each factor takes one element to be found, only the others can speak against it.
        if np.sum(counts) - factors.size < 4 or np.any(np.abs(factors) < 1e-6) or len(axes) == analytic.ndim:
            continue
        if evidence.fits(numeric * factors):
            return _per_index(evidence.value, factors, axes)
    return None


def _per_index(x: Array, factors: Array, axes: tuple[int, ...]) -> Finding:
    kept = tuple(axis for axis in range(x.ndim) if axis not in axes)
    what = ("row", "column")[kept[0]] if x.ndim == 2 else f"index of axis {listed(kept)}"
    known = {"standard deviation": x.std(axis=axes), "norm": np.sqrt((x**2).sum(axis=axes)), "sum": x.sum(axis=axes)}
    flat = factors.reshape(-1)
    named = next((name for name, array in known.items() if _is_proportional(flat, array.reshape(-1))), None)
    if named:
        meaning = f"it is the {what}'s {named}, or its inverse"
    else:
        some = ", ".join(f"{factor:.4g}" for factor in flat[:4]) + (", ..." if flat.size > 4 else "")
        meaning = f"a factor that depends only on the {what} is missing, or there is one too many: {some}"
    cause = f"factor per {what if x.ndim == 2 else 'index'}"
    place = "what {gate}.backward multiplies and divides by"
    return Finding(cause, f"analytic = numeric times one factor per {what}", meaning, place)


def _is_proportional(factors: Array, array: Array) -> bool:
    return any(
        np.all(np.isfinite(ratio)) and np.ptp(ratio) <= 1e-4 * np.max(np.abs(ratio))
        for ratio in (factors / array, factors * array)
    )


def sign_lost(evidence: Evidence) -> Finding | None:
    """analytic = |local derivative| * upstream, or |numeric|."""
    if np.sum(evidence.wrong) < 2 or not np.any(evidence.right & evidence.known):
        return None
    candidates = [np.abs(evidence.numeric)]
    if evidence.is_elementwise or evidence.output.ndim == 0:
        candidates.append(np.sign(evidence.upstream) * np.abs(evidence.numeric))
    if not any(evidence.fits(candidate) for candidate in candidates):
        return None
    return Finding("sign lost", "analytic = numeric where it is right, and -numeric elsewhere")


def term_added(evidence: Evidence) -> Finding | None:
    """analytic = numeric + c * an array that the gate knows, or + c."""
    difference, known = evidence.analytic - evidence.numeric, evidence.known
    if np.sum(evidence.wrong) < 4 or not np.all(np.isfinite(difference)):
        return None
    arrays = [(evidence.name, evidence.value), *evidence.known_arrays(), ("", np.ones(evidence.value.shape))]
    for name, q in arrays:
        size = float(np.sum(q[known] ** 2))
        c = float(np.sum(difference[known] * q[known])) / size if size else 0.0
        if abs(c) < 1e-9 or not evidence.fits(evidence.numeric + c * q):
            continue
        is_own = evidence.kind == "parameter" and name == evidence.name
        formula = f"analytic - numeric = {number(c)}{' x ' + name if name else ' everywhere'}"
        return Finding("own value added" if is_own else "term added", formula)
    return None


# What a number is ------------------------------------------------------------------------------------------------


def _simplest(factor: float) -> float | None:
    """The integer, or one over an integer, that a factor is within 1e-6."""
    if factor and _close(factor, round(factor)):
        return float(round(factor))
    return 1.0 / round(1.0 / factor) if factor and _close(1.0 / factor, round(1.0 / factor)) else None


def _named_factor(evidence: Evidence, factor: float) -> tuple[str, str]:
    """What a factor is: cause and meaning; "constant factor" where nothing explains it."""
    size = abs(factor)
    if factor == -1.0:
        return "sign", "the sign is wrong"
    if evidence.output.ndim == 0:
        upstream, written = float(evidence.upstream), number(factor)
        if _close(factor * upstream, 1.0):
            meaning = f"{written} is 1/upstream: the upstream gradient is not multiplied in"
            return "upstream gradient ignored", meaning
        if _close(factor, upstream):
            return "upstream gradient twice", f"{written} is the upstream gradient: it is multiplied in twice"
    names = [*_of_lengths(evidence, size), *_of_arguments(evidence, size)]
    if _close(size, 2.0):
        names.insert(0, ("factor 2", "a 2 too many, as if a factor 1/2 (or the mean over two) had been forgotten"))
    if _close(size, 0.5):
        names.insert(0, ("factor 1/2", "the 2 from the derivative of a square is missing, or there is a 1/2 too many"))
    if not names:
        return "constant factor", "a constant factor is missing, or there is one too many"
    return names[0][0], "; or ".join(meaning for _, meaning in names)


def _of_lengths(evidence: Evidence, size: float) -> Iterator[tuple[str, str]]:
    for length, names in _lengths(evidence).items():
        all_names = " and ".join(names)
        for root, form in ((math.sqrt(length), f"sqrt({length})"), (1.0 / math.sqrt(length), f"1/sqrt({length})")):
            if _close(size, root):
                yield "factor sqrt(d)", f"that is {form}, and {length} is {all_names}: a scale is missing"
        over = "one of them" if len(names) > 1 else "the batch" if names[0] == "the batch size" else "it"
        apart = "; change the batch size to see which" if len(names) > 1 and "batch" in names[0] else ""
        what = f"{length} is {all_names}: the mean over {over} was taken"
        if _close(size, float(length)):
            yield "factor N", f"{what} twice or not at all{apart}"
        elif _close(size, 1.0 / length):
            yield "factor 1/N", f"{what} once too often, or instead of the sum{apart}"


def _lengths(evidence: Evidence) -> dict[int, list[str]]:
    """The lengths that a gradient can be divided or multiplied by, each with everything that has it."""
    found: dict[int, list[str]] = defaultdict(list)
    subject, output = evidence.subject, evidence.output
    x = subject.inputs[0] if subject.inputs else evidence.value
    name = subject.input_names[0] if subject.inputs else evidence.name
    for axis, length in enumerate(x.shape):
        found[length].append("the batch size" if axis == 0 else f"the length of axis {axis} of {name}")
    for axis, length in enumerate(output.shape):
        if axis >= x.ndim or length != x.shape[axis]:
            found[length].append(f"the length of axis {axis} of the output")
    for axis, length in enumerate(evidence.value.shape) if evidence.kind == "parameter" else ():
        if length not in found:
            found[length].append(f"the length of axis {axis} of {evidence.name}")
    if output.ndim > 2:
        shape, positions, samples = output.shape, "the number of positions", "the number of samples times positions"
        for count, what in (
            (math.prod(shape[2:]), positions),
            (math.prod(shape[1:-1]), positions),
            (math.prod(shape[2:]) * shape[0], samples),
            (math.prod(shape[:-1]), samples),
        ):
            if what not in found[count]:
                found[count].append(what)
    for count, what in ((x.size, f"the number of elements of {name}"), (output.size, "the number of output elements")):
        if count not in found:
            found[count].append(what)
    if evidence.kind == "input" and evidence.jacobian is not None:
        window = np.unique(np.count_nonzero(evidence.reached, axis=1))
        if window.size == 1 and int(window[0]) not in found:
            found[int(window[0])].append("the number of elements in a window")
    return {length: names for length, names in found.items() if length > 1 and names}


def _of_arguments(evidence: Evidence, size: float) -> Iterator[tuple[str, str]]:
    for name, value in evidence.settings.items():
        if value in (0, 1):
            continue
        for form, of_form in ((name, value), (f"2 {name}", 2.0 * value), (f"(1 - {name})", 1.0 - value)):
            if _close(size, abs(of_form)):
                meaning = f"that is {form} for {name}={value}: a factor {form} too many"
                yield "factor of an argument", meaning
            elif _close(size * abs(of_form), 1.0):
                yield "factor of an argument", f"that is 1/{form} for {name}={value}: a factor {form} is missing"


def inner_factor(evidence: Evidence, factor: float, error: float) -> float | None:
    """The number with a meaning that a factor, known to `error`, is equal to: 0, -1, 2, a length, the root of one."""
    if abs(factor) < error:
        return 0.0
    forms = {
        form
        for n in (1.0, 2.0, *map(float, _lengths(evidence)))
        for form in (n, 1.0 / n, math.sqrt(n), 1.0 / math.sqrt(n), n / (n - 1) if n > 1 else n)
    }
    near = [form for form in forms if abs(abs(factor) - form) < error * form]
    return math.copysign(min(near, key=lambda form: abs(abs(factor) - form)), factor) if near else None


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * max(abs(a), abs(b))
