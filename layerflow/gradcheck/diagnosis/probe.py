"""Testing hypotheses about the operations of forward against what backward returned."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layerflow.gradcheck.diagnosis.evidence import Evidence, Finding
from layerflow.gradcheck.diagnosis.replay import Call, Edit, Move, Replay
from layerflow.gradcheck.diagnosis.sizes import inner_factor
from layerflow.parameter import Array

WORK = 250_000  # operations that are replayed for one gate at most
ELEMENTS = 400  # elements of a tensor that are compared one by one at most


@dataclass
class Hypothesis:
    """A change of some operations, and how it is described."""

    edits: dict[int, Edit]
    tell: Callable[[float], Finding]
    has_factor: bool = False  # whether the path may have any factor, or is as the edits say
    rank: Callable[[float], int] = lambda factor: 0  # of several that say the same, the lowest is stated


class Probe:
    """Tests hypotheses: first along two random directions, then element by element (of a large tensor, a sample)."""

    def __init__(self, evidence: Evidence, replay: Replay) -> None:
        self.evidence, self.replay = evidence, replay
        self.directions = [evidence.direction(which) for which in (0, 1)]
        self.where = evidence.known.copy()
        if evidence.count > ELEMENTS:
            surplus = np.random.default_rng(0).permutation(np.flatnonzero(evidence.known))[ELEMENTS:]
            self.where.flat[surplus] = False
        self.weights = evidence.upstream.reshape(-1)
        self.analytic = [float(np.sum(evidence.analytic * v)) for v in self.directions]
        self.numeric = [float(np.sum(evidence.numeric * v)) for v in self.directions]
        size = np.maximum(np.abs(evidence.analytic), np.abs(evidence.numeric))
        self.close = [1e-6 * float(np.linalg.norm(size * v)) for v in self.directions]

    def screened(self, hypothesis: Hypothesis) -> float | None:
        """The factor on the path with which the hypothesis explains both directions (0: it is missing); or None."""
        first = self.along(hypothesis, 0)
        step, off = self.numeric[0] - first, self.analytic[0] - first
        if abs(step) <= self.close[0]:
            return None
        factor = off / step if hypothesis.has_factor else 0.0
        if abs(off - factor * step) > self.close[0] or abs(factor - 1.0) < 1e-6:
            return None
        simple = inner_factor(self.evidence, factor, min(max(1e-5, self.close[0] / abs(step)), 1e-3))
        factor = factor if simple is None else simple
        if simple is None and self.evidence.count < 6:
            return None
        second = self.along(hypothesis, 1)
        if abs(self.analytic[1] - second - factor * (self.numeric[1] - second)) > self.close[1] * (1 + abs(factor)):
            return None
        return factor

    def explains(self, hypothesis: Hypothesis, factor: float) -> bool:
        """Whether it explains every element."""
        gradient = self.gradient(hypothesis)
        return gradient is not None and self.evidence.fits(
            gradient + factor * (self.evidence.numeric - gradient), self.where
        )

    def along(self, hypothesis: Hypothesis, which: int) -> float:
        """The slope of the changed forward along a direction."""
        found = self._slopes(hypothesis, [self.directions[which]], (2.0**-13,))
        return float(found[0]) if found is not None else np.nan

    def gradient(self, hypothesis: Hypothesis) -> Array | None:
        """The gradient of the changed forward, 0 where it is not compared."""
        moves = []
        for position in np.flatnonzero(self.where):
            move = np.zeros(self.evidence.value.shape)
            move.flat[position] = 1.0
            moves.append(move)
        found = self._slopes(hypothesis, moves, (2.0**-11, 2.0**-12))
        if found is None:
            return None
        gradient = np.zeros(self.evidence.value.shape)
        gradient[self.where] = found
        return gradient

    def _slopes(self, hypothesis: Hypothesis, moves: list[Array], steps: tuple[float, ...]) -> Array | None:
        evidence = self.evidence
        largest = float(np.max(np.abs(evidence.value), initial=0.0))
        scale = float(2.0 ** np.round(np.log2(largest))) if largest > 0 else 1.0
        value = evidence.value.copy()

        def line(move: Array) -> Move:
            return lambda t: evidence.moved(evidence.tensor, value + t * move)

        try:
            found = self.replay.slopes(hypothesis.edits, [line(move) for move in moves], [scale * h for h in steps])
            return np.asarray(found @ self.weights)
        except Exception:  # the changed forward may not run: then it explains nothing
            return None


def grouped(calls: list[Call]) -> list[list[Call]]:
    """The calls by their place in the source: in a loop one place is called many times."""
    groups: dict[tuple[object, ...], list[Call]] = defaultdict(list)
    for call in calls:
        groups[call.place, call.name].append(call)
    return list(groups.values())
