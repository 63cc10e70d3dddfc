"""`layerflow init`: inspect a data file, and write a commented configuration with the reason for every choice."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerflow.cli import add_command
from layerflow.cli.output import add_output_options, check_output, write_output
from layerflow.config.yaml import inline_yaml
from layerflow.data import READERS, Dataset
from layerflow.data.arrays import shapes
from layerflow.data.dataset import guess_task
from layerflow.data.inspection import Column, guess_delimiter, read_columns
from layerflow.data.reader import SUPPORTED, kind_by_name
from layerflow.data.table import find_column
from layerflow.errors import ConfigError, DataError, did_you_mean

EXAMPLES = """\
  layerflow init flowers.csv --target species -o flowers.yaml
  layerflow init digits.npz > digits.yaml
  layerflow init train-images-idx3-ubyte.gz --target train-labels-idx1-ubyte.gz
"""

SHOWN = 8

Setting = tuple[str, Any, str]
"""A key of the configuration, its value, and a comment on it."""

TARGET_NAMES = ("target", "label", "class", "y", "outcome", "output")
UNUSABLE = {
    "identifier": "identifier of the rows",
    "text": "free text",
    "constant": "always the same",
    "empty": "has no values",
}

SKEWED = 3
"""How many times the smallest class the largest may be before the classes are balanced."""


BUCKETS = 32


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(subparsers, common, "init", "write a first configuration for a data file", EXAMPLES)
    parser.add_argument("data", metavar="DATA", help="CSV, NPZ, NPY, IDX or CIFAR-10 file")
    parser.add_argument("--target", metavar="NAME", help="the column, array or file with the targets")
    add_output_options(parser, "write the configuration to this file (default: standard output, for this folder)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the configuration."""
    file, inputs = arguments.output, [arguments.data, *filter(None, [arguments.target])]
    if file is not None:
        check_output(file, arguments.force, inputs)
    found = inspect(arguments.data, arguments.target, (file or Path("x")).resolve().parent)
    text = config_text(found, arguments.data, file)
    write_output(text, file, arguments.force, inputs, f"written; next: layerflow train {file}")
    return 0


@dataclass(frozen=True)
class Inspection:
    """What was found in a data file: all that a first configuration follows from.

    Attributes:
        source: The reader's type and settings, each with a comment on it.
        target: The name of the targets.
        data: The samples, read with these settings.
    """

    source: list[Setting]
    target: str
    data: Dataset

    @property
    def y(self) -> NDArray[Any]:
        """The targets."""
        assert self.data.y is not None
        return self.data.y


def inspect(data: str, target: str | None, folder: Path) -> Inspection:
    """Inspect a data file.

    Args:
        data: The file with the samples.
        target: The column, array or file with the targets; guessed for tables if left out.
        folder: The folder that the paths in the result are relative to.

    Raises:
        ConfigError: The type of the file is not supported, or the targets are not named.
        DataError: The data cannot be read, or there is nothing to learn from them.
    """
    kind = kind_by_name(data)
    if kind is None:
        raise ConfigError(f"{data}: unsupported file type; {SUPPORTED}")
    if kind == "CSV":
        settings, target = _table_settings(data, target)
    elif kind == "NPZ":
        settings, target = _archive_settings(data, target)
    elif kind == "CIFAR10":
        settings, target = [("paths", [Path(data)], "")], "label"
    elif target is None:
        raise ConfigError(f"{data}: the targets are missing; name their file with --target")
    elif kind == "NPY":
        settings, target = [("x", Path(data), ""), ("y", Path(target), "")], "y"
    else:
        settings, target = [("images", Path(data), ""), ("labels", Path(target), "")], "label"
    arguments = {key: _with_paths(value) for key, value, _ in settings}
    shown = [("type", kind, ""), *((key, _with_paths(value, folder), comment) for key, value, comment in settings)]
    found = Inspection(shown, target, READERS[kind](**arguments).read())
    if kind == "CSV" or found.data.classes or guess_task([*map(str, found.y)]) == "regression":
        return found
    task = ("task", "classification", "the targets are floats, but all of them are integers")
    return Inspection([*shown, task], target, READERS[kind](**arguments | {"task": "classification"}).read())


def _with_paths(value: Any, folder: Path | None = None) -> Any:
    """Return a setting with its paths as text, relative to `folder` if there is one."""
    if isinstance(value, list):
        return [_with_paths(item, folder) for item in value]
    if isinstance(value, Path):
        return str(value) if folder is None else os.path.relpath(os.path.realpath(value), os.path.realpath(folder))
    return value


def _table_settings(data: str, target: str | None) -> tuple[list[Setting], str]:
    delimiter = guess_delimiter(data)
    columns, (decimal, thousands) = read_columns(data, delimiter)
    names = [column.name for column in columns]
    if target is not None:
        chosen, why = columns[find_column(target, names, data)], ""
    else:
        named = [column for column in columns if column.name.lower() in TARGET_NAMES]
        chosen = named[0] if named else columns[-1]
        why = f"{'chosen by its name' if named else 'the last column'}; change it with --target"
    others = [column for column in columns if column is not chosen]
    features = [column for column in others if column.role in ("number", "category", "date", "hashed")]
    if not features:
        raise DataError(f"{data}: no column is left to predict {chosen.name!r} from; columns: {', '.join(names)}")
    _check_target(chosen, data)
    settings: list[Setting] = [("path", Path(data), ""), ("target", chosen.name, why)]
    if len(features) < len(others):
        left_out = "; ".join(f"{column.name}: {UNUSABLE[column.role]}" for column in others if column not in features)
        settings.append(("features", [column.name for column in features], f"left out: {left_out}"))
    if categories := [column.name for column in features if column.role == "category"]:
        settings.append(("categorical", categories, "text: each becomes one 0/1 column per category"))
    if dates := {column.name: column.form for column in features if column.role == "date"}:
        settings.append(("dates", dates, "each becomes year, month, weekday and days since 1970"))
    if hashed := {column.name: BUCKETS for column in features if column.role == "hashed"}:
        settings.append(("hashed", hashed, "many different texts: each falls into one of so many 0/1 columns"))
    if decimal != ".":
        settings.append(("decimal", decimal, ""))
    if thousands:
        settings.append(("thousands", thousands, "between groups of three digits"))
    gaps = [f"{column.missing} in {column.name}" for column in features if column.missing]
    if chosen.missing:
        rows = chosen.missing + chosen.present.total()
        settings.append(("missing", "drop", f"leave out rows without a target ({chosen.missing} of {rows})"))
    elif gaps:
        settings.append(("missing", "mean", f"fill missing values with the training mean: {', '.join(gaps)}"))
    if delimiter != ",":
        settings.append(("delimiter", delimiter, ""))
    return settings, chosen.name


def _check_target(column: Column, data: str) -> None:
    different, rows = len(column.present), column.present.total()
    if different < 2:
        held = f"is always {next(iter(column.present))!r}" if different else "has no values"
        problem = f"{held}, so there is nothing to predict"
    elif 2 * different > rows and guess_task([*column.present.elements()]) == "classification":
        problem = f"has {different} different texts in {rows} rows, too many for classes"
    else:
        return
    raise DataError(f"{data}: column {column.name!r} {problem}; choose another one with --target")


def _archive_settings(data: str, target: str | None) -> tuple[list[Setting], str]:
    found = shapes(data)
    y = target or next((name for name in ("y", "labels", "label", "targets", "target") if name in found), None)
    y = y or next((name for name, shape in found.items() if len(shape) == 1), "y")
    if y not in found:
        raise DataError(
            f"{data}: no array {y!r}{did_you_mean(y, found)}; it holds {', '.join(found)}; "
            "name the targets with --target"
        )
    fits = [name for name, shape in found.items() if len(shape) > 1 and name != y and shape[:1] == found[y][:1]]
    if not fits:
        raise DataError(
            f"{data}: no array of features is as long as the targets in {y!r}, of shape {found[y]}; "
            f"it holds {', '.join(found)}"
        )
    return [("path", Path(data), ""), ("x", fits[0], f"shape {found[fits[0]]}"), ("y", y, "")], y


def config_text(found: Inspection, data: str, file: Path | None) -> str:
    """Return a configuration for what was found in a data file; `file` is where it will be written."""
    samples, classes = len(found.data), _class_sizes(found)
    test, validation = (0.2 if samples >= 20 else None), (0.1 if samples >= 50 else None)
    training = int(samples * (1 - (test or 0)) * (1 - (validation or 0)))
    batch = min(training, 32 if samples < 5000 else 64 if samples < 50000 else 128)
    too_few = "too few samples to split"
    epochs = int(np.clip(4000 * batch // max(training, 1), 10, 200))
    name = _printable(file.name if file else "this.yaml")
    scale: Any = "Standard"
    why_scale = f"mean 0 and standard deviation 1 in each {'channel' if found.data.x.ndim == 4 else 'column'}"
    if found.data.x.dtype == np.uint8:
        scale, why_scale = {"type": "Divide", "by": 255}, "scales bytes to the range 0 to 1"
    lines = [
        f"# First configuration for {_printable(os.path.basename(data))}: {_task(found, classes)}.",
        f"# Check: layerflow check {name}",
        f"# Train: layerflow train {name}",
        "seed: 0",
        "data:",
        "  source:",
        *(f"    {key}: {inline_yaml(value)}{_comment(why)}" for key, value, why in found.source),
        f"  test: {inline_yaml(test)}" + _comment("fraction held out for the final test" if test else too_few),
        f"  validation: {inline_yaml(validation)}"
        + _comment("fraction of the rest, used to pick the best epoch" if validation else too_few),
        f"  scale: {inline_yaml(scale)}{_comment(why_scale)}",
        *_model(found, len(classes)),
        _loss(classes),
        "# regularizer: {type: L2Regularizer, strength: 1.0e-4}  # against overfitting",
        f"optimizer: {{type: Adam, lr: {0.003 if classes else 0.01}}}",
        "schedule: Cosine",
        "train:",
        f"  epochs: {epochs}",
        f"  batch_size: {batch}",
    ]
    if validation:
        lines.append(f"  early_stopping: {{metric: val_loss, patience: {max(10, epochs // 4)}}}")
    if classes:
        lines.append(f"  metrics: [accuracy, f1{', balanced_accuracy' if _is_skewed(classes) else ''}]")
    return "\n".join(lines) + "\n"


def _class_sizes(found: Inspection) -> dict[str, int]:
    """Return the number of samples of each class; empty for regression."""
    names = found.data.classes
    return dict(zip(names, np.bincount(found.y, minlength=len(names)).tolist(), strict=True)) if names else {}


def _task(found: Inspection, classes: dict[str, int]) -> str:
    name, samples = _printable(found.target), f"{len(found.data):,} samples"
    if not classes:
        mean, deviation = found.y.mean(), found.y.std()
        return f"regression of {name}, mean {mean:.4g}, standard deviation {deviation:.4g}; {samples}"
    counts = [f"{_printable(label)} ({count:,})" for label, count in sorted(classes.items(), key=lambda item: -item[1])]
    more = f", ... ({len(counts)} in all)" if len(counts) > SHOWN else ""
    return f"classification by {name}: {', '.join(counts[:SHOWN])}{more}; {samples}"


def _model(found: Inspection, classes: int) -> list[str]:
    samples, (_, *shape) = len(found.data), found.data.x.shape
    width = 16 if samples < 200 else 32 if samples < 2000 else 64 if np.prod(shape) < 256 else 128
    flatten = len(shape) > 1
    mean, deviation = found.y.mean(), found.y.std()
    if classes or (abs(mean) <= 3 and 0.1 <= deviation <= 10):
        ending = "one score per class" if classes > 2 else "one value per sample"
        return [
            "model:",
            *(["  - Flatten"] if flatten else []),
            f"  - {{type: Linear, out_features: {width}}}",
            "  - ReLU",
            f"  - Linear{_comment(f'{ending}; out_features is inferred from the data')}",
        ]
    return [
        "model:" + _comment("a graph, whose last two gates scale the output to the range of the targets"),
        "  inputs: [x]",
        f"  constants: {{deviation: {deviation:.4g}, mean: {mean:.4g}}}" + _comment(f"of {_printable(found.target)}"),
        "  gates:",
        *(["    - {name: flat, type: Flatten, inputs: x}"] if flatten else []),
        f"    - {{name: hidden, type: Linear, out_features: {width}, inputs: {'flat' if flatten else 'x'}}}",
        "    - {name: active, type: ReLU, inputs: hidden}",
        "    - {name: score, type: Linear, inputs: active}",
        "    - {name: scaled, type: Multiply, inputs: [score, deviation]}",
        "    - {name: value, type: Add, inputs: [scaled, mean]}",
        "  output: value",
    ]


def _loss(classes: dict[str, int]) -> str:
    if not classes:
        return "loss: SquaredError" + _comment("use Huber if there are outliers")
    loss = "SigmoidCE" if len(classes) == 2 else "SoftmaxCE"
    if not _is_skewed(classes):
        return f"loss: {loss}"
    reason = "all classes count alike, however rare; compare f1, not only accuracy"
    return f"loss: {{type: {loss}, class_weight: balanced}}{_comment(reason)}"


def _is_skewed(classes: dict[str, int]) -> bool:
    return SKEWED * min(classes.values()) < max(classes.values())


def _comment(text: str) -> str:
    return f"  # {_printable(text, 400)}" if text else ""


def _printable(text: str, most: int = 60) -> str:
    """Return text that is safe in a comment: one line, printable, not too long."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."
