"""`layerflow init`: a commented configuration to start from."""

import argparse
import sys
from pathlib import Path
from typing import Any

from layerflow.cli.options import add_command
from layerflow.config.starter import starter_config
from layerflow.errors import ConfigError

EXAMPLES = """\
  layerflow init flowers.csv --target species -o flowers.yaml
  layerflow init digits.npz > digits.yaml
  layerflow init train-images-idx3-ubyte.gz --target train-labels-idx1-ubyte.gz
"""


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, common, "init", "look at a data file and write a configuration to start from", EXAMPLES
    )
    parser.add_argument("data", metavar="DATA", help="CSV, NPZ, NPY, IDX or CIFAR-10 file")
    parser.add_argument("--target", metavar="NAME", help="the column, array or file with the targets")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="a new file (default: standard output, for use in this folder)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the configuration."""
    text = starter_config(arguments.data, arguments.target, arguments.output)
    if arguments.output is None:
        sys.stdout.write(text)
        return 0
    try:
        with arguments.output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{arguments.output}: exists already; choose another name with -o") from None
    except OSError as error:
        raise ConfigError(
            f"{arguments.output}: cannot be written ({error.strerror}); choose another place with -o"
        ) from error
    print(f"{arguments.output}: written; next: layerflow train {arguments.output}", file=sys.stderr)
    return 0
