"""`layerflow init`: write a commented configuration to start from, with the reason for every choice."""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli import add_command
from layerflow.cli.output import add_output_options, check_output, write_output
from layerflow.config.yaml import inline_yaml
from layerflow.data.inspection import Inspection, inspect

EXAMPLES = """\
  layerflow init flowers.csv --target species -o flowers.yaml
  layerflow init digits.npz > digits.yaml
  layerflow init train-images-idx3-ubyte.gz --target train-labels-idx1-ubyte.gz
"""

SHOWN = 8


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


def config_text(found: Inspection, data: str, file: Path | None) -> str:
    """Return a configuration for what was found in a data file; `file` is where it will be written."""
    test, validation = (0.2 if found.samples >= 20 else None), (0.1 if found.samples >= 50 else None)
    training = int(found.samples * (1 - (test or 0)) * (1 - (validation or 0)))
    batch = min(training, 32 if found.samples < 5000 else 64 if found.samples < 50000 else 128)
    too_few = "too few samples to split"
    epochs = int(np.clip(4000 * batch // max(training, 1), 10, 200))
    name = file.name if file else "this.yaml"
    lines = [
        f"# First configuration for {_printable(os.path.basename(data))}: {_task(found)}.",
        f"# Check: layerflow check {_printable(name)}",
        f"# Train: layerflow train {_printable(name)}",
        "seed: 0",
        "data:",
        "  source:",
        *(f"    {key}: {inline_yaml(value)}{_comment(why)}" for key, value, why in found.source),
        f"  test: {inline_yaml(test)}" + _comment("fraction held out for the final test" if test else too_few),
        f"  validation: {inline_yaml(validation)}"
        + _comment("fraction of the rest, used to pick the best epoch" if validation else too_few),
        f"  scale: {inline_yaml(found.scale[0])}{_comment(found.scale[1])}",
        *_model(found),
        *_loss(found),
        "# regularizer: {type: L2Regularizer, strength: 1.0e-4}  # against overfitting",
        f"optimizer: {{type: Adam, lr: {0.003 if found.classes else 0.01}}}",
        "schedule: Cosine",
        "train:",
        f"  epochs: {epochs}",
        f"  batch_size: {batch}",
    ]
    if validation:
        lines.append(f"  early_stopping: {{metric: val_loss, patience: {max(10, epochs // 4)}}}")
    if found.classes:
        lines.append("  metrics: [accuracy, f1]")
    return "\n".join(lines) + "\n"


def _task(found: Inspection) -> str:
    name = _printable(found.target)
    if found.classes is None:
        mean, deviation = found.spread
        return f"regression of {name}, mean {mean:.4g}, standard deviation {deviation:.4g}; {found.samples:,} samples"
    counts = [
        f"{_printable(label)} ({count:,})" for label, count in sorted(found.classes.items(), key=lambda item: -item[1])
    ]
    more = f", ... ({len(counts)} in all)" if len(counts) > SHOWN else ""
    return f"classification by {name}: {', '.join(counts[:SHOWN])}{more}; {found.samples:,} samples"


def _model(found: Inspection) -> list[str]:
    width = 16 if found.samples < 200 else 32 if found.samples < 2000 else 64 if np.prod(found.shape) < 256 else 128
    flatten = len(found.shape) > 1
    mean, deviation = found.spread
    if found.classes is not None or (abs(mean) <= 3 and 0.1 <= deviation <= 10):
        ending = (
            "one score per class" if found.classes is not None and len(found.classes) > 2 else "one value per sample"
        )
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


def _loss(found: Inspection) -> list[str]:
    if found.classes is None:
        return ["loss: SquaredError" + _comment("use Huber if there are outliers")]
    rare, most = min(found.classes.values()), max(found.classes.values())
    skewed = "unbalanced classes: compare f1, not only accuracy; consider class_weight" if 5 * rare < most else ""
    return [f"loss: {'SigmoidCE' if len(found.classes) == 2 else 'SoftmaxCE'}{_comment(skewed)}"]


def _comment(text: str) -> str:
    return f"  # {_printable(text, 400)}" if text else ""


def _printable(text: str, most: int = 60) -> str:
    """Return text that is safe in a comment: one line, printable, not too long."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."
