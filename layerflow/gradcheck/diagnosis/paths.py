"""One operation of forward, differentiated wrongly: a path left out, a factor on it, another array in its derivative.

The hypotheses know no gate. Each changes how one operation (or all calls of one line, in a loop over steps) responds to
its operands, and takes differences of the forward so changed: that is what a backward with this mistake returns.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding, number
from layerflow.gradcheck.diagnosis.factors import known_arrays
from layerflow.gradcheck.diagnosis.replay import LARGEST, Call, Edit, Replay
from layerflow.gradcheck.diagnosis.sizes import inner_factor
from layerflow.parameter import Array

WORK = 250_000  # operations that are replayed for one tensor at most
LONGEST = 5  # operations in a row that are taken for one function
SELECTIONS = {"where", "maximum", "minimum", "fmax", "fmin"}
REDUCTIONS = {"sum", "mean", "var", "std", "add.reduce", "norm", "average"}
BILINEAR = {"multiply", "matmul", "dot", "einsum", "tensordot"}
CANDIDATES = 40  # arrays that are tried in the place of one


@dataclass
class Hypothesis:
    """A change of some operations, and how it is told."""

    edits: dict[int, Edit]
    tell: Callable[[float], Finding]
    has_factor: bool = False  # whether the path may have any factor, or is as the edits say
    rank: Callable[[float], int] = lambda factor: 0  # of several that say the same, the lowest is told


def wrong_path(evidence: Evidence) -> Finding | None:
    """analytic = the gradient of a forward in which one operation responds differently to its operands."""
    replay = evidence.replay
    if not replay.calls or evidence.count < 1 or not np.all(np.isfinite(evidence.analytic)):
        return None
    probe = Probe(evidence, replay)
    groups = _groups(replay.calls)
    for hypothesis, factor in replay.explained:  # one mistake often spoils several gradients
        if probe.screened(hypothesis) is not None and probe.explains(hypothesis, factor):
            return hypothesis.tell(factor)
    for family in (_edges, _reductions, _chains, _selections, _partners, _steps):
        fitting = []
        for hypothesis in family(replay.calls, groups):
            if replay.work > WORK:
                break
            factor = probe.screened(hypothesis)
            if factor is not None:
                fitting.append((hypothesis, factor))
        for hypothesis, factor in sorted(fitting, key=lambda item: item[0].rank(item[1])):
            if probe.explains(hypothesis, factor):
                replay.explained.append((hypothesis, factor))
                return hypothesis.tell(factor)
    return _factor_array(evidence, probe, groups)


class Probe:
    """Tests hypotheses: first along two random directions, then element by element."""

    def __init__(self, evidence: Evidence, replay: Replay) -> None:
        self.evidence, self.replay = evidence, replay
        self.directions = [evidence.direction(which) for which in (0, 1)]
        self.weights = evidence.upstream.reshape(-1)
        self.analytic = [float(np.sum(evidence.analytic * v)) for v in self.directions]
        self.numeric = [float(np.sum(evidence.numeric * v)) for v in self.directions]
        size = np.maximum(np.abs(evidence.analytic), np.abs(evidence.numeric))
        self.close = [1e-6 * float(np.sqrt(np.sum((size * v) ** 2))) for v in self.directions]

    def screened(self, hypothesis: Hypothesis) -> float | None:
        """The factor on the path with which the hypothesis explains both directions (0: it is missing); or None."""
        first = self.along(hypothesis, 0)
        step, off = self.numeric[0] - first, self.analytic[0] - first
        if abs(step) <= self.close[0]:
            return None
        factor = off / step if hypothesis.has_factor else 0.0
        if abs(off - factor * step) > self.close[0] or abs(factor - 1.0) < 1e-6:
            return None
        simple = inner_factor(self.evidence, factor)
        if simple is None and self.evidence.count < 6:
            return None
        second = self.along(hypothesis, 1)
        if abs(self.analytic[1] - second - factor * (self.numeric[1] - second)) > self.close[1] * (1 + abs(factor)):
            return None
        return factor if simple is None else simple

    def explains(self, hypothesis: Hypothesis, factor: float) -> bool:
        """Whether it explains every element."""
        gradient = self.gradient(hypothesis)
        return gradient is not None and self.evidence.fits(gradient + factor * (self.evidence.numeric - gradient))

    def along(self, hypothesis: Hypothesis, which: int) -> float:
        found = self._slopes(hypothesis, [self.directions[which]], (2.0**-13,))
        return float(found[0]) if found is not None else np.nan

    def gradient(self, hypothesis: Hypothesis) -> Array | None:
        moves = []
        for position in np.flatnonzero(self.evidence.known):
            move = np.zeros(self.evidence.value.shape)
            move.flat[position] = 1.0
            moves.append(move)
        found = self._slopes(hypothesis, moves, (2.0**-11, 2.0**-12))
        if found is None:
            return None
        gradient = np.zeros(self.evidence.value.shape)
        gradient[self.evidence.known] = found
        return gradient

    def _slopes(self, hypothesis: Hypothesis, moves: list[Array], steps: tuple[float, ...]) -> Array | None:
        evidence = self.evidence
        largest = float(np.max(np.abs(evidence.value), initial=0.0))
        scale = 2.0 ** np.round(np.log2(largest)) if largest > 0 else 1.0
        lines = [lambda t, move=move: evidence.moved(evidence.tensor, evidence.value + t * move) for move in moves]
        try:
            return self.replay.slopes(hypothesis.edits, lines, [scale * h for h in steps]) @ self.weights
        except Exception:  # the changed forward may not run: then it explains nothing
            return None


def _groups(calls: list[Call]) -> list[list[Call]]:
    """The calls by their place in the source: in a loop one place is called many times."""
    groups: dict[tuple[object, ...], list[Call]] = defaultdict(list)
    for call in calls:
        groups[call.place, call.name].append(call)
    return list(groups.values())


# A path with a factor: left out, doubled, with the wrong sign -------------------------------------------------------


def _edges(calls: list[Call], groups: list[list[Call]]) -> Iterator[Hypothesis]:
    for group in groups:
        for position in range(len(group[0].operands)):
            edits = {call.index: _held(position) for call in group}
            tell = _tell_path(calls, group, position)
            yield Hypothesis(edits, tell, has_factor=True, rank=_rank(group))


def _steps(calls: list[Call], groups: list[list[Call]]) -> Iterator[Hypothesis]:
    """In a loop: a path left out in some steps."""
    for group in groups:
        if len(group) > 1:
            choices = {"all but the last": group[:-1], "all but the first": group[1:]}
            choices |= {"the last": group[-1:], "the first": group[:1]} if len(group) > 2 else {}
            for position in range(len(group[0].operands)):
                for which, chosen in choices.items():
                    edits = {call.index: _held(position) for call in chosen}
                    yield Hypothesis(edits, _tell_steps(group, position, which), rank=lambda _, at=group[0].index: -at)


def _rank(group: list[Call]) -> Callable[[float], int]:
    """Of edges that carry the same part of the gradient, the last one is told: `std` in `x / std`, not what std is of.

    A wrong factor is told where forward has one: in a product or quotient with a number.
    """
    call = group[0]
    is_scaled = call.name in ("multiply", "divide") and len(call.operands) == 1
    return lambda factor: -call.index - (LARGEST if factor and is_scaled else 0)


def _held(position: int) -> Edit:
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
    route = []
    while source is not None and len(route) < 6:
        call = by_index[source]
        route.append(call)
        if call.name in REDUCTIONS:
            break
        source = next((each for each in call.sources if each is not None), None)
    if not route or route[-1].name not in REDUCTIONS:
        return "path missing", "that path from {tensor} to the output is left out"
    reduced = route[-1]
    inner = by_index.get(reduced.sources[0]) if reduced.sources and reduced.sources[0] is not None else None
    if reduced.name in ("var", "std", "norm") or (inner and inner.name in ("square", "multiply", "power")):
        return "variance term missing", "the variance (or mean square) depends on {tensor}, too; its term is missing"
    if inner and inner.name == "exp":
        return "normaliser held constant", "the sum of the exponentials depends on {tensor}, too; its term is missing"
    return "mean term missing", "the mean (or sum) depends on {tensor}, too; its term is missing"


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


def _factor_array(evidence: Evidence, probe: Probe, groups: list[list[Call]]) -> Finding | None:
    """A path with a factor that is no single number: a power of a known array, or one number per row or column."""
    size = evidence.count * 4 * len(probe.replay.calls)
    for group in groups:
        for position in range(len(group[0].operands)):
            if probe.replay.work + size > WORK or evidence.count < 6:
                return None
            held = Hypothesis({call.index: _held(position) for call in group}, _tell_path([], group, position))
            if abs(probe.along(held, 0) - probe.numeric[0]) <= probe.close[0]:
                continue
            without = probe.gradient(held)
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


# All statistics at once ----------------------------------------------------------------------------------------------


def _reductions(calls: list[Call], groups: list[list[Call]]) -> Iterator[Hypothesis]:
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


# Another local derivative ------------------------------------------------------------------------------------------------

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


def _chains(calls: list[Call], groups: list[list[Call]]) -> Iterator[Hypothesis]:
    """Functions applied element by element: y = f(u), the derivative of which is taken for another function."""
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
                    yield Hypothesis(edits, _tell_slope(group[0], starts[0], position, name))
            source = call.sources[position]
            call = by_index[source] if source is not None else call
            position = _follows(call) if source is not None else None


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
    same = [i for i, x in enumerate(call.operands) if x.shape == call.result.shape]
    others = [x for x in call.operands if x.shape != call.result.shape]
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


def _tell_slope(end: Call, start: Call, operand: int, name: str) -> Callable[[float], Finding]:
    def tell(_: float) -> Finding:
        u, y = start.operand(operand), f"`{end.expression or end.name}`"
        formula = f"analytic = the gradient with dy/du = {name} for u = {u}, y = {y} in {end.line}"
        if name == "1":
            meaning = "the local derivative of this function is not multiplied in"
            return Finding("local derivative missing", formula, meaning, "{gate}.backward, where it passes " + y)
        if name == "f'(y)":
            meaning = "a formula in u was given y"
            return Finding("evaluated at the output", formula, meaning, "{gate}.backward, where it passes " + y)
        if name == "f'(u)^2":
            meaning = "the local derivative is multiplied in twice"
            return Finding("local derivative twice", formula, meaning, "{gate}.backward, where it passes " + y)
        if name == "y" and len(end.operands) == 2:
            meaning = "the sum depends on u, too; its term is missing"
            return Finding("normaliser held constant", formula, meaning, "{gate}.backward, where it passes " + y)
        if name == "y (1 - y)":
            meaning = "the cross terms are missing: every output depends on all of u through the sum"
            return Finding("diagonal only", formula, meaning, "{gate}.backward, where it passes " + y)
        meaning = "that is not the derivative of this function"
        return Finding("wrong local derivative", formula, meaning, "{gate}.backward, where it passes " + y)

    return tell


def _selections(calls: list[Call], groups: list[list[Call]]) -> Iterator[Hypothesis]:
    """One of two is selected, and both receive the gradient."""
    for group in groups:
        if group[0].name in SELECTIONS and len(group[0].operands) == 2:
            yield Hypothesis(dict.fromkeys((call.index for call in group), _both), _tell_both(group[0]))


def _both(call: Call, now: tuple[Array, ...], result: Array) -> Array:
    return np.asarray(call.result + sum(new - old for new, old in zip(now, call.operands, strict=True)))


def _tell_both(call: Call) -> Callable[[float], Finding]:
    def tell(_: float) -> Finding:
        formula = f"analytic = the gradient that passes to both operands of `{call.expression or call.name}`"
        meaning = f"only the one that forward selects receives it, see {call.line}"
        return Finding("mask missing", formula, meaning, "the mask (the comparison) in {gate}.backward")

    return tell


# Another factor in the derivative of a product --------------------------------------------------------------------------


def _partners(calls: list[Call], groups: list[list[Call]]) -> Iterator[Hypothesis]:
    for group in groups:
        if group[0].name not in BILINEAR or len(group[0].operands) != 2:
            continue
        for position in (0, 1):
            if group[0].result.ndim > 1 and group[0].result.shape[-1] == group[0].result.shape[-2]:
                yield Hypothesis({call.index: _turned(position) for call in group}, _tell_turned(group[0], position))
            for name, arrays in _candidates(group, 1 - position, groups):
                edits = {
                    call.index: _with_partner(position, array) for call, array in zip(group, arrays, strict=True)
                }
                yield Hypothesis(edits, _tell_partner(group[0], position, name))


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
            offer(f"`{other[0].expression or other[0].name}`", [call.result for call in other])
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


def _tell_turned(call: Call, position: int) -> Callable[[float], Finding]:
    def tell(_: float) -> Finding:
        expression = call.expression or call.name
        formula = f"analytic = the gradient with the upstream gradient of `{expression}` transposed for {call.operand(position)}"
        meaning = f"the product is transposed, see {call.line}"
        return Finding("transposed", formula, meaning, "the order of the factors and .T in {gate}.backward")

    return tell


def _tell_partner(call: Call, position: int, name: str) -> Callable[[float], Finding]:
    def tell(_: float) -> Finding:
        what, right = call.operand(position), call.operand(1 - position)
        expression = call.expression or call.name
        if name == "1":
            formula = f"analytic = the gradient without the factor {right} of {call.line}"
            return Finding(
                "factor array missing", formula, f"the derivative of `{expression}` by {what} is {right}",
                "{gate}.backward, where it passes " + f"`{expression}`",
            )  # fmt: skip
        formula = f"analytic = the gradient with {name} in the place of {right} in the derivative of `{expression}` by {what}"
        meaning = f"{right} is right, see {call.line}"
        cause = "W for W.T" if name.startswith("the transpose") else "wrong local derivative"
        return Finding(cause, formula, meaning, "{gate}.backward, where it passes " + f"`{expression}`")

    return tell
