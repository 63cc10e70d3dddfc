"""Testing hypotheses about the operations of forward against what backward returned."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layerflow.gradcheck.diagnosis.causes import Finding
from layerflow.gradcheck.diagnosis.evidence import Evidence
from layerflow.gradcheck.diagnosis.factors import inner_factor
from layerflow.gradcheck.diagnosis.recording import Call, Edit
from layerflow.parameter import Array

WORK = 250_000  # operations that are replayed for one gate at most
ELEMENTS = 400  # elements of a tensor that are compared one by one at most


@dataclass
class Change:
    """A forward in which some operations respond differently to their operands.

    Attributes:
        edits: the changed operations.
        describe: the finding, for the factor on the changed path (0 if the path is missing).
        has_factor: whether the path may have any factor, or is as the edits say.
        rank: of several changes that explain the gradient, the lowest is stated.
        names_factor: whether it comes before all others that have a factor.
    """

    edits: dict[int, Edit]
    describe: Callable[[float], Finding]
    has_factor: bool = False
    rank: int = 0
    names_factor: bool = False


class Probe:
    """Tests changes: first along two random directions, then element by element (of a large tensor, a sample)."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence, self.replay = evidence, evidence.replay
        self.directions = [evidence.direction(which) for which in (0, 1)]
        self.where = evidence.known.copy()
        if evidence.count > ELEMENTS:
            surplus = np.random.default_rng(0).permutation(np.flatnonzero(evidence.known))[ELEMENTS:]
            self.where.flat[surplus] = False
        self.analytic = [float(np.sum(evidence.analytic * v)) for v in self.directions]
        self.numeric = [float(np.sum(evidence.numeric * v)) for v in self.directions]
        size = np.maximum(np.abs(evidence.analytic), np.abs(evidence.numeric))
        self.close = [1e-6 * float(np.linalg.norm(size * v)) for v in self.directions]

    def screened(self, change: Change) -> float | None:
        """The factor on the path with which the change explains both directions (0: it is missing); or None."""
        first = self.along(change, 0)
        step, off = self.numeric[0] - first, self.analytic[0] - first
        if abs(step) <= self.close[0]:
            return None
        factor = off / step if change.has_factor else 0.0
        if abs(off - factor * step) > self.close[0] or abs(factor - 1.0) < 1e-6:
            return None
        simple = inner_factor(self.evidence, factor, min(max(1e-5, self.close[0] / abs(step)), 1e-3))
        factor = factor if simple is None else simple
        if simple is None and self.evidence.count < 6:
            return None
        second = self.along(change, 1)
        if abs(self.analytic[1] - second - factor * (self.numeric[1] - second)) > self.close[1] * (1 + abs(factor)):
            return None
        return factor

    def explains(self, change: Change, factor: float) -> bool:
        """Whether it explains every element."""
        gradient = self.gradient(change)
        return gradient is not None and self.evidence.fits(
            gradient + factor * (self.evidence.numeric - gradient), self.where
        )

    def along(self, change: Change, which: int) -> float:
        """The slope of the changed forward along a direction."""
        found = self._slopes(change, [self.directions[which]], (2.0**-13,))
        return float(found[0]) if found is not None else np.nan

    def gradient(self, change: Change) -> Array | None:
        """The gradient of the changed forward, 0 where it is not compared."""
        positions, shape = np.flatnonzero(self.where), self.evidence.value.shape
        moves = np.zeros((len(positions), *shape))
        moves.reshape(len(positions), -1)[np.arange(len(positions)), positions] = 1.0
        found = self._slopes(change, list(moves), (2.0**-11, 2.0**-12))
        if found is None:
            return None
        gradient = np.zeros(shape)
        gradient[self.where] = found
        return gradient

    def _slopes(self, change: Change, moves: list[Array], steps: tuple[float, ...]) -> Array | None:
        tensor, value = self.evidence.tensor, self.evidence.value.copy()
        largest = float(np.max(np.abs(value), initial=0.0))
        scale = float(2.0 ** np.round(np.log2(largest))) if largest > 0 else 1.0
        lines = [lambda t, move=move: tensor.moved(value + t * move) for move in moves]
        try:
            found = self.replay.slopes(change.edits, lines, [scale * h for h in steps])
            return np.asarray(found @ self.evidence.upstream.reshape(-1))
        except Exception:  # the changed forward may not run: then it explains nothing
            return None


def grouped(calls: list[Call]) -> list[list[Call]]:
    """The calls by their place in the source: in a loop one place is called many times."""
    groups: dict[tuple[object, ...], list[Call]] = defaultdict(list)
    for call in calls:
        groups[call.place, call.name].append(call)
    return list(groups.values())
