"""`layerflow train`: train what configurations describe, and keep everything about the run."""

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layerflow.cli.options import add_config_options, load_configs, positive
from layerflow.config import Config
from layerflow.config.experiment import Experiment
from layerflow.errors import DivergedError, LayerflowError
from layerflow.training.history import History
from layerflow.training.metrics import baseline
from layerflow.training.model_file import save_model
from layerflow.training.progress import make_progress
from layerflow.training.run_folder import Recorder, create_run_folder

EXAMPLES = """\
examples:
  layerflow train configs/*.yaml --jobs 2
  layerflow train configs/digits_mlp.yaml optimizer.lr=0.05 train.epochs=100
  layerflow train mine.yaml --import my_layers.py --out results
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "train", parents=[common], help="train the models that YAML files describe", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_config_options(parser, many=True)
    parser.add_argument("-o", "--out", type=Path, default=Path("runs"), help="where run folders are made (default: runs)")
    parser.add_argument("--name", help="the run folder's parent, in place of the configuration's name")
    parser.add_argument("-j", "--jobs", type=positive, default=1, help="how many configurations are trained at a time, each in its own process")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument("--dry-run", action="store_true", help="build, check, run one batch, and write nothing")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.set_defaults(run=run, parser=parser)


@dataclass
class Result:
    """How one configuration fared: what the table at the end shows."""

    name: str
    outcome: str
    folder: Path | None = None
    test: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    exit_code: int = 0


def run(arguments: argparse.Namespace) -> int:
    """Train each configuration; one that fails doesn't keep the others from training."""
    from layerflow.cli import describe, exit_code

    configs = load_configs(arguments)
    if arguments.jobs > 1 and len(configs) > 1:
        from layerflow.cli.parallel import train_side_by_side

        return report(train_side_by_side(arguments), arguments.json)
    results: list[Result] = []
    for config in configs:
        try:
            results.append(try_out(config) if arguments.dry_run else train(config, arguments.out, arguments.quiet, arguments.name))
        except KeyboardInterrupt:
            skipped = configs[len(results) + 1 :]
            print(f"\n{config.name}: interrupted{', skipped: ' + ', '.join(c.name for c in skipped) if skipped else ''}", file=sys.stderr)
            results.append(Result(config.name, "interrupted", exit_code=130))
            break
        except Exception as error:
            if arguments.debug:
                raise
            print(describe(error, config.name), file=sys.stderr)
            outcome = "diverged" if isinstance(error, DivergedError) else "failed"
            results.append(Result(config.name, outcome, exit_code=exit_code(error)))
    return report(results, arguments.json)


def report(results: list[Result], in_json: bool) -> int:
    """Print the results and return the worst exit code."""
    print(as_json(results) if in_json else as_table(results))
    return max(result.exit_code for result in results)


def try_out(config: Config) -> Result:
    """Build everything, run one batch forwards and backwards, and write nothing."""
    experiment = Experiment(config)
    experiment.prepare()
    x, y = next(experiment.trainer.batches.epoch(0))
    experiment.trainer.train_step(x, y)
    print(f"{config.name}: one batch of {len(x)} gives loss {experiment.trainer.objective.data_loss:.4g}", file=sys.stderr)
    return Result(config.name, "checked")


def train(config: Config, out: Path, quiet: bool, name: str | None = None) -> Result:
    """Train one configuration and write its run folder."""
    experiment = Experiment(config)
    for note in experiment.parts.train.notes:
        print(f"{config.name}: {note}", file=sys.stderr)
    experiment.prepare()
    folder = create_run_folder(out, name or config.name)
    (folder / "config.yaml").write_text(config.to_yaml(folder))
    recorder = Recorder(folder, {"config": config.source, "seed": config.seed, "data": data_facts(experiment)})
    recorder.write("running")
    progress = None if quiet else make_progress(config.name)
    experiment.trainer.observers = [recorder, *([progress] if progress else [])]
    try:
        history = experiment.fit()
    except BaseException as error:
        outcome = "diverged" if isinstance(error, DivergedError) else "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        recorder.write(outcome, error=str(error), epochs=len(experiment.trainer.history))
        write_page(experiment, folder)
        raise
    finally:
        if progress:
            progress.close()
    return finish(experiment, history, folder, recorder)


def finish(experiment: Experiment, history: History, folder: Path, recorder: Recorder) -> Result:
    """Measure the held-back test part, save the model, write what remains to be written."""
    save_model(folder / "model.npz", experiment.model, experiment.description())
    parts = experiment.parts
    result = Result(experiment.config.name, history.outcome, folder, epochs=len(history))
    if parts.test is not None:
        result.test = experiment.evaluate(parts.test)
        result.baseline = baseline(experiment.trainer.task, parts.train.y, parts.test.y, experiment.trainer.metric_names)  # type: ignore[arg-type]
    result.seconds = sum(record["seconds"] for record in history.records)
    best = history.best
    recorder.write(
        history.outcome,
        epochs=len(history),
        best={"metric": best.metric, "value": best.value, "epoch": best.epoch} if best else None,
        last=history.last,
        test=result.test,
        baseline=result.baseline,
    )
    draw(experiment, history, folder)
    write_page(experiment, folder)
    return result


def draw(experiment: Experiment, history: History, folder: Path) -> None:
    """Draw the pictures, where matplotlib is installed."""
    try:
        from layerflow.report import plots
    except ImportError:
        print(f"{folder}: no pictures without matplotlib: pip install 'layerflow[plot]'", file=sys.stderr)
        return
    plots.draw_run(experiment, history, folder)


def write_page(experiment: Experiment, folder: Path) -> None:
    """Write `report.html`; what keeps it from being written doesn't spoil the run."""
    from layerflow.report.run_report import write_report

    try:
        write_report(experiment, folder)
    except (OSError, LayerflowError) as error:
        print(f"{folder}: no report.html ({error})", file=sys.stderr)


def data_facts(experiment: Experiment) -> dict[str, Any]:
    """Return what `run.json` says of the data."""
    parts = experiment.parts
    sizes = {name: len(part) for name in ("train", "validation", "test") if (part := getattr(parts, name)) is not None}
    return {"name": parts.train.name, "checksum": parts.train.checksum, "samples": sizes}


def as_json(results: list[Result]) -> str:
    """Return the results for a machine to read."""
    return json.dumps([{**vars(result), "folder": None if result.folder is None else str(result.folder)} for result in results], indent=2)


def as_table(results: list[Result]) -> str:
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
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
