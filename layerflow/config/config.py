"""A checked configuration: what it says, the objects it stands for, and the YAML that says the same again."""

import os
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Literal

from layerflow.config.elements import Element
from layerflow.config.model import ModelPlan
from layerflow.config.registry import Registry
from layerflow.config.scalars import dump_yaml
from layerflow.config.sections import DataSection, TopLevel, TrainSection, section_plain
from layerflow.data.reader import Reader
from layerflow.data.scaling import Scaler
from layerflow.gate import Gate
from layerflow.training.optimizers import Optimizer
from layerflow.training.schedules import Schedule


@dataclass(frozen=True)
class Config:
    """A configuration without problems. Every `build_...` makes new objects at each call.

    Attributes:
        sections: the checked sections; `config.train.epochs` and the like read from them.
        registry: the types it was checked with, a person's own included.
        source: the file it was read from.
    """

    sections: TopLevel
    registry: Registry
    source: str

    @property
    def name(self) -> str:
        """What the run is called: the file's name without its extension."""
        return FilePath(self.source).stem

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
        return section_plain(self.sections, base)

    def to_yaml(self, folder: str | FilePath | None = None) -> str:
        """Return the resolved configuration as YAML, which loads to an equal one from `folder`."""
        return dump_yaml(self.resolve(folder))
