"""Right formulas, evaluated at the wrong point: other values of an input, a parameter or an argument."""

from collections.abc import Iterator

import numpy as np

from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.evidence import Evidence
from layerflow.gradcheck.subject import outputs
from layerflow.parameter import Array


def stale(evidence: Evidence) -> Finding | None:
    """A copy of the gate that runs forward for the first time gives the right gradient."""
    subject = evidence.subject
    used, subject.gate = subject.gate, subject.unused
    try:
        subject.forward()
        fresh = subject.backward([g.copy() for g in evidence.observation.upstream])[evidence.name]
    except Exception:
        return None
    finally:
        subject.gate = used
    if fresh is None or not np.any(evidence.wrong):
        return None
    right = np.abs(fresh - evidence.numeric) <= evidence.tolerance(evidence.numeric)
    if not np.all(right[evidence.known]):
        return None
    return Finding(
        "stale values", "analytic is right after the first forward of a new gate, and wrong after the second"
    )


def other_extreme(evidence: Evidence) -> Finding | None:
    """analytic = the gradient at -x: where a maximum is selected, that of the minimum."""
    if evidence.kind != "input" or evidence.count < 3 or evidence.jacobian is None:
        return None
    with evidence.tensor.moved(-evidence.value):
        if not evidence.fits_gradient_here():
            return None
    if not evidence.selects:
        return Finding("evaluated at -x", "analytic = the gradient at -{tensor}")
    formula = "analytic is where the smallest element of each window is, numeric where the largest is"
    return Finding("minimum for maximum", formula)


def other_turned(evidence: Evidence) -> Finding | None:
    """analytic = the gradient for another input or parameter that is flipped, transposed or moved by one."""
    for tensor in evidence.subject.tensors if evidence.count >= 4 else ():
        if tensor.name == evidence.name or tensor.value.ndim == 0:
            continue
        for how, turned in _turns(tensor.value.copy()):
            if np.array_equal(turned, tensor.value):
                continue
            with tensor.moved(turned):
                if not evidence.fits_gradient_here():
                    continue
            formula, place = (
                f"analytic = the gradient for {tensor.name} {how}",
                f"how {{gate}}.backward uses {tensor.name}",
            )
            if "flipped" in how:
                meaning = f"{tensor.name} must be flipped here, or must not be"
                return Finding("kernel not flipped", formula, meaning, place)
            if how == "transposed":
                meaning = f"backward uses {tensor.name}.T in the place of {tensor.name}, or the reverse"
                return Finding("W for W.T", formula, meaning, place)
            return Finding("shifted", formula, "an index is off", place)
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


def other_argument(evidence: Evidence) -> Finding | None:
    """analytic = the gradient of the same gate with 1 or 0 as the value of an argument, such as a stride.

    Where its output is larger, outputs beyond the right ones have no upstream gradient; where it is smaller, upstream
    gradients beyond its outputs go nowhere.
    """
    subject, gate = evidence.subject, evidence.subject.gate
    if isinstance(evidence.observation.output, tuple) or evidence.output.ndim == 0 or evidence.count < 4:
        return None
    shape = evidence.output.shape
    surrogate = subject.surrogate

    def fitted(*inputs: Array) -> Array:
        (found,) = outputs((surrogate or gate.bare_forward)(*inputs))
        result = np.zeros(shape)
        common = tuple(slice(min(lengths)) for lengths in zip(shape, found.shape, strict=True))
        result[common] = found[common]
        return result

    for name, value in evidence.settings.items():
        for other in (1, 0):
            if value == other:
                continue
            try:
                subject.surrogate = fitted
                setattr(gate, name, type(value)(other))
                is_it = evidence.fits_gradient_here()
            finally:
                subject.surrogate = surrogate
                setattr(gate, name, value)
            if is_it:
                cause = next(
                    (f"{word} forgotten" for word in ("stride", "dilation") if word in name), "argument ignored"
                )
                formula = f"analytic = the gradient with {name}={other}, where forward has {name}={value:g}"
                return Finding(cause, formula, f"backward does not use {name}" if cause == "argument ignored" else "")
    return None


def input_for_output(evidence: Evidence) -> Finding | None:
    """analytic = upstream * phi(x), where phi(y) = f'(x) is right: a formula in the output, given the input."""
    jacobian = evidence.jacobian
    if jacobian is None or not evidence.is_elementwise or evidence.count < 10:
        return None
    local, x, y = np.diag(jacobian), evidence.value.reshape(-1), evidence.output.reshape(-1)
    for powers in ((0, 1), (0, 1, 2), (-1,), (-2,), (0, -1)):
        if min(powers) < 0 and (0 in y or 0 in x):
            continue
        of_x, of_y = (np.stack([values ** float(power) for power in powers], axis=1) for values in (x, y))
        coefficients = np.linalg.lstsq(of_y, local, rcond=None)[0]
        if not np.allclose(of_y @ coefficients, local, rtol=1e-7, atol=1e-8 * np.max(np.abs(local))):
            continue
        if evidence.fits((of_x @ coefficients).reshape(evidence.value.shape) * evidence.upstream):
            return Finding("evaluated at the input", "analytic = the derivative in terms of y, with x in place of y")
    return None
