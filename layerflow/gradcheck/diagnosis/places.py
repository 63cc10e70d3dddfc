"""Right numbers in the wrong place: transposed, swapped, summed over the wrong axis, cut to a diagonal."""

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding, besides


def transposed(evidence: Evidence) -> Finding | None:
    """analytic = numeric^T."""
    numeric = evidence.numeric
    if numeric.ndim < 2 or min(numeric.shape[-2:]) < 2:
        return None
    for turned in (np.swapaxes(numeric, -1, -2), np.swapaxes(numeric, -1, -2).reshape(numeric.shape)):
        if turned.shape == numeric.shape and (factor := evidence.fitting_factor(turned)) is not None:
            formula = f"analytic = numeric transposed{besides(factor)}"
            return Finding(
                "transposed",
                formula,
                "the gradient is transposed",
                "the order of the factors and .T in {gate}.backward",
            )
    return None


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


def diagonal_only(evidence: Evidence) -> Finding | None:
    """analytic = diag(J) * upstream."""
    jacobian = evidence.jacobian
    if evidence.kind != "input":
        return None
    if (
        jacobian is None
        or evidence.output.shape != evidence.value.shape
        or evidence.is_elementwise
        or evidence.count < 3
    ):
        return None
    factor = evidence.fitting_factor(np.diag(jacobian).reshape(evidence.value.shape) * evidence.upstream)
    if factor is None:
        return None
    formula = f"analytic = diagonal of the Jacobian * upstream{besides(factor)}"
    meaning = "the cross terms are missing: every output depends on several inputs, not on the one at its place alone"
    return Finding("diagonal only", formula, meaning, "the sum over outputs in {gate}.backward")


def batch_sum_missing(evidence: Evidence) -> Finding | None:
    """analytic = the part of one sample."""
    jacobian, batch = evidence.jacobian, evidence.batch
    if jacobian is None or batch is None or batch < 2 or evidence.output.ndim == 0 or len(evidence.output) != batch:
        return None
    parts = (evidence.upstream.reshape(-1, 1) * jacobian).reshape(batch, -1, evidence.value.size).sum(axis=1)
    for sample in range(batch):
        factor = evidence.fitting_factor(parts[sample].reshape(evidence.value.shape))
        if factor is not None:
            formula = f"analytic = the part of sample {sample} alone{besides(factor)}"
            return Finding(
                "batch sum missing", formula, "the sum over the batch is missing", "sums over axis 0 in {gate}.backward"
            )
    return None


def repeated_overwritten(evidence: Evidence) -> Finding | None:
    """analytic = for each element, the part of the last output that it reaches."""
    jacobian = evidence.jacobian
    if jacobian is None or evidence.count < 4 or evidence.kind != "parameter":
        return None
    parts = evidence.upstream.reshape(-1, 1) * jacobian
    reached = np.abs(jacobian) > 1e-9 * np.max(np.abs(jacobian), initial=1e-300)
    if not np.any(reached.sum(axis=0) > 1):
        return None
    last = len(parts) - 1 - np.argmax(reached[::-1], axis=0)
    prediction = np.where(reached.any(axis=0), parts[last, np.arange(parts.shape[1])], 0.0)
    if not evidence.fits(prediction.reshape(evidence.value.shape)):
        return None
    formula = "analytic = for every element the part of the last output that it reaches"
    meaning = "repeated contributions overwrite each other instead of being added (np.add.at adds them)"
    return Finding("batch sum missing", formula, meaning, "assignments by index in {gate}.backward")


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
