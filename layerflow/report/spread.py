"""Runs of a search, grouped by their settings: mean and spread over the repetitions."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from layerflow.runs.records import Run
from layerflow.training.metrics import higher_is_better


@dataclass(frozen=True)
class Group:
    """The runs that share all swept settings but the seed; `None` stands for a run that gave no results."""

    settings: dict[str, Any]
    runs: list[Run | None]

    def values(self, name: str) -> list[float]:
        """Return a figure of all runs that have a finite one."""
        known = [run.figures.get(name, math.nan) for run in self.runs if run]
        return [value for value in known if math.isfinite(value)]

    def mean(self, name: str) -> float:
        """Return the mean; NaN where no run has the figure."""
        values = self.values(name)
        return math.fsum(values) / len(values) if values else math.nan

    def spread(self, name: str) -> float:
        """Return the standard deviation over the repetitions, sqrt(sum((v - mean)^2) / (n - 1)); NaN for one."""
        values, mean = self.values(name), self.mean(name)
        if len(values) < 2:
            return math.nan
        return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def grouped(members: Iterable[tuple[dict[str, Any], Run | None]], by: str) -> list[Group]:
    """Return the groups from best to worst mean of a metric; those without it come last."""
    groups: dict[str, Group] = {}
    for settings, run in members:
        groups.setdefault(repr(settings), Group(settings, [])).runs.append(run)
    sign = -1 if higher_is_better(by) else 1

    def place(group: Group) -> tuple[bool, float]:
        mean = group.mean(by)
        return (False, sign * mean) if math.isfinite(mean) else (True, 0.0)

    return sorted(groups.values(), key=place)


def figures_of(groups: Sequence[Group]) -> list[str]:
    """Return the names of all figures that the runs have."""
    return list(dict.fromkeys(name for group in groups for run in group.runs if run for name in run.figures))
