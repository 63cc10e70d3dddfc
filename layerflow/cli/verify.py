"""`layerflow verify`: train again, and compare every loss bit by bit with what a run recorded."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli.options import add_import_option, positive
from layerflow.cli.run_facts import read_run, stored_config, versions_of
from layerflow.cli.running import prepared
from layerflow.errors import DataError, DivergedError
from layerflow.parameter import Array
from layerflow.training.callbacks import Callback
from layerflow.training.checkpoint import FOLDER, find_checkpoint
from layerflow.training.environment import changed, environment
from layerflow.training.history import Record
from layerflow.training.run_folder import METRICS, read_losses
from layerflow.training.state import State

EXIT_SAME, EXIT_DIFFERENT = 0, 3
EXAMPLES = """\
examples:
  layerflow verify runs/digits_mlp/001
  layerflow verify runs/digits_mlp/001 --steps 100
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "verify", parents=[common], help="train again in memory and compare with what a run recorded, bit by bit",
        description="Train again in memory and compare with what a run recorded, bit by bit; write nothing.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--steps", type=positive, metavar="N", help="compare the first N steps only")
    add_import_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train again, as far as there is something to compare with."""
    folder: Path = arguments.folder
    config = stored_config(folder, arguments.imports)
    losses, records = read_losses_so_far(folder), read_records(folder)
    steps = min(len(losses), arguments.steps or len(losses))
    if not steps:
        raise DataError(f"{folder}: nothing is recorded yet that could be compared")
    for line in differences_at_the_start(folder):
        print(f"{config.name}: {line}", file=sys.stderr)
    said = read_run(folder)
    experiment = prepared(config, on_divergence=said.get("on_divergence", "stop"), threads=said.get("threads"))
    recorded, checksum = said.get("data", {}).get("checksum"), experiment.parts.train.checksum
    if recorded != checksum:
        print(f"{config.name}: the data are others: {recorded} then, {checksum} now", file=sys.stderr)
    comparison = Comparison(losses[:steps], records)
    try:
        experiment.fit(callbacks=[comparison])
    except Finished:
        pass
    except DivergedError as error:
        comparison.difference = comparison.difference or f"now the training leaves the finite numbers: {error}"
    if comparison.difference:
        print(f"{folder}: not the same: {comparison.difference}")
        return EXIT_DIFFERENT
    print(f"{folder}: the same, bit by bit: {comparison.steps} steps, {comparison.epochs} epochs")
    return EXIT_SAME


class Finished(Exception):
    """All has been compared that can be, or a difference was found."""


class Comparison(Callback):
    """Compares a training with recorded losses and records.

    Attributes:
        steps, epochs: how many were the same.
        difference: the first one, in words; empty while there is none.
    """

    def __init__(self, losses: Array, records: list[Record]) -> None:
        self.losses, self.records = losses, records
        self.steps = self.epochs = 0
        self.difference = ""

    def step_ended(self, state: State) -> None:
        """Compare when this is the last recorded step; those before are compared at the end of their epoch."""
        done = state.epoch * len(state.batches) + state.step
        if done == len(self.losses) and state.step < len(state.batches):
            self._compare_losses(state, state.epoch)
            raise Finished

    def epoch_ended(self, state: State, record: Record) -> None:
        """Compare the losses of the epoch's steps, then its record; an epoch begun anew has shown the last try only."""
        self._compare_losses(state, state.epoch - 1)
        if state.epoch <= len(self.records):
            before = self.records[state.epoch - 1]
            for name, value in record.items():
                if name != "seconds" and not _same(before.get(name, None), value):
                    self._stop(
                        f"{name} of epoch {state.epoch} was {before.get(name, 'not recorded')!r}, is now {value!r}"
                    )
        self.epochs += 1
        if self.steps >= len(self.losses):
            raise Finished

    def _compare_losses(self, state: State, epoch: int) -> None:
        start = epoch * len(state.batches)
        for step, now in enumerate(state.losses[: len(self.losses) - start], start=1):
            before = float(self.losses[start + step - 1])
            if not _same(before, now):
                self._stop(f"the loss of epoch {epoch + 1}, step {step} was {before!r}, is now {now!r}")
            self.steps += 1

    def _stop(self, difference: str) -> None:
        self.difference = difference
        raise Finished


def read_losses_so_far(folder: Path) -> Array:
    """Return the recorded losses of all steps, those of an unfinished epoch included, which are in the checkpoint."""
    losses = read_losses(folder)
    newest = find_checkpoint(folder / FOLDER).newest
    if newest is None or newest.snapshot.position != (len(read_records(folder)), newest.snapshot.facts["step"]):
        return losses
    return np.concatenate((losses, newest.snapshot.arrays.get("losses", np.zeros(0))))


def read_records(folder: Path) -> list[Record]:
    """Return the records of a run's epochs."""
    path = folder / METRICS
    try:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def differences_at_the_start(folder: Path) -> list[str]:
    """Return what may keep a run from being repeated: another environment, changes on the way."""
    resumed = read_run(folder).get("resumed", [])
    changes = [f"changed after epoch {point['epoch']}: {change}" for point in resumed for change in point["changes"]]
    return changes + changed(versions_of(folder), environment())


def _same(before: Any, now: float) -> bool:
    return bool(before == now or (before != before and now != now))
