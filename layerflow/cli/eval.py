"""`layerflow eval`: evaluate a trained model on a part of its data or on other data."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli import add_command, add_model_argument
from layerflow.cli.output import as_table
from layerflow.config import Registry, load_config
from layerflow.config.describing import reader_for
from layerflow.config.experiment import read_parts
from layerflow.data import Dataset
from layerflow.errors import ConfigError
from layerflow.runs.files import to_json
from layerflow.runs.model import SavedModel
from layerflow.training.evaluation import counted
from layerflow.training.metrics import confusion_matrix, precision_recall_f1, predicted_labels

EXAMPLES = """\
  layerflow eval runs/digits_mlp/001
  layerflow eval runs/digits_mlp/001 --part validation --json
  layerflow eval model.npz --data new.csv
  layerflow eval model.npz --data images.npy labels.npy
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(subparsers, common, "eval", "evaluate a trained model", EXAMPLES)
    add_model_argument(parser)
    parser.add_argument(
        "--data", nargs="+", metavar="FILE",
        help="evaluate on other data with targets: its file or files, and settings of their reader (delimiter=';')",
    )  # fmt: skip
    parser.add_argument(
        "--part",
        choices=("test", "validation", "train"),
        help="the part of the run's data to evaluate on (default: test)",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print."""
    if arguments.data and arguments.part:
        raise ConfigError("--part selects a part of the run's own data, --data other data: give one of them")
    registry = Registry.builtin(arguments.imports)
    saved = SavedModel.load(arguments.model, registry)
    if arguments.data:
        data, part = reader_for(arguments.data, saved.reader, registry).read(like=saved.preprocessing), None
    else:
        part = arguments.part or "test"
        data = part_of_run(saved, part, registry)
    result = measure(saved, data, part)
    print(to_json(result, indent=2) if arguments.json else as_text(result))
    return 0


def part_of_run(saved: SavedModel, part: str, registry: Registry) -> Dataset:
    """Read a part of the data that the run was configured with."""
    if saved.config_file is None:
        raise ConfigError(f"{saved.path}: no config.yaml next to it, so its data is unknown; give data with --data")
    parts = read_parts(load_config(saved.config_file, registry=registry))
    data: Dataset | None = getattr(parts, part)
    if data is None:
        raise ConfigError(
            f"{saved.config_file}: this run has no {part} part; choose another one with --part, or use --data"
        )
    warn_if_changed(saved.path.with_name("run.json"), parts.train.checksum)
    return data


def warn_if_changed(run_file: Path, checksum: str) -> None:
    """Warn if the data has changed since the training, so that samples may have moved between the parts."""
    try:
        trained_on = json.loads(run_file.read_text())["data"]["checksum"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if trained_on != checksum:
        print(
            "warning: the data has changed since the training, so this part may contain training samples",
            file=sys.stderr,
        )


def measure(saved: SavedModel, data: Dataset, part: str | None) -> dict[str, Any]:
    """Return loss, metrics and baseline, and for a classification the measures of each class."""
    assert data.y is not None
    scores = saved.scores(data)
    result: dict[str, Any] = {"model": str(saved.path), "data": data.name, "part": part, "samples": len(data)}
    with np.errstate(all="ignore"):  # a metric that overflows is infinite, or null in JSON
        result |= {"metrics": saved.evaluate(scores, data.y), "baseline": saved.baseline(data.y)}
    if saved.classes is not None:
        counting, labels = counted(saved.loss, scores, data.y)
        confusion = confusion_matrix(labels, predicted_labels(counting), len(saved.classes))
        measures = zip(saved.classes, confusion.sum(axis=1), *precision_recall_f1(confusion), strict=True)
        result["classes"] = [
            {"class": name, "samples": int(count), "precision": float(p), "recall": float(r), "f1": float(f)}
            for name, count, p, r, f in measures
        ]
        result["confusion"] = confusion.tolist()
    return result


def as_text(result: dict[str, Any]) -> str:
    """Return a result as text."""
    part = f"the {result['part']} part of " if result["part"] else ""
    text = [f"{result['model']} on {part}{result['data']}, {result['samples']:,} samples", ""]
    rows = [("", "model", "baseline")]
    for name, value in result["metrics"].items():
        guess = result["baseline"].get(name)
        rows.append((name, f"{value:.4f}", "" if guess is None else f"{guess:.4f}"))
    text.append(as_table(rows))
    if "classes" in result:
        table = [["class", "samples", "precision", "recall", "F1"]]
        for name, samples, *measures in map(dict.values, result["classes"]):
            table.append([name, str(samples), *(f"{value:.4f}" for value in measures)])
        names = [row["class"] for row in result["classes"]]
        confusion = [("true \\ predicted", *names)]
        confusion += [(name, *map(str, counts)) for name, counts in zip(names, result["confusion"], strict=True)]
        text += ["", as_table(table), "", as_table(confusion)]
    return "\n".join(text)
