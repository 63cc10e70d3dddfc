"""Runs compared: ranked by a metric, grouped by their settings, and for two of them, what differs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.errors import ConfigError, did_you_mean
from layerflow.parameter import Array
from layerflow.runs.journal import read_losses
from layerflow.runs.records import Run
from layerflow.training.metrics import higher_is_better

ABSENT = "(absent)"


def default_metric(runs: Sequence[Run]) -> str:
    """Return what runs are ranked by unless a metric is given: the one used to pick the best epoch.

    Ranking by a test metric would select a model on the test data, whose results would then be too optimistic.
    """
    return next((str(run.best["metric"]) for run in runs if run.best.get("metric") in run.figures), "train_loss")


def ranked(runs: Sequence[Run], by: str) -> list[Run]:
    """Return the runs from best to worst; those without a finite value of the metric come last.

    Raises:
        ConfigError: no run recorded that metric.
    """
    known = list(dict.fromkeys(name for run in runs for name in run.figures))
    if by not in known:
        raise ConfigError(
            f"--by {by}: not recorded in any of these runs{did_you_mean(by, known) or '.'} Recorded: {', '.join(known)}"
        )
    return sorted(runs, key=lambda run: _place(run.figures.get(by, math.nan), by))


def varying_settings(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ, by dotted key: one value per run."""
    settings = [run.settings for run in runs]
    keys = dict.fromkeys(key for known in settings for key in known)
    columns = {key: [known.get(key, ABSENT) for known in settings] for key in keys}
    return {key: values for key, values in columns.items() if any(not _same(value, values[0]) for value in values)}


@dataclass(frozen=True)
class Group:
    """The runs that share all settings of a search but the seed; a run without results is `None`."""

    settings: dict[str, Any]
    runs: list[Run | None]

    def values(self, name: str) -> list[float]:
        """Return the finite values of a metric, one per run that has one."""
        known = [run.figures.get(name, math.nan) for run in self.runs if run]
        return [value for value in known if math.isfinite(value)]

    def mean(self, name: str) -> float:
        """Return the mean; NaN if no run has the metric."""
        return float(np.mean(values)) if (values := self.values(name)) else math.nan

    def spread(self, name: str) -> float:
        """Return the standard deviation over the repetitions, sqrt(sum((v - mean)^2) / (n - 1)); NaN for one."""
        return float(np.std(values, ddof=1)) if len(values := self.values(name)) > 1 else math.nan


def grouped(members: Iterable[tuple[dict[str, Any], Run | None]], by: str) -> list[Group]:
    """Return the groups from best to worst mean of a metric; those without a finite mean come last."""
    groups: dict[str, Group] = {}
    for settings, run in members:
        groups.setdefault(repr(settings), Group(settings, [])).runs.append(run)
    return sorted(groups.values(), key=lambda group: _place(group.mean(by), by))


def figures_of(groups: Sequence[Group]) -> list[str]:
    """Return the names of all losses and metrics of the runs."""
    return list(dict.fromkeys(name for group in groups for run in group.runs if run for name in run.figures))


@dataclass(frozen=True)
class Difference:
    """What differs between two runs; each entry is a pair of values by name.

    Attributes:
        settings, data, environment: the inputs of the runs.
        parting_step: the first step, from 1, whose losses are not bit-identical; `None` if all common ones are, or
            steps are not recorded.
        parting_epoch: the same for the losses recorded at the end of each epoch.
        parting: the losses in that epoch.
        common_epochs: the number of epochs that both have.
        figures: losses and metrics of the kept weights, whether they differ or not.
    """

    settings: dict[str, tuple[Any, Any]]
    data: dict[str, tuple[Any, Any]]
    environment: dict[str, tuple[Any, Any]]
    parting_step: int | None
    parting_epoch: int | None
    parting: dict[str, tuple[float, float]]
    common_epochs: int
    figures: dict[str, tuple[Any, Any]]

    @property
    def parts(self) -> bool:
        """Whether the losses differ."""
        return self.parting_step is not None or self.parting_epoch is not None

    @property
    def is_unexplained(self) -> bool:
        """Whether the losses differ although all inputs are the same."""
        return self.parts and not (self.settings or self.data or self.environment)


def difference(first: Run, second: Run) -> Difference:
    """Compare two runs: settings by key, losses by epoch and step."""
    pairs = list(zip(first.records, second.records, strict=False))
    apart = ((int(a["epoch"]), losses) for a, b in pairs if (losses := _unequal(_losses(a), _losses(b))))
    epoch, parting = next(apart, (None, {}))
    return Difference(
        settings={key: (a, b) for key, (a, b) in varying_settings([first, second]).items()},
        data=_unequal(_section(first, "data"), _section(second, "data")),
        environment=_unequal(_section(first, "versions"), _section(second, "versions")),
        parting_step=_parting_step(read_losses(first.folder), read_losses(second.folder)),
        parting_epoch=epoch,
        parting=parting,
        common_epochs=len(pairs),
        figures={name: (first.figures.get(name), second.figures.get(name)) for name in first.figures | second.figures},
    )


def _place(value: float, by: str) -> tuple[bool, float]:
    """Sort key of a metric's value: the best first, NaN and infinity last."""
    sign = -1 if higher_is_better(by) else 1
    return (False, sign * value) if math.isfinite(value) else (True, 0.0)


def _losses(record: dict[str, float]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name.endswith(("_loss", "_objective"))}


def _parting_step(first: Array, second: Array) -> int | None:
    common = min(len(first), len(second))
    apart = np.flatnonzero(first[:common].view(np.uint64) != second[:common].view(np.uint64))
    return int(apart[0]) + 1 if len(apart) else None


def _section(run: Run, name: str) -> dict[str, Any]:
    section = run.facts.get(name)
    return section if isinstance(section, dict) else {}


def _unequal(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    pairs = {key: (first.get(key, ABSENT), second.get(key, ABSENT)) for key in first | second}
    return {key: (a, b) for key, (a, b) in pairs.items() if not _same(a, b)}


def _same(a: Any, b: Any) -> bool:
    """Whether two values are equal and of the same type; NaN equals NaN."""
    return type(a) is type(b) and (a == b or (a != a and b != b))
