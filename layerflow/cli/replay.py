"""`layerflow replay`: repeat the step that produced NaN or infinity, and show every gate in it."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli import add_command, add_import_option
from layerflow.cli.output import as_table
from layerflow.errors import DivergedError
from layerflow.runs.journal import load_failed_step
from layerflow.runs.records import stored_config
from layerflow.runs.run import prepared
from layerflow.training.divergence import extent, extents

EXAMPLES = """\
  layerflow replay runs/digits_mlp/001
  layerflow replay runs/mine/003 --import my_layers.py
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    summary = "repeat the step at which a training diverged, gate by gate; write nothing"
    parser = add_command(subparsers, common, "replay", summary, EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a run that diverged")
    add_import_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore the state before the step, repeat it, and print the output of each gate."""
    snapshot, x, y, message = load_failed_step(arguments.folder)
    trainer = prepared(stored_config(arguments.folder, arguments.imports)).trainer
    state = trainer.state
    state.restore(snapshot)
    print(f"epoch {state.epoch + 1}, step {state.step + 1}, learning rate {state.optimizer.lr:g}; batch: {extent(x)}\n")
    outcome = "this time everything stayed finite: the gates or the machine have changed"
    with np.errstate(all="ignore"):
        try:
            trainer.train_step(x, y)
        except DivergedError as error:
            outcome = str(error)
    print(table(state.objective))
    print(f"\n{outcome}")
    if outcome.splitlines()[0] != message.splitlines()[0]:
        print(f"\nthe original message was:\n{message}")
    return 0


def table(objective: Any) -> str:
    """Return the range of every gate's output and of the gradient at its output."""
    rows = [("gate", "output", "gradient at its output")]
    for step in objective.steps:
        name = f"{step.name} ({type(step.gate).__name__})"
        rows.append((name, extents(step, objective.values), extents(step, objective.grads)))
    return as_table(rows, numbers=False)
