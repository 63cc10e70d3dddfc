"""What a check found: a number, a verdict, the evidence for it, and what to do about it."""

import math
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "look", "bad"]


@dataclass(frozen=True)
class Finding:
    """One line of the preflight.

    Attributes:
        check: what was looked at, in two or three words; the same for the same check.
        verdict: "ok"; "look", a hint that may have its reasons; or "bad", which will spoil the training or its result.
        number: the number that the verdict rests on; None where there is none, or it is not finite.
        evidence: what was seen, with the numbers it is compared to.
        remedy: what to do about it; empty when nothing is to be done.
    """

    check: str
    verdict: Verdict
    number: float | None
    evidence: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.check}: {self.evidence}" + (f"; {self.remedy}" if self.remedy else "")


def judge(
    check: str, number: float | None, evidence: str, remedy: str = "", *, look: bool = False, bad: bool = False
) -> Finding:
    """Return a finding that is bad, worth a look, or (without a remedy then) ok."""
    verdict: Verdict = "bad" if bad else "look" if look else "ok"
    finite = number if number is None or math.isfinite(number) else None
    return Finding(check, verdict, finite, evidence, "" if verdict == "ok" else remedy)


def listed(items: list[str], most: int = 5) -> str:
    """Return the first few items, and how many there are when those are not all."""
    return ", ".join(items[:most]) + (f", ... ({len(items)} in all)" if len(items) > most else "")
