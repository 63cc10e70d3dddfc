"""`layerflow train`: train what configurations describe, and keep everything about the run."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli.options import add_config_options, load_configs, positive
from layerflow.cli.overfitting import overfit
from layerflow.cli.run_facts import source_of
from layerflow.cli.running import Options, Result, resume, train
from layerflow.cli.tables import as_table
from layerflow.config import Config
from layerflow.config.experiment import Experiment
from layerflow.errors import ConfigError, DivergedError
from layerflow.training.divergence import ON_DIVERGENCE
from layerflow.training.run_folder import newest_run, stored_config_file

SIGNALLED = 128  # exit codes above it stand for a signal

EXAMPLES = """\
examples:
  layerflow train configs/*.yaml --jobs 2
  layerflow train configs/digits_mlp.yaml optimizer.lr=0.05 train.epochs=100
  layerflow train --resume runs/digits_mlp/001 train.epochs=200
  layerflow train mine.yaml --import my_layers.py --out results
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "train", parents=[common], help="train the models that YAML files describe",
        description="Train the models that YAML files describe, each in a run folder of its own.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_config_options(parser, many=True, needed=False)
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("runs"), help="where run folders are made (default: runs)"
    )
    parser.add_argument("--name", help="the run folder's parent, in place of the configuration's name")
    parser.add_argument(
        "-j",
        "--jobs",
        type=positive,
        default=1,
        help="how many configurations are trained at a time, each in its own process",
    )
    parser.add_argument(
        "--resume", nargs="?", const="", metavar="RUN", help="continue a run; without RUN the newest one of each CONFIG"
    )
    parser.add_argument(
        "--allow-change", action="store_true", help="continue although what has been trained would have been different"
    )
    parser.add_argument(
        "--on-divergence",
        choices=ON_DIVERGENCE,
        help="what to do about a step that leaves the finite numbers (default: stop)",
    )
    parser.add_argument(
        "--overfit-batches",
        type=positive,
        metavar="N",
        help="learn the first N batches by heart, to see whether the model can; write nothing",
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="BLAS threads (default: 1 for small steps, else as BLAS is set)"
    )
    parser.add_argument("--no-preflight", action="store_true", help="don't look for likely mistakes before training")
    parser.add_argument("--no-pictures", action="store_true", help="no PNG files; report.html has all the curves")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, no preflight")
    parser.add_argument("--dry-run", action="store_true", help="build, check, run one batch, and write nothing")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Train each configuration; one that fails doesn't keep the others from training."""
    from layerflow.cli import describe, exit_code

    runs = planned_runs(arguments)
    if arguments.jobs > 1 and len(runs) > 1:
        from layerflow.cli.parallel import train_side_by_side

        return report(train_side_by_side(arguments), arguments.json)
    options = Options(
        arguments.out, arguments.name, arguments.quiet,
        arguments.on_divergence, arguments.allow_change, tuple(arguments.imports),
        pictures=not arguments.no_pictures, preflight=not (arguments.no_preflight or arguments.quiet),
        threads=arguments.threads,
    )  # fmt: skip
    results: list[Result] = []
    for config, folder in runs:
        try:
            if arguments.dry_run:
                results.append(try_out(config))
            elif arguments.overfit_batches:
                results.append(overfit(config, arguments.overfit_batches, arguments.quiet))
            else:
                results.append(train(config, options) if folder is None else resume(config, folder, options))
        except KeyboardInterrupt as error:
            print(f"\n{describe(error, config.name)}", file=sys.stderr)
            results.append(Result(config.name, "interrupted", folder, exit_code=exit_code(error)))
        except Exception as error:
            if arguments.debug:
                raise
            print(describe(error, config.name), file=sys.stderr)
            outcome = "diverged" if isinstance(error, DivergedError) else "failed"
            results.append(Result(config.name, outcome, folder, exit_code=exit_code(error)))
        if results[-1].exit_code > SIGNALLED:
            if skipped := [later.name for later, _ in runs[len(results) :]]:
                print(f"skipped: {', '.join(skipped)}", file=sys.stderr)
            break
    return report(results, arguments.json)


def planned_runs(arguments: argparse.Namespace) -> list[tuple[Config, Path | None]]:
    """Return the configurations to train, each with the run folder in which it is to be continued, if it is."""
    given = arguments.resume
    if not (given or arguments.configs):
        arguments.parser.error("CONFIG is missing; what is to be trained?")
    if given is None:
        return [(config, None) for config in load_configs(arguments)]
    if (
        given and not Path(given).is_dir() and ("=" in given or Path(given).is_file())
    ):  # argparse took the word after --resume for its value
        arguments.configs.insert(0, given)
        given = ""
    if not given:
        return [
            (config, newest_run(arguments.out / (arguments.name or config.name))) for config in load_configs(arguments)
        ]
    folder = Path(given)
    stored = stored_config_file(folder)
    if all("=" in word for word in arguments.configs):
        arguments.configs.insert(0, str(stored))
    configs = load_configs(arguments)
    if len(configs) > 1:
        raise ConfigError(f"--resume {folder} continues one run, {len(configs)} configurations are given")
    return [(replace(configs[0], source=source_of(folder)), folder)]


def report(results: list[Result], in_json: bool) -> int:
    """Print the results and return the worst exit code."""
    print(as_json(results) if in_json else results_table(results))
    return max(result.exit_code for result in results)


def try_out(config: Config) -> Result:
    """Build everything, run one batch forwards and backwards, and write nothing."""
    experiment = Experiment(config)
    experiment.prepare()
    x, y = next(experiment.trainer.state.batches.epoch(0))
    with np.errstate(all="ignore"):  # whatever leaves the finite numbers is found, and named
        _, loss, _ = experiment.trainer.train_step(x, y)
    print(f"{config.name}: one batch of {len(x)} gives loss {loss:.4g}", file=sys.stderr)
    return Result(config.name, "checked")


def as_json(results: list[Result]) -> str:
    """Return the results for a machine to read."""
    return json.dumps(
        [{**vars(result), "folder": None if result.folder is None else str(result.folder)} for result in results],
        indent=2,
    )


def results_table(results: list[Result]) -> str:
    """Return the results for a person to read: the first metric on the test part beside its baseline."""
    rows = [("config", "test result", "baseline", "epochs", "seconds", "run")]
    for result in results:
        name = next((name for name in result.test if name != "loss"), None)
        rows.append((
            result.name,
            f"{name} {result.test[name]:.4f}" if name else result.outcome,
            f"{result.baseline[name]:.4f}" if name else "",
            str(result.epochs or ""),
            f"{result.seconds:.1f}" if result.epochs else "",
            str(result.folder or ""),
        ))  # fmt: skip
    return as_table(rows, numbers=False)
