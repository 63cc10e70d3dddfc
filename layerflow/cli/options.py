"""Options that several commands share."""

import argparse
from pathlib import Path

from layerflow.config import Config, Registry, load_config
from layerflow.config.problems import InvalidConfig
from layerflow.errors import ConfigError


def add_config_options(parser: argparse.ArgumentParser, many: bool = False) -> None:
    """Add `CONFIG [key=value ...]`, `--seed` and `--import`."""
    parser.add_argument(
        "configs", nargs="+", metavar="CONFIG" if many else "CONFIG [key=value ...]",
        help="YAML file, then settings to override: optimizer.lr=0.05 model.0.out_features=128",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="replaces the seed of the file")
    add_import_option(parser)


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Add `--import`."""
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="FILE",
        help="a Python file or module with your own gates, losses, optimizers or readers; may be given several times",
    )  # fmt: skip


def load_configs(arguments: argparse.Namespace) -> list[Config]:
    """Load and check all the given files with the given overrides; the problems of all of them are reported at once."""
    files = [word for word in arguments.configs if "=" not in word or Path(word).exists()]
    overrides = [word for word in arguments.configs if word not in files]
    if not files:
        raise ConfigError(f"no configuration file is given, only settings ({', '.join(overrides)}); name a YAML file first")
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
        raise InvalidConfig([problem for error in failures for problem in getattr(error, "problems", [])])
    return configs
