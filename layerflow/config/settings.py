"""The fixed sections of a configuration; their fields are its keys, their descriptions its documentation."""

import re
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal

from annotated_types import Gt, Lt
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    WithJsonSchema,
)

from layerflow.config.elements import Part
from layerflow.config.hints import MODEL, ElementKind
from layerflow.config.words import metric_hint
from layerflow.errors import ConfigError
from layerflow.training.interval import Interval
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
            hint = metric_hint(name, known)
            raise ValueError(f"no metric is called {name!r}{hint}")
        return name

    return AfterValidator(check)


def _metric_schema(known: Collection[str], pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"enum": list(known)}, {"type": "string", "pattern": f"^{pattern}$"}]})


Metric = Annotated[str, _known_metric(find_metric, METRICS), _metric_schema(METRICS, OF_ONE_CLASS)]
RecordedMetric = Annotated[str, _known_metric(_is_recorded, RECORDED), _metric_schema(RECORDED, PARTS + OF_ONE_CLASS)]
Fraction = Annotated[float, Gt(0), Lt(1)]


class Section(BaseModel):
    """A section: unknown keys are refused, values are never converted from text, and nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class DataSection(Section):
    """Where samples come from, how they are split and scaled."""

    source: Reader = Field(description="The reader of the samples: {type: CSV, path: ...}.")
    test: Fraction | Reader | None = Field(
        default=0.2,
        description="The part kept for the final test: a fraction of the samples, a reader of its own, or null.",
    )
    validation: Fraction | Reader | None = Field(
        default=0.1,
        description="What early stopping and the best weights look at: as `test`; a fraction of what `test` leaves.",
    )
    stratify: bool | None = Field(
        default=None, description="Give all parts the same shares of the classes; by default for classification."
    )
    scale: Scaler | Literal["none"] | None = Field(
        default=None,
        description="The scaler, fitted to the training part: Standard, MinMax, {type: Divide, by: 16}, or none.",
    )


class EarlyStoppingSection(Section):
    """Stop when a metric no longer improves."""

    metric: RecordedMetric = Field(default="val_loss", description="The recorded metric to watch.")
    patience: PositiveInt = Field(default=10, description="Epochs without improvement before training stops.")
    min_delta: NonNegativeFloat = Field(
        default=0.0, description="The change that counts as an improvement must exceed this."
    )


def _interval(text: str) -> str:
    try:
        Interval.parse(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


class CheckpointSection(Section):
    """When the state of the training is saved, to continue from it."""

    every: PositiveInt | Annotated[str, AfterValidator(_interval)] = Field(
        default="10 seconds",
        description="A number of epochs, or 100 steps, or 10 seconds (at most 5 % of the time); always at the end.",
    )
    keep: NonNegativeInt = Field(default=1, description="How many older checkpoints stay beside the last one.")


class TrainSection(Section):
    """How long and in which pieces to train."""

    epochs: PositiveInt = Field(default=20, description="Passes over the training part.")
    batch_size: PositiveInt = Field(default=32, description="Samples per step.")
    shuffle: bool = Field(
        default=True, description="Shuffle the samples anew in every epoch; the order follows from seed and epoch."
    )
    drop_last: bool = Field(
        default=False, description="Leave out the last batch of an epoch when it is smaller than the others."
    )
    clip_norm: PositiveFloat | None = Field(
        default=None, description="Scale the whole gradient down to this norm when it is longer."
    )
    clip_value: PositiveFloat | None = Field(
        default=None, description="Clip every entry of the gradient to +- this value."
    )
    early_stopping: EarlyStoppingSection | None = Field(
        default=None, description="Stop when a metric no longer improves."
    )
    checkpoint: CheckpointSection = Field(
        default=CheckpointSection(), description="When the state of the training is saved, to continue from it."
    )
    best: RecordedMetric | None = Field(
        default=None,
        description="The recorded metric that decides which weights are kept; val_loss when there is one.",
    )
    metrics: list[Metric] | None = Field(
        default=None,
        description="What to record beside the loss, f1_2 being that of class 2; by default what suits the task.",
    )


class TopLevel(Section):
    """A training run: data, model, loss, optimizer, and how to train."""

    seed: NonNegativeInt = Field(default=0, description="Of initial weights, splits, shuffling and dropout.")
    dtype: Literal["float32", "float64"] = Field(
        default="float32", description="The type of all parameters and activations."
    )
    data: DataSection = Field(description="Where samples come from, how they are split and scaled.")
    model: Annotated[Any, MODEL] = Field(
        description="A list of gates, or a graph: {inputs: [x], gates: [...], output: name}."
    )
    loss: Loss = Field(description="The loss: SoftmaxCE, MulticlassSVM, SquaredError, ...")
    regularizer: Regularizer | list[Regularizer] | None = Field(
        default=None, description="Added to the loss: {type: L2Regularizer, strength: 1.0e-4}, or a list of them."
    )
    optimizer: Optimizer = Field(description="The optimizer: {type: SGD, lr: 0.1, momentum: 0.9}.")
    schedule: Schedule | None = Field(
        default=None, description="The learning rate over the epochs: Cosine, {type: Step, ...}."
    )
    train: TrainSection = Field(default=TrainSection(), description="How long and in which pieces to train.")


def section_plain(section: Section, folder: str | None) -> dict[str, Any]:
    """Return a section as plain values; elements with their defaults, paths relative to `folder`."""

    def plain(value: Any) -> Any:
        if isinstance(value, Section):
            return section_plain(value, folder)
        if isinstance(value, Part):
            return value.plain(folder)
        return [plain(item) for item in value] if isinstance(value, list) else value

    return {name: plain(getattr(section, name)) for name in type(section).model_fields}
