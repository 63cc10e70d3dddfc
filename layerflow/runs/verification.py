"""Trains a run again in memory and compares every loss and record with those on disk, bit by bit."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.config.experiment import Experiment
from layerflow.errors import DataError, DivergedError
from layerflow.parameter import Array
from layerflow.runs.checkpoint import find_checkpoint
from layerflow.runs.files import CONFIG, LOSSES, METRICS, RUN, TABLE, stored_config_file, to_json
from layerflow.runs.journal import changed, environment, read_losses
from layerflow.runs.manifest import MANIFEST, read_manifest
from layerflow.runs.records import Run, read_run, require_intact, stored_config
from layerflow.runs.run import prepared
from layerflow.training.callbacks import Callback
from layerflow.training.history import Record
from layerflow.training.state import State

COMPLETE = ("finished", "stopped early")


def verify(folder: Path, imports: Sequence[str] = (), steps: int | None = None) -> "Comparison":
    """Train again, up to the last recorded step or to `steps`; what may explain a difference is printed to stderr.

    Raises:
        DataError: files of the run are damaged or incomplete and cannot be restored, or nothing is recorded yet.
    """
    if not (folder / MANIFEST).exists():
        stored_config_file(folder)  # is it a run folder at all?
    read_manifest(folder)
    require_intact(folder, (RUN, CONFIG, METRICS, TABLE, LOSSES))
    config, run = stored_config(folder, imports), read_run(folder)
    losses = _losses_so_far(run)
    count = min(len(losses), steps or len(losses))
    if not count:
        raise DataError(f"{folder}: nothing is recorded yet that could be compared")
    experiment = prepared(
        config,
        on_divergence=run.facts.get("on_divergence", "stop"),
        threads=run.facts.get("threads"),
        engine=run.facts.get("engine", "numpy"),
        callbacks=(),
    )
    _require_complete(run, len(losses), len(experiment.trainer.state.batches))
    _report_changes(run, experiment)
    comparison = Comparison(losses[:count], run.records)
    try:
        experiment.fit(callbacks=[comparison])
    except _Finished:
        pass
    except DivergedError as error:
        comparison.difference = comparison.difference or f"now the training diverges: {error}"
    return comparison


def _require_complete(run: Run, steps: int, steps_per_epoch: int) -> None:
    """Refuse a finished run of which epochs or steps are missing, whatever its manifest says."""
    epochs = run.facts.get("epochs")
    if run.outcome in COMPLETE and (len(run.records) != epochs or steps != epochs * steps_per_epoch):
        raise DataError(
            f"{run.folder}: incomplete: {len(run.records)} records and {steps} steps, "
            f"but {RUN} says {epochs} epochs of {steps_per_epoch} steps"
        )


def _report_changes(run: Run, experiment: Experiment) -> None:
    """Print what may keep a run from being repeated: changes on the way, another environment, other data."""
    name = experiment.config.name
    for point in run.facts.get("resumed", []):
        for change in point["changes"]:
            print(f"{name}: changed after epoch {point['epoch']}: {change}", file=sys.stderr)
    for line in changed(run.facts.get("versions", {}), environment()):
        print(f"{name}: {line}", file=sys.stderr)
    recorded, checksum = run.facts.get("data", {}).get("checksum"), experiment.parts.train.checksum
    if recorded != checksum:
        print(f"{name}: the data have changed: {recorded} then, {checksum} now", file=sys.stderr)


def _losses_so_far(run: Run) -> Array:
    """Return the recorded losses of all steps; those of an unfinished epoch are in the checkpoint."""
    losses = read_losses(run.folder)
    newest = find_checkpoint(run.folder).newest
    if newest is None or newest.snapshot.position != (len(run.records), newest.snapshot.facts["step"]):
        return losses
    return np.concatenate((losses, newest.snapshot.arrays.get("losses", np.zeros(0))))


class _Finished(Exception):
    """Everything has been compared, or a difference was found."""


class Comparison(Callback):
    """Compares a training with recorded losses and records.

    Attributes:
        steps, epochs: how many gave the same bits.
        difference: the first difference in words; empty if there is none.
    """

    def __init__(self, losses: Array, records: list[Record]) -> None:
        self.losses, self.records = losses, records
        self.steps = self.epochs = 0
        self.difference = ""

    def step_ended(self, state: State) -> None:
        """Compare if this is the last recorded step; earlier ones are compared at the end of their epoch."""
        done = state.epoch * len(state.batches) + state.step
        if done == len(self.losses) and state.step < len(state.batches):
            self._compare_losses(state, state.epoch)
            raise _Finished

    def epoch_ended(self, state: State, record: Record) -> None:
        """Compare the losses of the epoch's steps, then its record; of a repeated epoch the last attempt counts."""
        self._compare_losses(state, state.epoch - 1)
        if state.epoch <= len(self.records):
            before = self.records[state.epoch - 1]
            for name, value in json.loads(to_json(record)).items():
                now = float("nan") if value is None else value
                if name != "seconds" and not _same(before.get(name, None), now):
                    self._stop(
                        f"{name} of epoch {state.epoch} was {before.get(name, 'not recorded')!r}, is now {now!r}"
                    )
        self.epochs += 1
        if self.steps >= len(self.losses):
            raise _Finished

    def _compare_losses(self, state: State, epoch: int) -> None:
        start = epoch * len(state.batches)
        for step, now in enumerate(state.losses[: len(self.losses) - start], start=1):
            before = float(self.losses[start + step - 1])
            if not _same(before, now):
                self._stop(f"the loss of epoch {epoch + 1}, step {step} was {before!r}, is now {now!r}")
            self.steps += 1

    def _stop(self, difference: str) -> None:
        self.difference = difference
        raise _Finished


def _same(before: Any, now: float) -> bool:
    return bool(before == now or (before != before and now != now))
