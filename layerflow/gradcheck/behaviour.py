"""One observed forward and backward: what they return, and which arrays they change that are not theirs to change."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.errors import GateError
from layerflow.gate import Gate, find, saved_in
from layerflow.gradcheck.blame import guilty_line
from layerflow.gradcheck.subject import Subject, is_real, outputs
from layerflow.gradcheck.verdicts import Diagnosis
from layerflow.parameter import Array


@dataclass
class Observation:
    """The results of one run.

    Attributes:
        output: the output, or a tuple of several.
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
    _forward_on_others(subject)
    inputs = [x.copy() for x in subject.inputs]
    parameters = {name: p.value.copy() for name, p in subject.gate.named_parameters().items()}
    output = _copied(subject.forward(*inputs))
    _reject_unusable(subject, output)
    faults = _changed_inputs(subject, inputs) + _changed_parameters(subject, parameters, "forward")
    if not same(output, subject.forward()):
        faults.append(_nondeterministic(subject))
    output = subject.forward(*inputs)
    upstream = subject.upstream(output)
    given = [g.copy() for g in upstream]
    saved = [*saved_arrays(subject.gate), *(part for part in outputs(output) if isinstance(part, np.ndarray))]
    before = _copied(tuple(saved))
    output = _copied(output)
    grads = {name: None if grad is None else grad.copy() for name, grad in subject.backward(given).items()}
    faults += _changed_parameters(subject, parameters, "backward")
    if not same(tuple(upstream), tuple(given)):
        sentence = (
            f"{subject.name}: backward changes the upstream gradient in place, which corrupts it for every other gate "
            f"that receives it{guilty_write(subject, upstream)}"
        )
        faults.append(Diagnosis("", "upstream gradient overwritten by backward", sentence))
    elif not same(before, tuple(saved)):
        sentence = (
            f"{subject.name}: backward changes what forward saved, so that a second backward gives a different result"
            f"{guilty_write(subject, upstream)}"
        )
        faults.append(Diagnosis("", "stored array overwritten by backward", sentence))
    if not faults:
        faults += _changed_by_repeating(subject, upstream, grads)
    faults += _narrow(subject, output, grads) + _withheld(subject, output, grads)
    return Observation(output, upstream, grads, faults)


def _forward_on_others(subject: Subject) -> None:
    """A forward on the rows in another order: it exposes a gate that keeps what it saw first."""
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


def _reject_unusable(subject: Subject, output: Any) -> None:
    for part in outputs(output):
        if not isinstance(part, np.ndarray | np.generic | float | int) or np.asarray(part).dtype.kind not in "fiub":
            raise GateError(
                f"{subject.written}: forward returned {type(part).__name__}; expected one array of real numbers"
            )
        if not np.all(np.isfinite(part)):
            part = np.asarray(part)
            position = np.unravel_index(int(np.argmin(np.isfinite(part))), part.shape)
            raise GateError(
                f"{subject.written}: forward gives {part[position]} at {[int(i) for i in position]} for these inputs; "
                "there is no derivative to compare there"
            )


# What no gate may do ---------------------------------------------------------------------------------------------


def _changed_inputs(subject: Subject, inputs: list[Array]) -> list[Diagnosis]:
    """Inputs that forward wrote into; they are put back."""
    found = []
    for name, before, after in zip(subject.input_names, subject.inputs, inputs, strict=True):
        if not same(before, after):
            sentence = (
                f"{subject.name}.{name}: forward changes its input in place, and so for every gate that reads it; "
                f"write into a new array ({name} = {name}.copy(), or out-of-place arithmetic)"
                f"{guilty_write(subject, None)}"
            )
            found.append(Diagnosis(name, "input overwritten by forward", sentence))
            np.copyto(after, before)
    return found


def _changed_parameters(subject: Subject, before: dict[str, Array], method: str) -> list[Diagnosis]:
    """Parameters that a method changed; they are put back."""
    found = []
    for name, parameter in subject.gate.named_parameters().items():
        if not same(before[name], parameter.value):
            parameter.value = before[name].copy()
            sentence = f"{subject.name}.{name}: {method} changes the parameter; only the optimizer may"
            place = f"{method}, where it writes to self.{name}"
            found.append(Diagnosis(name, f"parameter overwritten by {method}", sentence, place))
    return found


def _nondeterministic(subject: Subject) -> Diagnosis:
    return Diagnosis(
        "",
        "nondeterministic forward",
        f"{subject.name}: forward gives different outputs for identical calls, so differences mean nothing; draw "
        "random numbers from a np.random.Generator held by the gate, and keep arrays that change from call to call in "
        "a lf.Buffer: only these two are restored before each call",
        "np.random.* calls in forward, and attributes that forward changes",
    )


def _changed_by_repeating(subject: Subject, upstream: list[Array], first: dict[str, Array | None]) -> list[Diagnosis]:
    """A second backward after the same forward that gives something else."""
    second = subject.backward([g.copy() for g in upstream])
    name = next((name for name in first if not same(first[name], second[name])), None)
    if name is None:
        return []
    a, b = first[name], second[name]
    doubled = a is not None and b is not None and np.allclose(b, 2.0 * a, rtol=1e-9)
    sentence = (
        f"{subject.name}.{name}: a second backward after the same forward gives "
        f"{'twice the first result' if doubled else 'a different result'}; "
        "backward must not add to, or use up, what the gate keeps"
    )
    place = f"`+=` or assignments to self in {subject.name}.backward"
    return [Diagnosis(name, "backward not repeatable", sentence, place)]


def _narrow(subject: Subject, output: Any, grads: dict[str, Array | None]) -> list[Diagnosis]:
    """An output or gradient that passed through float32."""
    named = [("", "forward", "forward's output", np.asarray(part)) for part in outputs(output)]
    named += [(name, "backward", f"the gradient of {name}", g) for name, g in grads.items() if g is not None]
    for name, method, what, array in named:
        if array.dtype.kind == "f" and array.dtype.itemsize < 8:
            seen = f"{what} is {array.dtype} although everything given is float64"
        elif _was_narrow(array) and (method == "backward" or _stays_narrow(subject)):
            seen = f"every number of {what} is exactly representable in float32, although everything given is float64"
        else:
            continue
        sentence = f"{subject.name}: {seen}; {method} rounds to float32 somewhere, and small gradients are lost"
        place = f"astype, dtype= and np.float32 in {subject.name}.{method}"
        return [Diagnosis(name, "float32 hidden inside", sentence, place)]
    return []


def _stays_narrow(subject: Subject) -> bool:
    """Whether the output is exact in float32 where what is given is not, as after a training in float32 it may be."""
    before = [tensor.value.copy() for tensor in subject.tensors]
    rng = np.random.default_rng(len(before))
    try:
        for tensor in subject.tensors:
            tensor.value[...] = tensor.value * (1.0 + 1e-9 * rng.random(tensor.value.shape))
        return any(_was_narrow(np.asarray(part)) for part in outputs(subject.forward()))
    except Exception:  # the gate may refuse other values
        return False
    finally:
        for tensor, value in zip(subject.tensors, before, strict=True):
            tensor.value[...] = value


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


def _withheld(subject: Subject, output: Any, grads: dict[str, Array | None]) -> list[Diagnosis]:
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


# Watched arrays --------------------------------------------------------------------------------------------------


def guilty_write(subject: Subject, upstream: list[Array] | None) -> str:
    """The line that writes into an array it received: all of them are made read-only, so that NumPy raises there.

    Without `upstream` only forward is run.
    """
    inputs = [_frozen(x) for x in subject.inputs]
    try:
        subject.restore()
        subject.gate.forward(*inputs)
        if upstream is not None:
            for array in saved_arrays(subject.gate):
                array.flags.writeable = False
            subject.gate.backward(*(_frozen(g) for g in upstream))
    except ValueError as error:
        return guilty_line(error) if "read-only" in str(error) else ""
    finally:
        subject.gate._saved = None
    return ""


def saved_arrays(gate: Gate) -> list[Array]:
    """The arrays that forward saved, in the gate, in gates inside it and in a container's steps."""
    held: list[Any] = [inner._saved for _, inner in find(gate, Gate)]
    held += [saved_in(memory) for _, container in find(gate, Container) for memory in container.memories]
    return list({id(array): array for array in _arrays(held)}.values())


def _arrays(held: Any) -> Iterator[Array]:
    if isinstance(held, np.ndarray):
        yield held
    elif isinstance(held, dict | list | tuple):
        for item in held.values() if isinstance(held, dict) else held:
            yield from _arrays(item)


def _frozen(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _copied(output: Any) -> Any:
    return tuple(np.array(part) for part in output) if isinstance(output, tuple) else np.array(output)


def same(a: Any, b: Any) -> bool:
    """Whether two outputs, or gradients that may be `None`, are equal; NaN equals NaN."""
    if a is None or b is None:
        return a is b
    return all(
        np.array_equal(x, y, equal_nan=np.asarray(x).dtype.kind == "f")
        for x, y in zip(outputs(a), outputs(b), strict=True)
    )
