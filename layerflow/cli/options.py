"""Options that several commands share."""

import argparse
import os
from pathlib import Path
from typing import Any

from layerflow.config import Config, Registry, load_config
from layerflow.errors import ConfigError


def add_config_options(parser: argparse.ArgumentParser, many: bool = False, needed: bool = True) -> None:
    """Add `CONFIG [key=value ...]`, `--seed` and `--import`."""
    parser.add_argument(
        "configs", nargs="+" if needed else "*", metavar="CONFIG" if many else "CONFIG [key=value ...]",
        help="YAML file, then settings to override: optimizer.lr=0.05 model.0.out_features=128",
    )  # fmt: skip
    parser.set_defaults(words="configs")
    parser.add_argument("--seed", type=int, help="replaces the seed of the file")
    add_import_option(parser)


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    """Add `RUN|model.npz` and `--import`."""
    parser.add_argument("model", type=Path, metavar="RUN|model.npz", help="a run folder, or the model file of a run")
    add_import_option(parser)


def add_command(
    subparsers: Any, common: argparse.ArgumentParser, name: str, summary: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command to the parser of all commands and return its own parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, parents=[common], help=summary, description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples}", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    return parser


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Add `--import`."""
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="FILE",
        help="a Python file or module with your own gates, losses, optimizers or readers; may be given several times",
    )  # fmt: skip


def load_configs(arguments: argparse.Namespace) -> list[Config]:
    """Load and check all the given files with the given overrides; the problems of all of them are reported at once."""
    files, overrides = split_words(arguments.configs)
    registry = Registry.builtin(arguments.imports)
    configs, failures = [], []
    for file in files:
        try:
            configs.append(load_config(file, overrides, registry, arguments.seed))
        except ConfigError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        problems = [problem for error in failures for problem in error.problems]
        raise ConfigError("\n".join(map(str, failures)), problems)
    return configs


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the files and the overrides among the words of a command line."""
    files = [word for word in words if "=" not in word or os.path.exists(word)]
    overrides = [word for word in words if word not in files]
    if not files:
        raise ConfigError(
            f"no configuration file is given, only settings ({', '.join(overrides)}); name a YAML file first"
        )
    return files, overrides


def positive(text: str) -> int:
    """Read a count for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)
