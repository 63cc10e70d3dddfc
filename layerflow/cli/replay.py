"""`layerflow replay`: take the step again at which a training left the finite numbers, and show every gate in it."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.cli.options import add_import_option
from layerflow.cli.run_facts import stored_config
from layerflow.cli.running import prepared
from layerflow.cli.tables import as_table
from layerflow.errors import DivergedError
from layerflow.training.divergence import extent
from layerflow.training.failed_step import load_failed_step

EXAMPLES = """\
examples:
  layerflow replay runs/digits_mlp/001
  layerflow replay runs/mine/003 --import my_layers.py
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "replay", parents=[common], help="take again the step at which a training left the finite numbers",
        description="Take again the step at which a training left the finite numbers, gate by gate; write nothing.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="RUN", help="the folder of a run that diverged")
    add_import_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Restore the state before the step, take it, and print what each gate computed."""
    snapshot, x, y, message = load_failed_step(arguments.folder)
    trainer = prepared(stored_config(arguments.folder, arguments.imports)).trainer
    state = trainer.state
    state.restore(snapshot)
    print(f"epoch {state.epoch + 1}, step {state.step + 1}, learning rate {state.optimizer.lr:g}; batch: {extent(x)}\n")
    outcome = "this time all stayed finite: the gates, or the machine, are not the same as then"
    with np.errstate(all="ignore"):
        try:
            trainer.train_step(x, y)
        except DivergedError as error:
            outcome = str(error)
    print(table(state.objective))
    print(f"\n{outcome}")
    if outcome.splitlines()[0] != message.splitlines()[0]:
        print(f"\nthen it was said:\n{message}")
    return 0


def table(objective: Any) -> str:
    """Return the range of every gate's output, and of the gradient that arrived at it."""
    rows = [("gate", "output", "gradient at its output")]
    for step in objective.steps:
        grad = objective.grads[step.writes[0]]
        shown = "" if grad is None else extent(grad)
        rows.append((f"{step.name} ({type(step.gate).__name__})", extent(objective.values[step.writes[0]]), shown))
    return as_table(rows, numbers=False)
