"""A configuration: its sections, whose signatures say what may be written, and how it is loaded from YAML."""

import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import AfterValidator, WithJsonSchema

from layerflow.config.elements import Element, Section, plain_value
from layerflow.config.plan import ModelChecker, ModelPlan
from layerflow.config.problems import InvalidConfig, Problem, shown
from layerflow.config.registry import MODEL, ElementKind, Registry, signature_of
from layerflow.config.yaml import Node, apply_override, collected, dump_yaml, parse_document, read_document
from layerflow.errors import ConfigError, did_you_mean
from layerflow.gate import Gate
from layerflow.training.interval import Interval
from layerflow.training.metrics import METRICS, OF_ONE_CLASS, find_metric

Reader = Annotated[Element, ElementKind("reader")]
Scaler = Annotated[Element, ElementKind("scaler")]
Loss = Annotated[Element, ElementKind("loss")]
Regularizer = Annotated[Element, ElementKind("regularizer")]
Optimizer = Annotated[Element, ElementKind("optimizer")]
Schedule = Annotated[Element, ElementKind("schedule")]
RECORDED = (
    *(f"{part}_{name}" for part in ("val", "train") for name in ("loss", *METRICS)),
    "train_objective",
)
METRIC_PARTS = {"validation": "val", "valid": "val", "training": "train", "testing": "test", "acc": "accuracy"}
PARTS = r"(train|val)_"


def _is_recorded(name: str) -> bool:
    return name in RECORDED or (re.match(PARTS, name) is not None and find_metric(name.partition("_")[2]) is not None)


def _known_metric(is_known: Callable[[str], object], known: Collection[str]) -> AfterValidator:
    def check(name: str) -> str:
        if not is_known(name):
            raise ValueError(f"there is no metric {name!r}{_metric_hint(name, known)}")
        return name

    return AfterValidator(check)


def _metric_hint(word: str, known: Collection[str]) -> str:
    """Return what to write instead of the unknown metric `word`."""
    ours = "_".join(METRIC_PARTS.get(part, part) for part in word.split("_"))
    if ours in known:
        return f", layerflow calls it {ours!r}"
    return did_you_mean(word, known) or f"; there are {', '.join(known)}"


def _metric_schema(known: Collection[str], pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"enum": list(known)}, {"type": "string", "pattern": f"^{pattern}$"}]})


def _interval(text: str) -> str:
    try:
        Interval.parse(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


Metric = Annotated[str, _known_metric(find_metric, METRICS), _metric_schema(METRICS, OF_ONE_CLASS)]
RecordedMetric = Annotated[str, _known_metric(_is_recorded, RECORDED), _metric_schema(RECORDED, PARTS + OF_ONE_CLASS)]
Fraction = Annotated[float, Gt(0), Lt(1)]
PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class DataSection(Section):
    """Where samples come from, how they are split and scaled.

    Args:
        source: The reader of the samples: {type: CSV, path: ...}.
        test: The part kept for the final test: a fraction of the samples, a reader of its own, or null.
        validation: The part used by early stopping and to pick the best weights: as `test`; a fraction is taken from
            the samples that `test` leaves.
        stratify: Give all parts the same shares of the classes; by default for classification.
        scale: The scaler, fitted to the training part: Standard, MinMax, {type: Divide, by: 16}, or none.
    """

    source: Reader
    test: Fraction | Reader | None = 0.2
    validation: Fraction | Reader | None = 0.1
    stratify: bool | None = None
    scale: Scaler | Literal["none"] | None = None

    @property
    def scaler(self) -> Scaler | None:
        """The scaler, or None."""
        return self.scale if isinstance(self.scale, Element) else None


@dataclass(frozen=True)
class EarlyStoppingSection(Section):
    """Stop when a metric no longer improves.

    Args:
        metric: The recorded metric to watch.
        patience: Epochs without improvement before training stops.
        min_delta: A change counts as an improvement if it exceeds this.
    """

    metric: RecordedMetric = "val_loss"
    patience: PositiveInt = 10
    min_delta: NonNegativeFloat = 0.0


@dataclass(frozen=True)
class CheckpointSection(Section):
    """When the state of the training is saved, to continue from it.

    Args:
        every: A number of epochs, or 100 steps, or 10 seconds (at most 5 % of the time); always at the end.
        keep: How many older checkpoints are kept beside the last one.
    """

    every: PositiveInt | Annotated[str, AfterValidator(_interval)] = "10 seconds"
    keep: NonNegativeInt = 1


@dataclass(frozen=True)
class TrainSection(Section):
    """How long to train, and on which batches.

    Args:
        epochs: Passes over the training part.
        batch_size: Samples per step.
        shuffle: Shuffle the samples in every epoch; the order follows from seed and epoch.
        drop_last: Leave out the last batch of an epoch when it is smaller than the others.
        clip_norm: Scale the whole gradient down to this norm when it is longer.
        clip_value: Clip every entry of the gradient to +- this value.
        early_stopping: Stop when a metric no longer improves.
        checkpoint: When the state of the training is saved, to continue from it.
        best: The recorded metric that decides which weights are kept; val_loss when there is one.
        metrics: What to record beside the loss, f1_2 being that of class 2; by default what suits the task.
    """

    epochs: PositiveInt = 20
    batch_size: PositiveInt = 32
    shuffle: bool = True
    drop_last: bool = False
    clip_norm: PositiveFloat | None = None
    clip_value: PositiveFloat | None = None
    early_stopping: EarlyStoppingSection | None = None
    checkpoint: CheckpointSection = CheckpointSection()
    best: RecordedMetric | None = None
    metrics: list[Metric] | None = None


@dataclass(frozen=True, kw_only=True)
class TopLevel(Section):
    """A training run: data, model, loss, optimizer, and how to train.

    Args:
        seed: Of initial weights, splits, shuffling and dropout.
        dtype: The type of all parameters and activations.
        data: Where samples come from, how they are split and scaled.
        model: A list of gates, or a graph: {inputs: [x], gates: [...], output: name}.
        loss: The loss: SoftmaxCE, MulticlassSVM, SquaredError, ...
        regularizer: Added to the loss: {type: L2Regularizer, strength: 1.0e-4}, or a list of them.
        optimizer: The optimizer: {type: SGD, lr: 0.1, momentum: 0.9}.
        schedule: The learning rate over the epochs: Cosine, {type: Step, ...}.
        train: How long to train, and on which batches.
    """

    seed: NonNegativeInt = 0
    dtype: Literal["float32", "float64"] = "float32"
    data: DataSection
    model: Annotated[ModelPlan, MODEL]
    loss: Loss
    regularizer: Regularizer | list[Regularizer] | None = None
    optimizer: Optimizer
    schedule: Schedule | None = None
    train: TrainSection = TrainSection()


SECTIONS = tuple(signature_of(TopLevel))


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
        return FilePath(FilePath(self.source).name.lstrip(".")).stem or "config"

    def build_model(self, outputs: int | None = None) -> Gate:
        """Return a new, unbuilt `Sequential` or `ComputationalGraph`.

        Args:
            outputs: the number of classes or targets: the width of the last `Linear` where the file leaves it out.
        """
        return (self.model if outputs is None else self.model.with_width(outputs)).build()

    def resolve(self, folder: str | FilePath | None = None) -> dict[str, Any]:
        """Return the whole configuration as plain values, defaults and overrides included.

        Paths are absolute, or relative to `folder` when one is given: the folder that the file will be written to.
        """
        base = None if folder is None else os.fspath(folder)
        return {name: plain_value(getattr(self, name), base) for name in SECTIONS}

    def to_yaml(self, folder: str | FilePath | None = None) -> str:
        """Return the resolved configuration as YAML, which loads to an equal one from `folder`."""
        return dump_yaml(self.resolve(folder))


# Loading -----------------------------------------------------------------------------------------------------------


def load_config(
    file: str | FilePath, overrides: Iterable[str] = (), registry: Registry | None = None, seed: int | None = None
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
) -> Config:
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
) -> Config:
    checker = ModelChecker(registry or Registry.builtin(), folder, SECTIONS)
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
    return Config(**vars(sections), registry=checker.registry, source=name)
