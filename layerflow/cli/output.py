"""Files that a command writes where `-o` says, and JSON for machines.

A command never overwrites its input, a device, a pipe or a symbolic link, and an existing file only with `--force`.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from layerflow.errors import ConfigError
from layerflow.training.storage import write_atomically


def add_output_options(parser: argparse.ArgumentParser, summary: str) -> None:
    """Add `-o FILE` and `--force`."""
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=summary)
    parser.add_argument("--force", action="store_true", help="overwrite FILE if it exists")


def check_output(path: Path, force: bool, inputs: Iterable[str | Path] = ()) -> None:
    """Raise ConfigError unless a command may write to `path`; called before the work, which may take long.

    Args:
        path: where the command will write.
        force: whether it may overwrite an existing file.
        inputs: the files that it reads, which it must not overwrite under any name.
    """
    if path.is_symlink():
        problem = "is a symbolic link; name the file that it points to"
    elif not path.absolute().parent.is_dir():
        problem = f"cannot be written: {path.parent} is not a folder; choose another place with -o"
    elif path.is_dir():
        problem = "is a folder; name a file with -o"
    elif not path.exists():
        return
    elif not path.is_file():
        problem = "is not a regular file; choose another place with -o, or leave -o out to print"
    elif any(os.path.exists(other) and os.path.samefile(path, other) for other in inputs):
        problem = "is the input of this command; choose another file with -o"
    elif not force:
        problem = "already exists; choose another file with -o, or overwrite it with --force"
    else:
        return
    raise ConfigError(f"{path}: {problem}")


def write_output(
    text: str, path: Path | None, force: bool, inputs: Iterable[str | Path] = (), message: str = ""
) -> None:
    """Write to a file, all of it or nothing, and then `message` to stderr; to stdout if there is no path."""
    if path is None:
        sys.stdout.write(text)
        return
    check_output(path, force, inputs)
    write_atomically(path, lambda file: file.write(text.encode()))
    print(f"{path}: {message}", file=sys.stderr)


def as_json(value: Any, indent: int | None = 2) -> str:
    """Return JSON (RFC 8259), which has no NaN and no infinity: they become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
