"""What no gate may do, whatever its gradients are, and the messages for its author."""

from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.errors import GateError
from layerflow.gradcheck.subject import Subject, is_real, outputs
from layerflow.gradcheck.verdicts import Diagnosis
from layerflow.gradcheck.watching import guilty_write, same
from layerflow.parameter import Array


def changed_inputs(subject: Subject, inputs: list[Array]) -> list[Diagnosis]:
    """Inputs that forward wrote into; they are put back."""
    found = []
    for name, before, after in zip(subject.input_names, subject.inputs, inputs, strict=True):
        if not same(before, after):
            line = guilty_write(subject, None)
            found.append(
                Diagnosis(
                    name,
                    "input overwritten by forward",
                    f"{subject.name}.{name}: forward changes its input in place, and so for every gate that reads it; "
                    f"write into a new array ({name} = {name}.copy(), or out-of-place arithmetic){line}",
                    "",
                )
            )
            np.copyto(after, before)
    return found


def changed_parameters(subject: Subject, before: dict[str, Array], method: str) -> list[Diagnosis]:
    """Parameters that a method changed; they are put back."""
    found = []
    for name, parameter in subject.gate.named_parameters().items():
        if not same(before[name], parameter.value):
            parameter.value = before[name].copy()
            sentence = f"{subject.name}.{name}: {method} changes the parameter; only the optimizer may"
            found.append(
                Diagnosis(
                    name, f"parameter overwritten by {method}", sentence, f"{method}, where it writes to self.{name}"
                )
            )
    return found


def changed_in_backward(
    subject: Subject,
    upstream: list[Array],
    given: list[Array],
    saved: list[tuple[Array, Array]],
    parameters: dict[str, Array],
) -> list[Diagnosis]:
    """What backward wrote into: parameters, the upstream gradient, or what forward saved."""
    found = changed_parameters(subject, parameters, "backward")
    if any(not same(before, after) for before, after in zip(upstream, given, strict=True)):
        sentence = (
            f"{subject.name}: backward changes the upstream gradient in place, which spoils it for every other gate "
            f"that receives it{guilty_write(subject, upstream)}"
        )
        found.append(Diagnosis("", "upstream gradient overwritten by backward", sentence, ""))
    elif any(not same(before, array) for array, before in saved):
        sentence = (
            f"{subject.name}: backward changes what forward saved, so that a second backward gives something else"
            f"{guilty_write(subject, upstream)}"
        )
        found.append(Diagnosis("", "stored array overwritten by backward", sentence, ""))
    return found


def nondeterministic(subject: Subject) -> Diagnosis:
    """Two equal calls of forward that gave different outputs."""
    return Diagnosis(
        "",
        "nondeterministic forward",
        f"{subject.name}: forward gives different outputs for identical calls, so differences mean nothing; random "
        "numbers must come from a np.random.Generator held by the gate, and arrays that change from call to call must "
        "be lf.Buffer, since only those two are put back before each call",
        "np.random.* calls in forward, and attributes that forward changes",
    )


def changed_by_repeating(subject: Subject, upstream: list[Array], first: dict[str, Array | None]) -> list[Diagnosis]:
    """A second backward after the same forward that gives something else."""
    second = subject.backward([g.copy() for g in upstream])
    name = next((name for name in first if not same(first[name], second[name])), None)
    if name is None:
        return []
    a, b = first[name], second[name]
    doubled = a is not None and b is not None and np.allclose(b, 2.0 * a, rtol=1e-9)
    how = "twice the first" if doubled else "something else"
    sentence = (
        f"{subject.name}.{name}: a second backward after the same forward gives {how}; "
        "backward may not add to, or use up, what the gate keeps"
    )
    place = f"`+=` or assignments to self in {subject.name}.backward"
    return [Diagnosis(name, "backward not repeatable", sentence, place)]


def narrow(subject: Subject, output: Any, grads: dict[str, Array | None]) -> list[Diagnosis]:
    """An output or gradient that passed through float32."""
    named = [("forward's output", np.asarray(part)) for part in outputs(output)]
    named += [(f"the gradient of {name}", grad) for name, grad in grads.items() if grad is not None]
    for what, array in named:
        if array.dtype.kind == "f" and array.dtype.itemsize < 8:
            seen = f"{what} is {array.dtype} although everything given is float64"
        elif _was_narrow(array):
            seen = f"every number of {what} is exactly representable in float32, although everything given is float64"
        else:
            continue
        name = what.removeprefix("the gradient of ") if what.startswith("the gradient") else ""
        method = "backward" if name else "forward"
        sentence = f"{subject.name}: {seen}; somewhere {method} rounds to float32, and small gradients are lost"
        return [
            Diagnosis(
                name, "float32 hidden inside", sentence, f"astype, dtype= and np.float32 in {subject.name}.{method}"
            )
        ]
    return []


def withheld(subject: Subject, output: Any, grads: dict[str, Array | None]) -> list[Diagnosis]:
    """`None` for the first input, on which the output depends; later ones may be labels and weights."""
    name = subject.input_names[0] if subject.inputs else ""
    if isinstance(subject.gate, Container) or grads.get(name, output) is not None or not is_real(subject.inputs[0]):
        return []
    others = [subject.inputs[0] * 1.25 + 0.125, *subject.inputs[1:]]
    function = subject.surrogate or subject.forward
    try:
        if same(function(*others), function(*subject.inputs)):
            return []
    except GateError:  # other values may not be allowed, which shows that they matter
        pass
    sentence = (
        f"{subject.name}.{name}: backward returns None for {name}, on which the output depends; None is for labels"
    )
    return [Diagnosis(name, "no gradient returned", sentence, f"what {subject.name}.backward returns for {name}")]


def _was_narrow(array: Array) -> bool:
    """Whether all numbers are exact in float32, at least three of them to a finer digit than the largest of them has.

    What is left when large float64 numbers cancel has few digits, too: all multiples of one step, 4.4e-16 for instance.
    A float32 that is smaller than another one is finer than a multiple of the other's last digit.
    """
    if array.dtype != np.float64 or array.size < 3:
        return False
    with np.errstate(all="ignore"):
        values = np.unique(np.abs(array[array != 0.0]))
        if not values.size or np.any(values.astype(np.float32) != values):
            return False
        last_digit = np.spacing(np.float32(values[-1])).astype(np.float64)
        return int(np.sum(values % last_digit != 0.0)) >= 3
