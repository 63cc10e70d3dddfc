"""What checks work with: a sample of the training data, prepared trainers of their own, and findings to return."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from layerflow.config import Config
from layerflow.config.experiment import Experiment, Parts
from layerflow.data import Dataset
from layerflow.parameter import Array
from layerflow.step import AnyStep
from layerflow.training.objective import Objective
from layerflow.training.trainer import Trainer

Verdict = Literal["ok", "look", "bad"]

SAMPLE_VALUES = 1 << 20  # numbers in the sample of the training part; small sets are looked at whole
SWEPT = 512  # samples in the sweep whose activations and gradients are looked at


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


class Context:
    """A configuration and its data; everything else is made anew, so that nothing of the caller's changes.

    Attributes:
        config, parts: the configuration and its data; both are only read.
        sample: part of the training part, drawn with the configuration's seed; all of it when that is small.
        x, y: the sample as the model sees it; y is (samples,).
    """

    def __init__(self, config: Config, parts: Parts) -> None:
        self.config = config
        self.parts = parts
        self.sample = drawn(parts.train, config.seed, at_least=config.train.batch_size)
        x, y = parts.arrays(self.sample, config.dtype)
        self.x: Array = np.asarray(x)
        self.y: Array = np.asarray(y) if self.classes else np.asarray(y, config.dtype)

    def fresh_trainer(self, regularized: bool = True) -> Trainer:
        """Return a prepared trainer on the sample; its model is its own, with the weights that training starts from."""
        # They may watch what is not measured here; without a schedule the learning rate is the one that is written.
        settings: dict[str, Any] = {"early_stopping": None, "best": None, "metrics": None, "schedule": None}
        if not regularized:
            optimizer = self.config.build_optimizer()
            optimizer.weight_decay = 0.0
            settings |= {"regularizer": (), "optimizer": optimizer}
        trainer = Experiment(self.config, self.parts, **settings).trainer
        trainer.prepare(self.x, self.y)
        return trainer

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer of `swept`: the model as it starts. Whoever runs it otherwise takes a fresh one."""
        return self.fresh_trainer()

    @cached_property
    def swept(self) -> Objective:
        """The objective at the start after one sweep forwards and backwards, in evaluation mode: nothing is dropped."""
        return swept(self.trainer, self.x[:SWEPT], self.y[:SWEPT])

    @property
    def swept_targets(self) -> Array:
        """The targets of that sweep."""
        return self.y[:SWEPT]

    @cached_property
    def table(self) -> Array:
        """The sample before scaling, missing values filled in: (samples, features) in float64."""
        fill = self.parts.preprocessing.fill
        x = np.asarray(self.sample.x, np.float64).reshape(len(self.sample), -1)
        return x if fill is None else np.where(np.isnan(x), fill, x)

    def feature(self, index: int) -> str:
        """Return the name of a feature, or its position where it has none."""
        names = self.parts.preprocessing.features
        if names is not None:
            return repr(names[index])
        place = np.unravel_index(index, self.parts.preprocessing.sample_shape)
        return f"x[{', '.join(str(int(i)) for i in place)}]"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes; None for a regression."""
        return self.parts.preprocessing.classes


def drawn(part: Dataset, seed: int, at_least: int = 1) -> Dataset:
    """Return a part if it is small, else as many random samples of it as hold a million numbers."""
    width = max(1, int(np.prod(part.x.shape[1:])))
    size = max(SAMPLE_VALUES // width, at_least)
    if size >= len(part):
        return part
    return part.take(np.sort(np.random.default_rng(seed).choice(len(part), size, replace=False)))


def swept(trainer: Trainer, x: Array, y: Array) -> Objective:
    """Run a trainer's objective forwards and backwards in evaluation mode, and return it."""
    objective = trainer.state.objective
    objective.training = False
    objective.forward(x, y)
    objective.backward()
    objective.training = True
    return objective


def model_steps(objective: Objective) -> list[tuple[str, AnyStep]]:
    """Return the steps of the model in an objective, by the names they have in the model."""
    prefix = "model."
    return [(step.name.removeprefix(prefix), step) for step in objective.steps if step.name.startswith(prefix)]


def rms(array: Any) -> float:
    """Return sqrt(mean(a^2)), 0 for nothing."""
    values = np.asarray(array, np.float64)
    return float(np.sqrt(np.mean(values * values))) if values.size else 0.0
