"""What commands write: files where `-o` says, and tables.

A command never overwrites its input, a device, a pipe or a symbolic link, and an existing file only with `--force`.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from layerflow.errors import ConfigError
from layerflow.runs.files import write_atomically


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
    write_atomically(path, text.encode())
    print(f"{path}: {message}", file=sys.stderr)


def as_table(rows: Sequence[Sequence[str]], numbers: bool = True, indent: str = "") -> str:
    """Return rows of cells in columns two spaces apart; `numbers` aligns all columns but the first to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(indent + "  ".join(cells).rstrip())
    return "\n".join(lines)
