"""Right formulas, evaluated at the wrong point."""

from collections.abc import Iterator

import numpy as np

from layerflow.gradcheck.blame import blamed
from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding
from layerflow.parameter import Array


def stale(evidence: Evidence) -> Finding | None:
    """A copy of the gate that runs forward for the first time gives the right gradient."""
    subject, unused = evidence.subject, evidence.subject.unused
    used, subject.gate = subject.gate, unused
    try:
        with blamed(subject.written, "forward"):
            subject.forward()
            grads = subject.backward([g.copy() for g in evidence.observation.upstream])
    except Exception:
        return None
    finally:
        subject.gate = used
    fresh = grads.get(evidence.name)
    if fresh is None:
        return None
    right = np.abs(fresh - evidence.numeric) <= evidence.tolerance(evidence.numeric)
    if not np.all(right[evidence.known]) or np.all(evidence.right[evidence.known]):
        return None
    formula = "analytic is right after the first forward of a new gate, and wrong after the second"
    return Finding(
        "stale values",
        formula,
        "backward uses values of an earlier forward",
        "what {gate}.forward keeps, and under which condition",
    )


def other_extreme(evidence: Evidence) -> Finding | None:
    """analytic = the gradient at -x: where a maximum is selected, that of the minimum."""
    if evidence.kind != "input" or evidence.count < 3 or evidence.jacobian is None:
        return None
    with evidence.moved(evidence.tensor, -evidence.value):
        gradient = evidence.numeric_at(evidence.value) if evidence.is_plausible() else None
    if gradient is None or not evidence.fits(gradient):
        return None
    if evidence.selects:
        formula = "analytic is where the smallest element of each window is, numeric where the largest is"
        meaning = "the gradient belongs to the element that forward selected"
        return Finding("minimum for maximum", formula, meaning, "argmin, argmax and comparisons in {gate}.backward")
    formula = "analytic = the gradient at -{tensor}"
    return Finding("evaluated at -x", formula, "a sign is wrong inside the formula", "the formula in {gate}.backward")


def other_turned(evidence: Evidence) -> Finding | None:
    """analytic = the gradient for another input or parameter that is flipped, transposed or moved by one."""
    if evidence.count < 4:
        return None
    for tensor in evidence.subject.tensors:
        if tensor.name == evidence.name or tensor.value.ndim == 0:
            continue
        for how, turned in _turns(tensor.value):
            if np.array_equal(turned, tensor.value):
                continue
            with evidence.moved(tensor, turned):
                gradient = evidence.numeric_at(evidence.value) if evidence.is_plausible() else None
            if gradient is not None and evidence.fits(gradient):
                formula = f"analytic = the gradient for {tensor.name} {how}"
                cause = "kernel not flipped" if "flipped" in how else "W for W.T" if how == "transposed" else "shifted"
                meaning = {
                    "kernel not flipped": f"{tensor.name} must be flipped here, or must not be",
                    "W for W.T": f"{tensor.name}.T stands where {tensor.name} should, or the other way round",
                    "shifted": "indices are off",
                }[cause]
                return Finding(cause, formula, meaning, "how {gate}.backward uses " + tensor.name)
    return None


def _turns(value: Array) -> Iterator[tuple[str, Array]]:
    yield "flipped", value[::-1]
    yield "flipped along its last axis", value[..., ::-1]
    if value.ndim >= 2:
        yield "flipped along its last two axes", value[..., ::-1, ::-1]
        if value.shape[-1] == value.shape[-2]:
            yield "transposed", np.swapaxes(value, -1, -2)
    for axis in range(value.ndim):
        for by in (1, -1) if value.shape[axis] > 2 else ():
            moved = np.roll(value, by, axis)
            moved[(slice(None),) * axis + (0 if by > 0 else -1,)] = 0.0
            yield f"moved by {by} along axis {axis}", moved


def input_for_output(evidence: Evidence) -> Finding | None:
    """analytic = upstream * phi(x), where phi(y) = f'(x) is right: a formula in the output, given the input."""
    jacobian = evidence.jacobian
    if not evidence.is_elementwise or jacobian is None or evidence.count < 10:
        return None
    local, x, y = np.diag(jacobian), evidence.value.reshape(-1), evidence.output.reshape(-1)
    for powers in ((0, 1), (0, 1, 2), (-1,), (-2,), (0, -1)):
        if (0 in y and min(powers) < 0) or (0 in x and min(powers) < 0):
            continue
        coefficients = np.linalg.lstsq(_powers(y, powers), local, rcond=None)[0]
        if not np.allclose(_powers(y, powers) @ coefficients, local, rtol=1e-7, atol=1e-8 * np.max(np.abs(local))):
            continue
        prediction = (_powers(x, powers) @ coefficients).reshape(evidence.value.shape) * evidence.upstream
        if evidence.fits(prediction):
            formula = "analytic = the derivative in terms of y, with x in place of y"
            return Finding(
                "evaluated at the input",
                formula,
                "a formula in y was given x",
                "what {gate}.forward saves, and the formula in backward",
            )
    return None


def _powers(values: Array, powers: tuple[int, ...]) -> Array:
    return np.stack([values ** float(power) for power in powers], axis=1)
