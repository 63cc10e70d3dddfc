"""A first configuration for a data file: what was found decides, and comments say why."""

import os
from pathlib import Path

import numpy as np

from layerflow.config.findings import Findings, look_at
from layerflow.config.yaml import inline_yaml

SHOWN = 8


def starter_config(data: str, target: str | None, file: Path | None) -> str:
    """Return a configuration for a data file.

    Args:
        data: the file with the samples.
        target: the column, array or file with the targets; guessed for tables where it is left out.
        file: where the configuration will be written, since its paths start there; the current folder if left out.

    Raises:
        ConfigError: the file's name doesn't say what it is, or the targets are named nowhere.
        DataError: the data cannot be read, or there is nothing to learn from them.
    """
    found = look_at(data, target, (file or Path("x")).resolve().parent)
    return _write(found, data, file)


def _write(found: Findings, data: str, file: Path | None) -> str:
    test, validation = (0.2 if found.samples >= 20 else None), (0.1 if found.samples >= 50 else None)
    training = int(found.samples * (1 - (test or 0)) * (1 - (validation or 0)))
    batch = min(training, 32 if found.samples < 5000 else 64 if found.samples < 50000 else 128)
    too_few = "too few samples to hold some back"
    epochs = int(np.clip(4000 * batch // max(training, 1), 10, 200))
    name = file.name if file else "this.yaml"
    lines = [
        f"# A starting point for {_said(os.path.basename(data))}: {_task(found)}.",
        f"# Check: layerflow check {_said(name)}",
        f"# Train: layerflow train {_said(name)}",
        "seed: 0",
        "data:",
        "  source:",
        *(f"    {key}: {inline_yaml(value)}{_comment(why)}" for key, value, why in found.source),
        f"  test: {inline_yaml(test)}" + _comment("held back until the end" if test else too_few),
        f"  validation: {inline_yaml(validation)}"
        + _comment("of the rest: decides which weights are kept" if validation else too_few),
        f"  scale: {inline_yaml(found.scale[0])}{_comment(found.scale[1])}",
        *_model(found),
        *_loss(found),
        "# regularizer: {type: L2Regularizer, strength: 1.0e-4}  # if validation gets worse while training gets better",
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


def _task(found: Findings) -> str:
    name = _said(found.target)
    if found.classes is None:
        mean, deviation = found.spread
        return f"regression of {name}, {mean:.4g} on average, {deviation:.4g} around it; {found.samples:,} samples"
    counts = [
        f"{_said(label)} ({count:,})" for label, count in sorted(found.classes.items(), key=lambda item: -item[1])
    ]
    more = f", ... {len(counts)} in all" if len(counts) > SHOWN else ""
    return f"classification by {name}: {', '.join(counts[:SHOWN])}{more}; {found.samples:,} samples"


def _model(found: Findings) -> list[str]:
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
            f"  - Linear{_comment(f'{ending}: its width follows from the data')}",
        ]
    return [
        "model:" + _comment("a graph, so that the last two gates can bring its output to the size of the targets"),
        "  inputs: [x]",
        f"  constants: {{deviation: {deviation:.4g}, mean: {mean:.4g}}}" + _comment(f"of {_said(found.target)}"),
        "  gates:",
        *(["    - {name: flat, type: Flatten, inputs: x}"] if flatten else []),
        f"    - {{name: hidden, type: Linear, out_features: {width}, inputs: {'flat' if flatten else 'x'}}}",
        "    - {name: active, type: ReLU, inputs: hidden}",
        "    - {name: score, type: Linear, inputs: active}",
        "    - {name: stretched, type: Multiply, inputs: [score, deviation]}",
        "    - {name: value, type: Add, inputs: [stretched, mean]}",
        "  output: value",
    ]


def _loss(found: Findings) -> list[str]:
    if found.classes is None:
        return ["loss: SquaredError" + _comment("Huber, if some targets are far off")]
    rare, most = min(found.classes.values()), max(found.classes.values())
    skewed = (
        "few samples of one class: look at f1, not at accuracy alone; class_weight helps" if 5 * rare < most else ""
    )
    return [f"loss: {'SigmoidCE' if len(found.classes) == 2 else 'SoftmaxCE'}{_comment(skewed)}"]


def _comment(text: str) -> str:
    return f"  # {_said(text, 400)}" if text else ""


def _said(text: str, most: int = 60) -> str:
    """Return text that may stand in a comment: on one line, printable, not too long."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."
