"""Normalisation by a mean and a variance, and softmax: the terms of their gradients, and the axes of these terms.

For y = w * (x - mean) / std + b the gradient, with g = w * upstream and means over the normalised axes, is
(g - mean(g) - xhat * mean(g * xhat)) / std (Ioffe and Szegedy 2015, arXiv:1502.03167, section 3); for a softmax p it
is p * (g - sum(g * p)). A single missing term is found by `routes`; here are mistakes that touch both terms.
"""

from collections.abc import Callable, Iterator

import numpy as np

from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.evidence import Evidence, broadcast, listed, number, subsets
from layerflow.parameter import Array


def statistics_terms(evidence: Evidence) -> Finding | None:
    """analytic = (g - b mean(g) - c xhat mean(g xhat)) / std with other b and c than 1, another std, or other axes."""
    x, output = evidence.value, evidence.output
    if evidence.kind != "input" or output.shape != x.shape or x.ndim < 1 or evidence.count < 6:
        return None
    for axes in subsets(x.ndim):
        for weight, offset in _affine(evidence):
            found = _normalised(evidence, axes, weight, offset)
            finding = _terms(evidence, axes, weight * evidence.upstream, *found) if found else None
            if finding is not None:
                return finding
    return None


def softmax_axis(evidence: Evidence) -> Finding | None:
    """analytic = p * (g - sum(g * p)), or g - exp(y) * sum(g) of a log-softmax, with the sum over another axis."""
    p, g = evidence.output, evidence.upstream
    if evidence.kind != "input" or p.shape != evidence.value.shape or p.ndim < 2:
        return None
    for what, total in _other_sums(p.ndim):
        for formula, prediction in (
            ("p * (g - sum(g p))", p * (g - total(g * p))),
            ("g - exp(y) sum(g)", g - np.exp(p) * total(g)),
        ):
            if evidence.fits(prediction):
                meaning = "forward sums over another axis"
                return Finding("sum over the wrong axis", f"analytic = {formula} with the sum {what}", meaning)
    return None


def _normalised(
    evidence: Evidence, axes: tuple[int, ...], weight: Array, offset: Array
) -> tuple[Array, Array, Array] | None:
    """xhat, 1/std and the variance, if the output is the normalised input."""
    x = evidence.value
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = (centred**2).mean(axis=axes, keepdims=True)
    with np.errstate(all="ignore"):
        bare = (evidence.output - offset) / weight
        slope = (bare * centred).mean(axis=axes, keepdims=True) / variance
        is_normalised = np.allclose(bare, slope * centred, rtol=1e-7, atol=1e-9 * np.max(np.abs(bare)))
    if not is_normalised or not np.all(np.isfinite(slope)):
        return None
    xhat, g = slope * centred, weight * evidence.upstream
    right = slope * (g - g.mean(axis=axes, keepdims=True) - xhat * (g * xhat).mean(axis=axes, keepdims=True))
    # Where the normalisation has no eps, or one inside the root, the second term is exact up to it.
    return (
        (xhat, slope, variance) if np.allclose(right, evidence.numeric, rtol=1e-2, atol=1e-2 * evidence.scale) else None
    )


def _terms(
    evidence: Evidence, axes: tuple[int, ...], g: Array, xhat: Array, slope: Array, variance: Array
) -> Finding | None:
    def mean(array: Array) -> Array:
        return np.asarray(array.mean(axis=axes, keepdims=True))

    first, second = mean(g), xhat * mean(g * xhat)
    for what, total in _other_sums(g.ndim):
        count = total(np.ones(g.shape))
        prediction = slope * (g - total(g) / count - xhat * total(g * xhat) / count)
        if evidence.fits(prediction):
            formula = f"analytic = (g - mean(g) - xhat mean(g xhat)) / std with means {what}"
            meaning = f"forward takes its mean and variance over axis {listed(axes)}"
            return Finding("sum over the wrong axis", formula, meaning)
    known = evidence.known
    terms = np.stack([(slope * np.broadcast_to(t, g.shape))[known] for t in (g, first, second)], axis=1)
    if np.sum(known) > 5:
        a, b, c = np.linalg.lstsq(terms, evidence.analytic[known], rcond=None)[0]
        if evidence.fits(slope * (a * g + b * first + c * second)):
            if abs(b) + abs(c) < 1e-7:
                return Finding("statistics terms missing", "analytic = upstream / std")
            formula = f"analytic = ({number(a)} g - {number(-b)} mean(g) - {number(-c)} xhat mean(g xhat)) / std"
            meaning = "all three numbers should be 1 (a sum in the place of a mean gives the number of elements)"
            return Finding("factor on a path", formula, meaning, "the derivation of d{tensor} in {gate}.backward")
    return _other_deviation(evidence, slope * g, slope * (g - first - second), slope, variance, axes)


def _other_deviation(
    evidence: Evidence, bare: Array, right: Array, slope: Array, variance: Array, axes: tuple[int, ...]
) -> Finding | None:
    """The same formula with another standard deviation: eps elsewhere, or the running one."""
    eps = float(np.median(1.0 / slope**2 - variance))
    std = np.sqrt(variance)
    for what, other in ((f"sqrt(var) + {eps:.1e}", std + eps), ("sqrt(var)", std)):
        for base, power in ((right, 1), (evidence.numeric, 1), (right, 3), (evidence.numeric, 3)):
            if eps > 1e-14 and evidence.fits(base / (slope * other) ** power):
                formula = f"analytic = numeric with {what} in the place of sqrt(var + {eps:.1e})"
                return Finding("eps in the wrong place", formula)
    for name, buffer in evidence.subject.gate.named_buffers().items():
        if buffer.value.size != variance.size or not np.all(buffer.value + eps > 0.0):
            continue
        held = buffer.value.reshape(variance.shape)
        for base in (bare, right, evidence.numeric):
            for root in (np.sqrt(held + eps), np.sqrt(held), held + eps, held):
                if evidence.fits(base / (slope * root)):
                    formula = f"analytic = the formula with {name} in the place of the batch's own variance"
                    return Finding("running statistics", formula)
    return None


def _other_sums(ndim: int) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Sums as they may be taken by mistake: over any axes, and without keepdims, which puts them along other axes."""
    for axes in subsets(ndim):
        yield f"over axis {listed(axes)}", lambda a, axes=axes: a.sum(axis=axes, keepdims=True)  # type: ignore[misc]
    for axis in range(ndim if ndim > 1 else 0):
        yield f"over axis {axis} and without keepdims", lambda a, axis=axis: _summed(a, axis)  # type: ignore[misc]


def _affine(evidence: Evidence) -> Iterator[tuple[Array, Array]]:
    """The pairs of scale and offset that may follow the normalisation: none, and each pair of the gate's parameters."""
    ones, zeros = np.ones(()), np.zeros(())
    candidates = [_spread(p.value, evidence.value.shape) for p in evidence.subject.gate.parameters()]
    vectors = [array for array in candidates if array is not None]
    for weight in [ones, *vectors]:
        for offset in [zeros, *vectors]:
            if weight is not offset and np.all(weight != 0.0):
                yield weight, offset


def _spread(array: Array, shape: tuple[int, ...]) -> Array | None:
    """A parameter, shaped to multiply an array of `shape`: along its last axes, or along axis 1 (channels)."""
    if array.ndim == 1 and len(shape) > 2 and array.size == shape[1]:
        return array.reshape(-1, *(1,) * (len(shape) - 2))
    return array if broadcast(array, shape) is not None else None


def _summed(array: Array, axis: int) -> Array:
    total = broadcast(array.sum(axis=axis), array.shape)
    return np.full(array.shape, np.nan) if total is None else total
