"""`layerflow verify`: train again, and compare every loss bit by bit with the recorded ones."""

import argparse
from pathlib import Path
from typing import Any

from layerflow.cli import EXIT_CHECK_FAILED, add_command, add_import_option, positive
from layerflow.runs.verification import verify

EXAMPLES = """\
  layerflow verify runs/digits_mlp/001
  layerflow verify runs/digits_mlp/001 --steps 100
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    summary = "check the files of a run, train again in memory, and compare every loss bit by bit"
    parser = add_command(subparsers, common, "verify", summary, EXAMPLES)
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--steps", type=positive, metavar="N", help="compare the first N steps only")
    add_import_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify and print."""
    verified = verify(arguments.folder, arguments.imports, arguments.steps)
    if verified.difference:
        print(f"{arguments.folder}: not the same: {verified.difference}")
        return EXIT_CHECK_FAILED
    print(f"{arguments.folder}: the same, bit by bit: {verified.steps} steps, {verified.epochs} epochs")
    return 0
