"""`layerflow train`: train configurations, each in a run folder."""

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli import (
    EXIT_CHECK_FAILED,
    add_command,
    add_config_options,
    describe,
    exit_code,
    load_configs,
    positive,
    split_words,
)
from layerflow.cli.output import as_table
from layerflow.config import Config, Registry, load_config
from layerflow.config.experiment import Experiment
from layerflow.engine.choice import ENGINES
from layerflow.errors import ConfigError, DivergedError
from layerflow.runs.files import CONFIG, numbered_runs, parent_of_runs, stored_config_file, to_json
from layerflow.runs.records import require_intact, source_of
from layerflow.runs.run import Result, prepared, train
from layerflow.training.callbacks import progress
from layerflow.training.divergence import ON_DIVERGENCE
from layerflow.training.evaluation import predict_scores
from layerflow.training.metrics import evaluate

SIGNALLED = 128  # exit codes above it stand for a signal
FITTED = {"classification": ("accuracy", 1.0), "regression": ("r2", 0.99)}  # what a model that overfits reaches

EXAMPLES = """\
  layerflow train configs/*.yaml --jobs 2
  layerflow train configs/digits_mlp.yaml optimizer.lr=0.05 train.epochs=100
  layerflow train --resume runs/digits_mlp/001 train.epochs=200
  layerflow train mine.yaml --import my_layers.py --out results
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    summary = "train the models of YAML files, each in a run folder of its own"
    parser = add_command(subparsers, common, "train", summary, EXAMPLES)
    add_config_options(parser, many=True, needed=False)
    parser.add_argument("-o", "--out", type=Path, default=Path("runs"), help="folder for run folders (default: runs)")
    parser.add_argument("--name", help="name of the run's folder in --out (default: the configuration's name)")
    parser.add_argument(
        "-j", "--jobs", type=positive, default=1,
        help="train this many configurations at a time, each in its own process",
    )  # fmt: skip
    parser.add_argument(
        "--resume", nargs="?", const="", metavar="RUN",
        help="continue a run; without RUN, the newest run of each CONFIG, or a new one if it has none",
    )  # fmt: skip
    parser.add_argument(
        "--allow-change", action="store_true", help="resume even if the training so far would have been different"
    )
    parser.add_argument(
        "--on-divergence", choices=ON_DIVERGENCE,
        help="what to do about a step that produces NaN or infinity (default: stop)",
    )  # fmt: skip
    parser.add_argument(
        "--overfit-batches", type=positive, metavar="N",
        help="overfit the first N batches, to check that the model can learn; write nothing",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="BLAS threads (default: 1 for small steps, else as BLAS is set)"
    )
    parser.add_argument("--engine", choices=ENGINES, help="what runs a step (default: train.engine, else numpy)")
    parser.add_argument("--no-preflight", action="store_true", help="do not check for likely mistakes before training")
    parser.add_argument("--no-pictures", action="store_true", help="write no SVG files; report.html shows the same")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, no preflight")
    parser.add_argument(
        "--dry-run", action="store_true", help="build and check everything, run one batch, write nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Train each configuration; a failing one does not stop the others."""
    runs = planned_runs(arguments)
    given = (
        "out",
        "name",
        "quiet",
        "allow_change",
        "on_divergence",
        "threads",
        "engine",
        "no_preflight",
        "no_pictures",
    )
    options = {name: getattr(arguments, name) for name in (*given, "dry_run", "overfit_batches", "imports", "debug")}
    if arguments.jobs > 1 and len(runs) > 1:
        from layerflow.runs.jobs import Job, train_all

        options |= {"overrides": split_words(arguments.configs)[1], "seed": arguments.seed}
        jobs = [Job(config.name, train_file, options | {"file": config.source, "folder": at}) for config, at in runs]
        return show(train_all(jobs, arguments.jobs, arguments.quiet), arguments.json)
    results: list[Result] = []
    for config, folder in runs:
        results.append(train_one(config, folder, **options))
        if results[-1].exit_code > SIGNALLED:
            if skipped := [later.name for later, _ in runs[len(results) :]]:
                print(f"skipped: {', '.join(skipped)}", file=sys.stderr)
            break
    return show(results, arguments.json)


def planned_runs(arguments: argparse.Namespace) -> list[tuple[Config, Path | None]]:
    """Return the configurations to train, each with the run folder in which to continue, if there is one."""
    given = arguments.resume
    if not (given or arguments.configs):
        arguments.parser.error("CONFIG is missing: name the YAML files to train")
    if given is None:
        return [(config, None) for config in load_configs(arguments)]
    if given and not Path(given).is_dir() and ("=" in given or Path(given).is_file()):
        arguments.configs.insert(0, given)  # argparse took the word after --resume as its value
        given = ""
    if not given:
        return newest_runs(load_configs(arguments), arguments.out, arguments.name)
    folder = Path(given)
    if folder.is_dir():
        require_intact(folder, (CONFIG,))
    stored = stored_config_file(folder)
    if all("=" in word for word in arguments.configs):
        arguments.configs.insert(0, str(stored))
    configs = load_configs(arguments)
    if len(configs) > 1:
        raise ConfigError(f"--resume {folder} continues one run, but {len(configs)} configurations are given")
    return [(replace(configs[0], source=source_of(folder)), folder)]


def newest_runs(configs: list[Config], out: Path, name: str | None) -> list[tuple[Config, Path | None]]:
    """Return the configurations with their newest runs; one that was never started starts now, if others have a run."""
    parents = [parent_of_runs(out, name or config.name) for config in configs]
    folders = [next((run for run in numbered_runs(parent) if (run / CONFIG).is_file()), None) for parent in parents]
    if not any(folders):
        raise ConfigError(
            f"{', '.join(map(str, parents))}: no run to continue; train without --resume, or name the run: --resume RUN"
        )
    for config, folder, parent in zip(configs, folders, parents, strict=True):
        if folder is None:
            print(f"{config.name}: no run to continue in {parent}; starting a new one", file=sys.stderr)
    return list(zip(configs, folders, strict=True))


def train_file(
    file: str, overrides: list[str], seed: int | None, folder: Path | None, imports: list[str], **options: Any
) -> Result:
    """Train one configuration from its file: what a job does in a process of its own."""
    try:
        config = load_config(file, overrides, Registry.builtin(imports), seed)
    except Exception as error:
        return failed(error, Path(file).stem, folder, options.get("debug", False))
    return train_one(config, folder, imports=imports, **options)


def train_one(
    config: Config,
    folder: Path | None,
    *,
    dry_run: bool = False,
    overfit_batches: int | None = None,
    no_preflight: bool = False,
    no_pictures: bool = False,
    quiet: bool = False,
    threads: int | None = None,
    engine: str | None = None,
    debug: bool = False,
    **options: Any,
) -> Result:
    """Train one configuration; an error is printed and becomes its result."""
    try:
        if dry_run:
            return try_out(config, threads, engine)
        if overfit_batches:
            return overfit(config, overfit_batches, threads, engine, quiet)
        preflight = None if quiet or no_preflight else warn
        report = partial(write_report, pictures=not no_pictures)
        options |= {"threads": threads, "engine": engine, "quiet": quiet}
        return train(config, resume=folder, preflight=preflight, report=report, **options)
    except (Exception, KeyboardInterrupt) as error:
        return failed(error, config.name, folder, debug)


def failed(error: BaseException, name: str, folder: Path | None, debug: bool) -> Result:
    """Print an error and return the result of its run; with `debug`, raise it."""
    is_interrupted = isinstance(error, KeyboardInterrupt)
    if debug and not is_interrupted:
        raise error
    if is_interrupted:
        print(file=sys.stderr)  # the terminal shows ^C on the line that is being written
    print(describe(error, name), file=sys.stderr)
    outcome = "interrupted" if is_interrupted else "diverged" if isinstance(error, DivergedError) else "failed"
    return Result(name, outcome, folder, exit_code=exit_code(error))


def warn(experiment: Experiment) -> None:
    """Print the warnings of a short preflight."""
    from layerflow.preflight import preflight

    for finding in preflight(experiment.config, experiment.parts, short=True):
        if finding.verdict != "ok":
            print(f"{experiment.config.name}: {finding}", file=sys.stderr)


def write_report(experiment: Experiment, folder: Path, pictures: bool) -> None:
    """Write `report.html`, and its pictures as files."""
    from layerflow.report import run_page

    run_page.write_report(experiment, folder, pictures)


def try_out(config: Config, threads: int | None, engine: str | None) -> Result:
    """Build everything, run one batch forward and backward, and write nothing."""
    experiment = Experiment(config, threads=threads, engine=engine or config.train.engine)
    experiment.prepare()
    trainer = experiment.trainer
    x, y = next(trainer.state.batches.epoch(0))
    with np.errstate(all="ignore"), trainer.limited_threads():  # NaN and infinity are found and reported by the step
        _, loss, _ = trainer.train_step(x, y)
    print(f"{config.name}: one batch of {len(x)} gives loss {loss:.4g}", file=sys.stderr)
    return Result(config.name, "checked")


def overfit(config: Config, count: int, threads: int | None, engine: str | None, quiet: bool) -> Result:
    """Train on the first `count` batches alone, the same in every epoch, and evaluate on them; write nothing.

    A model that cannot overfit a few batches has a mistake in it, or needs more epochs or parameters.
    """
    settings = {"threads": threads, "engine": engine or config.train.engine}
    experiment = on_first_batches(prepared(config, **settings), count)
    experiment.prepare()
    start = experiment.evaluate(experiment.parts.train)["loss"]
    with progress(config.name, quiet) as callbacks:
        history = experiment.fit(callbacks=callbacks)
    state = experiment.trainer.state
    end = experiment.evaluate(experiment.parts.train)["loss"]
    metric, wanted = FITTED[state.task]
    x, y, _ = experiment.data()
    reached = evaluate(state.task, predict_scores(experiment.model, x, config.dtype), y, [metric])[metric]
    is_fitted = reached >= wanted
    print(
        f"{config.name}: the model ({state.store.size:,} parameters) {'can fit' if is_fitted else 'does not fit'} "
        f"{len(state.batches)} batch(es), {len(x)} samples: after {len(history)} epochs the loss went from "
        f"{start:.4g} to {end:.4g}, {metric} {reached:.4f}",
        file=sys.stderr,
    )
    if is_fitted:
        return Result(config.name, "fitted", epochs=len(history), seconds=sum(history["seconds"]))
    print(
        f"{config.name}: try fewer batches, more epochs or parameters, another learning rate, "
        "no dropout and no regularizer; `layerflow check` finds common mistakes",
        file=sys.stderr,
    )
    code = EXIT_CHECK_FAILED
    return Result(config.name, "not fitted", epochs=len(history), seconds=sum(history["seconds"]), exit_code=code)


def on_first_batches(experiment: Experiment, count: int) -> Experiment:
    """Return the same training on its first batches alone: no held-out parts, no early stopping, no shuffling."""
    parts, trainer = experiment.parts, experiment.trainer
    rows = trainer.state.batches.order(0)[: count * trainer.state.batches.batch_size]
    first = replace(parts, train=parts.train.take(rows), validation=None, test=None)
    settings = {
        "early_stopping": None,
        "best": None,
        "shuffle": False,
        "drop_last": False,
        "threads": trainer.threads,
        "engine": trainer.engine,
    }
    return Experiment(experiment.config, first, **settings)


def show(results: list[Result], in_json: bool) -> int:
    """Print the results and return the worst exit code."""
    plain = [{**vars(result), "folder": None if result.folder is None else str(result.folder)} for result in results]
    print(to_json(plain, indent=2) if in_json else results_table(results))
    return max(result.exit_code for result in results)


def results_table(results: list[Result]) -> str:
    """Return the results as a table: the first metric on the test part beside its baseline."""
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
