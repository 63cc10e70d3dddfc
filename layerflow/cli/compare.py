"""`layerflow compare`: rank runs from best to worst; for two runs, also show what differs between them."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from layerflow.cli import add_command
from layerflow.cli.output import add_output_options, as_table, check_output
from layerflow.errors import ConfigError
from layerflow.report.comparison import Difference, default_metric, difference, ranked, varying_settings
from layerflow.runs.files import to_json
from layerflow.runs.records import Run, find_runs, read_runs

EXAMPLES = """\
  layerflow compare runs/
  layerflow compare runs/digits_mlp --by test_accuracy -o curves.png
  layerflow compare runs/digits_mlp/001 runs/digits_mlp/002
"""
SETTINGS_SHOWN = 4


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(subparsers, common, "compare", "rank runs, and show what differs between two", EXAMPLES)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folders, or folders that contain runs, such as runs/"
    )
    parser.add_argument(
        "--by", metavar="METRIC",
        help="what to sort by, such as test_accuracy (default: the metric used to pick the best epoch)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    add_output_options(parser, "plot the curves of all runs in one figure")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare, print, draw."""
    if arguments.output:
        check_output(arguments.output, arguments.force)
    runs, skipped = read_runs(find_runs(arguments.runs))
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    if not runs:
        raise ConfigError("none of these run folders can be compared")
    by = arguments.by or default_metric(runs)
    first_to_last = ranked(runs, by)
    varying = varying_settings(first_to_last)
    pair = difference(runs[0], runs[1]) if len(runs) == 2 else None
    if arguments.json:
        print(to_json(as_plain(first_to_last, by, skipped, varying, pair), indent=2))
    else:
        print(table(first_to_last, by, varying))
        if pair:
            print(f"\n{description(pair, runs)}")
    if arguments.output:
        from layerflow.report.comparison_plots import draw_runs

        draw_runs(first_to_last, by, arguments.output)
    return 0


def as_plain(
    runs: Sequence[Run], by: str, skipped: Sequence[str], varying: dict[str, list[Any]], pair: Difference | None
) -> dict[str, Any]:
    """Return the comparison as plain values."""
    rows = [
        {
            "run": str(one.folder),
            "outcome": one.outcome,
            "epochs": len(one.records),
            "best": one.best or None,
            "figures": one.figures,
            "settings": {key: values[place] for key, values in varying.items()},
        }
        for place, one in enumerate(runs)
    ]
    differs = None if pair is None else {**asdict(pair), "is_unexplained": pair.is_unexplained}
    return {"by": by, "runs": rows, "skipped": list(skipped), "difference": differs}


def table(runs: Sequence[Run], by: str, varying: dict[str, list[Any]]) -> str:
    """Return the table: metric, results on the test part, and the settings in which the runs differ."""
    names = dict.fromkeys(name for one in runs for name in one.figures if name.startswith("test_") or name == by)
    figures = sorted(names, key=lambda name: name != by)
    settings = list(varying) if len(runs) > 2 and len(varying) <= SETTINGS_SHOWN else []
    rows = [["run", *figures, "epochs", "outcome", *settings]]
    for place, one in enumerate(runs):
        shown = [f"{one.figures[name]:.4f}" if name in one.figures else "-" for name in figures]
        values = [shorten(varying[key][place]) for key in settings]
        rows.append([str(one.folder), *shown, str(len(one.records)), one.outcome, *values])
    is_more = len(runs) > 2 and len(varying) > len(settings)
    return as_table(rows) + (f"\n{len(varying)} settings differ; use --json to list them" if is_more else "")


def description(pair: Difference, runs: Sequence[Run]) -> str:
    """Return what differs between two runs as text."""
    sections = [("configuration", pair.settings), ("data", pair.data), ("environment", pair.environment)]
    lines = []
    for title, values in sections:
        lines.append(f"{title}: {'' if values else 'the same'}".rstrip())
        if values:
            lines.append(as_table([[key, shorten(a), "->", shorten(b)] for key, (a, b) in values.items()], False, "  "))
    if not pair.parts:
        lines.append(f"losses: bit-identical in all {pair.common_epochs} common epochs")
    else:
        where = [f"step {pair.parting_step}"] * (pair.parting_step is not None) + [f"epoch {pair.parting_epoch}"] * (
            pair.parting_epoch is not None
        )
        lines.append(f"losses: first difference in {', '.join(where)}")
    if pair.parting:
        lines.append(as_table([[name, repr(a), "->", repr(b)] for name, (a, b) in pair.parting.items()], False, "  "))
    if pair.is_unexplained:
        lines.append("  no recorded cause: configuration, data and environment are the same")
    rows = [["results", *(str(one.folder) for one in runs), "change"]]
    for name, (a, b) in pair.figures.items():
        rows.append([f"  {name}", _number(a), _number(b), "" if a is None or b is None else f"{b - a:+.4g}"])
    return "\n".join([*lines, as_table(rows)])


def shorten(value: Any, limit: int = 40) -> str:
    """Return a setting as YAML would have it, cut to a table's width from the left, where paths are alike."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= limit else f"...{text[3 - limit :]}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
