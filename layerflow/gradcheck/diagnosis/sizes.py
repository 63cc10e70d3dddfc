"""What a wrong factor is: the batch size, another length, the upstream gradient, an argument of the constructor."""

from collections.abc import Iterator

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
    names = [*_sizes(evidence, size), *_arguments(evidence, size)]
    if _close(size, 2.0):
        names.append(("factor 2", "a 2 too many, as if 1/2 (or the mean over two) had been forgotten"))
    if _close(size, 0.5):
        names.append(("factor 1/2", "the 2 of a derived square is missing, or a 1/2 is there once too often"))
    if not names:
        return None
    first = next((name for name in names if name[0] in ("factor 2", "factor 1/2")), names[0])
    rest = [meaning for _, meaning in names if meaning != first[1]]
    return first[0], "; or ".join([first[1], *rest])


def _sizes(evidence: Evidence, size: float) -> Iterator[tuple[str, str]]:
    x = evidence.subject.inputs[0] if evidence.subject.inputs else evidence.value
    sizes: dict[int, str] = {}
    for axis, length in enumerate(x.shape):
        what = "the batch size" if axis == 0 else f"the length of axis {axis} of {evidence.subject.input_names[0]}"
        sizes.setdefault(length, what)
    sizes.setdefault(
        x.size,
        f"the number of elements of {evidence.subject.input_names[0] if evidence.subject.inputs else evidence.name}",
    )
    for axis, length in enumerate(evidence.output.shape):
        sizes.setdefault(length, f"the length of axis {axis} of the output")
    sizes.setdefault(evidence.output.size, "the number of output elements")
    for length, what in sizes.items():
        over = "the batch" if what == "the batch size" else "it"
        if length > 1 and _close(size, float(length)):
            yield "factor N", f"{length} is {what}: the mean over {over} was taken twice or not at all"
        if length > 1 and _close(size, 1.0 / length):
            yield (
                "factor 1/N",
                f"{length} is {what}: the mean over {over} was taken once too often, or instead of the sum",
            )


def _arguments(evidence: Evidence, size: float) -> Iterator[tuple[str, str]]:
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
