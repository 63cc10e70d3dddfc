"""What is wrong with a configuration, and where: one line to act on, the source line, and a caret under the spot."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from layerflow.errors import ConfigError

Path = tuple[str | int, ...]

MOST_PROBLEMS = 100
"""More are counted, but not told: whoever has repaired these has understood."""


@dataclass(frozen=True)
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
        return f"    {shown}\n    {padding}^"


@dataclass(frozen=True)
class Problem:
    """One thing to repair: where it stands, which setting it is about, and what to write instead."""

    place: Place
    path: Path
    message: str

    def __str__(self) -> str:
        setting = f"{dotted(self.path)}: " if self.path else ""
        first = f"{self.place}: {setting}{self.message}"
        return f"{first}\n{self.place.excerpt}" if self.place.excerpt else first

    def as_dict(self) -> dict[str, object]:
        """The problem in values that JSON can hold."""
        return {
            "source": self.place.source.name,
            "line": self.place.line or None,
            "column": self.place.column or None,
            "setting": dotted(self.path),
            "message": self.message,
        }


@dataclass
class Problems:
    """The problems found so far: checks go on after the first one, so that a person repairs them all in one go."""

    found: list[Problem] = field(default_factory=list)
    further: int = 0

    def add(self, place: Place, path: Path, message: str) -> None:
        """Note a problem; the same one is noted once, and of too many their number alone."""
        problem = Problem(place, path, message)
        if problem in self.found:
            return
        if len(self.found) < MOST_PROBLEMS:
            self.found.append(problem)
        else:
            self.further += 1

    def raise_if_any(self) -> None:
        """Raise every problem in the order of the file, as one `ConfigError`."""
        if self.found:
            raise InvalidConfig(self.found, self.further)


class InvalidConfig(ConfigError):
    """All problems of a configuration, in the order of the file; `found` holds them, `problems` as plain values.

    Args:
        found: the problems.
        further: how many more there are.
    """

    def __init__(self, found: Iterable[Problem], further: int = 0) -> None:
        self.found = sorted(found, key=_position)
        more = [f"... and {further:,} more problems"] if further else []
        super().__init__("\n".join([*map(str, self.found), *more]), [problem.as_dict() for problem in self.found])


def _position(problem: Problem) -> tuple[bool, int, int]:
    place = problem.place
    return (True, 0, 0) if place.source.is_override else (False, place.line, place.column)


def dotted(path: Path) -> str:
    """`("model", 0, "bias")` as `model.0.bias`, the way an override names it."""
    return ".".join(str(part) if str(part).isprintable() else repr(part) for part in path)
