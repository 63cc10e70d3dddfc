"""What the check found, as data and as text."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from layerflow.parameter import Array


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

    @property
    def smooth(self) -> int:
        """How many comparisons were made at points where the gate is smooth."""
        return self.checked + self.directions - self.kinks - self.not_measurable

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
        cause: one or two words, the same for the same mistake.
        sentence: what was seen and what it means.
        place: where to look.
    """

    tensor: str
    cause: str
    sentence: str
    place: str

    def __str__(self) -> str:
        return f"{self.sentence}. Look at {self.place}" if self.place else self.sentence


@dataclass
class Report:
    """The result of `check_gradients`; true when every gradient is right.

    Attributes:
        gate: the gate as its author would write it.
        tensors: one report per input and parameter.
        faults: what is wrong besides the values: an array overwritten, a forward that differs between equal calls.
        diagnoses: what the wrong gradients look like; empty when the evidence is thin.
        notes: what the reader should know but is no fault.
        guilty: for a model, the report on the first gate that fails by itself, and its name in the model.
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
    def smooth(self) -> int:
        """How many comparisons were made at points where the gate is smooth."""
        return sum(tensor.smooth for tensor in self.tensors)

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
            yield f"  the first gate that fails by itself, on the values it received in the model, is {name!r}:"
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
                "the gradient check decides nothing: rounding noise hides the slopes; give inputs of moderate size, or "
                "avoid the subtraction of large numbers in forward"
            )
        return "the gradient check decides nothing: every input is at a kink; give random real numbers"

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        plain = asdict(self) | {"ok": self.ok, "kinks": self.kinks, "not_measurable": self.not_measurable}
        plain["guilty"] = None if self.guilty is None else {"name": self.guilty[0], "report": self.guilty[1].as_dict()}
        return plain


def element_index(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of an element of a tensor from its flat position."""
    index = []
    for size in reversed(shape):
        position, rest = divmod(position, size)
        index.append(rest)
    return tuple(reversed(index))


@dataclass(frozen=True)
class Measured:
    """The numbers behind a tensor's verdict, for the diagnosis: full arrays, with the unreliable elements masked out.

    Attributes:
        name, kind: of the tensor.
        analytic, numeric: in the tensor's shape.
        known: where the two can be compared: smooth, checked and accurate.
    """

    name: str
    kind: str
    analytic: Array
    numeric: Array
    known: Array
    error: Array
