"""Right numbers in the wrong place: transposed, flipped, shifted, in other blocks, summed over the wrong axis."""

from itertools import combinations, permutations

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding, besides
from layerflow.parameter import Array


def turned(evidence: Evidence) -> Finding | None:
    """analytic = numeric with its axes permuted or flipped."""
    numeric = evidence.numeric
    if evidence.count < 3 or not numeric.ndim:
        return None
    place = "the order of the factors, of axes and of indices in {gate}.backward"
    for order in permutations(range(numeric.ndim)) if 1 < numeric.ndim < 5 else ():
        moved = numeric.transpose(order)
        if order == tuple(range(numeric.ndim)) or moved.size != numeric.size:
            continue
        factor = evidence.fitting_factor(moved.reshape(numeric.shape))
        if factor is not None:
            how = "transposed" if numeric.ndim == 2 else f"with its axes in the order {order}"
            formula = f"analytic = numeric {how}{besides(factor)}"
            return Finding(
                "transposed",
                formula,
                "the gradient is transposed",
                "the order of the factors and .T in {gate}.backward",
            )
    for size in range(1, numeric.ndim + 1):
        for axes in combinations(range(numeric.ndim), size):
            factor = evidence.fitting_factor(np.flip(numeric, axes))
            if factor is not None and evidence.count > 2:
                formula = f"analytic = numeric flipped along axis {' and '.join(map(str, axes))}{besides(factor)}"
                return Finding("flipped", formula, "the gradient must be flipped", place)
    return None


def shifted(evidence: Evidence) -> Finding | None:
    """analytic = numeric moved along some axes, as when padding is cut off at the wrong end."""
    numeric = evidence.numeric
    for size in range(1, numeric.ndim + 1):
        for axes in combinations(range(numeric.ndim), size):
            for by in (1, -1, 2, -2, 3, -3, 4, -4):
                if any(abs(by) >= numeric.shape[axis] for axis in axes):
                    continue
                moved, inside = numeric, np.ones(numeric.shape, dtype=bool)
                for axis in axes:
                    moved, inside = np.roll(moved, by, axis), inside & _inside(numeric.shape, axis, by)
                inside &= evidence.known
                if 2 * np.sum(inside) < evidence.count:
                    continue
                counts = inside & ~evidence.is_zero(moved) & ~evidence.right
                if np.sum(counts) < max(4, 0.2 * evidence.count) or not evidence.fits(moved, inside):
                    continue
                formula = f"analytic = numeric moved by {by} along axis {' and '.join(map(str, axes))}"
                meaning = "indices are off, or padding is cut off at the wrong end"
                return Finding("shifted", formula, meaning, "slices, padding and indices in {gate}.backward")
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
            for arranged in permutations(range(blocks)):
                if evidence.fits(np.concatenate([pieces[i] for i in arranged], axis)):
                    formula = f"analytic = numeric with its {blocks} blocks along axis {axis} in the order {arranged}"
                    return Finding(
                        "blocks swapped",
                        formula,
                        "the parts (gates) of the tensor are exchanged",
                        "the order of the parts in {gate}.backward",
                    )
    return None


def _inside(shape: tuple[int, ...], axis: int, by: int) -> Array:
    index = np.arange(shape[axis])
    line = index >= by if by > 0 else index < shape[axis] + by
    return np.broadcast_to(line.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)


def transposed_jacobian(evidence: Evidence) -> Finding | None:
    """analytic = J upstream for J^T upstream, as g @ W.T for g @ W."""
    jacobian = evidence.jacobian
    if (
        jacobian is None
        or evidence.output.shape != evidence.value.shape
        or evidence.is_elementwise
        or evidence.count < 4
    ):
        return None
    factor = evidence.fitting_factor((jacobian @ evidence.upstream.reshape(-1)).reshape(evidence.value.shape))
    if factor is None:
        return None
    square = [
        name
        for name, p in evidence.subject.gate.named_parameters().items()
        if p.value.ndim == 2 and len(set(p.value.shape)) == 1
    ]
    formula = f"analytic = J @ upstream where J.T @ upstream is right{besides(factor)}"
    if not square:
        meaning = "the Jacobian J is transposed: what runs forwards in forward must run backwards in backward"
        return Finding(
            "transposed Jacobian", formula, meaning, "the order and direction of sums and products in {gate}.backward"
        )
    matrix = square[0]
    return Finding(
        "W for W.T",
        formula,
        f"{matrix}.T stands where {matrix} should, or the other way round",
        f"the products with {matrix} in {{gate}}.backward",
    )


def swapped(evidence: Evidence) -> Finding | None:
    """analytic = the gradient of another input or parameter."""
    for other in evidence.others:
        if other.name == evidence.name or other.numeric.shape != evidence.numeric.shape or not np.all(other.known):
            continue
        factor = evidence.fitting_factor(other.numeric)
        if factor is not None:
            formula = f"analytic = the gradient of {other.name}{besides(factor)}"
            return Finding(
                "gradient of another",
                formula,
                f"{evidence.name} is given the gradient that belongs to {other.name}",
                "the order in which {gate}.backward returns them",
            )
    return None


def misplaced(evidence: Evidence) -> Finding | None:
    """analytic has the elements of numeric in another order."""
    if evidence.count < 4 or not np.all(evidence.known) or evidence.count - int(np.sum(evidence.right)) < 3:
        return None
    mine, right = np.sort(evidence.analytic, axis=None), np.sort(evidence.numeric, axis=None)
    nonzero = right[np.abs(right) > 1e-9 * evidence.scale]
    if nonzero.size < 3 or np.min(np.diff(np.unique(nonzero)), initial=np.inf) < 1e-5 * evidence.scale:
        return None
    if not np.allclose(mine, right, rtol=1e-6, atol=1e-9 * evidence.scale):
        return None
    formula = "analytic has the right numbers in the wrong places"
    return Finding(
        "misplaced",
        formula,
        "the gradient is put back in another order than forward took the elements",
        "indices, axes and order= in {gate}.backward",
    )


def wrong_axis(evidence: Evidence) -> Finding | None:
    """analytic = the terms of a broadcast tensor, summed over another axis of the same length."""
    jacobian, output = evidence.jacobian, evidence.output
    if jacobian is None or output.ndim < 2 or evidence.value.ndim == 0 or evidence.value.size < 2:
        return None
    if np.any(np.sum(np.abs(jacobian) > 1e-9 * np.max(np.abs(jacobian), initial=1e-300), axis=1) > 1):
        return None
    terms = evidence.upstream * jacobian.sum(axis=1).reshape(output.shape)
    for axis in range(output.ndim):
        if output.shape[axis] != evidence.value.size:
            continue
        others = tuple(i for i in range(output.ndim) if i != axis)
        factor = evidence.fitting_factor(terms.sum(axis=others).reshape(evidence.value.shape))
        if factor is not None:
            formula = (
                f"analytic = its terms summed over axis {', '.join(map(str, others))} of the output{besides(factor)}"
            )
            return Finding(
                "sum over the wrong axis", formula, "the sum runs over the wrong axis", "axis= in {gate}.backward"
            )
    return None


def rows_cut(evidence: Evidence) -> Finding | None:
    """analytic is right in some rows or columns and 0 in the others."""
    if evidence.value.ndim < 1 or evidence.count < 4 or np.any(evidence.is_zero(evidence.numeric) & evidence.known):
        return None
    wrong = evidence.known & ~evidence.right
    if not np.all(evidence.is_zero(evidence.analytic)[wrong]):
        return None
    for axis in range(evidence.value.ndim):
        others = tuple(i for i in range(evidence.value.ndim) if i != axis)
        lines = np.any(wrong, axis=others)
        if evidence.value.size < 2 * len(lines):
            continue
        whole = ~np.any(evidence.known & evidence.right & ~evidence.is_zero(evidence.numeric), axis=others)
        if (
            lines.sum() < len(lines)
            and np.all(whole[lines])
            and (lines.sum() == 1 or not np.any(np.diff(np.flatnonzero(lines)) > 1))
        ):
            places = [int(i) for i in np.flatnonzero(lines)]
            formula = f"analytic = 0 at index {places} of axis {axis}, and right elsewhere"
            return Finding(
                "part not reached",
                formula,
                "backward leaves out a part of the tensor",
                "slices and ranges in {gate}.backward",
            )
    return None
