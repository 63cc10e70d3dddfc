"""Gradients that pass where they should stop, or stop where they should pass."""

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding
from layerflow.parameter import Array

PLACE = "the mask (the comparison) in {gate}"


def mask(evidence: Evidence) -> Finding | None:
    """analytic and numeric are equal or zero, each on a set of its own."""
    known = evidence.known & ~evidence.label_positions
    if int(np.sum(known)) < 4 or not np.all(np.isfinite(evidence.analytic)):
        return None
    closed = evidence.is_zero(evidence.numeric) & known
    open_ = ~closed & known
    if not np.any(open_) or np.all(evidence.right[known]):
        return None
    passed = ~evidence.is_zero(evidence.analytic)
    leaks, holds = int(np.sum(closed & passed)), int(np.sum(closed & ~passed))
    stops = int(np.sum(open_ & ~passed))
    if not np.all(evidence.right[open_ & passed]):
        return None
    if leaks and not _is_plausible_leak(evidence, closed & passed):
        return None
    if stops == int(np.sum(open_)):
        if leaks and not holds:
            formula = "analytic = 0 where numeric is not, and is not where numeric is 0"
            return Finding("mask inverted", formula, "the mask is inverted", PLACE)
        return None
    if stops and not leaks and int(np.sum(open_ & passed)) >= 2:
        if not holds and not evidence.is_elementwise:
            where = [tuple(map(int, index)) for index in np.argwhere(open_ & ~passed)]
            formula = f"analytic = 0 at {stops} of {int(np.sum(open_))} elements, the first at {list(where[0])}"
            meaning = "it is right elsewhere: backward leaves out a part of the tensor"
            return Finding("part not reached", formula, meaning, "slices, ranges and comparisons in {gate}.backward")
        formula = f"analytic = 0 at {stops} of {int(np.sum(open_))} elements where numeric is not, and right elsewhere"
        return Finding("mask too narrow", formula, "the mask stops too much", PLACE)
    if leaks and not stops and np.any(open_ & passed):
        if not holds:
            formula = f"analytic is not 0 at all {leaks} elements where numeric is, and right elsewhere"
            return Finding("mask missing", formula, "the gradient also passes where it should stop", PLACE)
        formula = f"analytic is not 0 at {leaks} of {leaks + holds} elements where numeric is, and right elsewhere"
        return Finding("mask too wide", formula, "the mask lets too much pass", PLACE)
    return None


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
    return Finding("mask inverted", formula, "the mask is inverted", PLACE)


def label_term(evidence: Evidence) -> Finding | None:
    """Right everywhere but at the right class of each sample."""
    at = evidence.label_positions & evidence.known
    rest = evidence.known & ~evidence.label_positions
    if int(np.sum(at)) < 2 or int(np.sum(rest)) < 2 or not np.all(evidence.right[rest]) or np.any(evidence.right[at]):
        return None
    formula = "analytic is right everywhere but in the column of each sample's own label"
    return Finding(
        "label term missing",
        formula,
        "the term of the right class is missing or wrong",
        "the row of the labels in {gate}.backward",
    )


def _is_plausible_leak(evidence: Evidence, where: Array) -> bool:
    """Whether what leaks has the size of what passes: a mask's mistake changes where, not how much."""
    sizes = np.abs(evidence.analytic[where])
    return bool(np.max(sizes) <= 100.0 * evidence.scale) and bool(np.min(sizes) > 1e-8 * evidence.scale)
