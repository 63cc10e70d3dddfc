"""Sums over outputs that are not what they should be.

The gradient of an element is a sum of contributions, one per output it reaches. Mistakes in that sum are the same for
samples, positions of a window and steps in time: one contribution instead of all, the last written over the others,
only those at the same index, each put at a wrong place.
"""

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np

from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.evidence import Evidence, along, besides, listed
from layerflow.parameter import Array

AXES = 3  # at most so many axes of the output are summed over in a loop of their own
PAIRS = 20_000  # at most so many pairs of a window and an element are looked at
SPACINGS = (1, 2, 3, 4)  # strides and dilations that are tried


def one_position(evidence: Evidence) -> Finding | None:
    """analytic = the contributions of one sample, position or step."""
    parts = evidence.parts
    if parts is None:
        return None
    for axes in _subsets(evidence):
        length = evidence.output.shape[axes[0]]
        for index in range(length) if len(axes) == 1 else (-1, 0):
            at = tuple(index if axis in axes else slice(None) for axis in range(evidence.output.ndim))
            factor = evidence.fitting_factor(parts[at].reshape(-1, *evidence.value.shape).sum(axis=0))
            if factor is None:
                continue
            if axes == (0,) and length == evidence.batch:
                formula = f"analytic = the part of sample {index} alone{besides(factor)}"
                return Finding("batch sum missing", formula)
            which = "first" if index == 0 else "last" if index in (-1, length - 1) else f"number {index}"
            formula = f"analytic = the part of the {which} index of axis {listed(axes)} of the output{besides(factor)}"
            return Finding("sum over positions missing", formula)
    return None


def overwritten(evidence: Evidence) -> Finding | None:
    """analytic = for each element, the contribution that is written last."""
    parts = evidence.parts
    if parts is None or evidence.count < 3:
        return None
    if _is_overwritten(evidence, parts, evidence.reached) or (
        evidence.selects and _is_overwritten(evidence, parts, evidence.window)
    ):
        formula = "analytic = for every element the part of the last output that it reaches"
        return Finding("overwritten instead of added", formula)
    return None


def _is_overwritten(evidence: Evidence, parts: Array, reached: Array) -> bool:
    for axes in _subsets(evidence):
        others = tuple(axis for axis in range(evidence.output.ndim) if axis not in axes)
        sums = parts.sum(axis=others)
        reach = np.asarray(reached.reshape(parts.shape).any(axis=others))
        if not np.any(reach.sum(axis=tuple(range(len(axes)))) > 1):
            continue
        for order in product((1, -1), repeat=len(axes)):
            turn = tuple(slice(None, None, step) for step in order)
            rows, hits = (array[turn].reshape(-1, evidence.value.size) for array in (sums, reach))
            last = len(rows) - 1 - np.argmax(hits[::-1], axis=0)
            prediction = np.where(hits.any(axis=0), rows[last, np.arange(rows.shape[1])], 0.0)
            if evidence.fits(prediction.reshape(evidence.value.shape)):
                return True
    return False


def whole_window(evidence: Evidence) -> Finding | None:
    """analytic = the upstream gradient for all elements of a window of which forward selects one."""
    if evidence.parts is None or evidence.count < 4 or not evidence.selects:
        return None
    window = evidence.window.astype(float)
    shares = {"for": window, "shared among": window / np.maximum(window.sum(axis=1, keepdims=True), 1.0)}
    for how, share in shares.items():
        if evidence.fits((evidence.upstream.reshape(-1) @ share).reshape(evidence.value.shape)):
            formula = f"analytic = the upstream gradient {how} all elements of a window"
            meaning = "forward selects one element of each window, and only that one receives the gradient"
            return Finding("mask missing", formula, meaning)
    return None


def averaged(evidence: Evidence) -> Finding | None:
    """analytic = the mean of the contributions."""
    if evidence.parts is None or evidence.count < 4:
        return None
    counts = np.count_nonzero(evidence.reached, axis=0).reshape(evidence.value.shape)
    if np.ptp(counts) == 0 or not evidence.fits(evidence.numeric / np.maximum(counts, 1)):
        return None
    return Finding("mean for sum", "analytic = numeric / number of outputs that the element reaches")


def same_index(evidence: Evidence) -> Finding | None:
    """analytic = the contributions of the outputs at the element's own index along some axes."""
    parts, output, value = evidence.parts, evidence.output, evidence.value
    if parts is None or evidence.count < 3 or evidence.is_elementwise:
        return None
    full = parts.reshape(output.shape + value.shape)
    pairs = [
        (a, output.ndim + b)
        for a in range(output.ndim)
        for b in range(value.ndim)
        if output.shape[a] == value.shape[b] and value.shape[b] > 1 and (a == b or evidence.kind == "parameter")
    ]
    for chosen in (pair for size in (1, 2, 3, 4) for pair in combinations(pairs, size)):
        keep = np.ones(full.shape, dtype=bool)
        for a, b in chosen:
            keep &= _index(full, a) == _index(full, b)
        prediction = np.where(keep, full, 0.0).reshape(-1, *value.shape).sum(axis=0)
        if np.allclose(prediction, evidence.numeric, rtol=1e-6, atol=1e-9 * evidence.scale):
            continue
        factor = evidence.fitting_factor(prediction)
        if factor is None:
            continue
        if len(chosen) == value.ndim and output.shape == value.shape:
            return Finding("diagonal only", f"analytic = diagonal of the Jacobian * upstream{besides(factor)}")
        axes = listed(tuple(b - output.ndim for _, b in chosen))
        formula = f"analytic = the part of the outputs at the same index along axis {axes}{besides(factor)}"
        a, b = chosen[0]
        early = np.abs(np.where(_index(full, a) < _index(full, b), full, 0.0))
        if len(chosen) == 1 and np.max(early) <= 1e-9 * np.max(np.abs(full)):  # later steps depend on earlier ones
            meaning = "outputs of later steps depend on this step, too: what one step passes on to the next is left out"
            return Finding("carry between steps missing", formula, meaning, "the loop over steps in {gate}.backward")
        return Finding("diagonal only", formula)
    return None


def _index(array: Array, axis: int) -> Array:
    return along(np.arange(array.shape[axis]), axis, array.ndim)


def window_misplaced(evidence: Evidence) -> Finding | None:
    """analytic = the gradient of a convolution with a stride or dilation of 1, where forward has another.

    Window a of a convolution sees the elements b = stride * a + offset, and the Jacobian depends on the offset alone.
    In a transposed convolution the windows are in the output and the elements in the input.
    """
    jacobian, out, value = evidence.jacobian, evidence.output.shape, evidence.value.shape
    if jacobian is None or evidence.count < 6 or not np.all(np.isfinite(jacobian)):
        return None
    full = jacobian.reshape(out + value)
    for count in range(1, min(3, len(out), len(value)) + 1):
        of_out = [len(out) - count + k for k in range(count)]
        of_value = [full.ndim - count + k for k in range(count)]
        for axes in ([*of_out, *of_value], [*of_value, *of_out]):
            pairs = np.moveaxis(full, axes, range(2 * count))
            a, b = np.split(np.indices(pairs.shape[: 2 * count]).reshape(2 * count, -1), 2)
            rows = pairs.reshape(a.shape[1], -1)
            for cause, spacing, offset, kernel in _mistakes(rows, a, b) if len(rows) <= PAIRS else ():
                nothing = np.zeros(rows.shape[1])
                moved = np.array([kernel.get(key, nothing) for key in zip(*offset.tolist(), strict=True)])
                wrong = np.moveaxis(moved.reshape(pairs.shape), range(2 * count), axes).reshape(jacobian.shape)
                if evidence.fits((evidence.upstream.reshape(-1) @ wrong).reshape(value)):
                    what = "windows" if cause == "stride forgotten" else "elements of a window"
                    formula = f"analytic = the gradient as if the {what} were 1 apart, where they are {spacing} apart"
                    return Finding(cause, formula)
    return None


def _mistakes(rows: Array, a: Array, b: Array) -> Iterator[tuple[str, int, Array, dict[tuple[int, ...], Array]]]:
    """Of each mistake: the spacing in forward, the offset that backward has for each pair, and the kernel by offset."""
    for stride in SPACINGS:
        offset = b - stride * a
        keys, first, where = np.unique(offset, axis=1, return_index=True, return_inverse=True)
        found = rows[first]
        largest = np.max(np.abs(rows), initial=0.0)
        if (
            largest == 0.0
            or len(first) == len(rows)
            or np.any(np.abs(rows - found[where.reshape(-1)]) > 1e-7 * largest)
        ):
            continue  # not a convolution of this stride
        kernel = dict(zip(map(tuple, keys.T.tolist()), found, strict=True))
        if stride > 1:
            yield "stride forgotten", stride, b - a, kernel
        used = keys[:, np.any(np.abs(found) > 1e-9 * largest, axis=1)]
        start = used.min(axis=1, keepdims=True)
        for dilation in SPACINGS[1:]:
            if used.shape[1] > 1 and not np.any((used - start) % dilation):
                yield "dilation forgotten", dilation, start + dilation * (offset - start), kernel


def _subsets(evidence: Evidence) -> Iterator[tuple[int, ...]]:
    axes = [axis for axis, length in enumerate(evidence.output.shape) if length > 1]
    for size in range(1, min(len(axes), AXES) + 1):
        yield from combinations(axes, size)
