"""The command line: `layerflow COMMAND ...`, one module per command; here is what they share."""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import layerflow
from layerflow.errors import ConfigError, DataError, DivergedError, LayerflowError, StorageError, did_you_mean

if TYPE_CHECKING:
    from layerflow.config import Config

COMMANDS = (
    "train", "eval", "predict", "generate", "export", "check", "summary", "graph", "gates", "gradcheck", "time", "init",
    "schema", "compare", "search", "verify", "replay", "exercise", "grade",
)  # fmt: skip
SETTINGS = {
    "optimizer": ("lr", "momentum", "weight_decay", "betas"),
    "train": ("epochs", "batch_size", "clip_norm", "clip_value", "early_stopping", "metrics", "shuffle", "accumulate"),
    "data": ("test", "validation", "scale"),
}
FILES = {"graph": "draw"}  # commands whose module has another name
EXIT_UNEXPECTED, EXIT_USAGE, EXIT_CHECK_FAILED, EXIT_DATA, EXIT_DIVERGED, EXIT_STORAGE = range(1, 7)
EXIT_INTERRUPTED = 130

LONGEST_LINE = 500
FULL = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO")}

EPILOG = """\
exit codes: 0 success, 1 unexpected error, 2 usage or configuration, 3 a check failed, 4 data, 5 diverged,
            6 files cannot be written, 130 interrupted (143 by SIGTERM)
examples:
  layerflow train configs/digits_mlp.yaml optimizer.lr=0.05
  layerflow eval runs/digits_mlp/001
  layerflow init flowers.csv --target species
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error that the user can fix is one message, without a traceback."""
    arguments = parse(sys.argv[1:] if argv is None else argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as error:
        print(f"\n{describe(error)}", file=sys.stderr)
        return exit_code(error)
    except BrokenPipeError:  # the reader of our output has closed it
        _discard_output()
        return 0
    except Exception as error:
        if arguments.debug:
            raise
        print(describe(error), file=sys.stderr)
        if _is_full_output(error):
            _discard_output()
        return exit_code(error)


def _discard_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail on it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; settings may also follow options: `train c.yaml --quiet optimizer.lr=0.1`."""
    parser = make_parser(argv)
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        hint = did_you_mean(argv[0], COMMANDS) or f"; the commands are {', '.join(COMMANDS)}"
        parser.error(f"no command {argv[0]!r}{hint}")
    arguments, further = parser.parse_known_args(argv)
    words = getattr(arguments, "words", None)
    if further and (words is None or any(word.startswith("-") for word in further)):
        parser.error(f"unrecognized arguments: {' '.join(further)}{_as_setting(further)}")
    if words is not None:
        getattr(arguments, words).extend(further)
    return arguments


def _as_setting(further: Sequence[str]) -> str:
    """How an option that is a setting of the configuration is written."""
    name, _, value = further[0].lstrip("-").replace("-", "_").partition("=")
    for section, keys in SETTINGS.items():
        if name in keys:
            return f"; a setting of the configuration is written {section}.{name}={value or ''.join(further[1:2])}"
    return ""


def make_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of all commands, or of the one that `argv` names, so that no other is imported."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="layerflow",
        description="Train neural networks made of explicit gates, from one YAML file.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"layerflow {layerflow.__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in argv[:1] if argv and argv[0] in COMMANDS else COMMANDS:
        importlib.import_module(f"layerflow.cli.{FILES.get(name, name)}").add_parser(subparsers, common)
    return parser


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, KeyboardInterrupt):
        return int(getattr(error, "exit_code", EXIT_INTERRUPTED))
    if isinstance(error, StorageError) or _is_full_output(error):
        return EXIT_STORAGE
    if isinstance(error, DataError):
        return EXIT_DATA
    if isinstance(error, DivergedError):
        return EXIT_DIVERGED
    return EXIT_USAGE if isinstance(error, LayerflowError | MemoryError) or _of_a_file(error) else EXIT_UNEXPECTED


def describe(error: BaseException, subject: str = "layerflow") -> str:
    """Return the message of an error about `subject`, with the notes that say where in a model it happened.

    It may quote any input: control characters are escaped and long lines are shortened.
    """
    return "\n".join(map(_legible, _message(error, subject).split("\n")))


def _is_full_output(error: BaseException) -> bool:
    """Whether standard output cannot be written: an error of the system that names no file."""
    return isinstance(error, OSError) and error.filename is None and error.errno in FULL


def _of_a_file(error: BaseException) -> bool:
    """Whether the system refuses a named file or folder."""
    return isinstance(error, OSError) and error.filename is not None and error.strerror is not None


def _legible(line: str) -> str:
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 4 :]}"
    shown = (mark if mark.isprintable() or mark == "\t" else repr(mark)[1:-1] for mark in line)
    return "".join(shown)


def _message(error: BaseException, subject: str) -> str:
    notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, ConfigError) and (error.problems or subject == "layerflow"):
        return f"{error}{notes}"
    if isinstance(error, KeyboardInterrupt):
        return f"{subject}: {error or 'interrupted'}{notes}"
    if isinstance(error, LayerflowError):
        return f"{subject}: {error}{notes}"
    if isinstance(error, OSError) and _is_full_output(error):
        return f"{subject}: the output cannot be written: {error.strerror}{notes}"
    if isinstance(error, OSError) and _of_a_file(error):
        return f"{subject}: {error.filename}: {error.strerror}{notes}"
    if isinstance(error, MemoryError):
        return f"{subject}: not enough memory: {error}{notes}\n  use a smaller model, batch or data set"
    return f"{subject}: {type(error).__name__}: {error}{notes}\n  (use --debug to see the traceback)"


# Options that several commands share ---------------------------------------------------------------------------------


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


def load_configs(arguments: argparse.Namespace) -> "list[Config]":
    """Load and check all the given files with the given overrides; the problems of all of them are reported at once."""
    from layerflow.config import Registry, load_config

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
    if "=" in words:
        at = words.index("=")
        raise ConfigError(f"a setting is written without spaces: {''.join(words[max(at - 1, 0) : at + 2])}")
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
        raise argparse.ArgumentTypeError(f"must be a positive integer, not {text!r}")
    return int(text)
