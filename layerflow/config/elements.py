"""What a checked configuration consists of: sections of fixed keys, and elements `{type: ..., setting: ...}`.

Each part can be built, and written down again as plain values.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Gt, Lt
from pydantic import AfterValidator, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, WithJsonSchema

from layerflow.config.problems import InvalidConfig, Problem
from layerflow.config.registry import MODEL, ElementKind, Factory, signature_of
from layerflow.config.yaml import Node
from layerflow.errors import ConfigError, LayerflowError, did_you_mean
from layerflow.training.callbacks import parse_interval
from layerflow.training.metrics import METRICS, OF_ONE_CLASS, find_metric

WIDTH = "out_features"
"""The argument that the last gate with one may leave to the data."""


class ConfigPath(str):
    """A file or folder named in a configuration, as an absolute path."""

    __slots__ = ()


class Part(ABC):
    """Something that a configuration describes."""

    @abstractmethod
    def build(self) -> Any:
        """Return a new object."""

    @abstractmethod
    def plain(self, folder: str | None = None) -> Any:
        """Return it as plain values for YAML; paths relative to `folder`."""


class Section(Part):
    """A mapping of fixed keys, checked; its subclasses are dataclasses, whose fields are the keys."""

    def build(self) -> Any:
        """Return the section itself."""
        return self

    def plain(self, folder: str | None = None) -> dict[str, Any]:
        """Return the section as plain values; elements with their defaults, paths relative to `folder`."""
        return {name: plain_value(getattr(self, name), folder) for name in signature_of(type(self))}


@dataclass(frozen=True)
class Element(Part):
    """A type and its checked arguments; arguments may hold further elements.

    Attributes:
        type: the name of the type, as the configuration writes it.
        factory: the class or function of that name.
        arguments: what its constructor is called with, by name.
        node: the value of the document that describes it.
    """

    type: str
    factory: Factory
    arguments: dict[str, Any]
    node: Node

    def build(self, **more: Any) -> Any:
        """Call the type with its arguments, and with `more`; an error of its constructor is a `ConfigError`."""
        arguments, positional = {name: build(value) for name, value in self.arguments.items()}, []
        signature = list(signature_of(self.factory).values())
        if (variadic := next((index for index, item in enumerate(signature) if item.is_variadic), None)) is not None:
            # With `*items`, whatever comes before them has to be given by position, too.
            before = [arguments.pop(item.name, item.default) for item in signature[:variadic]]
            positional = [*before, *arguments.pop(signature[variadic].name, [])]
        try:
            return self.factory(*positional, **arguments, **more)
        except Exception as error:  # whatever the constructor of a type of your own may raise
            raise InvalidConfig([self._problem(error)]) from error

    def plain(self, folder: str | None = None) -> dict[str, Any] | str:
        """Return the element as a mapping, or as its bare type where there is nothing to set."""
        mapping = self.mapping(folder)
        return mapping if len(mapping) > 1 else self.type

    def mapping(self, folder: str | None = None) -> dict[str, Any]:
        """Return the element as plain values with every default that YAML can express; paths relative to `folder`.

        A block is written out, so that a saved model does not need the configuration that defined it.
        """
        if (plan := getattr(self.factory, "plan", None)) is not None:
            written = plan.plain(folder)
            is_row = isinstance(written, list)
            return (
                {"type": "Sequential", "gates": written} if is_row else {"type": "ComputationalGraph", "graph": written}
            )
        values, signature = dict(self.arguments), signature_of(self.factory)
        for name, argument in signature.items():
            if not argument.is_required and not argument.is_variadic and is_plain(argument.default):
                values.setdefault(name, argument.default)
        ordered = [name for name in dict.fromkeys([*signature, *values]) if name in values]
        return {"type": self.type} | {name: plain_value(values[name], folder) for name in ordered}

    @property
    def lacks_width(self) -> bool:
        """Whether it has a required width that is left to the data."""
        argument = signature_of(self.factory).get(WIDTH)
        return argument is not None and argument.is_required and WIDTH not in self.arguments

    def _problem(self, error: Exception) -> Problem:
        """Return the error of the constructor with the place of the argument that it names, if any."""
        expected = isinstance(error, LayerflowError | ValueError | TypeError)
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        message = re.sub(rf"^{re.escape(self.type)}(\(.*?\))?: ", "", " ".join(text.split()))
        word = message.split(" ")[0].strip("'\":,").split("[")[0]
        return self.node.entries.get(word, self.node).problem(f"{self.type}: {message}")


def build(value: Any) -> Any:
    """Return a checked value with every element in it built; tuples become lists."""
    return _map(value, lambda part: part.build(), str)


def plain_value(value: Any, folder: str | None) -> Any:
    """Return a checked value as plain values: elements as mappings, paths relative to `folder`, tuples as lists."""

    def path(text: ConfigPath) -> str:
        return str(text) if folder is None else os.path.relpath(os.path.realpath(text), os.path.realpath(folder))

    return _map(value, lambda part: part.plain(folder), path)


def _map(value: Any, part: Callable[[Part], Any], path: Callable[[ConfigPath], Any]) -> Any:
    if isinstance(value, Part):
        return part(value)
    if isinstance(value, ConfigPath):
        return path(value)
    if isinstance(value, list | tuple):
        return [_map(item, part, path) for item in value]
    if isinstance(value, dict):
        return {key: _map(item, part, path) for key, item in value.items()}
    return value


def is_plain(value: Any) -> bool:
    """Whether YAML can express a value."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)


# The fixed sections --------------------------------------------------------------------------------------------------

Reader = Annotated[Element, ElementKind("reader")]
Scaler = Annotated[Element, ElementKind("scaler")]
Averaging = Annotated[Element, ElementKind("averaging")]
Augmentation = Annotated[Element, ElementKind("augmentation")]
Callback = Annotated[Element, ElementKind("callback")]
Initializer = Annotated[Element, ElementKind("initializer")]
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
        parse_interval(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


Metric = Annotated[str, _known_metric(find_metric, METRICS), _metric_schema(METRICS, OF_ONE_CLASS)]
RecordedMetric = Annotated[str, _known_metric(_is_recorded, RECORDED), _metric_schema(RECORDED, PARTS + OF_ONE_CLASS)]
Fraction = Annotated[float, Gt(0), Lt(1)]


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
        augment: Random changes of the training images: [Flip, {type: Shift, padding: 4}].
    """

    source: Reader
    test: Fraction | Reader | None = 0.2
    validation: Fraction | Reader | None = 0.1
    stratify: bool | None = None
    scale: Scaler | Literal["none"] | None = None
    augment: Sequence[Augmentation] = ()

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
        engine: What runs a step: numpy; native, machine code (layerflow[native]); xla, on CPU, GPU or TPU by JAX
            (layerflow[xla]); auto, native for long runs.
        accumulate: Batches that share an update; their gradients are averaged, as if of one batch.
        average: EMA or SWA: an average of the weights takes their place in validation and at the end.
        freeze: Patterns of the names of parameters that are not trained, such as "0.*".
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
    engine: Literal["numpy", "native", "xla", "auto"] = "numpy"
    accumulate: PositiveInt = 1
    average: Averaging | None = None
    freeze: Sequence[str] = ()
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
        blocks: Models by name, to be used as gates in `model` and in later blocks: {block: [LayerNorm, ...]}.
        model: A list of gates, or a graph: {inputs: [x], gates: [...], output: name}.
        init: Initializers of parameters by patterns of their names: {"*.weight_hh": Orthogonal}.
        loss: The loss: SoftmaxCE, MulticlassSVM, SquaredError, ...
        regularizer: Added to the loss: {type: L2Regularizer, strength: 1.0e-4}, or a list of them.
        optimizer: The optimizer: {type: SGD, lr: 0.1, momentum: 0.9}.
        schedule: The learning rate over the epochs: Cosine, {type: Step, ...}.
        train: How long to train, and on which batches.
        callbacks: What is called while the model trains, such as a tracker: [{type: TensorBoard}].
    """

    seed: NonNegativeInt = 0
    dtype: Literal["float32", "float64"] = "float32"
    data: DataSection
    blocks: dict[str, Annotated[Any, MODEL]] | None = None
    model: Annotated[Any, MODEL]
    init: dict[str, Initializer] | None = None
    loss: Loss
    regularizer: Regularizer | list[Regularizer] | None = None
    optimizer: Optimizer
    schedule: Schedule | None = None
    train: TrainSection = TrainSection()
    callbacks: list[Callback] | None = None


SECTIONS = tuple(signature_of(TopLevel))
