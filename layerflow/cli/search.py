"""`layerflow search`: one run for each combination of settings; mean and spread over the seeds."""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerflow.cli.combinations import Combination, combinations
from layerflow.cli.compare import shorten, to_json
from layerflow.cli.jobs import Job
from layerflow.cli.options import add_command, add_import_option, positive
from layerflow.cli.parallel import train_all
from layerflow.cli.tables import as_table
from layerflow.config import Config, Registry, load_config
from layerflow.config.toplevel import RECORDED
from layerflow.errors import ConfigError, DataError, did_you_mean
from layerflow.report.comparison import Group, default_metric, figures_of, grouped
from layerflow.report.runs import Run, read_run
from layerflow.training.metrics import METRICS

EXAMPLES = """\
  layerflow search configs/digits_mlp.yaml optimizer.lr=0.3,0.1,0.03 seed=0..4 --jobs 2
  layerflow search configs/digits_mlp.yaml optimizer.lr=1e-3..1 model.0.out_features=16,64 seed=0..2 --random 20
"""
# Trained again with the same settings, these end in the same way.
SETTLED = {"finished": 0, "stopped early": 0, "diverged": 5}


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = add_command(subparsers, common, "search", "train every combination of settings, and compare", EXAMPLES)
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument(
        "choices", nargs="+", metavar="KEY=VALUES",
        help="values with commas between them, whole numbers as 0..4, ends of a random search as 1e-4..1e-1; "
        "one value holds for all runs, and runs that differ in the seed alone are averaged",
    )  # fmt: skip
    parser.add_argument(
        "-j", "--jobs", type=positive, default=1, help="how many runs at a time, each in a process with one BLAS thread"
    )
    parser.add_argument(
        "--random", type=positive, metavar="K", help="K combinations, drawn at random; the same ones at every call"
    )
    parser.add_argument("-o", "--out", type=Path, help="where run folders are made (default: runs/<config>-search)")
    parser.add_argument(
        "--by", metavar="METRIC", help="what to sort by (default: the metric used to pick the best epoch)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_import_option(parser)
    parser.set_defaults(run=run, words="choices")


@dataclass
class Member:
    """One combination, its checked configuration, and its run once there is one."""

    combination: Combination
    config: Config
    run: Run | None = None
    exit_code: int = 0


def run(arguments: argparse.Namespace) -> int:
    """Train what has not been trained yet, and show everything."""
    check_metric(arguments.by)
    registry = Registry.builtin(arguments.imports)
    members = [
        Member(combination, load_config(arguments.config, combination.overrides, registry))
        for combination in combinations(arguments.choices, arguments.random)
    ]
    out = arguments.out or Path("runs") / f"{members[0].config.name}-search"
    for member in members:
        member.run = settled_run(out / member.combination.name, member.config)
        member.exit_code = SETTLED[member.run.outcome] if member.run else 0
    waiting = [member for member in members if member.run is None]
    if len(waiting) < len(members):
        print(f"{len(members) - len(waiting)} of {len(members)} runs were there already in {out}", file=sys.stderr)
    results = train_all([job_of(member, out, arguments) for member in waiting], arguments.jobs, arguments.quiet)
    for member, result in zip(waiting, results, strict=False):
        member.run, member.exit_code = settled_run(out / member.combination.name, member.config), result.exit_code
    code = max(member.exit_code for member in members)
    if len(results) < len(waiting) or code >= 128:
        print("to go on: give the same command again; what is finished is not trained again", file=sys.stderr)
    show(members, out, arguments)
    return code


def check_metric(name: str | None) -> None:
    """Refuse what no run can record, before all the runs rather than after them."""
    known = [*RECORDED, *(f"test_{metric}" for metric in ("loss", *METRICS))]
    if name is not None and name not in known:
        raise ConfigError(f"--by {name}: no metric is called so{did_you_mean(name, known)}")


def job_of(member: Member, out: Path, arguments: argparse.Namespace) -> Job:
    """Return the job that trains a combination into `out/<combination>/<NNN>`, or goes on where it was interrupted."""
    name = member.combination.name
    begun = latest_run(out / name, member.config)
    if begun:
        words = ["train", f"--resume={begun.folder}", "--json"]
    else:
        words = ["train", arguments.config, *member.combination.overrides, "--json", f"--out={out}", f"--name={name}"]
    words += [word for module in arguments.imports for word in ("--import", module)]
    words += ["--no-pictures", "--no-preflight"]
    words += ["--quiet"] * arguments.quiet + ["--debug"] * arguments.debug
    return Job(name, words)


def settled_run(folder: Path, config: Config) -> Run | None:
    """Return the run in a combination's folder if it has ended for good; `None` when there is still something to do."""
    run = latest_run(folder, config)
    return run if run and run.outcome in SETTLED else None


def latest_run(folder: Path, config: Config) -> Run | None:
    """Return the newest run in a combination's folder that has exactly this configuration."""
    for place in sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []:
        try:
            run = read_run(place)
            if run.config_text == config.to_yaml(place):
                return run
        except DataError:
            continue
    return None


def show(members: Sequence[Member], out: Path, arguments: argparse.Namespace) -> None:
    """Print the results, and draw them where matplotlib is installed."""
    runs = [member.run for member in members if member.run and member.run.records]
    if not runs:
        print("no run has results", file=sys.stderr)
        return
    by = arguments.by or default_metric(runs)
    pairs = [
        (member.combination.settings, member.run if member.run and member.run.records else None) for member in members
    ]
    groups = grouped(pairs, by)
    if by not in (known := figures_of(groups)):
        raise ConfigError(
            f"--by {by}: not recorded in these runs{did_you_mean(by, known)} Recorded: {', '.join(known)}"
        )
    picture = draw(members, by, out)
    print(to_json(as_plain(groups, by, picture)) if arguments.json else table(groups, by))
    if picture:
        print(f"picture: {picture}", file=sys.stderr)


def table(groups: Sequence[Group], by: str) -> str:
    """Return the table for a person: mean and standard deviation over the seeds, best settings first."""
    figures = [by, *(name for name in figures_of(groups) if name.startswith("test_") and name != by)]
    keys = list(groups[0].settings)
    rows = [[*(keys or ["settings"]), *(f"{name}" for name in figures), "runs"]]
    for group in groups:
        done = len(group.values(by))
        count = str(done) if done == len(group.runs) else f"{done} of {len(group.runs)}"
        rows.append(
            [
                *([shorten(value) for value in group.settings.values()] or ["all"]),
                *(_shown(group, name) for name in figures),
                count,
            ]
        )
    return as_table(rows)


def as_plain(groups: Sequence[Group], by: str, picture: Path | None) -> dict[str, Any]:
    """Return the results for a machine to read; what cannot be computed is null."""
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
