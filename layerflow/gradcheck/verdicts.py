"""The verdict on every element, and the report on all of them, as data and as text."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.gradcheck.differences import EPS, Slopes
from layerflow.gradcheck.subject import Tensor
from layerflow.parameter import Array

SAFETY = 4.0  # the estimated error of the numeric slope may be off by this factor
DETECTABLE = 1e-5  # a relative error of this size is found in every element that counts as measured
USELESS = 1e-3  # where noise is larger than this, relative to the tensor's largest slope, nothing is decided
NO_NOISE = 1e-200
ABSORBED = 2.0**16  # slopes up to so many last digits of their terms may have lost their own digits in them


@dataclass
class Comparison:
    """The verdict on every line; each attribute has one entry per line.

    Attributes:
        excess: |analytic - numeric| over what is allowed; more than 1 is wrong.
        relative: |analytic - numeric| / max(|analytic|, |numeric|), 0 where both are 0 as far as can be measured.
        reachable: the relative accuracy of the comparison.
        is_kink: decided by the one-sided slopes.
        is_open: agrees, but an error of `DETECTABLE` would not have been seen.
        is_useless: among those, where the noise is too large to say anything.
    """

    analytic: Array
    numeric: Array
    excess: Array
    relative: Array
    reachable: Array
    is_kink: NDArray[np.bool_]
    is_open: NDArray[np.bool_]
    is_useless: NDArray[np.bool_]

    @property
    def is_wrong(self) -> NDArray[np.bool_]:
        """The lines on which the analytic slope is wrong."""
        return (self.excess > 1.0) & ~self.is_open

    @property
    def worst(self) -> int:
        """The line that agrees least: by relative error, wrong ones first, undecided ones last."""
        rank = np.where(self.is_wrong, 2, np.where(self.is_open, 0, 1))
        return int(np.lexsort((self.relative, rank))[-1])


def compare(analytic: Array, slopes: Slopes, rtol: float, jitter: Array) -> Comparison:
    """Compare the slopes that `backward` gives with the measured ones.

    At a kink every value between the one-sided slopes is a subgradient and accepted (Clarke 1983, chapter 2).

    Args:
        analytic: what `backward` gives, per line.
        slopes: what was measured.
        rtol: the relative difference that is accepted.
        jitter: the rounding noise of `analytic`: `p - 1` in a confident softmax is good to 1e-16, however small it is.
    """
    with np.errstate(all="ignore"):
        digit = EPS * slopes.terms
        jitter = np.maximum(jitter, np.where(np.abs(analytic) <= ABSORBED * digit, digit, 0.0))
        numeric, error = slopes.numeric, SAFETY * (slopes.error + jitter)
        is_measured = np.isfinite(error)
        is_kink = ~slopes.is_smooth & is_measured & np.isfinite(slopes.jump)
        outside = np.abs(analytic - numeric) - np.where(is_kink, slopes.jump / 2.0, 0.0)
        difference = np.where(np.isfinite(analytic), np.maximum(outside, 0.0), np.inf)
        size = np.maximum(np.abs(analytic), np.abs(numeric))
        largest = np.max(np.abs(numeric), initial=0.0, where=np.isfinite(numeric))
        allowed = rtol * size + error
        excess = np.where(slopes.is_confirmed, 0.0, _ratio(difference, allowed))
        excess = np.where(np.isfinite(analytic), excess, np.inf)
        scale = np.maximum(largest, slopes.terms)
        is_zero = (analytic == 0.0) & ((allowed <= DETECTABLE * scale) | (allowed <= NO_NOISE))
        is_open = ~is_measured | ~(is_kink | is_zero | (allowed <= DETECTABLE * size) | (excess > 1.0))
        is_open &= np.isfinite(analytic)
        is_useless = is_open & ~(allowed <= USELESS * np.maximum(size, scale))
        relative = np.where((size <= error) & (excess <= 1.0), 0.0, _ratio(difference, size))
        relative = np.where(np.isfinite(analytic), relative, np.inf)
        against = np.where(np.isfinite(size) & (size > 0.0), size, max(largest, 1.0))
        reachable = np.maximum(_ratio(slopes.error + jitter, against), EPS)
        return Comparison(analytic, numeric, excess, relative, reachable, is_kink & ~is_open, is_open, is_useless)


def _ratio(above: Array, below: Array) -> Array:
    """above / below with 0/0 = 0."""
    return np.where(above == 0.0, 0.0, above / below)


@dataclass(frozen=True)
class Worst:
    """The element (or direction) that agrees least.

    Attributes:
        index: its position in the tensor; empty for a direction or a single number.
        analytic, numeric: the two derivatives.
        relative_error: |a - n| / max(|a|, |n|).
        reachable: the relative accuracy of the numeric derivative itself.
    """

    index: tuple[int, ...]
    analytic: float
    numeric: float
    relative_error: float
    reachable: float
    is_direction: bool = False

    def __str__(self) -> str:
        where = "along a random direction" if self.is_direction else f"at [{', '.join(map(str, self.index))}]"
        return (
            f"{where}: analytic {self.analytic:.10g}, numeric {self.numeric:.10g}, "
            f"relative error {self.relative_error:.1e} (numerical accuracy {self.reachable:.0e})"
        )


@dataclass(frozen=True)
class TensorReport:
    """The verdict on one input or parameter.

    Attributes:
        verdict: "ok", "wrong", "no gradient" (backward returned None), "kinks only", "not measurable" (rounding noise
            hides every element) or "empty".
        checked, size: how many elements were compared, and how many there are.
        directions: how many random directions were compared as well.
        kinks: how many of them were judged by their one-sided slopes.
        wrong, wrong_at_kinks: how many were wrong, and how many of those at kinks.
        not_measurable: how many agree within rounding noise so large that a relative error of 1e-5 could hide in it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    verdict: str
    checked: int = 0
    size: int = 0
    directions: int = 0
    kinks: int = 0
    wrong: int = 0
    wrong_at_kinks: int = 0
    not_measurable: int = 0
    worst: Worst | None = None

    def badness(self) -> tuple[bool, float]:
        """What to sort by: wrong ones last, then by relative error."""
        return self.verdict == "wrong", self.worst.relative_error if self.worst else 0.0

    def __str__(self) -> str:
        words = "WRONG" if self.verdict == "wrong" else self.verdict
        parts = [] if self.worst is None else [str(self.worst)]
        if self.wrong:
            parts.append(f"{self.wrong} of {self.checked + self.directions} wrong")
        if self.checked < self.size and self.worst is not None:
            parts.append(f"{self.checked} of {self.size} elements and {self.directions} directions checked")
        if self.kinks:
            parts.append(f"{self.kinks} at kinks, judged by their one-sided slopes")
        if self.not_measurable:
            parts.append(f"{self.not_measurable} not measurable to 1e-5 (rounding noise)")
        return f"{self.name} {self.shape}: {words}" + (f"; {'; '.join(parts)}" if parts else "")


@dataclass(frozen=True)
class Diagnosis:
    """What a wrong gradient looks like.

    Attributes:
        tensor: the input or parameter whose gradient it explains; empty when it is about the gate as a whole.
        cause: a few words, the same for the same mistake.
        sentence: what was observed and what it means.
        place: where to look.
    """

    tensor: str
    cause: str
    sentence: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.sentence}. Look at {self.place}" if self.place else self.sentence


@dataclass
class Report:
    """The result of `check_gradients`; true when every gradient is right.

    Attributes:
        gate: the gate as its author would write it.
        tensors: one report per input and parameter.
        faults: what is wrong besides the values: an array overwritten, a forward that differs between identical calls.
        diagnoses: what the wrong gradients look like; empty where nothing explains them.
        notes: remarks that are not faults.
        guilty: for a model, the name of the first gate that fails on its own, and the report on it.
        seed: the seed of the random upstream gradient.
    """

    gate: str
    tensors: list[TensorReport] = field(default_factory=list)
    faults: list[Diagnosis] = field(default_factory=list)
    diagnoses: list[Diagnosis] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    guilty: tuple[str, "Report"] | None = None
    seed: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every gradient was measured and agrees, some away from kinks, and nothing else is wrong.

        Elements that rounding noise hides are allowed beside others (see `not_measurable`); a tensor of which nothing
        could be measured is not.
        """
        verdicts = {tensor.verdict for tensor in self.tensors}
        is_right = "ok" in verdicts and not verdicts & {"wrong", "not measurable"}
        return is_right and not self.faults and self.guilty is None

    def __bool__(self) -> bool:
        return self.ok

    @property
    def kinks(self) -> int:
        """How many comparisons were judged by one-sided slopes."""
        return sum(tensor.kinks for tensor in self.tensors)

    @property
    def not_measurable(self) -> int:
        """How many comparisons rounding noise leaves open; see `TensorReport`."""
        return sum(tensor.not_measurable for tensor in self.tensors)

    @property
    def worst(self) -> Worst | None:
        """The worst of all tensors: a wrong one before a right one, then by relative error."""
        rated = [tensor for tensor in self.tensors if tensor.worst]
        return max(rated, key=TensorReport.badness).worst if rated else None

    @property
    def relative_error(self) -> float:
        """The relative error of the worst element; 0 if nothing was compared."""
        return self.worst.relative_error if self.worst else 0.0

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.gate}: {self._headline()}"
        for tensor in self.tensors:
            yield f"  {tensor}"
        for fault in self.faults:
            yield f"  {fault}"
        for diagnosis in self.diagnoses:
            yield f"  looks like: {diagnosis}"
        for note in self.notes:
            yield f"  note: {note}"
        if self.guilty:
            name, report = self.guilty
            yield f"  the first gate that fails on its own, with the inputs it received in the model, is {name!r}:"
            yield from (f"  {line}" for line in report._lines())

    def _headline(self) -> str:
        if self.ok:
            hidden = f"; {self.not_measurable} could not be measured to 1e-5" if self.not_measurable else ""
            return f"all gradients agree with differences{hidden}"
        verdicts = {tensor.verdict for tensor in self.tensors}
        if self.faults or self.guilty or "wrong" in verdicts:
            return "the gradient check FAILED"
        if "not measurable" in verdicts:
            return (
                "the gradient check is inconclusive: rounding noise hides the slopes; use inputs of moderate size, or "
                "avoid subtracting large numbers in forward"
            )
        return "the gradient check is inconclusive: every input is at a kink; use random real numbers"

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        plain = asdict(self) | {"ok": self.ok, "kinks": self.kinks, "not_measurable": self.not_measurable}
        plain["guilty"] = None if self.guilty is None else {"name": self.guilty[0], "report": self.guilty[1].as_dict()}
        return plain


def summarise(tensor: Tensor, comparison: Comparison, chosen: Array) -> TensorReport:
    """The verdict on a tensor, from the comparisons of the chosen elements and, after them, of random directions."""
    wrong, unmeasured, kinks = (
        int(np.sum(each)) for each in (comparison.is_wrong, comparison.is_open, comparison.is_kink)
    )
    position, compared, shape = comparison.worst, len(comparison.excess), tensor.value.shape
    is_direction = position >= len(chosen)
    worst = Worst(
        () if is_direction else element_index(int(chosen[position]), shape),
        float(comparison.analytic[position]),
        float(comparison.numeric[position]),
        float(comparison.relative[position]),
        float(comparison.reachable[position]),
        is_direction,
    )
    if wrong:
        verdict = "wrong"
    elif np.all(comparison.is_useless):
        verdict = "not measurable"
    else:
        verdict = "kinks only" if kinks and kinks + unmeasured == compared else "ok"
    return TensorReport(
        tensor.name,
        tensor.kind,
        shape,
        verdict,
        checked=len(chosen),
        size=tensor.value.size,
        directions=compared - len(chosen),
        kinks=kinks,
        wrong=wrong,
        wrong_at_kinks=int(np.sum(comparison.is_wrong & comparison.is_kink)),
        not_measurable=unmeasured,
        worst=worst,
    )


def element_index(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of an element of a tensor from its flat position."""
    return tuple(map(int, np.unravel_index(position, shape)))


@dataclass(frozen=True)
class Measured:
    """The numbers behind a tensor's verdict, in its shape, for the diagnosis.

    Attributes:
        tensor: the tensor.
        analytic, numeric: its two gradients.
        error: estimate of the absolute error of their difference.
        known: where the two can be compared: smooth, checked and accurate.
    """

    tensor: Tensor
    analytic: Array
    numeric: Array
    error: Array
    known: NDArray[np.bool_]
