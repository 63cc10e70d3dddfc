"""One forward and backward under observation: what do they return, and what do they change that is not theirs?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.errors import GateError
from layerflow.gate import Gate
from layerflow.gradcheck.subject import Subject, guilty_line, is_real, outputs
from layerflow.gradcheck.verdicts import Diagnosis
from layerflow.parameter import Array
from layerflow.sweep import Operation
from layerflow.walk import find


@dataclass
class Observation:
    """What one run showed.

    Attributes:
        output: the output (a tuple of them for a graph with several).
        upstream: the random gradient that went into `backward`, one per output.
        analytic: the gradients that came back, by tensor name; `None` where there was none.
        faults: what no gate may do, whatever its gradients are.
    """

    output: Any
    upstream: list[Array]
    analytic: dict[str, Array | None]
    faults: list[Diagnosis]


def observe(subject: Subject) -> Observation:
    """Run the gate after an earlier forward on other inputs, as in training, and watch what it touches."""
    faults: list[Diagnosis] = []
    _forward_on_others(subject)
    inputs = [x.copy() for x in subject.inputs]
    parameters = {name: p.value.copy() for name, p in subject.gate.named_parameters().items()}
    output = _copy(subject.forward(*inputs))
    _reject_unusable(subject, output)
    faults += _changed_inputs(subject, inputs) + _changed_parameters(subject, parameters, "forward")
    again = subject.forward()
    if not _same(output, again):
        faults.append(_nondeterministic(subject))
    output = subject.forward(*inputs)
    upstream = subject.upstream(output)
    given = [g.copy() for g in upstream]
    saved = [(array, array.copy()) for array in saved_arrays(subject.gate)]
    first = _copies(subject.backward(given))
    faults += _changed_in_backward(subject, upstream, given, saved, parameters)
    if not faults:
        second = subject.backward([g.copy() for g in upstream])
        faults += (
            [] if all(_same(first[name], second[name]) for name in first) else [_unrepeatable(subject, first, second)]
        )
    faults += _narrow(subject, output, first) + _withheld(subject, output, first)
    return Observation(_copy(output), upstream, first, faults)


def guilty_write(subject: Subject, observation_upstream: list[Array] | None) -> str:
    """The line that writes into an array it was lent: all of them are made read-only, so that NumPy raises there."""
    inputs = [_frozen(x) for x in subject.inputs]
    try:
        subject.restore()
        subject.gate.forward(*inputs)
        if observation_upstream is not None:
            for array in saved_arrays(subject.gate):
                array.flags.writeable = False
            subject.gate.backward(*(_frozen(g) for g in observation_upstream))
    except ValueError as error:
        return guilty_line(error) if "read-only" in str(error) else ""
    finally:
        subject.gate._saved = None
    return ""


# What must not happen --------------------------------------------------------------------------------------------


def _reject_unusable(subject: Subject, output: Any) -> None:
    for part in outputs(output):
        if not isinstance(part, np.ndarray | np.generic | float | int) or np.asarray(part).dtype.kind not in "fiub":
            raise GateError(
                f"{subject.written}: forward returned {type(part).__name__}; expected one array of real numbers"
            )
        if not np.all(np.isfinite(part)):
            raise GateError(
                f"{subject.written}: forward gives {_first_bad(np.asarray(part))} for these inputs; "
                "there is no derivative to compare there"
            )


def _first_bad(part: Array) -> str:
    position = np.unravel_index(int(np.argmin(np.isfinite(part))), part.shape) if part.shape else ()
    return f"{part[position]} at {[int(i) for i in position]}"


def _changed_inputs(subject: Subject, inputs: list[Array]) -> list[Diagnosis]:
    found = []
    for name, before, after in zip(subject.input_names, subject.inputs, inputs, strict=True):
        if not _same(before, after):
            line = guilty_write(subject, None)
            found.append(
                Diagnosis(
                    name,
                    "input overwritten by forward",
                    f"{subject.name}.{name}: forward changes its input in place, and so for every other gate that reads it; "
                    f"write into a new array ({name} = {name}.copy(), or out-of-place arithmetic){line}",
                    "",
                )
            )
            np.copyto(after, before)
    return found


def _changed_parameters(subject: Subject, before: dict[str, Array], method: str) -> list[Diagnosis]:
    found = []
    for name, parameter in subject.gate.named_parameters().items():
        if not _same(before[name], parameter.value):
            parameter.value = before[name].copy()
            sentence = f"{subject.name}.{name}: {method} changes the parameter; only the optimizer may"
            found.append(
                Diagnosis(
                    name, f"parameter overwritten by {method}", sentence, f"{method}, where it writes to self.{name}"
                )
            )
    return found


def _changed_in_backward(
    subject: Subject,
    upstream: list[Array],
    given: list[Array],
    saved: list[tuple[Array, Array]],
    parameters: dict[str, Array],
) -> list[Diagnosis]:
    found = _changed_parameters(subject, parameters, "backward")
    if any(not _same(before, after) for before, after in zip(upstream, given, strict=True)):
        sentence = (
            f"{subject.name}: backward changes the upstream gradient in place, which spoils it for every other gate "
            f"that receives it{guilty_write(subject, upstream)}"
        )
        found.append(Diagnosis("", "upstream gradient overwritten by backward", sentence, ""))
    elif any(not _same(before, array) for array, before in saved):
        sentence = (
            f"{subject.name}: backward changes what forward saved, so that a second backward gives something else"
            f"{guilty_write(subject, upstream)}"
        )
        found.append(Diagnosis("", "stored array overwritten by backward", sentence, ""))
    return found


def _nondeterministic(subject: Subject) -> Diagnosis:
    return Diagnosis(
        "",
        "nondeterministic forward",
        f"{subject.name}: forward gives different outputs for identical calls, so no difference can be trusted; random "
        "numbers must come from a np.random.Generator held by the gate, and arrays that change from call to call must "
        "be lf.Buffer, since only those two are put back before each call",
        "np.random.* calls in forward, and attributes that forward changes",
    )


def _unrepeatable(subject: Subject, first: dict[str, Array | None], second: dict[str, Array | None]) -> Diagnosis:
    name = next(name for name in first if not _same(first[name], second[name]))
    a, b = first[name], second[name]
    doubled = a is not None and b is not None and np.allclose(b, 2.0 * a, rtol=1e-9)
    how = "twice the first" if doubled else "something else"
    return Diagnosis(
        name,
        "backward not repeatable",
        f"{subject.name}.{name}: a second backward after the same forward gives {how}; "
        "backward may not add to, or use up, what the gate keeps",
        f"`+=` or assignments to self in {subject.name}.backward",
    )


def _narrow(subject: Subject, output: Any, grads: dict[str, Array | None]) -> list[Diagnosis]:
    named = {"forward's output": np.asarray(outputs(output)[0])} | {
        f"the gradient of {k}": g for k, g in grads.items() if g is not None
    }
    for what, array in named.items():
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


def _withheld(subject: Subject, output: Any, grads: dict[str, Array | None]) -> list[Diagnosis]:
    """`None` for the first input, on which the output depends; later ones may be labels and weights."""
    name = subject.input_names[0] if subject.inputs else ""
    if isinstance(subject.gate, Container) or grads.get(name, output) is not None or not is_real(subject.inputs[0]):
        return []
    others = [subject.inputs[0] * 1.25 + 0.125, *subject.inputs[1:]]
    try:
        if _same(subject.forward(*others), output):
            return []
    except GateError:  # other values may not be allowed, which shows that they matter
        pass
    sentence = (
        f"{subject.name}.{name}: backward returns None for {name}, on which the output depends; None is for labels"
    )
    return [Diagnosis(name, "no gradient returned", sentence, f"what {subject.name}.backward returns for {name}")]


def _was_narrow(array: Array) -> bool:
    """Whether at least three different numbers all have a float32's mantissa, and not merely that of a round number."""
    if array.dtype != np.float64 or array.size < 3:
        return False
    with np.errstate(all="ignore"):
        values = np.unique(array[array != 0.0])
        rounded = values.astype(np.float32).astype(np.float64)
        return values.size >= 3 and bool(np.all(rounded == values)) and bool(np.all(values * 2.0**10 % 1.0 != 0.0))


# Helpers ---------------------------------------------------------------------------------------------------------


def _forward_on_others(subject: Subject) -> None:
    """A forward on the rows in another order: a gate that keeps what it saw first will give itself away."""
    others = [
        np.roll(x, 1, axis=0) if x.ndim and len(x) > 1 else x * 0.75 if x.dtype.kind == "f" else x.copy()
        for x in subject.inputs
    ]
    try:
        subject.restore()
        with np.errstate(all="ignore"):
            subject.gate.bare_forward(*others)
    except Exception:  # the gate need not accept these; whether it accepts the given ones is seen next
        subject.gate._saved = None


def saved_arrays(gate: Gate) -> list[Array]:
    """The arrays that forward saved, in the gate, in gates inside it and in a container's steps."""
    held: list[Any] = [inner._saved for _, inner in find(gate, Gate)]
    if isinstance(gate, Container):
        held += [inner._saved for step in gate.steps for _, inner in find(step.gate, Gate)]
        held += [step.saved for step in gate.steps if isinstance(step, Operation)]
    return list({id(array): array for array in _arrays(held)}.values())


def _arrays(held: Any) -> Iterator[Array]:
    if isinstance(held, np.ndarray):
        yield held
    elif isinstance(held, dict):
        yield from _arrays(list(held.values()))
    elif isinstance(held, list | tuple):
        for item in held:
            yield from _arrays(item)


def _frozen(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _copy(output: Any) -> Any:
    return tuple(np.array(part) for part in output) if isinstance(output, tuple) else np.array(output)


def _copies(grads: dict[str, Array | None]) -> dict[str, Array | None]:
    return {name: None if grad is None else grad.copy() for name, grad in grads.items()}


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return all(
        np.array_equal(x, y, equal_nan=np.asarray(x).dtype.kind == "f")
        for x, y in zip(outputs(a), outputs(b), strict=True)
    )
