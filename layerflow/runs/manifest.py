"""`manifest.json`: the size and SHA-256 of every file of a run, right at any instant.

A process may be killed between writing a file and writing its checksum. So the manifest is written first: it holds the
state that a file is about to have, and the one `before`. A file is intact if it is in either. At the end of a training
`settle` leaves one state for each file.
"""

import hashlib
import json
import threading
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from layerflow.errors import DataError
from layerflow.runs.files import CHECKPOINTS, LEFTOVER, LOCK, Content, explained, write_atomically

MANIFEST = "manifest.json"
FORMAT = "layerflow manifest 1"

State = dict[str, Any] | None
"""Size and checksum of a file, or None for one that does not exist."""


def state_of(content: Content) -> dict[str, Any]:
    """Return the state of a file with this content."""
    return state(len(content), hashlib.sha256(content).hexdigest())


def state(size: int, digest: str) -> dict[str, Any]:
    """Return the state of a file of this size and SHA-256."""
    return {"bytes": size, "sha256": digest}


class Manifest:
    """The checksums of a run's files, for the process that writes them.

    Args:
        folder: the run folder. A manifest that is already there is continued; a damaged one is begun again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.Lock()  # checkpoints are written by a thread of their own
        try:
            self.states = {name: [_actual(folder / name, possible)] for name, possible in read_manifest(folder).items()}
        except DataError:
            self.states = {}

    def expect(self, states: Mapping[str, State], sync: bool = False) -> None:
        """Announce the next state of some files, which are written right after."""
        with self.lock:
            for name, next_state in states.items():
                self.states[name] = [next_state, self.states.get(name, [None])[0]]
            self._write(sync)

    def write(self, contents: Mapping[str, Content]) -> None:
        """Write some files, each atomically."""
        self.expect({name: state_of(content) for name, content in contents.items()}, sync=True)
        for name, content in contents.items():
            write_atomically(self.folder / name, content)

    def now(self, name: str) -> State:
        """Return the state of a file that is not being written."""
        path = self.folder / name
        return self.states[name][0] if name in self.states else state_of(path.read_bytes()) if path.exists() else None

    def settle(self) -> None:
        """Take each file as written, and every other file of the folder as it is; called when nothing is written."""
        with self.lock, explained(self.folder / MANIFEST):
            settled = {name: possible[:1] for name, possible in self.states.items() if possible[0]}
            for path in self.folder.iterdir():
                if path.is_file() and path.name not in (MANIFEST, LOCK) and not path.name.endswith(LEFTOVER):
                    settled.setdefault(path.name, [state_of(path.read_bytes())])
            self.states = settled
            self._write(sync=False)

    def forget(self, names: Iterable[str]) -> None:
        """Drop files that others will write before the next `settle`."""
        with self.lock:
            for name in names:
                self.states.pop(name, None)
            self._write(sync=False)

    def _write(self, sync: bool) -> None:
        files = {name: {"now": possible[0], "before": possible[-1]} for name, possible in self.states.items()}
        text = json.dumps({"format": FORMAT, "sha256": _seal(files), "files": files}, indent=1)
        write_atomically(self.folder / MANIFEST, text.encode(), sync)


def read_manifest(folder: Path) -> dict[str, list[State]]:
    """Return the possible states of each file, the latest first; raises `DataError` if it is missing or damaged."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        files = content["files"]
        if content["format"] != FORMAT or content["sha256"] != _seal(files):
            raise ValueError("its own checksum is wrong")
        return {
            name: [entry["now"]] if entry["now"] == entry["before"] else [entry["now"], entry["before"]]
            for name, entry in files.items()
        }
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: damaged ({error})") from error


def damaged_files(folder: Path, names: Collection[str] = ()) -> dict[str, str]:
    """Return what is wrong with the files of a run, by name; all of them unless `names` are given.

    Files that the manifest does not list are not judged. Raises `DataError` if the manifest is missing or damaged.
    """
    found = {}
    for name, possible in read_manifest(folder).items():
        if not names or name in names:
            problem = _problem(folder / name, possible)
            if problem:
                found[name] = problem
    return found


def is_listed_state(folder: Path, name: str, content: bytes) -> bool:
    """Whether a file with this content would be intact."""
    return state_of(content) in read_manifest(folder).get(name, [])


def _problem(path: Path, possible: list[State]) -> str:
    if path.is_symlink() or path.parent.is_symlink() and path.parent.name == CHECKPOINTS:
        return "a symbolic link"
    try:
        content = path.read_bytes() if path.exists() else None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if (None if content is None else state_of(content)) in possible:
        return ""
    sizes = [expected["bytes"] for expected in possible if expected]
    if content is None:
        return "missing"
    if len(content) in sizes:
        return "changed since it was written"
    return f"{len(content)} bytes, expected {sizes[0]}" if sizes else "not expected to exist"


def _actual(path: Path, possible: list[State]) -> State:
    """Return the one of the possible states that a file is in; the latest if it is in none of them."""
    if len(possible) == 1:
        return possible[0]
    content = path.read_bytes() if path.is_file() else None
    found = None if content is None else state_of(content)
    return found if found in possible else possible[0]


def _seal(files: Any) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
