"""Paths through forward that backward leaves out, or on which it has a wrong factor."""

from collections.abc import Callable, Iterator

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding, number
from layerflow.gradcheck.diagnosis.factors import known_arrays
from layerflow.gradcheck.diagnosis.probe import WORK, Hypothesis, Probe
from layerflow.gradcheck.diagnosis.replay import LARGEST, Call, Edit
from layerflow.parameter import Array

REDUCTIONS = {"sum", "mean", "var", "std", "add.reduce", "norm", "average"}
PRODUCTS = {"matmul", "dot", "einsum", "tensordot"}


def edges(calls: list[Call], groups: list[list[Call]]) -> Iterator[Hypothesis]:
    for group in groups:
        for position in range(len(group[0].operands)):
            edits = {call.index: held(position) for call in group}
            tell = _tell_path(calls, group, position)
            yield Hypothesis(edits, tell, has_factor=True, rank=_rank(group))


def steps(calls: list[Call], groups: list[list[Call]]) -> Iterator[Hypothesis]:
    """In a loop: a path left out in some steps."""
    for group in groups:
        if len(group) > 1:
            choices = {"all but the last": group[:-1], "all but the first": group[1:]}
            choices |= {"the last": group[-1:], "the first": group[:1]} if len(group) > 2 else {}
            for position in range(len(group[0].operands)):
                for which, chosen in choices.items():
                    edits = {call.index: held(position) for call in chosen}
                    yield Hypothesis(edits, _tell_steps(group, position, which), rank=_tensor_first(group, position))


def _tensor_first(group: list[Call], position: int) -> Callable[[float], int]:
    """The parameter or input itself is named, not what is computed with it."""
    place = -group[0].index + (0 if group[0].sources[position] is None else LARGEST)
    return lambda _: place


def _rank(group: list[Call]) -> Callable[[float], int]:
    """Of edges that carry the same part of the gradient, the last one is named: `std` in `x / std`, not what std is of.

    A wrong factor is named where forward has one: in a product or quotient with a number.
    """
    call = group[0]
    is_scaled = call.name in ("multiply", "divide") and len(call.operands) == 1
    return lambda factor: -call.index - (LARGEST if factor and is_scaled else 0)


def held(position: int) -> Edit:
    def edit(call: Call, now: tuple[Array, ...], result: Array) -> Array:
        return np.asarray(call.apply(*(call.operands[i] if i == position else x for i, x in enumerate(now))))

    return edit


def _tell_path(calls: list[Call], group: list[Call], position: int) -> Callable[[float], Finding]:
    call = group[0]

    def tell(factor: float) -> Finding:
        what = call.operand(position)
        place = f"the path through {what} in {call.line}"
        if factor != 0.0:
            cause, named = _inner_name(factor)
            formula = f"analytic = the gradient with the path through {what} in {call.line} multiplied by {named}"
            return Finding(cause, formula, "the derivative along that path has a wrong factor", place)
        formula = f"analytic = the gradient with {what} held constant in {call.line}"
        cause, meaning = _path_name(calls, group, position)
        return Finding(cause, formula, meaning, place)

    return tell


def _tell_steps(group: list[Call], position: int, which: str) -> Callable[[float], Finding]:
    def tell(_: float) -> Finding:
        what, line = group[0].operand(position), group[0].line
        formula = f"analytic = the gradient with {what} in {line} held constant in {which} of {len(group)} calls"
        meaning = "every step contributes to this gradient, and the contributions are added"
        return Finding("some steps missing", formula, meaning, f"the loop over steps in {{gate}}.backward, at {what}")

    return tell


def _inner_name(factor: float) -> tuple[str, str]:
    if factor == -1.0:
        return "sign on a path", "-1"
    for form, value in ((f"sqrt({round(factor**2)})", factor**2), (f"1/sqrt({round(factor**-2)})", factor**-2)):
        if value > 1.5 and abs(value - round(value)) < 1e-6 * value and abs(value**0.5 - round(value**0.5)) > 1e-3:
            return "factor sqrt(d)", form
    return "factor on a path", number(factor)


def _path_name(calls: list[Call], group: list[Call], position: int) -> tuple[str, str]:
    by_index = {call.index: call for call in calls}
    if len(group) > 1 and any(_comes_from(by_index, call, position, call.place) for call in group[1:]):
        return "carry between steps missing", "what a step hands to the next one is part of the gradient, too"
    source = group[0].sources[position]
    route: list[Call] = []
    while source is not None and len(route) < 6:
        call = by_index[source]
        route.append(call)
        if call.name in REDUCTIONS or call.name in PRODUCTS:
            break
        source = next((each for each in call.sources if each is not None), None)
    if not route or route[-1].name not in REDUCTIONS:
        return "path missing", "that path from {tensor} to the output is left out"
    reduced = route[-1]
    inner = by_index.get(reduced.sources[0]) if reduced.sources and reduced.sources[0] is not None else None
    is_square = inner is not None and (
        inner.name in ("square", "power")
        or (len(inner.operands) == 2 and np.array_equal(inner.operands[0], inner.operands[1]))
    )
    if reduced.name in ("var", "std", "norm") or is_square:
        return "variance term missing", "the variance (or mean square) depends on {tensor}, too; its term is missing"
    if inner and inner.name == "exp":
        return "normaliser held constant", "the sum of the exponentials depends on {tensor}, too; its term is missing"
    if reduced.name in ("mean", "average"):
        return "mean term missing", "the mean depends on {tensor}, too; its term is missing"
    return "path missing", "that sum depends on {tensor}, too; its path is left out"


def _comes_from(by_index: dict[int, Call], call: Call, position: int, place: int) -> bool:
    """Whether an operand depends on an earlier call at the same place."""
    todo, seen = [call.sources[position]], set()
    while todo:
        index = todo.pop()
        if index is None or index in seen:
            continue
        seen.add(index)
        if by_index[index].place == place:
            return True
        todo += by_index[index].sources
    return False


def factor_array(evidence: Evidence, probe: Probe, groups: list[list[Call]]) -> Finding | None:
    """A path with a factor that is no single number: a power of a known array, or one number per row or column."""
    size = evidence.count * 4 * len(probe.replay.calls)
    for group in groups:
        for position in range(len(group[0].operands)):
            if probe.replay.work + size > WORK or evidence.count < 6:
                return None
            without_path = Hypothesis({call.index: held(position) for call in group}, _tell_path([], group, position))
            if abs(probe.along(without_path, 0) - probe.numeric[0]) <= probe.close[0]:
                continue
            without = probe.gradient(without_path)
            if without is None:
                continue
            through = evidence.numeric - without
            what = f"the path through {group[0].operand(position)} in {group[0].line}"
            for name, q in known_arrays(evidence):
                for form, factor in ((name, q), (f"1/{name}", 1.0 / q), (f"{name}^2", q**2), (f"1/{name}^2", q**-2)):
                    if evidence.fits(without + factor * through):
                        formula = f"analytic = the gradient with {what} multiplied by {form}"
                        meaning = f"that path has a factor {form} too many"
                        return Finding("factor on a path", formula, meaning, what)
    return None


def reductions(calls: list[Call], groups: list[list[Call]]) -> Iterator[Hypothesis]:
    found = [call for call in calls if call.name in REDUCTIONS]
    if len(found) > 1:
        text = " and ".join(dict.fromkeys(f"`{call.expression or call.name}`" for call in found))

        def tell(_: float) -> Finding:
            return Finding(
                "statistics terms missing",
                f"analytic = the gradient with {text} held constant",
                "the mean and the variance depend on {tensor}, too; their terms are missing",
                "the derivation of d{tensor} in {gate}.backward",
            )

        yield Hypothesis({call.index: lambda call, now, result: call.result for call in found}, tell)
