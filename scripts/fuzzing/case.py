"""One hostile case: files, a command, and the laws that its outcome must keep."""

import contextlib
import io
import os
import re
import resource
import shutil
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import yaml

from layerflow.cli import main
from layerflow.config import load_config
from layerflow.errors import LayerflowError

SECONDS = 5
"""Of processor time, that a case may take on a machine that does nothing else."""
CODES = frozenset({0, 2, 3, 4, 5, 6, 130, 143})
LONGEST_LINE = 600
_LEAKS = re.compile(r"Traceback|Warning\b|object at 0x|--debug for the traceback|<class '")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass
class Case:
    """What is done, and what must come of it.

    Attributes:
        what: the mutation, in words.
        files: the content of each file by its path in the folder of the case; None makes a folder.
        words: the command line.
        refused: exit codes one of which is required; empty when it may be accepted.
        says: texts one of which must be in the message.
        config: a configuration that, once accepted, must be resolved with every key and value that it says.
        accepted_as: what standard output must be if the case is accepted; None leaves it open.
    """

    what: str
    files: dict[str, bytes | None]
    words: list[str]
    refused: frozenset[int] = frozenset()
    says: tuple[str, ...] = ()
    config: str | None = None
    accepted_as: str | None = None


@dataclass
class Outcome:
    """What a command left behind; `broken` are the laws it did not keep."""

    code: int = 0
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    memory: float = 0.0
    broken: list[str] = field(default_factory=list)


class TooSlow(BaseException):
    """The time is over; no `except Exception` stops it."""


def run(case: Case, folder: Path, seconds: float = SECONDS) -> Outcome:
    """Run a case in this process, in `folder`, for so many seconds at most, and judge it."""
    if folder.exists():
        shutil.rmtree(folder)
    write(case, folder)
    before = contents(folder)
    outcome = _outcome(case, folder, seconds)
    if contents(folder) != before:
        outcome.broken.append(
            f"files were written or changed: {sorted(set(contents(folder)) ^ set(before)) or 'contents'}"
        )
    if not outcome.broken:
        outcome.broken += judge(case, outcome, folder)
    return outcome


def write(case: Case, folder: Path) -> None:
    """Lay out the files of a case."""
    folder.mkdir(parents=True)
    for name, content in case.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            file.mkdir()
        else:
            file.write_bytes(content)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return everything below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def judge(case: Case, outcome: Outcome, folder: Path) -> list[str]:
    """Return the laws that an outcome breaks."""
    broken = []
    if outcome.code not in CODES:
        broken.append(f"exit code {outcome.code}")
    if leak := _LEAKS.search(outcome.err):
        broken.append(f"internals in the message: {leak.group()!r}")
    if control := _CONTROL.search(outcome.err):
        broken.append(f"a control character in the message: {control.group()!r}")
    if outcome.code and not (outcome.err + outcome.out).strip():
        broken.append("failed without a message")
    if (longest := max(map(len, outcome.err.splitlines()), default=0)) > LONGEST_LINE:
        broken.append(f"a line of {longest} characters")
    if case.refused and outcome.code not in case.refused:
        broken.append(f"exit code {outcome.code}, expected {sorted(case.refused)}")
    elif case.refused and case.says and not any(text in outcome.err for text in case.says):
        broken.append(f"the message names none of {case.says}")
    if outcome.code == 0 and case.accepted_as is not None and outcome.out != case.accepted_as:
        broken.append("damage was accepted: the result is another one")
    if outcome.code == 0 and case.config is not None:
        broken += ignored(folder / case.config, [word for word in case.words if "=" in word])
    return broken


def ignored(config: Path, overrides: list[str]) -> list[str]:
    """Return the settings of an accepted configuration that its resolved form does not have."""
    here = os.getcwd()
    os.chdir(config.parent)
    try:
        resolved = (
            load_config(config.name).resolve() if not overrides else load_config(config.name, overrides).resolve()
        )
    except LayerflowError as error:
        return [f"accepted, but cannot be loaded again: {str(error)[:200]}"]
    finally:
        os.chdir(here)
    if overrides:
        return []
    said = yaml.load(config.read_bytes().decode("utf-8-sig"), Loader=yaml.BaseLoader)
    return [f"silently ignored: {path} = {value!r}" for path, value in _missing(said, resolved, "")]


def _missing(said: object, resolved: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(said, dict):
        if set(said) == {"type"} and not isinstance(resolved, dict):
            said, resolved = said["type"], resolved
        else:
            for key, value in said.items():
                if not isinstance(resolved, dict) or key not in resolved:
                    yield f"{path}.{key}", value
                else:
                    yield from _missing(value, resolved[key], f"{path}.{key}")
            return
    if isinstance(said, list):
        items = resolved if isinstance(resolved, list) else [resolved]
        if len(items) != len(said):
            yield path, said
            return
        for index, (value, item) in enumerate(zip(said, items, strict=True)):
            yield from _missing(value, item, f"{path}.{index}")
        return
    if isinstance(resolved, dict) and resolved.get("type") == said:
        return
    if isinstance(resolved, list) and len(resolved) == 1:
        resolved = resolved[0]
    if not _equal(str(said), resolved):
        yield path, said


def _equal(said: str, value: object) -> bool:
    if value is None:
        return said in ("", "~", "null", "Null", "NULL")
    if isinstance(value, bool):
        return said.lower() == str(value).lower()
    if isinstance(value, int | float):
        if said == str(value):
            return True
        try:
            return float(said.replace(".inf", "inf").replace(".nan", "nan")) == value or value != value
        except ValueError:
            return int(said, 0) == value
    return said == value or str(value).endswith(os.path.basename(os.path.normpath(said)))


def _outcome(case: Case, folder: Path, seconds: float) -> Outcome:
    """Run the command, and keep all that it prints and warns of.

    The limit is one of processor time, since other processes may be busy.
    """

    def too_slow(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    outcome, out, err, here = Outcome(), io.StringIO(), io.StringIO(), os.getcwd()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = signal.signal(signal.SIGPROF, too_slow)
    os.chdir(folder)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            warnings.simplefilter("always")
            outcome.code = main(case.words)
    except SystemExit as left:  # how argparse leaves
        outcome.code = int(left.code or 0)
    except TooSlow:
        outcome.broken.append(f"took more than {seconds} s of processor time")
    except BaseException as error:
        outcome.broken.append(f"{type(error).__name__} escaped: {error}")
    finally:
        outcome.seconds = seconds - signal.getitimer(signal.ITIMER_PROF)[0]
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        os.chdir(here)
    outcome.out, outcome.err = out.getvalue(), err.getvalue()
    outcome.memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    outcome.broken += sorted({f"a warning leaked: {w.category.__name__}: {w.message}"[:200] for w in caught})
    return outcome
