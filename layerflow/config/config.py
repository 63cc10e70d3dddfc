"""A checked configuration: loaded from YAML, what it says, the objects it stands for, and the YAML for it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Literal

from layerflow.config.building import Element, ModelPlan
from layerflow.config.checking import SECTIONS, Checker
from layerflow.config.problems import InvalidConfig, Problem, collected
from layerflow.config.registry import Registry
from layerflow.config.toplevel import DataSection, TopLevel, TrainSection
from layerflow.config.vocabulary import shown
from layerflow.config.yaml import Node, apply_override, dump_yaml, parse_document, read_document
from layerflow.data import Reader, Scaler
from layerflow.gate import Gate
from layerflow.training.optimizers import Optimizer
from layerflow.training.schedules import Schedule


def load_config(
    file: str | FilePath, overrides: Iterable[str] = (), registry: Registry | None = None, seed: int | None = None
) -> "Config":
    """Load and check a YAML file.

    Args:
        file: The configuration; relative paths in it start at its folder.
        overrides: `optimizer.lr=0.05`, ...: put into the document before it is checked.
        registry: The types it may name; `Registry.builtin()` when left out.
        seed: Replaces the seed of the file (`--seed`).

    Raises:
        ConfigError: with every problem, its line and a caret.
    """
    found: list[Problem] = []
    folder = os.path.dirname(os.path.abspath(file))
    return _load(read_document(file, found), found, str(file), folder, overrides, registry, seed)


def load_config_text(
    text: str,
    overrides: Iterable[str] = (),
    registry: Registry | None = None,
    seed: int | None = None,
    name: str = "<text>",
    folder: str = ".",
) -> "Config":
    """Load and check YAML text, as `load_config` does a file; relative paths start at `folder`."""
    found: list[Problem] = []
    root = parse_document(text, name, found)
    return _load(root, found, name, os.path.abspath(folder), overrides, registry, seed)


def _load(
    root: Node,
    found: list[Problem],
    name: str,
    folder: str,
    overrides: Iterable[str],
    registry: Registry | None,
    seed: int | None,
) -> "Config":
    checker = Checker(registry or Registry.builtin(), folder)
    if not isinstance(root.value, dict):
        wanted = f"must be a mapping with the sections {', '.join(SECTIONS)}"
        raise InvalidConfig([root.problem(f"{wanted}, not {shown(root.plain())}")])
    for override in [*overrides, *([] if seed is None else [f"seed={seed}"])]:
        with collected(found):
            apply_override(root, override)
    with collected(found):
        sections = checker.section(root.settle(), TopLevel)
    if found:
        raise InvalidConfig(found)
    return Config(sections, checker.registry, name)


def run_name(file: str | FilePath) -> str:
    """Return what the runs of a configuration are called: its file's name without extension, safe as a folder's name.

    Leading dots are left out: a folder named `..` would be another folder.
    """
    return FilePath(FilePath(file).name.lstrip(".")).stem or "config"


@dataclass(frozen=True)
class Config:
    """A configuration without problems. Every `build_...` makes new objects at each call.

    Attributes:
        sections: the checked sections.
        registry: the types it was checked with, your own included.
        source: the file it was read from.
    """

    sections: TopLevel
    registry: Registry
    source: str

    @property
    def name(self) -> str:
        """What its runs are called."""
        return run_name(self.source)

    @property
    def seed(self) -> int:
        """Of initial weights, splits, shuffling and dropout."""
        return self.sections.seed

    @property
    def dtype(self) -> str:
        """`float32` or `float64`."""
        return self.sections.dtype

    @property
    def data(self) -> DataSection:
        """Source, test and validation parts, stratification, scaling."""
        return self.sections.data

    @property
    def train(self) -> TrainSection:
        """Epochs, batch size, clipping, early stopping, metrics."""
        return self.sections.train

    @property
    def model(self) -> ModelPlan:
        """The model as it was written."""
        plan: ModelPlan = self.sections.model
        return plan

    def build_model(self, outputs: int | None = None) -> Gate:
        """Return a new, unbuilt `Sequential` or `ComputationalGraph`.

        Args:
            outputs: the number of classes or targets: the width of the last `Linear` where the file leaves it out.
        """
        return (self.model if outputs is None else self.model.with_width(outputs)).build()

    def build_loss(self) -> Gate:
        """Return a new loss."""
        loss: Gate = self.sections.loss.build()
        return loss

    def build_regularizers(self) -> list[Gate]:
        """Return new regularizers, none when the file names none."""
        named = self.sections.regularizer
        return [element.build() for element in (named if isinstance(named, list) else [named]) if element is not None]

    def build_optimizer(self) -> Optimizer:
        """Return a new optimizer."""
        optimizer: Optimizer = self.sections.optimizer.build()
        return optimizer

    def build_schedule(self) -> Schedule | None:
        """Return a new schedule, or None."""
        return None if self.sections.schedule is None else self.sections.schedule.build()

    def build_reader(self) -> Reader:
        """Return the reader of `data.source`."""
        reader: Reader = self.data.source.build()
        return reader

    def build_part(self, part: Literal["test", "validation"]) -> Reader | float | None:
        """Return what `data.test` or `data.validation` says: a reader, a fraction, or None."""
        value: Element | float | None = getattr(self.data, part)
        if not isinstance(value, Element):
            return value
        reader: Reader = value.build()
        return reader

    def build_scaler(self) -> Scaler | None:
        """Return a new, unfitted scaler, or None."""
        return self.data.scale.build() if isinstance(self.data.scale, Element) else None

    def resolve(self, folder: str | FilePath | None = None) -> dict[str, Any]:
        """Return the whole configuration as plain values, defaults and overrides included.

        Paths are absolute, or relative to `folder` when one is given: the folder that the file will be written to.
        """
        base = None if folder is None else os.fspath(folder)
        return self.sections.plain(base)

    def to_yaml(self, folder: str | FilePath | None = None) -> str:
        """Return the resolved configuration as YAML, which loads to an equal one from `folder`."""
        return dump_yaml(self.resolve(folder))
