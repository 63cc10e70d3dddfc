"""Paths through forward that backward leaves out, or on which it has a wrong factor."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.evidence import Evidence, number
from layerflow.gradcheck.diagnosis.probe import WORK, Change, Probe
from layerflow.gradcheck.diagnosis.recording import LARGEST, Call, Edit
from layerflow.parameter import Array

REDUCTIONS = {"sum", "mean", "var", "std", "add.reduce", "norm", "average"}
PRODUCTS = {"matmul", "dot", "einsum", "tensordot"}


def edges(calls: list[Call], groups: list[list[Call]]) -> Iterator[Change]:
    """An operand held constant, or the path through it multiplied by a number."""
    for group in groups:
        for position in range(len(group[0].operands)):
            edits = {call.index: held(position) for call in group}
            yield Change(
                edits,
                partial(_path, calls, group, position),
                has_factor=True,
                # Of edges that carry the same part of the gradient, the last one is named: `std` in `x / std`, not what
                # std is of. A wrong factor is named where forward has one: in a product or quotient with a number.
                rank=-group[0].index,
                names_factor=group[0].name in ("multiply", "divide") and len(group[0].operands) == 1,
            )


def steps(calls: list[Call], groups: list[list[Call]]) -> Iterator[Change]:
    """In a loop: a path left out in some steps."""
    for group in groups:
        if len(group) > 1:
            choices = {"all but the last": group[:-1], "all but the first": group[1:]}
            choices |= {"the last": group[-1:], "the first": group[:1]} if len(group) > 2 else {}
            for position in range(len(group[0].operands)):
                # The parameter or input itself is named, not what is computed with it.
                rank = -group[0].index + (0 if group[0].sources[position] is None else LARGEST)
                for which, chosen in choices.items():
                    edits = {call.index: held(position) for call in chosen}
                    yield Change(edits, partial(_steps, group, position, which), rank=rank)


def reductions(calls: list[Call], groups: list[list[Call]]) -> Iterator[Change]:
    """All statistics held constant."""
    found = [call for call in calls if call.name in REDUCTIONS]
    if len(found) > 1:
        formula = (
            f"analytic = the gradient with {' and '.join(dict.fromkeys(call.text for call in found))} held constant"
        )
        edits: dict[int, Edit] = {call.index: lambda call, now, result: call.result for call in found}
        yield Change(edits, lambda _: Finding("statistics terms missing", formula))


def held(position: int) -> Edit:
    """The operation with one operand at its recorded value."""

    def edit(call: Call, now: tuple[Array, ...], result: Array) -> Array:
        return np.asarray(call.apply(*(call.operands[i] if i == position else x for i, x in enumerate(now))))

    return edit


def factor_array(evidence: Evidence, probe: Probe, groups: list[list[Call]]) -> Finding | None:
    """A path with a factor that is no single number: a power of a known array, or one number per row or column."""
    size = evidence.count * 4 * len(probe.replay.calls)
    for group in groups:
        for position in range(len(group[0].operands)):
            if probe.replay.work + size > WORK or evidence.count < 6:
                return None
            change = Change({call.index: held(position) for call in group}, partial(_path, [], group, position))
            if abs(probe.along(change, 0) - probe.numeric[0]) <= probe.close[0]:
                continue
            without = probe.gradient(change)
            if without is None:
                continue
            through = evidence.numeric - without
            what = f"the path through {group[0].operand(position)} in {group[0].line}"
            for name, q in evidence.known_arrays():
                for form, factor in ((name, q), (f"1/{name}", 1.0 / q), (f"{name}^2", q**2), (f"1/{name}^2", q**-2)):
                    if evidence.fits(without + factor * through):
                        formula = f"analytic = the gradient with {what} multiplied by {form}"
                        return Finding("factor on a path", formula, f"the factor {form} on that path is wrong", what)
    return None


# What is said of them --------------------------------------------------------------------------------------------


def _steps(group: list[Call], position: int, which: str, factor: float) -> Finding:
    what, line = group[0].operand(position), group[0].line
    formula = f"analytic = the gradient with {what} in {line} held constant in {which} of {len(group)} calls"
    return Finding("some steps missing", formula, place=f"the loop over steps in {{gate}}.backward, at {what}")


def _path(calls: list[Call], group: list[Call], position: int, factor: float) -> Finding:
    what, line = group[0].operand(position), group[0].line
    place = f"the path through {what} in {line}"
    if factor != 0.0:
        cause, named = _inner_name(factor)
        return Finding(cause, f"analytic = the gradient with {place} multiplied by {named}", place=place)
    formula = f"analytic = the gradient with {what} held constant in {line}"
    cause, reduced = _path_name(calls, group, position)
    meaning = "that sum depends on {tensor}, too; its path is left out" if cause == "path missing" and reduced else ""
    return Finding(cause, formula, meaning, place)


def _inner_name(factor: float) -> tuple[str, str]:
    if factor == -1.0:
        return "sign on a path", "-1"
    for form, value in ((f"sqrt({round(factor**2)})", factor**2), (f"1/sqrt({round(factor**-2)})", factor**-2)):
        if value > 1.5 and abs(value - round(value)) < 1e-6 * value and abs(value**0.5 - round(value**0.5)) > 1e-3:
            return "factor sqrt(d)", form
    return "factor on a path", number(factor)


def _path_name(calls: list[Call], group: list[Call], position: int) -> tuple[str, bool]:
    """The cause, by the nearest reduction that the operand comes from; and whether there is one."""
    by_index = {call.index: call for call in calls}
    if len(group) > 1 and any(_comes_from(by_index, call, position, call.place) for call in group[1:]):
        return "carry between steps missing", False
    source = group[0].sources[position]
    route: list[Call] = []
    while source is not None and len(route) < 6:
        call = by_index[source]
        route.append(call)
        if call.name in REDUCTIONS | PRODUCTS:
            break
        source = next((each for each in call.sources if each is not None), None)
    if not route or route[-1].name not in REDUCTIONS:
        return "path missing", False
    reduced = route[-1]
    inner = by_index.get(reduced.sources[0]) if reduced.sources and reduced.sources[0] is not None else None
    is_square = inner is not None and (
        inner.name in ("square", "power")
        or (len(inner.operands) == 2 and np.array_equal(inner.operands[0], inner.operands[1]))
    )
    if reduced.name in ("var", "std", "norm") or is_square:
        return "variance term missing", True
    if inner and inner.name == "exp":
        return "normaliser held constant", True
    return "mean term missing" if reduced.name in ("mean", "average") else "path missing", True


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
