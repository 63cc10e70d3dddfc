"""What a wrong factor is: the batch size, another length, a window, the upstream gradient, an argument."""

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, number


def named_factor(evidence: Evidence, factor: float) -> tuple[str, str] | None:
    """What a factor is: cause and meaning; None for a number that nothing explains."""
    size = abs(factor)
    if factor == -1.0:
        return "sign", "the sign is wrong"
    if evidence.output.ndim == 0:
        upstream = float(evidence.upstream)
        if _close(factor * upstream, 1.0):
            return (
                "upstream gradient ignored",
                f"{number(factor)} is 1/upstream: the upstream gradient is not multiplied in",
            )
        if _close(factor, upstream):
            return "upstream gradient twice", f"{number(factor)} is the upstream gradient: it is multiplied in twice"
    names = [*_of_lengths(evidence, size), *_of_arguments(evidence, size)]
    if _close(size, 2.0):
        names.append(("factor 2", "a 2 too many, as if 1/2 (or the mean over two) had been forgotten"))
    if _close(size, 0.5):
        names.append(("factor 1/2", "the 2 of a derived square is missing, or a 1/2 is there once too often"))
    if not names:
        return None
    first = next((name for name in names if name[0] in ("factor 2", "factor 1/2")), names[0])
    rest = [meaning for _, meaning in names if meaning != first[1]]
    return first[0], "; or ".join([first[1], *rest])


def inner_factor(evidence: Evidence, factor: float, error: float) -> float | None:
    """The number with a meaning that a factor, known to `error`, is equal to: 0, -1, 2, a length, the root of one."""
    if abs(factor) < error:
        return 0.0
    sizes = {1.0, 2.0, *map(float, lengths(evidence))}
    forms = {
        form for n in sizes for form in (n, 1.0 / n, math.sqrt(n), 1.0 / math.sqrt(n), n / (n - 1) if n > 1 else n)
    }
    near = [form for form in forms if abs(abs(factor) - form) < error * form]
    return math.copysign(min(near, key=lambda form: abs(abs(factor) - form)), factor) if near else None


def lengths(evidence: Evidence) -> dict[int, list[str]]:
    """The lengths that a gradient can be divided or multiplied by, each with everything that has it."""
    found: dict[int, list[str]] = defaultdict(list)
    subject, output = evidence.subject, evidence.output
    x = subject.inputs[0] if subject.inputs else evidence.value
    name = subject.input_names[0] if subject.inputs else evidence.name
    for axis, length in enumerate(x.shape):
        found[length].append("the batch size" if axis == 0 else f"the length of axis {axis} of {name}")
    for axis, length in enumerate(output.shape):
        if axis >= x.ndim or length != x.shape[axis]:
            found[length].append(f"the length of axis {axis} of the output")
    for axis, length in enumerate(evidence.value.shape) if evidence.kind == "parameter" else ():
        if length not in found:
            found[length].append(f"the length of axis {axis} of {evidence.name}")
    if output.ndim > 2:
        whole = output.shape
        for count, what in (
            (math.prod(whole[2:]), "positions"),
            (math.prod(whole[1:-1]), "positions"),
            (math.prod(whole[2:]) * whole[0], "samples times positions"),
            (math.prod(whole[:-1]), "samples times positions"),
        ):
            if f"the number of {what}" not in found[count]:
                found[count].append(f"the number of {what}")
    for count, what in ((x.size, f"the number of elements of {name}"), (output.size, "the number of output elements")):
        if count not in found:
            found[count].append(what)
    if evidence.kind == "input" and evidence.jacobian is not None:
        window = np.unique(np.count_nonzero(evidence.reached, axis=1))
        if window.size == 1 and int(window[0]) not in found:
            found[int(window[0])].append("the number of elements in a window")
    return {length: names for length, names in found.items() if length > 1 and names}


def _of_lengths(evidence: Evidence, size: float) -> Iterator[tuple[str, str]]:
    for length, names in lengths(evidence).items():
        is_length, is_inverse = _close(size, float(length)), _close(size, 1.0 / length)
        if not is_length and not is_inverse:
            root = next((f for f in (math.sqrt(length), 1.0 / math.sqrt(length)) if _close(size, f)), None)
            if root:
                form = f"sqrt({length})" if root > 1.0 else f"1/sqrt({length})"
                yield "factor sqrt(d)", f"that is {form}, and {length} is {' and '.join(names)}: a scale is missing"
            continue
        over = "the batch" if names[0] == "the batch size" else "it"
        apart = ""
        if len(names) > 1:
            over, apart = "one of them", "; change the batch size to see which" if "batch" in names[0] else ""
        what = f"{length} is {' and '.join(names)}: the mean over {over} was taken"
        if is_length:
            yield "factor N", f"{what} twice or not at all{apart}"
        else:
            yield "factor 1/N", f"{what} once too often, or instead of the sum{apart}"


def _of_arguments(evidence: Evidence, size: float) -> Iterator[tuple[str, str]]:
    try:
        arguments = evidence.subject.gate.arguments
    except TypeError:
        return
    for name, value in arguments.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or value in (0, 1):
            continue
        forms = {name: value, f"2 {name}": 2.0 * value, f"(1 - {name})": 1.0 - value}
        for form, size_of_form in forms.items():
            if _close(size, abs(size_of_form)):
                yield (
                    "factor of an argument",
                    f"that is {form} for {name}={value}: a factor {form} is there once too often",
                )
            elif _close(size * abs(size_of_form), 1.0):
                yield "factor of an argument", f"that is 1/{form} for {name}={value}: a factor {form} is missing"


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * max(abs(a), abs(b))
