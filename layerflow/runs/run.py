"""One training run: in a new folder, or continued in the one that it was begun in."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from layerflow.cli.run_facts import data_facts, facts_of, read_run, resumption, versions_of
from layerflow.config import Config
from layerflow.config.experiment import Experiment
from layerflow.errors import ConfigError, DataError, DivergedError, LayerflowError, StorageError
from layerflow.training.checkpoint import FOLDER, LAST, Checkpoint, find_checkpoint
from layerflow.training.checkpointer import Checkpointer
from layerflow.training.data_watch import DataWatch
from layerflow.training.divergence import ON_DIVERGENCE
from layerflow.training.environment import changed, environment
from layerflow.training.failed_step import FailedSteps
from layerflow.training.history import History
from layerflow.training.lock import locked
from layerflow.training.metrics import baseline
from layerflow.training.model_file import save_model
from layerflow.training.progress import make_progress
from layerflow.training.resume import differences, judged
from layerflow.training.run_folder import CONFIG, Recorder, create_run_folder
from layerflow.training.signals import Signals
from layerflow.training.storage import sweep_leftovers, write_atomically


@dataclass(frozen=True)
class Options:
    """What the command line says of all its runs.

    Attributes:
        out, name: new run folders are `out/name/NNN`; the configuration's name stands in for an absent one.
        quiet: no progress.
        on_divergence: as `Trainer` takes it; None for what it was before, or "stop".
        allow_change: whether a resumed training may differ from how it began.
        imports: the files with a person's own types.
        pictures: whether PNG files are drawn; the report shows the same.
        preflight: whether to look, before a new training, for what is likely to spoil it.
    """

    out: Path = Path("runs")
    name: str | None = None
    quiet: bool = False
    on_divergence: str | None = None
    allow_change: bool = False
    imports: tuple[str, ...] = ()
    pictures: bool = True
    preflight: bool = True


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


def train(config: Config, options: Options) -> Result:
    """Train one configuration and write its run folder."""
    experiment = prepared(config)
    if options.preflight:
        warn(experiment)
    folder = create_run_folder(options.out, options.name or config.name)
    with locked(folder):
        return Run(experiment, folder, options).carry_out()


def resume(config: Config, folder: Path, options: Options) -> Result:
    """Continue the run of a folder, under the configuration that is given now.

    Raises:
        ConfigError: configuration or data differ in what has been trained already.
        DataError: there are checkpoints, but none is intact.
        StorageError: another process trains in this folder.
    """
    with locked(folder):
        for place in (folder, folder / FOLDER):
            sweep_leftovers(place)
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            print(f"{config.name}: {folder} has no checkpoint yet; it starts from the beginning", file=sys.stderr)
            return Run(prepared(config), folder, options).carry_out()
        experiment = prepared(config)
        changes = [
            judged(difference, experiment.trainer, checkpoint.snapshot, folder)
            for difference in differences(checkpoint.run, facts_of(experiment, folder))
        ]
        for line in [*map(str, changes), *changed(versions_of(folder), environment())]:
            print(f"{config.name}: {line}", file=sys.stderr)
        if any(change.objection for change in changes) and not options.allow_change:
            raise ConfigError(
                f"{folder}: under these changes it would not be the same training any more; begin a new one without "
                "--resume, or continue all the same with --allow-change"
            )
        return Run(experiment, folder, options, checkpoint, [str(change) for change in changes]).carry_out()


def prepared(config: Config) -> Experiment:
    """Read the data and build everything, so that nothing is written for a run that cannot be."""
    experiment = Experiment(config)
    for note in experiment.parts.train.notes:
        print(f"{config.name}: {note}", file=sys.stderr)
    experiment.prepare()
    return experiment


def warn(experiment: Experiment) -> None:
    """Say what a short preflight finds that is not as it should be."""
    from layerflow.preflight import preflight

    for finding in preflight(experiment.config, experiment.parts, short=True):
        if finding.verdict != "ok":
            print(f"{experiment.config.name}: {finding}", file=sys.stderr)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest intact checkpoint of a run, or None before the first one; say what is wrong with the others."""
    found = find_checkpoint(folder / FOLDER)
    if found.damaged and found.newest is None:
        raise DataError("\n  ".join(["no intact checkpoint is left; nothing was changed:", *found.damaged]))
    for problem in found.damaged:
        print(f"{problem}; using {found.newest.path.name}" if found.newest else problem, file=sys.stderr)
    return found.newest


class Run:
    """A training in its folder: everything that looks on, and everything that remains of it.

    Args:
        experiment: prepared to train.
        folder: its lock is held.
        options: of the command line.
        checkpoint: where to continue.
        changes: what differs since then.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        options: Options,
        checkpoint: Checkpoint | None = None,
        changes: Sequence[str] = (),
    ) -> None:
        self.experiment, self.folder, self.options, self.checkpoint = experiment, folder, options, checkpoint
        config, trainer = experiment.config, experiment.trainer
        earlier = read_run(folder)
        facts = facts_of(experiment, folder)
        before = earlier.get("on_divergence")
        trainer.on_divergence = options.on_divergence or (before if before in ON_DIVERGENCE else "stop")
        resumed = [*earlier.get("resumed", ()), *([resumption(checkpoint, changes)] if checkpoint else ())]
        self.recorder = Recorder(
            folder,
            {
                "config": config.source,
                "seed": config.seed,
                "data": data_facts(experiment),
                "on_divergence": trainer.on_divergence,
                "imports": list(options.imports),
                **({"resumed": resumed} if resumed else {}),
            },
        )
        self.signals = Signals()
        saving = config.train.checkpoint
        self.checkpointer = Checkpointer(folder, facts, saving.every, saving.keep, self.signals)
        if checkpoint and checkpoint.path.name == LAST:
            self.checkpointer.last = checkpoint.snapshot.position
        self.failed_steps = FailedSteps(folder)
        self.progress = None if options.quiet else make_progress(config.name)

    def carry_out(self) -> Result:
        """Train, save the model, measure it on the held-back test part, and draw."""
        config, trainer = self.experiment.config, self.experiment.trainer
        text = config.to_yaml(self.folder)
        write_atomically(self.folder / CONFIG, lambda file: file.write(text.encode()))
        self.recorder.write("running")
        watch = DataWatch(self.experiment.parts.train.x, *([v.x] if (v := self.experiment.parts.validation) else []))
        trainer.callbacks = [self.recorder, self.failed_steps, self.checkpointer]
        trainer.callbacks += [self.progress] if self.progress else []
        trainer.callbacks.append(watch)  # immediately before the next read
        with self.signals:
            try:
                try:
                    history = self.experiment.fit(self.checkpoint.snapshot if self.checkpoint else None)
                finally:
                    if self.progress:
                        self.progress.close()
                return self.finish(history)
            except BaseException as error:
                self.record_end(error)
                raise

    def record_end(self, error: BaseException) -> None:
        """Write down how the training ended before its time, where that can still be written, and how to go on."""
        outcome = "failed"
        if isinstance(error, DivergedError | KeyboardInterrupt):
            outcome = "diverged" if isinstance(error, DivergedError) else "interrupted"
        with suppress(StorageError):
            self.checkpointer.wait()
        with suppress(StorageError):
            self.recorder.write(outcome, error=str(error), epochs=len(self.experiment.trainer.history))
            if not isinstance(error, DataError):  # data that changed cannot be read again
                write_page(self.experiment, self.folder)
        if self.checkpointer.last and not isinstance(error, DivergedError):
            epoch, step = self.checkpointer.last
            imports = "".join(f" --import {file}" for file in self.options.imports)
            error.add_note(
                f"saved after {epoch} epochs and {step} steps; continue with: "
                f"layerflow train --resume {self.folder}{imports}"
            )

    def finish(self, history: History) -> Result:
        """Measure the held-back test part, save the model, write what remains to be written."""
        experiment, folder = self.experiment, self.folder
        save_model(folder / "model.npz", experiment.model, experiment.description())
        parts, trainer = experiment.parts, experiment.trainer
        result = Result(experiment.config.name, history.outcome, folder, epochs=len(history))
        if parts.test is not None:
            result.test = experiment.evaluate(parts.test)
            assert parts.train.y is not None and parts.test.y is not None
            result.baseline = baseline(trainer.task, parts.train.y, parts.test.y, trainer.metric_names)
        result.seconds = sum(record["seconds"] for record in history.records)
        best = history.best
        self.recorder.write(
            history.outcome,
            epochs=len(history),
            best={"metric": best.metric, "value": best.value, "epoch": best.epoch} if best else None,
            last=history.last,
            test=result.test,
            baseline=result.baseline,
            **({"failed_steps": self.failed_steps.count} if self.failed_steps.count else {}),
        )
        if self.options.pictures:
            draw(experiment, history, folder)
        write_page(experiment, folder)
        if self.signals.stop:  # it came too late to end anything here, but whatever would follow must not begin
            result.exit_code = 128 + self.signals.stop
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
