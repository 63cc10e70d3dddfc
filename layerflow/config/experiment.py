"""A configuration, loaded from YAML and brought to life: its data, its model and its trainer."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.config.elements import SECTIONS, TopLevel, build, plain_value
from layerflow.config.plan import ModelChecker, ModelPlan
from layerflow.config.problems import InvalidConfig, Problem, shown
from layerflow.config.registry import Registry
from layerflow.config.yaml import apply_override, collected, dump_yaml, parse_document, read_text
from layerflow.data import Dataset, Preprocessing, split
from layerflow.data.batches import split_in_time
from layerflow.data.reader import Reader
from layerflow.errors import ConfigError, DataError
from layerflow.gate import Gate
from layerflow.training.callbacks import Callback
from layerflow.training.history import EarlyStopping, History
from layerflow.training.state import Snapshot
from layerflow.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Config(TopLevel):
    """A configuration without problems; `layerflow.config.elements.build` makes a new object of any of its parts.

    Attributes:
        registry: the types it was checked with, your own included.
        source: the file it was read from.
    """

    registry: Registry
    source: str

    @property
    def name(self) -> str:
        """What its runs are called: the name of its file without extension, safe as a folder's name.

        Leading dots are left out: a folder named `..` would be another folder.
        """
        return Path(Path(self.source).name.lstrip(".")).stem or "config"

    def build_model(self, outputs: int | None = None) -> Gate:
        """Return a new, unbuilt `Sequential` or `ComputationalGraph`.

        Args:
            outputs: the number of classes or targets: the width of the last `Linear` where the file leaves it out.
        """
        plan: ModelPlan = self.model
        return (plan if outputs is None else plan.with_width(outputs)).build()

    def resolve(self, folder: str | Path | None = None) -> dict[str, Any]:
        """Return the whole configuration as plain values, defaults and overrides included.

        Paths are absolute, or relative to `folder` when one is given: the folder that the file will be written to.
        """
        base = None if folder is None else os.fspath(folder)
        return {name: plain_value(getattr(self, name), base) for name in SECTIONS}

    def to_yaml(self, folder: str | Path | None = None) -> str:
        """Return the resolved configuration as YAML, which loads to an equal one from `folder`."""
        return dump_yaml(self.resolve(folder))


def load_config(
    file: str | Path, overrides: Iterable[str] = (), registry: Registry | None = None, seed: int | None = None
) -> Config:
    """Load and check a YAML file.

    Args:
        file: The configuration; relative paths in it start at its folder.
        overrides: `optimizer.lr=0.05`, ...: put into the document before it is checked.
        registry: The types it may name; `Registry.builtin()` when left out.
        seed: Replaces the seed of the file (`--seed`).

    Raises:
        ConfigError: with every problem, its line and a caret.
    """
    folder = os.path.dirname(os.path.abspath(file))
    return load_config_text(read_text(file), overrides, registry, seed, str(file), folder)


def load_config_text(
    text: str,
    overrides: Iterable[str] = (),
    registry: Registry | None = None,
    seed: int | None = None,
    name: str = "<text>",
    folder: str = ".",
) -> Config:
    """Load and check YAML text, as `load_config` does a file; relative paths start at `folder`."""
    found: list[Problem] = []
    root = parse_document(text, name, found)
    checker = ModelChecker(registry or Registry.builtin(), os.path.abspath(folder), SECTIONS)
    if not isinstance(root.value, dict):
        wanted = f"must be a mapping with the sections {', '.join(SECTIONS)}"
        raise InvalidConfig([root.problem(f"{wanted}, not {shown(root.plain())}")])
    for override in [*overrides, *([] if seed is None else [f"seed={seed}"])]:
        with collected(found):
            apply_override(root, override)
    root.settle()
    if "blocks" in root.entries:
        with collected(found):
            checker = checker.with_blocks(root.entries["blocks"])
        if found:  # what uses the blocks cannot be checked without them
            raise InvalidConfig(found)
    with collected(found):
        sections = checker.section(root, TopLevel)
    if found:
        raise InvalidConfig(found)
    return Config(**vars(sections), registry=checker.registry, source=name)


# Data, model and trainer ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """The data of a run, split; the preprocessing has seen the training part only."""

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    preprocessing: Preprocessing

    def arrays(self, part: Dataset, dtype: str) -> tuple[Any, Any]:
        """Return (x, y) of a part as the model sees them."""
        return self.preprocessing.apply(part.x, dtype), part.y


def read_parts(config: Config) -> Parts:
    """Read and split the data: `test` first, `validation` from the rest; a part with a reader of its own wins."""
    data = config.data
    train = build(data.source).read()
    parts = {"test": build(data.test), "validation": build(data.validation)}
    held: dict[str, Dataset | None] = dict.fromkeys(parts)
    for offset, (name, wanted) in enumerate(parts.items()):
        if isinstance(wanted, float):
            assert train.y is not None
            try:
                if train.gap is None:
                    kept, back = split(train.y, wanted, config.seed + offset, data.stratify)
                else:
                    kept, back = split_in_time(len(train), wanted, train.gap)
            except DataError as error:
                raise DataError(f"data.{name}: {error}") from error
            train, held[name] = train.take(kept), train.take(back)
    preprocessing = Preprocessing.fit(train, build(data.scaler))
    for name, wanted in parts.items():
        if isinstance(wanted, Reader):
            held[name] = wanted.read(like=preprocessing)
    return Parts(train, held["validation"], held["test"], preprocessing)


def output_width(loss: Gate, train: Dataset) -> int:
    """Return how many scores the loss wants: one per class, or as many as targets, or one for a yes-or-no loss.

    Of sequences of targets, as many at each time.
    """
    classes, y = train.classes, train.y
    if classes is None:
        return 1 if y is None or y.ndim == 1 else int(y.shape[-1])
    return 1 if len(classes) == 2 and getattr(loss, "is_binary", False) else len(classes)


def check_task(config: Config, loss: Gate, classes: tuple[str, ...] | None) -> None:
    """Raise `ConfigError` when the loss is not made for such targets."""
    task, is_binary = getattr(loss, "task", None), getattr(loss, "is_binary", False)
    count = None if classes is None else len(classes)
    name = type(loss).__name__
    if task == "regression" and count is not None:
        problem = f"{name} is for numbers, but the targets are {count} classes; take SoftmaxCE, or say task: regression"
    elif task == "classification" and count is None and not is_binary:
        problem = f"{name} is for classes, but the targets are numbers; take SquaredError, or say task: classification"
    elif is_binary and count is not None and count > 2:
        problem = f"{name} is for two classes, but the targets have {count}; take SoftmaxCE"
    else:
        return
    raise InvalidConfig([config.loss.node.problem(problem)])


class Experiment:
    """Everything that a configuration stands for, ready to train.

    Attributes:
        parts: the data.
        loss, model, trainer: built from the configuration; the model has no parameters yet.

    Further arguments replace settings of the configuration: those of `Trainer`, such as `epochs` or `callbacks`.
    """

    def __init__(self, config: Config, parts: Parts | None = None, **settings: Any) -> None:
        self.config = config
        self.parts = parts or read_parts(config)
        self.loss: Gate = build(config.loss)
        check_task(config, self.loss, self.parts.preprocessing.classes)
        self.width = output_width(self.loss, self.parts.train)
        self.model = config.build_model(self.width)
        # The section `train` has the names of the trainer's settings.
        configured = vars(config.train) | {
            "optimizer": build(config.optimizer),
            "regularizer": build(config.regularizer) or (),
            "schedule": build(config.schedule),
            "batch_size": max(1, min(config.train.batch_size, len(self.parts.train))),
            "early_stopping": config.train.early_stopping and EarlyStopping(**vars(config.train.early_stopping)),
            "init": build(config.init) or {},
            "average": build(config.train.average),
            "callbacks": build(config.callbacks) or (),
            "augment": build(config.data.augment),
            "seed": config.seed,
            "dtype": config.dtype,
        }
        del configured["checkpoint"]
        self.trainer = Trainer(self.model, self.loss, **(configured | settings))

    def data(self) -> tuple[Any, Any, tuple[Any, Any] | None]:
        """Return x, y and the validation pair, as `Trainer.fit` takes them."""
        validation = self.parts.validation
        x, y = self.parts.arrays(self.parts.train, self.config.dtype)
        return x, y, None if validation is None else self.parts.arrays(validation, self.config.dtype)

    def prepare(self) -> None:
        """Build and check everything without taking a step; `ConfigError` when there are fewer scores than classes."""
        x, y, validation = self.data()
        self.trainer.prepare(x, y, validation)
        *_, scores = self.model.build(np.random.default_rng(), (self.trainer.state.batches.batch_size, *x.shape[1:]))
        if self.trainer.state.task == "classification" and scores < self.width:
            given = "1 score" if scores == 1 else f"{scores} scores"
            raise ConfigError(
                f"the model gives {given} per sample, but there are {self.width} classes; "
                "leave `out_features` of the last Linear out: it is inferred"
            )

    def fit(self, resume: Snapshot | None = None, callbacks: Sequence[Callback] = ()) -> History:
        """Train, from a snapshot on if one is given, and return the history."""
        x, y, validation = self.data()
        return self.trainer.fit(x, y, validation=validation, resume=resume, callbacks=callbacks)

    def evaluate(self, part: Dataset) -> dict[str, float]:
        """Return loss and metrics on a part."""
        return self.trainer.evaluate(*self.parts.arrays(part, self.config.dtype))
