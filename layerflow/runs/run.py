"""One training run from beginning to end: prepare, train with checkpoints, measure, save the model, report."""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from layerflow.config import Config
from layerflow.config.experiment import Experiment
from layerflow.data.reader import checksum as file_checksum
from layerflow.errors import ConfigError, DataError, DivergedError, LayerflowError, StorageError
from layerflow.runs.checkpoint import LAST, Checkpoint, Checkpointer, Signals, find_checkpoint
from layerflow.runs.files import (
    CONFIG,
    LOSSES,
    METRICS,
    MODEL,
    RUN,
    TABLE,
    checkpoint_folder,
    create_run_folder,
    locked,
    remove_leftovers,
)
from layerflow.runs.journal import DataWatch, FailedSteps, Recorder, changed, environment
from layerflow.runs.manifest import MANIFEST, Manifest, damaged_files
from layerflow.runs.model import description_of, pack_model
from layerflow.runs.records import ABSENT, flat, restore, stored_facts
from layerflow.training.callbacks import Callback, progress
from layerflow.training.divergence import ON_DIVERGENCE
from layerflow.training.evaluation import guessed
from layerflow.training.history import Best, History
from layerflow.training.state import Snapshot
from layerflow.training.trainer import Trainer

Report = Callable[[Experiment, Path], None]
OTHER_PAST = "the training so far would have been different"


@dataclass
class Result:
    """The result of one configuration: its outcome, and losses and metrics on the test part by name."""

    name: str
    outcome: str
    folder: Path | None = None
    test: dict[str, float] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    exit_code: int = 0


def train(
    config: Config,
    out: str | Path = "runs",
    name: str | None = None,
    *,
    resume: str | Path | None = None,
    allow_change: bool = False,
    on_divergence: str | None = None,
    threads: int | None = None,
    engine: str | None = None,
    imports: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    preflight: Callable[[Experiment], None] | None = None,
    report: Report | None = None,
    quiet: bool = False,
) -> Result:
    """Train a configuration in a run folder, as `layerflow train` does.

        from layerflow.runs.run import train

        train(lf.load_config("configs/wine_mlp.yaml")).test         # {'loss': 0.062, 'accuracy': 0.972}

    Args:
        config: what to train.
        out: the folder of all runs.
        name: the new run folder is `out/name/NNN`; by default the name of the configuration.
        resume: a run folder in which to continue instead.
        allow_change: continue even if the training so far would have been different.
        on_divergence: as for `Trainer`; by default as before, if the run is resumed.
        threads: likewise.
        engine: likewise.
        imports: the files with your own types, for the record.
        callbacks: further callbacks.
        preflight: called before a new training.
        report: called with the experiment and the folder at the end, also of a training that failed; the command
            line passes a function that writes `report.html`.
        quiet: no progress.

    Raises:
        ConfigError: the configuration cannot be trained, or differs in a way that needs `allow_change`.
        DataError: the data cannot be read, or no checkpoint is intact.
        DivergedError: the training produced NaN or infinity.
        StorageError: the folder cannot be written, or another process trains in it.
    """
    if resume is None:
        experiment = prepared(config, **_settings(on_divergence, threads, engine))
        if preflight:
            preflight(experiment)
        folder = create_run_folder(Path(out), name or config.name)
    else:
        folder = Path(resume)
    with locked(folder):
        checkpoint, changes = None, []
        if resume is not None:
            checkpoint = _recovered(folder)
            experiment = prepared(config, **_settings(on_divergence, threads, engine, folder))
            if checkpoint is None:
                print(f"{config.name}: {folder} has no checkpoint yet; starting from the beginning", file=sys.stderr)
            else:
                changes = _changes(experiment, folder, checkpoint, allow_change)
        return _Run(experiment, folder, checkpoint, changes, imports, report).carry_out(callbacks, quiet)


def prepared(config: Config, **settings: Any) -> Experiment:
    """Read the data and build everything, so that a run that cannot start writes nothing."""
    experiment = Experiment(config, **settings)
    for note in experiment.parts.train.notes:
        print(f"{config.name}: {note}", file=sys.stderr)
    wanted, batch_size = config.train.batch_size, experiment.trainer.batch_size
    if batch_size < wanted:
        print(
            f"{config.name}: batch_size is {wanted}, but there are only {batch_size} training samples; "
            f"using batches of {batch_size}",
            file=sys.stderr,
        )
    experiment.prepare()
    return experiment


def _settings(
    on_divergence: str | None, threads: int | None, engine: str | None, folder: Path | None = None
) -> dict[str, Any]:
    """Return the settings of the trainer that a run keeps when it is resumed, unless others are given."""
    earlier = stored_facts(folder) if folder else {}
    before = earlier.get("on_divergence")
    return {
        "on_divergence": on_divergence or (before if before in ON_DIVERGENCE else "stop"),
        "threads": threads or earlier.get("threads"),
        **({"engine": chosen} if (chosen := engine or earlier.get("engine")) else {}),
    }


def _recovered(folder: Path) -> Checkpoint | None:
    """Clean up after a killed process; return the newest intact checkpoint, or None before the first one."""
    for place in (folder, checkpoint_folder(folder)):
        remove_leftovers(place)
    found = find_checkpoint(folder)
    if found.damaged and found.newest is None:
        raise DataError("\n  ".join(["no intact checkpoint is left; nothing was changed:", *found.damaged]))
    for problem in found.damaged:
        print(f"{problem}; using {found.newest.path.name}" if found.newest else problem, file=sys.stderr)
    try:
        damaged = damaged_files(folder) if (folder / MANIFEST).exists() else {}
    except DataError as error:
        print(f"{error}; a new one is written", file=sys.stderr)
        return found.newest
    for name, problem in restore(folder, damaged).items():
        if not name.endswith(".npz"):  # those are checked where they are read
            after = "losses that are missing stay NaN" if name == LOSSES else "written again"
            print(f"{folder / name}: {problem}; {after}", file=sys.stderr)
    return found.newest


def _changes(experiment: Experiment, folder: Path, checkpoint: Checkpoint, allow_change: bool) -> list[str]:
    """Report what differs from the stored run; raises `ConfigError` if the training so far would have differed."""
    changes = [
        judged(change, experiment.trainer, checkpoint.snapshot, folder)
        for change in differences(checkpoint.run, _facts_of(experiment, folder))
    ]
    before, now = stored_facts(folder).get("versions"), environment()
    for line in [*map(str, changes), *changed(before if isinstance(before, dict) else now, now)]:
        print(f"{experiment.config.name}: {line}", file=sys.stderr)
    if any(change.objection for change in changes) and not allow_change:
        raise ConfigError(
            f"{folder}: with these changes it would be a different training; start a new one without --resume, "
            "or continue anyway with --allow-change"
        )
    return [str(change) for change in changes]


def _facts_of(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Return what a checkpoint records of its run: the configuration as in the folder, and the data's checksums."""
    parts = {"train": experiment.parts.train, "validation": experiment.parts.validation}
    return {
        "config": json.loads(json.dumps(experiment.config.resolve(folder))),
        "checksums": {name: part.checksum for name, part in parts.items() if part is not None},
    }


def imported_files(imports: Sequence[str]) -> dict[str, str]:
    """Return the checksum of each file with own types; empty for an installed module."""
    return {name: file_checksum(name) if Path(name).is_file() else "" for name in map(str, imports)}


class _Run:
    """A training in its folder, whose lock is held; `changes` are those since `checkpoint`."""

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        checkpoint: Checkpoint | None,
        changes: Sequence[str],
        imports: Sequence[str],
        report: Report | None,
    ) -> None:
        self.experiment, self.folder, self.checkpoint = experiment, folder, checkpoint
        self.imports, self.report = imports, report
        config, parts, trainer = experiment.config, experiment.parts, experiment.trainer
        resumed = []
        if checkpoint:
            epoch, step = checkpoint.snapshot.position
            earlier = stored_facts(folder).get("resumed", ())
            resumed = [*earlier, {"epoch": epoch, "step": step, "changes": list(changes)}]
        named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
        sizes = {name: len(part) for name, part in named.items() if part is not None}
        facts = {
            "config": config.source,
            "seed": config.seed,
            "data": {"name": parts.train.name, "checksum": parts.train.checksum, "samples": sizes},
            "on_divergence": trainer.on_divergence,
            "threads": trainer.state.threads,
            "engine": trainer.state.engine.name,
            **({"machine": trainer.state.engine.machine} if trainer.state.engine.machine else {}),
            "imports": imported_files(imports),
            **({"resumed": resumed} if resumed else {}),
        }
        self.manifest = Manifest(folder)
        announced = RUN, CONFIG, MODEL, METRICS, TABLE, LOSSES  # others, such as the report's, are listed at the end
        self.manifest.forget(path.name for path in folder.iterdir() if path.name not in announced)
        self.recorder = Recorder(folder, facts, self.manifest)
        self.failed_steps = FailedSteps(folder)
        self.signals = Signals()
        section = config.train.checkpoint
        self.checkpointer = Checkpointer(
            folder, _facts_of(experiment, folder), section.every, section.keep, self.signals, self.manifest
        )
        if checkpoint and checkpoint.path.name == LAST:
            self.checkpointer.last = checkpoint.snapshot.position

    def carry_out(self, callbacks: Sequence[Callback], quiet: bool) -> Result:
        """Train, save the model, and measure it on the test part."""
        config, parts = self.experiment.config, self.experiment.parts
        self.manifest.write({
            CONFIG: config.to_yaml(self.folder).encode(), RUN: self.recorder.facts_now("running")
        })  # fmt: skip
        own = [self.recorder, self.failed_steps, self.checkpointer]
        watch = DataWatch(parts.train.x, *([parts.validation.x] if parts.validation else []))
        snapshot = self.checkpoint.snapshot if self.checkpoint else None
        with self.signals:
            try:
                with progress(config.name, quiet) as shown:  # the watch is the last, directly before the next read
                    history = self.experiment.fit(snapshot, [*own, *shown, *callbacks, watch])
                return self._finish(history)
            except BaseException as error:
                self._record_end(error)
                raise

    def _record_end(self, error: BaseException) -> None:
        """Record how the training ended early, where that can still be written, and how to continue."""
        outcome = "failed"
        if isinstance(error, DivergedError | KeyboardInterrupt):
            outcome = "diverged" if isinstance(error, DivergedError) else "interrupted"
        with suppress(StorageError):
            self.checkpointer.wait()
        with suppress(StorageError):
            self.recorder.write(outcome, error=str(error), epochs=len(self.experiment.trainer.history))
            if not isinstance(error, DataError):  # data that changed cannot be read again
                self._write_report()
            self.manifest.settle()
        is_there = (self.checkpointer.folder / LAST).exists()
        if self.checkpointer.last and is_there and not isinstance(error, DivergedError):
            epoch, step = self.checkpointer.last
            words = ["layerflow", "train", "--resume", str(self.folder)]
            words += [word for file in self.imports for word in ("--import", str(file))]
            error.add_note(f"saved after {epoch} epochs and {step} steps; continue with: {shlex.join(words)}")

    def _finish(self, history: History) -> Result:
        """Measure the test part, save the model, and write the rest."""
        experiment = self.experiment
        parts, trainer = experiment.parts, experiment.trainer
        result = Result(experiment.config.name, history.outcome, self.folder, epochs=len(history))
        if parts.test is not None:
            result.test = experiment.evaluate(parts.test)
            assert parts.train.y is not None and parts.test.y is not None
            state = trainer.state
            result.baseline = guessed(self.experiment.loss, state.task, parts.train.y, parts.test.y, state.metric_names)
        result.seconds = sum(record["seconds"] for record in history.records)
        best = history.best
        facts = self.recorder.facts_now(
            history.outcome,
            epochs=len(history),
            best={"metric": best.metric, "value": best.value, "epoch": best.epoch} if best else None,
            last=history.last,
            test=result.test,
            baseline=result.baseline,
            **({"failed_steps": self.failed_steps.count} if self.failed_steps.count else {}),
        )
        self.manifest.write({MODEL: pack_model(experiment.model, description_of(experiment)), RUN: facts})
        self._write_report()
        self.manifest.settle()
        if self.signals.stop:  # too late to stop this run, but the next one must not start
            result.exit_code = 128 + self.signals.stop
        return result

    def _write_report(self) -> None:
        """Let the report be written; an error there does not fail the run."""
        if self.report:
            try:
                self.report(self.experiment, self.folder)
            except (OSError, LayerflowError) as error:
                print(f"{self.folder}: no report ({error})", file=sys.stderr)


# Changes of a resumed run --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A changed setting; `objection` says why the training so far would have been different, if it would."""

    key: str
    before: Any
    now: Any
    objection: str = ""

    def __str__(self) -> str:
        change = f"{self.key.removeprefix('config.')}: {_shown(self.before)} before, {_shown(self.now)} now"
        return f"{change} ({self.objection})" if self.objection else change


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return the settings that differ between two resolved configurations, or other trees of plain values."""
    old, new = dict(flat(before)), dict(flat(now))
    keys = [key for key in {**old, **new} if old.get(key, ABSENT) != new.get(key, ABSENT)]
    return [Change(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys]


def judged(difference: Change, trainer: Trainer, snapshot: Snapshot, folder: Path) -> Change:
    """Return the change with the objection to it, if there is one, for a trainer prepared with the new settings.

    Paths in a configuration are relative to `folder`.
    """
    key = difference.key.removeprefix("config.")
    if key.startswith("checksums."):
        objection = "the data have changed"
    elif key.startswith("train.checkpoint."):
        objection = ""
    elif key == "train.epochs":
        objection = _against_epochs(difference.before, difference.now, trainer, snapshot)
    elif key == "train.early_stopping.patience":
        objection = _against_patience(trainer, snapshot)
    elif key.startswith("data.") and isinstance(difference.now, str) and (folder / difference.now).is_file():
        objection = ""  # a file may move: its checksum decides
    else:
        objection = OTHER_PAST
    return replace(difference, objection=objection)


def _against_epochs(before: Any, now: int, trainer: Trainer, snapshot: Snapshot) -> str:
    if not isinstance(before, int):
        return OTHER_PAST
    epoch, step = snapshot.position
    begun = epoch + (step > 0)
    if now < begun:
        return f"epoch {begun} has begun already"
    schedule, base = trainer.state.schedule, trainer.state.base_lr
    if any(schedule.lr(base, past, before) != schedule.lr(base, past, now) for past in range(begun)):
        return (
            f"{type(schedule).__name__} depends on the number of epochs, so the learning rates so far would have been "
            "different"
        )
    return ""


def _against_patience(trainer: Trainer, snapshot: Snapshot) -> str:
    stopping = trainer.early_stopping
    if stopping is None:
        return OTHER_PAST
    watched = Best(stopping.metric, stopping.min_delta)
    for record in (snapshot.records or [])[:-1]:
        watched.update(record, int(record["epoch"]))
        if watched.waited >= stopping.patience:
            return f"training would have stopped after epoch {int(record['epoch'])}"
    return ""


def _shown(value: Any) -> str:
    return "nothing" if value is ABSENT else repr(value)
