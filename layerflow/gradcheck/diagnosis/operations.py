"""Operations that backward differentiates as if they were others: another derivative, another factor, no selection."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.probe import Change
from layerflow.gradcheck.diagnosis.recording import Call, Edit
from layerflow.parameter import Array

LONGEST = 5  # operations in a row that may be one function
SELECTIONS = {"where", "maximum", "minimum", "fmax", "fmin"}
BILINEAR = {"multiply", "matmul", "dot", "einsum", "tensordot"}
CANDIDATES = 40  # arrays that are tried in the place of one

SLOPES: dict[str, Callable[[Array, Array], Array]] = {
    "1": lambda u, y: np.ones_like(y),
    "y": lambda u, y: y,
    "1 - y": lambda u, y: 1.0 - y,
    "y (1 - y)": lambda u, y: y * (1.0 - y),
    "1 - y^2": lambda u, y: 1.0 - y**2,
    "y^2": lambda u, y: y**2,
    "1 - u": lambda u, y: 1.0 - u,
    "u": lambda u, y: u,
    "u (1 - u)": lambda u, y: u * (1.0 - u),
    "1 - u^2": lambda u, y: 1.0 - u**2,
    "1/u": lambda u, y: 1.0 / u,
    "[y > 0]": lambda u, y: (y > 0).astype(float),
    "[u < 0]": lambda u, y: (u < 0).astype(float),
}


def functions(calls: list[Call], groups: list[list[Call]]) -> Iterator[Change]:
    """Functions y = f(u), element by element, that backward differentiates as if they were another function."""
    by_index = {call.index: call for call in calls}
    at = {call.index: group for group in groups for call in group}
    for group in groups:
        call, position = group[-1], _follows(group[-1])
        links: list[tuple[Call, int]] = []
        while position is not None and len(links) < LONGEST:
            links.insert(0, (call, position))
            starts = at[call.index]
            if len(starts) == len(group):
                for name, slope in (SLOPES | _own_slopes(links)).items():
                    edits: dict[int, Edit] = {}
                    for start, end in zip(starts, group, strict=True):
                        edits |= _replaced(start, position, end, slope)
                    # Of a function and a part of it, the whole function is named.
                    describe = partial(_slope, group[0], starts[0], position, name)
                    yield Change(edits, describe, rank=-len(links))
            source = call.sources[position]
            call = by_index[source] if source is not None else call
            position = _follows(call) if source is not None else None


def stretches(calls: list[Call], groups: list[list[Call]]) -> Iterator[Change]:
    """Several operations together, from u to y, passed as if dy/du were 1."""
    by_index = {call.index: call for call in calls}
    for group in groups:
        if len(group) > 1:
            continue
        end, todo, seen = group[0], list(group[0].sources), set[int]()
        while todo and len(seen) < LONGEST:
            source = todo.pop(0)
            if source is None or source in seen:
                continue
            seen.add(source)
            start = by_index[source]
            todo += start.sources
            for position, operand in enumerate(start.operands):
                if operand.shape == end.result.shape:
                    edits = _replaced(start, position, end, SLOPES["1"])
                    yield Change(edits, partial(_slope, end, start, position, "1"))


def _own_slopes(links: list[tuple[Call, int]]) -> dict[str, Callable[[Array, Array], Array]]:
    """The function's own derivative f', at the wrong point or twice."""

    def derivative(at: Array) -> Array:
        above, below = at + 1e-5, at - 1e-5
        for call, position in links:
            above, below = (
                np.asarray(call.apply(*(value if i == position else x for i, x in enumerate(call.operands))))
                for value in (above, below)
            )
        return np.asarray((above - below) / 2e-5)

    return {"f'(y)": lambda u, y: derivative(y), "f'(u)^2": lambda u, y: derivative(u) ** 2}


def _follows(call: Call) -> int | None:
    """The operand of which every element of the result is a function, given statistics of the operands."""
    if not isinstance(getattr(np, call.name, None), np.ufunc) and call.name not in ("where", "clip"):
        return None
    masks = [x for x in call.operands if x.dtype.kind == "b"]
    if masks and call.name != "where":
        return None
    same = [i for i, x in enumerate(call.operands) if x.shape == call.result.shape and x.dtype.kind == "f"]
    others = [x for x in call.operands if x.shape != call.result.shape and x.dtype.kind == "f"]
    return same[0] if len(same) == 1 and all(x.ndim in (0, call.result.ndim) for x in others) else None


def _replaced(start: Call, operand: int, end: Call, slope: Callable[[Array, Array], Array]) -> dict[int, Edit]:
    seen: list[Array] = []

    def watch(call: Call, now: tuple[Array, ...], result: Array) -> Array:
        seen[:] = [now[operand]]
        return result

    def edit(call: Call, now: tuple[Array, ...], result: Array) -> Array:
        moved = now[operand] if start is end else seen[0]
        at = start.operands[operand]
        return np.asarray(call.result + slope(at, call.result) * (moved - at))

    return {start.index: watch, end.index: edit}


def _slope(end: Call, start: Call, operand: int, name: str, _: float) -> Finding:
    u, y, place = start.operand(operand), end.text, f"{{gate}}.backward, where it passes {end.text}"
    formula = f"analytic = the gradient with dy/du = {name} for u = {u}, y = {y} in {end.line}"
    if name == "y" and len(end.operands) == 2:
        meaning = "the sum depends on u, too; its term is missing"
        return Finding("normaliser held constant", formula, meaning, place)
    if name == "y (1 - y)":
        meaning = "the cross terms are missing: every output depends on all of u through the sum"
        return Finding("diagonal only", formula, meaning, place)
    causes = {
        "1": "local derivative missing",
        "f'(y)": "evaluated at the output",
        "f'(u)^2": "local derivative twice",
    }
    cause = causes.get(name, "wrong local derivative")
    meaning = "the local derivative of this function is not multiplied in" if name == "1" else ""
    return Finding(cause, formula, meaning, place)


def selections(calls: list[Call], groups: list[list[Call]]) -> Iterator[Change]:
    """One of two is selected, and both receive the gradient."""
    for group in groups:
        if group[0].name in SELECTIONS and sum(x.dtype.kind == "f" for x in group[0].operands) == 2:
            yield Change({call.index: _both for call in group}, partial(_both_operands, group[0]))


def _both(call: Call, now: tuple[Array, ...], result: Array) -> Array:
    moved = [new - old for new, old in zip(now, call.operands, strict=True) if old.dtype.kind == "f"]
    return np.asarray(call.result + sum(moved))


def _both_operands(call: Call, _: float) -> Finding:
    formula = f"analytic = the gradient that passes to both operands of {call.text}"
    return Finding("mask missing", formula, f"only the operand that forward selects receives it, see {call.line}")


# Another factor in the derivative of a product ---------------------------------------------------------------------


def products(calls: list[Call], groups: list[list[Call]]) -> Iterator[Change]:
    for group in groups:
        if group[0].name not in BILINEAR or len(group[0].operands) != 2:
            continue
        for position in (0, 1):
            if group[0].result.ndim > 1 and group[0].result.shape[-1] == group[0].result.shape[-2]:
                edits = {call.index: _turned(position) for call in group}
                yield Change(edits, partial(_transposed, group[0], position))
            for name, arrays in _candidates(group, 1 - position, groups):
                edits = {call.index: _with_partner(position, array) for call, array in zip(group, arrays, strict=True)}
                yield Change(edits, partial(_partner, group[0], position, name))


def _candidates(group: list[Call], partner: int, groups: list[list[Call]]) -> Iterator[tuple[str, list[Array]]]:
    """What may stand in the place of the other factor: by name, one array per call."""
    right = [call.operands[partner] for call in group]
    shape, own = right[0].shape, group[0].operand(partner)
    found: dict[bytes, tuple[str, list[Array]]] = {}

    def offer(name: str, arrays: list[Array]) -> None:
        if len(found) < CANDIDATES and arrays[0].shape == shape and not np.array_equal(arrays[0], right[0]):
            found.setdefault(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays), (name, arrays))

    if group[0].name == "multiply":
        offer("1", [np.ones(shape) for _ in group])
        offer(f"1 - {own}", [1.0 - array for array in right])
    elif len(shape) == 2:
        offer(f"the transpose of {own}", [array.T for array in right])
    offer("1 or 0, where the other factor is not 0", [(array != 0).astype(float) for array in right])
    if len(right) > 1:
        nothing = [np.zeros(shape)]
        offer(f"{own} of the next step", [*right[1:], *nothing])
        offer(f"{own} of the step before", [*nothing, *right[:-1]])
    for other in groups:
        if len(other) == len(group):
            offer(other[0].text, [call.result for call in other])
            for i, _ in enumerate(other[0].operands):
                offer(other[0].operand(i), [call.operands[i] for call in other])
    yield from found.values()


def _with_partner(position: int, partner: Array) -> Edit:
    def edit(call: Call, now: tuple[Array, ...], result: Array) -> Array:
        held, step = list(now), [partner, partner]
        held[position] = call.operands[position]
        step[position] = now[position] - call.operands[position]
        return np.asarray(call.apply(*held) + call.apply(*step))

    return edit


def _turned(position: int) -> Edit:
    def edit(call: Call, now: tuple[Array, ...], result: Array) -> Array:
        held = call.apply(*(call.operands[i] if i == position else x for i, x in enumerate(now)))
        return np.asarray(held + np.swapaxes(result - held, -1, -2))

    return edit


def _transposed(call: Call, position: int, _: float) -> Finding:
    what = f"the upstream gradient of {call.text} transposed for {call.operand(position)}"
    return Finding("transposed", f"analytic = the gradient with {what}", f"the product is transposed, see {call.line}")


def _partner(call: Call, position: int, name: str, _: float) -> Finding:
    what, right = call.operand(position), call.operand(1 - position)
    place = f"{{gate}}.backward, where it passes {call.text}"
    if name == "1":
        formula = f"analytic = the gradient without the factor {right} of {call.line}"
        return Finding("factor array missing", formula, f"the derivative of {call.text} by {what} is {right}", place)
    formula = f"analytic = the gradient with {name} in the place of {right} in the derivative of {call.text} by {what}"
    cause = "W for W.T" if name.startswith("the transpose") else "wrong local derivative"
    return Finding(cause, formula, f"{right} is right, see {call.line}", place)
