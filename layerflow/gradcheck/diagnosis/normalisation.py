"""Normalisation by a mean and a variance, differentiated as if one of the two were constant.

For y = w * (x - mean) / std + b the gradient, with g = w * upstream and means over the normalised axes, is
(g - mean(g) - xhat * mean(g * xhat)) / std (Ioffe and Szegedy 2015, arXiv:1502.03167, section 3).
"""

from collections.abc import Iterator

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding
from layerflow.parameter import Array

AXES = ((0,), (-1,), (0, 2), (0, 2, 3), (1, 2), (1, 2, 3), (2, 3), None)


def statistics_terms(evidence: Evidence) -> Finding | None:
    """analytic = the gradient without the terms of the mean, of the variance, or of both."""
    x, output = evidence.value, evidence.output
    if evidence.kind != "input" or output.shape != x.shape or x.ndim < 1 or evidence.count < 6:
        return None
    for axes in AXES:
        if axes is not None and max(axes) >= x.ndim:
            continue
        for weight, offset in _affine(evidence):
            finding = _test(evidence, axes, weight, offset)
            if finding is not None:
                return finding
    return None


def _test(evidence: Evidence, axes: tuple[int, ...] | None, weight: Array, offset: Array) -> Finding | None:
    def mean(array: Array) -> Array:
        return np.asarray(array.mean(axis=axes, keepdims=True))

    x = evidence.value
    centred = x - mean(x)
    variance = mean(centred**2)
    with np.errstate(all="ignore"):
        bare = (evidence.output - offset) / weight
        slope = mean(bare * centred) / variance  # 1/std
        is_normalised = np.allclose(bare, slope * centred, rtol=1e-7, atol=1e-9 * np.max(np.abs(bare)))
    if not is_normalised or not np.all(np.isfinite(slope)):
        return None
    g, xhat = weight * evidence.upstream, slope * centred
    through_mean, through_variance = mean(g), xhat * mean(g * xhat)
    if not np.allclose(
        slope * (g - through_mean - through_variance), evidence.numeric, rtol=1e-5, atol=1e-7 * evidence.scale
    ):
        return None
    place = "the derivation of dx in {gate}.backward"
    if evidence.fits(slope * g):
        meaning = "the mean and the variance depend on x, too; their terms are missing"
        return Finding("statistics terms missing", "analytic = upstream / std", meaning, place)
    if evidence.fits(slope * (g - through_mean)):
        meaning = "the variance depends on x, too; its term is missing"
        return Finding("variance term missing", "analytic = (g - mean(g)) / std", meaning, place)
    if evidence.fits(slope * (g - through_variance)):
        meaning = "the mean depends on x, too; its term is missing"
        return Finding("mean term missing", "analytic = (g - xhat mean(g xhat)) / std", meaning, place)
    return None


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
    try:
        np.broadcast_to(array, shape)
    except ValueError:
        return None
    return array
