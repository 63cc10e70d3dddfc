"""One observed forward and backward: what they return, and which arrays they change that are not theirs."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gradcheck import faults as rules
from layerflow.gradcheck.subject import Subject, outputs
from layerflow.gradcheck.verdicts import Diagnosis
from layerflow.gradcheck.watching import copied_output, copies, same, saved_arrays
from layerflow.parameter import Array


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
    output = copied_output(subject.forward(*inputs))
    _reject_unusable(subject, output)
    faults += rules.changed_inputs(subject, inputs) + rules.changed_parameters(subject, parameters, "forward")
    again = subject.forward()
    if not same(output, again):
        faults.append(rules.nondeterministic(subject))
    output = subject.forward(*inputs)
    upstream = subject.upstream(output)
    given = [g.copy() for g in upstream]
    saved = [(array, array.copy()) for array in saved_arrays(subject.gate)]
    saved += [(part, part.copy()) for part in outputs(output) if isinstance(part, np.ndarray)]
    output = copied_output(output)
    first = copies(subject.backward(given))
    faults += rules.changed_in_backward(subject, upstream, given, saved, parameters)
    if not faults:
        faults += rules.changed_by_repeating(subject, upstream, first)
    faults += rules.narrow(subject, output, first) + rules.withheld(subject, output, first)
    return Observation(output, upstream, first, faults)


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
