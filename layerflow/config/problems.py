"""What is wrong with a configuration, and where: one line to act on, the source line, and a caret under the spot."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from layerflow.errors import ConfigError

Path = tuple[str | int, ...]

MOST_PROBLEMS = 100
"""The most problems of a report; further ones are counted."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where text came from: a file (problems are labelled `name:line:column`) or an override (labelled by its text)."""

    name: str
    lines: tuple[str, ...] = ()
    is_override: bool = False


@dataclass(frozen=True)
class Place:
    """A spot in a source; line and column count from 1, as editors do. Line 0 means the source as a whole."""

    source: Source
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if self.source.is_override:
            return f"override {self.source.name}"
        return f"{self.source.name}:{self.line}:{self.column}" if self.line else self.source.name

    @property
    def excerpt(self) -> str:
        """The source line and a caret below it, or an empty string when there is no such line."""
        if not 1 <= self.line <= len(self.source.lines) or not self.source.lines[self.line - 1].strip():
            return ""
        line, column = self.source.lines[self.line - 1], self.column - 1
        start = max(0, column - 80)
        shown = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line[start : start + 120])
        padding = "".join("\t" if character == "\t" else " " for character in shown[: column - start])
        return f"\n    {shown}\n    {padding}^"


@dataclass(frozen=True)
class Problem:
    """One thing to fix.

    Attributes:
        place: where it is.
        path: the setting it is about.
        message: what is wrong, and what to write instead.
        choices: everything that may be written there; a report lists the same choices once.
    """

    place: Place
    path: Path
    message: str
    choices: str = ""

    def text(self, with_choices: bool = True) -> str:
        """Return the lines that a person reads."""
        setting = f"{dotted(self.path)}: " if self.path else ""
        return f"{self.place}: {setting}{self.message}{self.choices if with_choices else ''}{self.place.excerpt}"

    def as_dict(self) -> dict[str, object]:
        """Return the problem in values that JSON can hold."""
        return {
            "source": self.place.source.name,
            "line": self.place.line or None,
            "column": self.place.column or None,
            "setting": dotted(self.path),
            "message": self.message + self.choices,
        }


class InvalidConfig(ConfigError):
    """All problems of a configuration, in the order of the file; `found` holds them, `problems` as plain values."""

    def __init__(self, found: Iterable[Problem]) -> None:
        self.found = sorted(dict.fromkeys(found), key=_position)
        told = self.found[:MOST_PROBLEMS]
        first = {problem.choices: index for index, problem in reversed(list(enumerate(told)))}
        lines = [problem.text(with_choices=first[problem.choices] == index) for index, problem in enumerate(told)]
        if further := len(self.found) - len(told):
            lines.append(f"... and {further:,} more problems")
        super().__init__("\n".join(lines), [problem.as_dict() for problem in told])


@contextmanager
def collected(found: list[Problem]) -> Iterator[None]:
    """Add the problems that are raised inside to `found`, so that one run of the checks reports them all."""
    try:
        yield
    except InvalidConfig as error:
        found += error.found


def _position(problem: Problem) -> tuple[bool, int, int]:
    place = problem.place
    return (True, 0, 0) if place.source.is_override else (False, place.line, place.column)


def dotted(path: Path) -> str:
    """Return `("model", 0, "bias")` as `model.0.bias`, the way an override names it."""
    return ".".join(str(part) if str(part).isprintable() else repr(part) for part in path)
