"""What a gate is compared with besides its own differences: a surrogate to differentiate, or a reference gate."""

import inspect
from typing import Any

import numpy as np

from layerflow.errors import GateError, did_you_mean
from layerflow.gate import Gate
from layerflow.gates import GATES
from layerflow.gradcheck.behaviour import Observation
from layerflow.gradcheck.subject import Subject, outputs
from layerflow.gradcheck.verdicts import Diagnosis, element_index
from layerflow.parameter import Array

CLOSE = 1e-7  # relative difference up to which a gate and its reference agree
NEGLIGIBLE = 1e-12  # the same, relative to the largest element


def use_surrogate(subject: Subject, surrogate: Any) -> None:
    """Let differences be taken of `surrogate` in place of the gate's forward.

    Raises:
        GateError: it is neither a gate nor a function, has other parameters or gives another shape.
    """
    written = repr(surrogate) if isinstance(surrogate, Gate) else getattr(surrogate, "__name__", repr(surrogate))
    if isinstance(surrogate, Gate):
        other = Subject(surrogate, subject.inputs)
        pairs = _paired(subject, other, "surrogate")

        def function(*inputs: Array) -> Any:
            other.restore()
            for mine, its in pairs:
                its.value = mine.value
            return other.gate.bare_forward(*inputs)

    elif callable(surrogate):
        if names := list(subject.gate.named_parameters()):
            raise GateError(
                f"surrogate={written}: a function has no parameters, but {subject.written} has {', '.join(names)}; "
                "give a gate with the same parameters"
            )
        function = surrogate
    else:
        raise GateError(f"surrogate={surrogate!r}: give a gate or a function of the same inputs")
    shapes = [np.shape(part) for part in outputs(subject.forward())]
    found = [np.shape(part) for part in outputs(function(*subject.inputs))]
    if shapes != found:
        raise GateError(
            f"surrogate={written} returns shape {_one(found)}, but {subject.written} returns {_one(shapes)}"
        )
    subject.surrogate = function


def differences_from(reference: Gate | str, gate: Gate, subject: Subject, observation: Observation) -> list[Diagnosis]:
    """Where a gate's forward or gradients differ from those of a reference gate with the same parameters."""
    if isinstance(reference, str):
        reference = _made(reference, gate)
    other = Subject(reference, subject.inputs)
    for mine, its in _paired(subject, other, "against"):
        its.value = mine.value.copy()
    output = other.forward()
    shapes = [[np.shape(part) for part in outputs(each)] for each in (observation.output, output)]
    if shapes[0] != shapes[1]:
        return [_differs(other, subject, "", f"forward returns shape {_one(shapes[0])}, not {_one(shapes[1])}")]
    found = [
        _differs(other, subject, "", f"forward gives {where}")
        for mine, its in zip(outputs(observation.output), outputs(output), strict=True)
        if (where := _where(np.asarray(mine), np.asarray(its)))
    ]
    its_grads = other.backward([g.copy() for g in observation.upstream])
    names = dict(zip(subject.input_names, other.input_names, strict=True)) | dict(
        zip(subject.gate.named_parameters(), other.gate.named_parameters(), strict=True)
    )
    for name, grad in observation.analytic.items():
        expected = its_grads[names[name]]
        if expected is None:
            continue
        where = _where(np.zeros_like(expected) if grad is None else grad, expected)
        if where:
            found.append(_differs(other, subject, name, f"backward gives {where} for {name}"))
    return found


def _made(name: str, gate: Gate) -> Gate:
    """The built-in gate of this name, with those of the other gate's arguments that it takes."""
    if name not in GATES:
        raise GateError(f"against={name!r}: no built-in gate has this name{did_you_mean(name, GATES)}")
    taken = inspect.signature(GATES[name]).parameters
    try:
        made = GATES[name](**{key: value for key, value in gate.arguments.items() if key in taken})
    except TypeError as error:
        raise GateError(f"against={name!r}: {error}; give the gate itself: against=lf.gates.{name}(...)") from error
    made.training = gate.training
    return made


def _paired(subject: Subject, other: Subject, what: str) -> list[tuple[Any, Any]]:
    """The parameters of both, by name; in order where all names differ but the shapes agree."""
    mine, its = subject.gate.named_parameters(), other.gate.named_parameters()
    if set(mine) == set(its):
        return [(mine[name], its[name]) for name in its]
    shapes = [{name: p.value.shape for name, p in each.items()} for each in (mine, its)]
    if list(shapes[0].values()) == list(shapes[1].values()):
        return list(zip(mine.values(), its.values(), strict=True))
    raise GateError(
        f"{what}={other.written} has the parameters {shapes[1] or 'none'}, but {subject.written} has "
        f"{shapes[0] or 'none'}; they must have the same shapes"
    )


def _where(mine: Array, its: Array) -> str:
    """The element that differs most, in words; empty where all agree."""
    if mine.shape != its.shape:
        return f"shape {mine.shape} instead of {its.shape}"
    largest = np.max(np.abs(its), initial=0.0)
    excess = np.abs(mine - its) - CLOSE * np.maximum(np.abs(mine), np.abs(its)) - NEGLIGIBLE * largest
    if not np.any(excess > 0.0):
        return ""
    position = int(np.argmax(excess))
    at = list(element_index(position, its.shape))
    return f"{float(mine.flat[position]):.10g} instead of {float(its.flat[position]):.10g} at {at}"


def _differs(other: Subject, subject: Subject, tensor: str, how: str) -> Diagnosis:
    return Diagnosis(tensor, f"differs from {other.name}", f"{subject.name} differs from {other.written}: {how}", "")


def _one(shapes: list[tuple[int, ...]]) -> Any:
    return shapes[0] if len(shapes) == 1 else shapes
