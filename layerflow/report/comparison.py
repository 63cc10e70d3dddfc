"""Runs side by side: ranked by a metric; for two of them, what differs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.errors import ConfigError, did_you_mean
from layerflow.parameter import Array
from layerflow.runs.recorder import read_losses
from layerflow.runs.records import Run
from layerflow.training.metrics import higher_is_better

ABSENT = "(absent)"


def default_metric(runs: Sequence[Run]) -> str:
    """Return what runs are ranked by unless somebody asks for more: the metric that chose the kept weights.

    Ranking by the test part would choose a model by it, and its figures would then flatter.
    """
    return next((str(run.best["metric"]) for run in runs if run.best.get("metric") in run.figures), "train_loss")


def ranked(runs: Sequence[Run], by: str) -> list[Run]:
    """Return the runs from best to worst; those without a finite value of the metric come last.

    Raises:
        ConfigError: no run has such a metric.
    """
    known = list(dict.fromkeys(name for run in runs for name in run.figures))
    if by not in known:
        raise ConfigError(
            f"--by {by}: not recorded in any of these runs{did_you_mean(by, known)} Recorded: {', '.join(known)}"
        )
    sign = -1 if higher_is_better(by) else 1

    def place(run: Run) -> tuple[bool, float]:
        value = run.figures.get(by, math.nan)
        return (False, sign * value) if math.isfinite(value) else (True, 0.0)

    return sorted(runs, key=place)


def varying_settings(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ, by dotted key: one value per run."""
    settings = [run.settings for run in runs]
    keys = dict.fromkeys(key for known in settings for key in known)
    columns = {key: [known.get(key, ABSENT) for known in settings] for key in keys}
    return {key: values for key, values in columns.items() if any(not _same(value, values[0]) for value in values)}


@dataclass(frozen=True)
class Difference:
    """What differs between two runs; each entry is a pair of values by name.

    Attributes:
        settings, data, environment: what went in.
        parting_step: the first step, from 1, whose loss is not bit for bit the same; `None` when all common ones are,
            or steps are not recorded.
        parting_epoch: the same for the losses recorded at the end of each epoch.
        parting: the losses in that epoch.
        common_epochs: how many epochs both have.
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
        """The losses are not the same."""
        return self.parting_step is not None or self.parting_epoch is not None

    @property
    def is_unexplained(self) -> bool:
        """The losses part although everything that went in is the same."""
        return self.parts and not (self.settings or self.data or self.environment)


def difference(first: Run, second: Run) -> Difference:
    """Compare two runs, config key by config key and epoch by epoch."""
    varying = varying_settings([first, second])
    pairs = list(zip(first.records, second.records, strict=False))
    epoch, parting = next(
        ((int(a["epoch"]), losses) for a, b in pairs if (losses := _unequal(_losses(a), _losses(b)))), (None, {})
    )
    figures = {name: (first.figures.get(name), second.figures.get(name)) for name in first.figures | second.figures}
    return Difference(
        settings={key: (a, b) for key, (a, b) in varying.items()},
        data=_unequal(_section(first, "data"), _section(second, "data")),
        environment=_unequal(_section(first, "versions"), _section(second, "versions")),
        parting_step=_parting_step(read_losses(first.folder), read_losses(second.folder)),
        parting_epoch=epoch,
        parting=parting,
        common_epochs=len(pairs),
        figures=figures,
    )


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
    """Equal, and of one type; NaN is the same as NaN."""
    return type(a) is type(b) and (a == b or (a != a and b != b))
