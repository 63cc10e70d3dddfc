"""Sums over outputs that are not what they should be.

The gradient of an element is a sum of contributions, one per output it reaches. Mistakes in that sum are the same for
samples, positions of a window and steps in time: one contribution instead of all, the last written over the others,
only those at the same index, each put at a wrong place.
"""

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding, besides
from layerflow.parameter import Array

AXES = 3  # at most so many axes of the output are summed over in a loop of their own


def one_position(evidence: Evidence) -> Finding | None:
    """analytic = the contributions of one sample, position or step."""
    parts = evidence.parts
    if parts is None:
        return None
    for axes in _subsets(evidence):
        length = evidence.output.shape[axes[0]]
        for index in range(length) if len(axes) == 1 else (-1, 0):
            chosen = np.take(parts, index, axis=axes[0])
            for gone, axis in enumerate(axes[1:], start=1):
                chosen = np.take(chosen, index, axis=axis - gone)
            prediction = chosen.reshape(-1, *evidence.value.shape).sum(axis=0)
            factor = evidence.fitting_factor(prediction)
            if factor is None:
                continue
            if axes == (0,) and length == evidence.batch:
                formula = f"analytic = the part of sample {index} alone{besides(factor)}"
                meaning = "the sum over the batch is missing"
                return Finding("batch sum missing", formula, meaning, "sums over axis 0 in {gate}.backward")
            which = "first" if index == 0 else "last" if index in (-1, length - 1) else f"number {index}"
            formula = f"analytic = the part of the {which} index of axis {_listed(axes)} of the output{besides(factor)}"
            meaning = "the sum over the positions (or steps) along it is missing; use += in the loop"
            return Finding("sum over positions missing", formula, meaning, "loops and sums in {gate}.backward")
    return None


def overwritten(evidence: Evidence) -> Finding | None:
    """analytic = for each element, the contribution that is written last."""
    parts = evidence.parts
    if parts is None or evidence.count < 3:
        return None
    finding = _overwritten(evidence, parts, evidence.reached)
    if finding is None and evidence.selects:
        finding = _overwritten(evidence, parts, evidence.window)
    return finding


def _overwritten(evidence: Evidence, parts: Array, reached: Array) -> Finding | None:
    shape = evidence.output.shape
    for axes in _subsets(evidence):
        others = tuple(axis for axis in range(len(shape)) if axis not in axes)
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
                formula = "analytic = for every element the part of the last output that it reaches"
                meaning = "contributions to the same element overwrite each other instead of being added"
                place = "assignments by index in {gate}.backward: use += , and np.add.at for repeated indices"
                return Finding("overwritten instead of added", formula, meaning, place)
    return None


def whole_window(evidence: Evidence) -> Finding | None:
    """analytic = the upstream gradient for all elements of a window of which forward selects one."""
    if evidence.parts is None or evidence.count < 4 or not evidence.selects:
        return None
    window = evidence.window.astype(float)
    shares = {"whole": window, "shared among": window / np.maximum(window.sum(axis=1, keepdims=True), 1.0)}
    for how, share in shares.items():
        if evidence.fits((evidence.upstream.reshape(-1) @ share).reshape(evidence.value.shape)):
            formula = f"analytic = the upstream gradient {'for' if how == 'whole' else 'shared among'} all of a window"
            meaning = "forward selects one element of each window, and only that one receives the gradient"
            return Finding("mask missing", formula, meaning, "the mask (the comparison) in {gate}.backward")
    return None


def averaged(evidence: Evidence) -> Finding | None:
    """analytic = the mean of the contributions, or the sum with every contribution counted too often."""
    if evidence.parts is None or evidence.count < 4:
        return None
    counts = np.count_nonzero(evidence.reached, axis=0).reshape(evidence.value.shape)
    if np.ptp(counts) == 0:
        return None
    if evidence.fits(evidence.numeric / np.maximum(counts, 1)):
        formula = "analytic = numeric / number of outputs that the element reaches"
        return Finding(
            "mean for sum", formula, "the contributions are averaged, not added", "sums and means in {gate}.backward"
        )
    return None


def same_index(evidence: Evidence) -> Finding | None:
    """analytic = the contributions of the outputs at the element's own index along some axes."""
    parts = evidence.parts
    if parts is None or evidence.count < 3 or evidence.is_elementwise:
        return None
    output, value = evidence.output, evidence.value
    full = parts.reshape(output.shape + value.shape)
    pairs = [
        (a, b)
        for a in range(output.ndim)
        for b in range(value.ndim)
        if output.shape[a] == value.shape[b] and value.shape[b] > 1 and (a == b or evidence.kind == "parameter")
    ]
    options = [pair for size in (1, 2, 3, 4) for pair in combinations(pairs, size)]
    for chosen in options:
        keep = np.ones(full.shape, dtype=bool)
        for a, b in chosen:
            keep &= _same(full.shape, a, output.ndim + b)
        prediction = np.where(keep, full, 0.0).reshape(-1, *value.shape).sum(axis=0)
        if np.allclose(prediction, evidence.numeric, rtol=1e-6, atol=1e-9 * evidence.scale):
            continue
        factor = evidence.fitting_factor(prediction)
        if factor is None:
            continue
        axes = _listed(tuple(b for _, b in chosen))
        if len(chosen) == value.ndim and output.shape == value.shape:
            formula = f"analytic = diagonal of the Jacobian * upstream{besides(factor)}"
            meaning = (
                "the cross terms are missing: every output depends on several inputs, not on the one at its place alone"
            )
            return Finding("diagonal only", formula, meaning, "the sum over outputs in {gate}.backward")
        formula = f"analytic = the part of the outputs at the same index along axis {axes}{besides(factor)}"
        if len(chosen) == 1 and _is_causal(full, chosen[0][0], output.ndim + chosen[0][1]):
            meaning = "outputs of later steps depend on this step, too: what a step hands to the next one is left out"
            return Finding("carry between steps missing", formula, meaning, "the loop over steps in {gate}.backward")
        meaning = "the cross terms are missing: an output depends on inputs at other indices, too"
        return Finding("diagonal only", formula, meaning, "the sum over outputs in {gate}.backward")
    return None


def stride_forgotten(evidence: Evidence) -> Finding | None:
    """analytic = the contributions, each put as many elements too early as a stride of 1 would put it."""
    parts = evidence.parts
    if parts is None or evidence.count < 6 or evidence.output.ndim < 1:
        return None
    output, value = evidence.output, evidence.value
    full = parts.reshape(output.shape + value.shape)
    reached = evidence.reached.reshape(full.shape)
    whole = np.count_nonzero(evidence.reached, axis=1).max()
    for count in (1, 2, 3):
        if output.ndim < count or value.ndim < count:
            break
        for stride in (2, 3, 4):
            clear, prediction = _scattered(evidence, full, reached, count, stride, whole)
            for where, candidate in ((clear, prediction), (evidence.known, _gathered(evidence, full, count, stride))):
                counts = where & ~evidence.right & ~evidence.is_zero(candidate)
                if np.sum(counts) >= 4 and evidence.fits(candidate, where):
                    formula = f"analytic = the windows' parts as if they were 1 apart, where they are {stride} apart"
                    meaning = "forward steps by the stride, backward does not"
                    return Finding("stride forgotten", formula, meaning, "indices and slices in {gate}.backward")
    return None


def _scattered(
    evidence: Evidence, full: Array, reached: Array, count: int, stride: int, whole: int
) -> tuple[Array, Array]:
    """The contributions put where stride 1 would put them, and where that is all of them."""
    prediction, unseen = np.zeros(evidence.value.shape), np.zeros(evidence.value.shape, dtype=bool)
    for index in np.ndindex(*evidence.output.shape):
        steps = [-(stride - 1) * index[-k] for k in range(1, count + 1)]
        prediction += _moved(full[index], steps)
        if np.count_nonzero(reached[index]) < whole:  # a window over padding, whose part there is not known
            unseen |= _cut_off(reached[index], count, steps)
    return ~unseen & evidence.known, prediction


def _gathered(evidence: Evidence, full: Array, count: int, stride: int) -> Array:
    """The gradient in which every element takes the upstream gradient from where stride 1 would put its outputs."""
    upstream, prediction = evidence.upstream, np.zeros(evidence.value.shape)
    local = full / upstream.reshape(upstream.shape + (1,) * evidence.value.ndim)
    for index in np.ndindex(*evidence.value.shape):
        steps = [(stride - 1) * index[-k] for k in range(1, count + 1)]
        prediction[index] = np.sum(_moved(upstream, steps) * local[(..., *index)])
    return prediction


def _moved(array: Array, steps: list[int]) -> Array:
    """An array moved along its last axes, the last one first."""
    for k, by in enumerate(steps, start=1):
        array = _shifted(array, by, array.ndim - k)
    return array


def _cut_off(reached: Array, axes: int, steps: list[int]) -> Array:
    """Where the part of a window that lies beyond the edges would be moved to."""
    room = [(0, 0)] * (reached.ndim - axes) + [(length, length) for length in reached.shape[-axes:]]
    inside = tuple(slice(before, before + length) for (before, _), length in zip(room, reached.shape, strict=True))
    window = np.pad(reached, room)
    for axis in range(reached.ndim - axes, reached.ndim):
        length = int(np.max(np.count_nonzero(window, axis=axis)))
        window = np.logical_or.reduce([_shifted(window, by, axis) for by in range(-length, length + 1)])
    window[inside] = False
    return np.asarray(_moved(window, steps)[inside])


def upstream_turned(evidence: Evidence) -> Finding | None:
    """analytic = the gradient for an upstream gradient that is flipped or transposed."""
    jacobian, upstream = evidence.jacobian, evidence.upstream
    if jacobian is None or evidence.count < 3 or upstream.size < 3:
        return None
    turns: list[tuple[str, Array]] = [
        (f"flipped along axis {_listed(axes)}", np.flip(upstream, axes))
        for size in range(1, upstream.ndim + 1)
        for axes in combinations(range(upstream.ndim), size)
    ]
    if upstream.ndim > 1 and upstream.shape[-1] == upstream.shape[-2]:
        turns.append(("transposed", np.swapaxes(upstream, -1, -2)))
    for how, turned in turns:
        if evidence.fits((turned.reshape(-1) @ jacobian).reshape(evidence.value.shape)):
            formula = f"analytic = the gradient for the upstream gradient {how}"
            meaning = "the upstream gradient must not be turned here"
            cause = "transposed" if how == "transposed" else "flipped"
            return Finding(cause, formula, meaning, "the order of indices of grad in {gate}.backward")
    return None


def _subsets(evidence: Evidence) -> Iterator[tuple[int, ...]]:
    axes = [axis for axis, length in enumerate(evidence.output.shape) if length > 1]
    for size in range(1, min(len(axes), AXES) + 1):
        yield from combinations(axes, size)


def _same(shape: tuple[int, ...], a: int, b: int) -> Array:
    rows, columns = (
        np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))]) for axis in (a, b)
    )
    return np.asarray(rows == columns)


def _is_causal(full: Array, a: int, b: int) -> bool:
    rows, columns = (
        np.arange(full.shape[axis]).reshape([-1 if i == axis else 1 for i in range(full.ndim)]) for axis in (a, b)
    )
    early = np.abs(np.where(rows < columns, full, 0.0))
    return bool(np.max(early) <= 1e-9 * np.max(np.abs(full)))


def _shifted(array: Array, by: int, axis: int) -> Array:
    result = np.zeros_like(array)
    length = array.shape[axis]
    if abs(by) < length:
        to = [slice(None)] * array.ndim
        of = [slice(None)] * array.ndim
        to[axis] = slice(max(by, 0), length + min(by, 0))
        of[axis] = slice(max(-by, 0), length + min(-by, 0))
        result[tuple(to)] = array[tuple(of)]
    return result


def _listed(axes: tuple[int, ...]) -> str:
    return " and ".join(map(str, axes))
