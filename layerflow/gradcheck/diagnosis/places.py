"""Right numbers in the wrong place: transposed, shifted, in other blocks; and masks that let the wrong ones pass."""

from itertools import permutations

import numpy as np

from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.evidence import Evidence, along, besides, listed, subsets
from layerflow.parameter import Array


def turned(evidence: Evidence) -> Finding | None:
    """analytic = numeric with its axes permuted or flipped."""
    numeric = evidence.numeric
    if evidence.count < 3:
        return None
    for order in list(permutations(range(numeric.ndim)))[1:] if numeric.ndim < 5 else ():
        factor = evidence.fitting_factor(numeric.transpose(order).reshape(numeric.shape))
        if factor is not None:
            how = "transposed" if numeric.ndim == 2 else f"with its axes in the order {order}"
            return Finding("transposed", f"analytic = numeric {how}{besides(factor)}")
    for axes in subsets(numeric.ndim):
        factor = evidence.fitting_factor(np.flip(numeric, axes))
        if factor is not None:
            return Finding("flipped", f"analytic = numeric flipped along axis {listed(axes)}{besides(factor)}")
    return None


def shifted(evidence: Evidence) -> Finding | None:
    """analytic = numeric moved along some axes, as when padding is cut off at the wrong end."""
    numeric = evidence.numeric
    for axes in subsets(numeric.ndim):
        for by in (1, -1, 2, -2, 3, -3, 4, -4):
            if any(abs(by) >= numeric.shape[axis] for axis in axes):
                continue
            moved, inside = np.roll(numeric, [by] * len(axes), axes), evidence.known
            for axis in axes:
                index = np.arange(numeric.shape[axis])
                kept = index >= by if by > 0 else index < numeric.shape[axis] + by
                inside = inside & along(kept, axis, numeric.ndim)
            counts = inside & ~evidence.is_zero(moved) & ~evidence.right
            if 2 * np.sum(inside) < evidence.count or np.sum(counts) < max(4, 0.2 * evidence.count):
                continue
            if evidence.fits(moved, inside):
                return Finding("shifted", f"analytic = numeric moved by {by} along axis {listed(axes)}")
    return None


def blocks_swapped(evidence: Evidence) -> Finding | None:
    """analytic = numeric with the blocks along an axis in another order, as the gates of an LSTM."""
    numeric = evidence.numeric
    if evidence.count < 4 or np.any(evidence.is_zero(numeric) & evidence.known):
        return None
    for axis, length in enumerate(numeric.shape):
        for blocks in (2, 3, 4):
            if length % blocks or length == blocks:
                continue
            pieces = np.split(numeric, blocks, axis)
            for order in permutations(range(blocks)):
                if evidence.fits(np.concatenate([pieces[i] for i in order], axis)):
                    formula = f"analytic = numeric with its {blocks} blocks along axis {axis} in the order {order}"
                    return Finding("blocks swapped", formula)
    return None


def swapped(evidence: Evidence) -> Finding | None:
    """analytic = the gradient of another input or parameter."""
    for other in evidence.others:
        name = other.tensor.name
        if name == evidence.name or other.numeric.shape != evidence.numeric.shape or not np.all(other.known):
            continue
        factor = evidence.fitting_factor(other.numeric)
        if factor is not None:
            meaning = f"{evidence.name} is given the gradient that belongs to {name}"
            return Finding("gradient of another", f"analytic = the gradient of {name}{besides(factor)}", meaning)
    return None


def misplaced(evidence: Evidence) -> Finding | None:
    """analytic has the numbers of numeric in another order."""
    if not np.all(evidence.known) or np.sum(evidence.wrong) < 3:
        return None
    mine, right = np.sort(evidence.analytic, axis=None), np.sort(evidence.numeric, axis=None)
    nonzero = right[np.abs(right) > 1e-9 * evidence.scale]
    if nonzero.size < 3 or np.min(np.diff(np.unique(nonzero)), initial=np.inf) < 1e-5 * evidence.scale:
        return None
    if not np.allclose(mine, right, rtol=1e-6, atol=1e-9 * evidence.scale):
        return None
    return Finding("misplaced", "analytic has the right numbers in the wrong places")


def transposed_jacobian(evidence: Evidence) -> Finding | None:
    """analytic = J upstream for J^T upstream, as g @ W.T for g @ W."""
    jacobian = evidence.jacobian
    is_square = evidence.output.shape == evidence.value.shape and evidence.count >= 4
    if jacobian is None or not is_square or evidence.is_elementwise:
        return None
    factor = evidence.fitting_factor((jacobian @ evidence.upstream.reshape(-1)).reshape(evidence.value.shape))
    if factor is None:
        return None
    formula = f"analytic = J @ upstream where J.T @ upstream is right{besides(factor)}"
    for name, p in evidence.subject.gate.named_parameters().items():
        if p.value.ndim == 2 and len(set(p.value.shape)) == 1:
            meaning = f"backward uses {name}.T in the place of {name}, or the reverse"
            return Finding("W for W.T", formula, meaning, f"the products with {name} in {{gate}}.backward")
    return Finding("transposed Jacobian", formula)


def wrong_axis(evidence: Evidence) -> Finding | None:
    """analytic = the terms of a broadcast tensor, summed over another axis of the same length."""
    jacobian, output, value = evidence.jacobian, evidence.output, evidence.value
    if jacobian is None or output.ndim < 2 or value.ndim == 0 or value.size < 2:
        return None
    if np.any(np.count_nonzero(evidence.reached, axis=1) > 1):
        return None
    terms = evidence.upstream * jacobian.sum(axis=1).reshape(output.shape)
    for axis in range(output.ndim):
        others = tuple(i for i in range(output.ndim) if i != axis)
        if output.shape[axis] == value.size:
            factor = evidence.fitting_factor(terms.sum(axis=others).reshape(value.shape))
            if factor is not None:
                formula = f"analytic = its terms summed over axis {listed(others)} of the output{besides(factor)}"
                return Finding("sum over the wrong axis", formula)
    return None


# Masks -----------------------------------------------------------------------------------------------------------


def mask(evidence: Evidence) -> Finding | None:
    """analytic and numeric are equal or zero, each on a set of its own."""
    known = evidence.known & ~evidence.label_positions
    if np.sum(known) < 4 or not np.all(np.isfinite(evidence.analytic)):
        return None
    closed = evidence.is_zero(evidence.numeric) & known
    passes = ~evidence.is_zero(evidence.analytic)
    opened = known & ~closed
    leak, stop = closed & passes, opened & ~passes
    leaks, stops, holds, kept = (int(np.sum(each)) for each in (leak, stop, closed & ~passes, opened & passes))
    if (not leaks and not stops) or not np.any(opened) or not np.all(evidence.right[opened & passes]):
        return None
    if leaks and not _is_plausible_leak(evidence, leak):
        return None
    if not kept:
        formula = "analytic = 0 where numeric is not, and is not 0 where numeric is"
        return Finding("mask inverted", formula) if leaks and not holds else None
    if stops and not leaks and kept >= 2:
        lines = "" if holds else _lines(stop, known)
        if lines:
            return Finding("part not reached", f"analytic = 0 at {lines}, and right elsewhere")
        if not holds and not evidence.is_elementwise:
            first = [int(i) for i in np.argwhere(stop)[0]]
            formula = f"analytic = 0 at {stops} of {stops + kept} elements, the first at {first}, and right elsewhere"
            return Finding("part not reached", formula)
        formula = f"analytic = 0 at {stops} of {stops + kept} elements where numeric is not, and right elsewhere"
        return Finding("mask too narrow", formula)
    if leaks and not stops:
        if not holds:
            formula = f"analytic is not 0 at all {leaks} elements where numeric is, and right elsewhere"
            return Finding("mask missing", formula)
        formula = f"analytic is not 0 at {leaks} of {leaks + holds} elements where numeric is, and right elsewhere"
        return Finding("mask too wide", formula)
    return None


def _lines(stop: Array, known: Array) -> str:
    """The elements in words, if they are all those of one index, or of a range of indices, of an axis."""
    for axis in range(stop.ndim):
        others = tuple(i for i in range(stop.ndim) if i != axis)
        touched = np.any(stop, axis=others)
        is_range = not np.any(np.diff(np.flatnonzero(touched)) > 1)
        if stop.size >= 2 * len(touched) and is_range and np.array_equal(stop, known & along(touched, axis, stop.ndim)):
            return f"index {[int(i) for i in np.flatnonzero(touched)]} of axis {axis}"
    return ""


def _is_plausible_leak(evidence: Evidence, where: Array) -> bool:
    """Whether what leaks has the size of what passes: a mask's mistake changes where, not how much."""
    sizes = np.abs(evidence.analytic[where])
    return bool(np.max(sizes) <= 100.0 * evidence.scale) and bool(np.min(sizes) > 1e-8 * evidence.scale)


def slopes_exchanged(evidence: Evidence) -> Finding | None:
    """Two slopes, each used where the other belongs."""
    if not evidence.is_elementwise or evidence.count < 4:
        return None
    right = evidence.numeric / evidence.upstream
    low, high = float(np.min(right)), float(np.max(right))
    is_low, is_high = np.isclose(right, low, rtol=1e-6), np.isclose(right, high, rtol=1e-6)
    if np.any(is_low == is_high) or not evidence.fits(np.where(is_low, high, low) * evidence.upstream):
        return None
    formula = f"analytic has the slope {high:.4g} where {low:.4g} is right, and {low:.4g} where {high:.4g} is"
    return Finding("mask inverted", formula)


def label_term(evidence: Evidence) -> Finding | None:
    """Right everywhere but at the right class of each sample."""
    at, rest = (evidence.known & where for where in (evidence.label_positions, ~evidence.label_positions))
    if min(np.sum(at), np.sum(rest)) < 2 or not np.all(evidence.right[rest]) or np.any(evidence.right[at]):
        return None
    return Finding("label term missing", "analytic is right except in the column of each sample's own label")
