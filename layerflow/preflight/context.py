"""What checks work with: a sample of the training data, prepared trainers of their own, and findings to return."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from layerflow.config import Config
from layerflow.config.elements import build
from layerflow.config.experiment import Experiment, Parts
from layerflow.data import Dataset
from layerflow.parameter import Array
from layerflow.sweep import Step
from layerflow.training.objective import Objective
from layerflow.training.trainer import Trainer

Verdict = Literal["ok", "warning", "error"]

SAMPLE_VALUES = 1 << 20  # numbers in the sample of the training part; smaller sets are used whole
SWEPT = 512  # samples in the sweep that activations and gradients are taken from


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: the name of the check, two or three words.
        verdict: "ok"; "warning", which may be intended; or "error", which will harm the training or its result.
        number: the number that the verdict is based on; None if there is none, or if it is not finite.
        evidence: what was found, with the numbers it is compared to.
        remedy: what to do about it; empty if the verdict is ok.
    """

    check: str
    verdict: Verdict
    number: float | None
    evidence: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.check}: {self.evidence}" + (f"; {self.remedy}" if self.remedy else "")


def judge(
    check: str, number: float | None, evidence: str, remedy: str = "", *, warn: bool = False, error: bool = False
) -> Finding:
    """Return a finding that is an error, a warning or ok; an ok one has no remedy."""
    verdict: Verdict = "error" if error else "warning" if warn else "ok"
    finite = number if number is None or math.isfinite(number) else None
    return Finding(check, verdict, finite, evidence, "" if verdict == "ok" else remedy)


def listed(items: list[str], most: int = 5) -> str:
    """Return the first few items, and their number if there are more."""
    return ", ".join(items[:most]) + (f", ... ({len(items)} in all)" if len(items) > most else "")


class Context:
    """A configuration and its data, which are only read, and the models that checks build from them.

    Attributes:
        config, parts: the configuration and its data.
        classes: the names of the classes; None for regression.
        sample: a random sample of the training part, by the seed of the configuration; all of it if it is small.
        x, y: the sample after preprocessing; y is (samples,).
    """

    def __init__(self, config: Config, parts: Parts) -> None:
        self.config = config
        self.parts = parts
        self.classes = parts.preprocessing.classes
        self.sample = drawn(parts.train, config.seed, at_least=config.train.batch_size)
        x, y = parts.arrays(self.sample, config.dtype)
        self.x: Array = np.asarray(x)
        self.y: Array = np.asarray(y) if self.classes else np.asarray(y, config.dtype)

    def fresh_trainer(self, regularized: bool = True) -> Trainer:
        """Return a new trainer, prepared on the sample, whose model has the weights that training will start from."""
        # These may need metrics that are not computed here; the learning rate stays the one in the file.
        settings: dict[str, Any] = {"early_stopping": None, "best": None, "metrics": None, "schedule": None}
        settings |= {"engine": "numpy", "callbacks": ()}
        if not regularized:
            optimizer = build(self.config.optimizer)
            optimizer.weight_decay = 0.0
            settings |= {"regularizer": (), "optimizer": optimizer}
        trainer = Experiment(self.config, self.parts, **settings).trainer
        trainer.prepare(self.x, self.y)
        return trainer

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer of `swept`. A check that runs it on other data takes a fresh one."""
        return self.fresh_trainer()

    @cached_property
    def swept(self) -> Objective:
        """The objective before training, after a forward and a backward sweep in evaluation mode (without dropout)."""
        return swept(self.trainer, self.x[:SWEPT], self.y[:SWEPT])

    @cached_property
    def table(self) -> Array:
        """The sample before scaling, with missing values filled in: (samples, features) in float64."""
        fill = self.parts.preprocessing.fill
        x = np.asarray(self.sample.x, np.float64).reshape(len(self.sample), -1)
        return x if fill is None else np.where(np.isnan(x), fill, x)

    def feature(self, index: int) -> str:
        """Return the name of a feature, or its position if it has no name."""
        names = self.parts.preprocessing.features
        if names is not None:
            return repr(names[index])
        place = np.unravel_index(index, self.parts.preprocessing.sample_shape)
        return f"x[{', '.join(str(int(i)) for i in place)}]"


def drawn(part: Dataset, seed: int, at_least: int = 1) -> Dataset:
    """Return a part if it is small, else as many random samples of it as make a million numbers."""
    size = max(SAMPLE_VALUES // max(1, math.prod(part.x.shape[1:])), at_least)
    if size >= len(part):
        return part
    return part.take(np.sort(np.random.default_rng(seed).choice(len(part), size, replace=False)))


def swept(trainer: Trainer, x: Array, y: Array) -> Objective:
    """Return the objective of a trainer after a forward and a backward sweep in evaluation mode."""
    objective = trainer.state.objective
    objective.training = False
    objective.forward(x, y)
    objective.backward()
    objective.training = True
    return objective


def model_steps(objective: Objective) -> list[tuple[str, Step]]:
    """Return the steps of the model in an objective, with their names in the model."""
    prefix = "model."
    return [(step.name.removeprefix(prefix), step) for step in objective.steps if step.name.startswith(prefix)]


def rms(array: Any) -> float:
    """Return the root mean square, 0 for an empty array."""
    values = np.asarray(array, np.float64)
    return float(np.sqrt(np.mean(values * values))) if values.size else 0.0
