"""`layerflow predict`: apply a trained model to new data."""

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from layerflow.cli import add_command, add_model_argument
from layerflow.cli.output import add_output_options, check_output, write_output
from layerflow.config import Registry
from layerflow.config.describing import reader_for
from layerflow.data import Dataset
from layerflow.errors import ConfigError
from layerflow.runs.files import to_json
from layerflow.runs.model import SavedModel
from layerflow.training.evaluation import class_probabilities

EXAMPLES = """\
  layerflow predict runs/iris/001 new.csv
  layerflow predict runs/iris/001 new.csv -o predictions.jsonl --probabilities
  layerflow predict model.npz new.csv delimiter=';'
"""

Row = dict[str, str | int | float]


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(subparsers, common, "predict", "apply a trained model to new data", EXAMPLES)
    add_model_argument(parser)
    parser.add_argument(
        "data", nargs="+", metavar="DATA",
        help="the data file (targets are not needed), then settings of its reader (delimiter=';')",
    )  # fmt: skip
    add_output_options(parser, "write the predictions to this file (default: standard output)")
    parser.add_argument(
        "--format", choices=("csv", "jsonl"), help="format of the output (default: by the ending of FILE, else csv)"
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="write the probability of every class, not only of the predicted one",
    )
    parser.set_defaults(run=run, words="data")


def run(arguments: argparse.Namespace) -> int:
    """Predict and write."""
    inputs = [*arguments.data, *arguments.imports, arguments.model, arguments.model / "model.npz"]
    if arguments.output is not None:
        check_output(arguments.output, arguments.force, inputs)
    registry = Registry.builtin(arguments.imports)
    saved = SavedModel.load(arguments.model, registry)
    data = reader_for(arguments.data, saved.reader, registry).read(need_target=False, like=saved.preprocessing)
    for note in data.notes:
        print(note, file=sys.stderr)
    predicted = rows(saved, data, arguments.probabilities)
    is_lines = (arguments.format or (arguments.output.suffix if arguments.output else "")).endswith("jsonl")
    text = "".join(f"{to_json(row)}\n" for row in predicted) if is_lines else as_csv(predicted)
    write_output(text, arguments.output, arguments.force, inputs, f"{len(data):,} predictions")
    return 0


def rows(saved: SavedModel, data: Dataset, all_probabilities: bool) -> Iterator[Row]:
    """Yield one row per sample: its line or row number, the prediction and its probability."""
    scores = saved.scores(data)
    predicted = saved.decide(scores)
    is_one = saved.classes is not None and scores.ndim <= 2
    probabilities = class_probabilities(saved.loss, scores) if is_one else None
    if all_probabilities and probabilities is None:
        raise ConfigError(
            f"--probabilities: {type(saved.loss).__name__} does not define probabilities; SoftmaxCE and SigmoidCE do"
        )
    place, places = ("row", np.arange(len(data))) if data.lines is None else ("line", data.lines)
    for sample, number in enumerate(places.tolist()):
        row: Row = {place: number}
        if np.ndim(predicted[sample]) and saved.preprocessing.vocabulary is not None:
            row["prediction"] = "".join(predicted[sample])
        elif saved.classes is not None and np.ndim(predicted[sample]) == 0:
            row["prediction"] = str(predicted[sample])
        elif np.ndim(predicted[sample]) == 0:
            row["prediction"] = plain(predicted[sample])
        else:
            shown = str if saved.classes is not None else plain
            row |= {f"prediction_{index}": shown(value) for index, value in enumerate(np.ravel(predicted[sample]))}
        if probabilities is not None:
            row["probability"] = plain(probabilities[sample].max())
            if all_probabilities:
                assert saved.classes is not None
                named = zip(saved.classes, probabilities[sample], strict=True)
                row |= {f"probability_{name}": plain(value) for name, value in named}
        yield row


def plain(value: Any) -> float:
    """Return a number with the digits of its own precision, and no more."""
    return float(str(value))


def as_csv(predicted: Iterator[Row]) -> str:
    """Return the rows as CSV with a header."""
    text = io.StringIO()
    first = next(predicted)
    writer = csv.DictWriter(text, first, lineterminator="\n")
    writer.writeheader()
    writer.writerow(first)
    writer.writerows(predicted)
    return text.getvalue()
