"""The fixed sections of a configuration. As with every type, the constructor's signature says what may be written."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import AfterValidator, WithJsonSchema

from layerflow.config.building import Part, plain_value
from layerflow.config.signatures import MODEL, ElementKind
from layerflow.config.vocabulary import metric_hint
from layerflow.errors import ConfigError
from layerflow.training.callbacks import parse_interval
from layerflow.training.metrics import METRICS, OF_ONE_CLASS, find_metric

Reader = Annotated[Any, ElementKind("reader")]
Scaler = Annotated[Any, ElementKind("scaler")]
Loss = Annotated[Any, ElementKind("loss")]
Regularizer = Annotated[Any, ElementKind("regularizer")]
Optimizer = Annotated[Any, ElementKind("optimizer")]
Schedule = Annotated[Any, ElementKind("schedule")]
RECORDED = (
    *(f"{part}_{name}" for part in ("val", "train") for name in ("loss", *METRICS)),
    "train_objective",
)
PARTS = r"(train|val)_"


def _is_recorded(name: str) -> bool:
    return name in RECORDED or (re.match(PARTS, name) is not None and find_metric(name.partition("_")[2]) is not None)


def _known_metric(is_known: Callable[[str], object], known: Collection[str]) -> AfterValidator:
    def check(name: str) -> str:
        if not is_known(name):
            raise ValueError(f"there is no metric {name!r}{metric_hint(name, known)}")
        return name

    return AfterValidator(check)


def _metric_schema(known: Collection[str], pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"enum": list(known)}, {"type": "string", "pattern": f"^{pattern}$"}]})


def _interval(text: str) -> str:
    try:
        parse_interval(text)
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


class Section(Part):
    """A mapping of fixed keys, checked."""

    def build(self) -> Any:
        """Return the section itself."""
        return self

    def plain(self, folder: str | None = None) -> dict[str, Any]:
        """Return the section as plain values; elements with their defaults, paths relative to `folder`."""
        return {item.name: plain_value(getattr(self, item.name), folder) for item in fields(self)}  # type: ignore[arg-type]


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
    model: Annotated[Any, MODEL]
    loss: Loss
    regularizer: Regularizer | list[Regularizer] | None = None
    optimizer: Optimizer
    schedule: Schedule | None = None
    train: TrainSection = TrainSection()
