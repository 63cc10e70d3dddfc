"""The errors layerflow raises for its users, and helpers for their messages: what was meant, and where it stands."""

import os
import sys
from collections.abc import Iterable, Mapping
from types import CodeType

Place = tuple[CodeType, int]
_PACKAGE = os.path.dirname(__file__) + os.sep
_COMMAND_LINE = (os.path.join(_PACKAGE, "cli", ""), os.path.join(_PACKAGE, "__main__.py"))


class LayerflowError(Exception):
    """Base of every error that is meant to be read by a person: it says what, where, and what to do instead."""


class GateError(LayerflowError):
    """A gate, or the way it is used, breaks the contract of `layerflow.gate`."""


class ConfigError(LayerflowError):
    """A configuration, or the command line that goes with it, cannot be used.

    Attributes:
        problems: every single one, as plain values.
    """

    def __init__(self, message: str, problems: Iterable[Mapping[str, object]] = ()) -> None:
        super().__init__(message)
        self.problems = [dict(problem) for problem in problems]


class DataError(LayerflowError):
    """Data cannot be read, or cannot be used as the configuration says."""


class StorageError(LayerflowError):
    """A run folder cannot be written: the disk is full, the folder is read-only, gone, or in use by another process."""


class DivergedError(LayerflowError):
    """Training produced NaN or infinity."""


class RecordError(LayerflowError):
    """Code cannot be recorded as a program: which line, and what to write instead."""


class EngineError(LayerflowError):
    """An engine gives other numbers than NumPy."""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return `", did you mean 'lr'?"` for the closest of `known`, or an empty string when nothing is close."""
    from difflib import get_close_matches  # which is slow to import, and needed only after a mistake

    originals = {name.lower(): name for name in known}
    matches = get_close_matches(str(word).lower(), originals, n=1, cutoff=0.6)
    return f", did you mean {originals[matches[0]]!r}?" if matches else ""


def users_place() -> Place | None:
    """Return where the innermost code outside this package is at the moment: cheap to keep, and read when needed.

    `None` where there is none: what calls the command line is nobody's code.
    """
    frame = sys._getframe(1)
    file = frame.f_code.co_filename
    while (outer := frame.f_code.co_filename).startswith(_PACKAGE):
        if frame.f_back is None:
            return None
        file, frame = outer, frame.f_back
    return None if file.startswith(_COMMAND_LINE) else (frame.f_code, frame.f_lasti)


def file_and_line(place: Place) -> str:
    """Return a place as `model.py:12`."""
    code, instruction = place
    line = next((line for start, end, line in code.co_lines() if start <= instruction < end), code.co_firstlineno)
    return f"{code.co_filename.removeprefix(os.getcwd() + os.sep)}:{line}"
