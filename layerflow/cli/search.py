"""`layerflow search`: train every combination of settings; show mean and spread over the seeds."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerflow.cli import add_command, add_import_option, positive
from layerflow.cli.compare import shorten
from layerflow.cli.output import as_table
from layerflow.cli.train import train_file
from layerflow.config import Registry, load_config
from layerflow.config.elements import RECORDED
from layerflow.errors import ConfigError, did_you_mean
from layerflow.report.comparison import Group, default_metric, figures_of, grouped
from layerflow.runs.combinations import Member, combinations, search
from layerflow.runs.files import to_json
from layerflow.runs.jobs import Job
from layerflow.training.metrics import METRICS

EXAMPLES = """\
  layerflow search configs/digits_mlp.yaml optimizer.lr=0.3,0.1,0.03 seed=0..4 --jobs 2
  layerflow search configs/digits_mlp.yaml optimizer.lr=1e-3..1 model.0.out_features=16,64 seed=0..2 --random 20
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    parser = add_command(subparsers, common, "search", "train every combination of settings, and compare", EXAMPLES)
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument(
        "choices", nargs="+", metavar="KEY=VALUES",
        help="comma-separated values, a range of integers such as 0..4, or a range to sample such as 1e-4..1e-1 "
        "(with --random); runs that differ only in the seed are averaged",
    )  # fmt: skip
    parser.add_argument(
        "-j", "--jobs", type=positive, default=1, help="train this many at a time, each in its own process"
    )
    parser.add_argument(
        "--random", type=positive, metavar="K", help="try K random combinations; the same ones at every call"
    )
    parser.add_argument("-o", "--out", type=Path, help="folder for run folders (default: runs/<config>-search)")
    parser.add_argument(
        "--by", metavar="METRIC", help="what to sort by (default: the metric used to pick the best epoch)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_import_option(parser)
    parser.set_defaults(run=run, words="choices")


def run(arguments: argparse.Namespace) -> int:
    """Train what has not been trained yet, and show everything."""
    check_metric(arguments.by)
    registry = Registry.builtin(arguments.imports)
    try:
        members = [
            Member(combination, load_config(arguments.config, combination.overrides, registry))
            for combination in combinations(arguments.choices, arguments.random)
        ]
    except ConfigError as error:
        for key, _, values in (choice.partition("=") for choice in arguments.choices):
            if values.startswith("[") and values.endswith("]"):
                error.add_note(f"values to try are written without brackets: {key}={values[1:-1]}")
        raise
    out = arguments.out or Path("runs") / f"{members[0].config.name}-search"

    def job(member: Member, begun: Path | None) -> Job:
        options = {
            "file": arguments.config, "overrides": member.combination.overrides, "seed": None, "folder": begun,
            "imports": arguments.imports, "out": out, "name": member.combination.name, "no_preflight": True,
            "quiet": arguments.quiet, "debug": arguments.debug,
        }  # fmt: skip
        return Job(member.combination.name, train_file, options)

    all_started = search(members, out, job, arguments.imports, arguments.jobs, arguments.quiet)
    code = max(member.exit_code for member in members)
    if not all_started or code >= 128:
        print("to continue, run the same command again; finished runs are not trained again", file=sys.stderr)
    show(members, out, arguments)
    return code


def check_metric(name: str | None) -> None:
    """Refuse an unknown metric before all the runs rather than after them."""
    known = [*RECORDED, *(f"test_{metric}" for metric in ("loss", *METRICS))]
    if name is not None and name not in known:
        raise ConfigError(f"--by {name}: there is no such metric{did_you_mean(name, known)}")


def show(members: Sequence[Member], out: Path, arguments: argparse.Namespace) -> None:
    """Print the results, and draw them where matplotlib is installed."""
    trained = [member.run if member.run and member.run.records else None for member in members]
    runs = [run for run in trained if run]
    if not runs:
        print("no run has any results", file=sys.stderr)
        return
    by = arguments.by or default_metric(runs)
    pairs = [(member.combination.settings, run) for member, run in zip(members, trained, strict=True)]
    groups = grouped(pairs, by)
    if by not in (known := figures_of(groups)):
        raise ConfigError(
            f"--by {by}: not recorded in these runs{did_you_mean(by, known)} Recorded: {', '.join(known)}"
        )
    picture = draw(members, by, out)
    print(to_json(as_plain(groups, by, picture), indent=2) if arguments.json else table(groups, by))
    if picture:
        print(f"picture: {picture}", file=sys.stderr)


def table(groups: Sequence[Group], by: str) -> str:
    """Return the table: mean and standard deviation over the seeds, best settings first."""
    figures = [by, *(name for name in figures_of(groups) if name.startswith("test_") and name != by)]
    keys = list(groups[0].settings)
    rows = [[*(keys or ["settings"]), *figures, "runs"]]
    for group in groups:
        done = len(group.values(by))
        count = str(done) if done == len(group.runs) else f"{done} of {len(group.runs)}"
        settings = [shorten(value) for value in group.settings.values()] or ["all"]
        rows.append([*settings, *(_shown(group, name) for name in figures), count])
    return as_table(rows)


def as_plain(groups: Sequence[Group], by: str, picture: Path | None) -> dict[str, Any]:
    """Return the results as plain values."""
    names = figures_of(groups)
    return {
        "by": by,
        "picture": None if picture is None else str(picture),
        "groups": [
            {
                "settings": group.settings,
                "mean": {name: group.mean(name) for name in names},
                "spread": {name: group.spread(name) for name in names},
                "runs": [
                    None if run is None else {"run": str(run.folder), "outcome": run.outcome, "figures": run.figures}
                    for run in group.runs
                ],
            }
            for group in groups
        ],
    }


def draw(members: Sequence[Member], by: str, out: Path) -> Path | None:
    """Draw the metric against each swept setting, if matplotlib is there."""
    settings = [member.combination.settings or {"seed": member.config.seed} for member in members]
    values = [
        member.run.figures.get(by, math.nan) if member.run and member.run.records else math.nan for member in members
    ]
    try:
        from layerflow.report.comparison_plots import draw_search
    except ConfigError as error:
        print(f"no picture: {error}", file=sys.stderr)
        return None
    columns = {key: [given[key] for given in settings] for key in settings[0]}
    draw_search(columns, values, by, members[0].config.name, out / "search.png")
    return out / "search.png"


def _shown(group: Group, name: str) -> str:
    mean, spread = group.mean(name), group.spread(name)
    if not math.isfinite(mean):
        return "-"
    return f"{mean:.4f}" if not math.isfinite(spread) else f"{mean:.4f} ± {spread:.4f}"
