"""Trains every combination of a search that has not been trained yet."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerflow.config import Config
from layerflow.config.elements import build
from layerflow.config.yaml import dump_yaml
from layerflow.errors import DataError, LayerflowError
from layerflow.runs.combinations import Combination
from layerflow.runs.files import locked
from layerflow.runs.jobs import Job, train_all
from layerflow.runs.records import Run, read_run
from layerflow.runs.run import imported_files

# Trained again with the same settings, these end in the same way.
SETTLED = {"finished": 0, "stopped early": 0, "diverged": 5}


@dataclass
class Member:
    """One combination, its checked configuration, and its run once there is one."""

    combination: Combination
    config: Config
    run: Run | None = None
    exit_code: int = 0


def search(
    members: Sequence[Member],
    out: Path,
    job: Callable[[Member, Path | None], Job],
    imports: Sequence[str] = (),
    count: int = 1,
    quiet: bool = False,
) -> bool:
    """Train the members without a result, and fill in the run of each; return whether all were started.

    Args:
        members: the combinations.
        out: the runs are `out/<combination>/<NNN>`; one search at a time may use the folder.
        job: returns the job of a member: a new run, or the one to continue.
        imports: files with your own types.
        count: how many run at a time.
        quiet: no progress.

    Raises:
        StorageError: another search uses the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        current = _Current(imports)
        latest = [_latest_run(out / member.combination.name, member.config, current) for member in members]
        waiting: list[tuple[Member, Path | None]] = []
        for member, run in zip(members, latest, strict=True):
            if run and run.outcome in SETTLED:
                member.run, member.exit_code = run, SETTLED[run.outcome]
            else:
                waiting.append((member, run.folder if run else None))
        if len(waiting) < len(members):
            print(f"{len(members) - len(waiting)} of {len(members)} runs were there already in {out}", file=sys.stderr)
        results = train_all([job(member, begun) for member, begun in waiting], count, quiet)
        for (member, begun), result in zip(waiting, results, strict=False):
            member.exit_code = result.exit_code
            folder = result.folder or begun or _newest(out / member.combination.name)
            if folder and result.outcome in SETTLED:
                member.run = read_run(folder)
    return len(results) == len(waiting)


class _Current:
    """Decides whether a run was made from the present data and the present own types."""

    def __init__(self, imports: Sequence[str]) -> None:
        self.imports = imported_files(imports)
        self.checksums: dict[str, str | None] = {}

    def matches(self, run: Run, config: Config) -> bool:
        """Whether the run would be the same today; data that cannot be read now are not judged."""
        source = dump_yaml(config.resolve()["data"])
        if source not in self.checksums:
            try:
                self.checksums[source] = build(config.data.source).read().checksum
            except LayerflowError:
                self.checksums[source] = None
        data: Any = run.facts.get("data")
        recorded = data.get("checksum") if isinstance(data, dict) else None
        is_same = self.checksums[source] in (None, recorded) and run.facts.get("imports", {}) == self.imports
        if not is_same:
            print(f"{run.folder}: the data or the imported files have changed since this run", file=sys.stderr)
        return is_same


def _latest_run(folder: Path, config: Config, current: _Current) -> Run | None:
    """Return the newest run in a combination's folder that has exactly this configuration, data and own types."""
    numbered = [place for place in folder.iterdir() if place.name.isdigit()] if folder.is_dir() else []
    for place in sorted(numbered, key=lambda place: int(place.name), reverse=True):
        try:
            run = read_run(place)
            if run.config_text == config.to_yaml(place) and current.matches(run, config):
                return run
        except DataError:
            continue
    return None


def _newest(folder: Path) -> Path | None:
    numbered = [place for place in folder.iterdir() if place.name.isdigit()] if folder.is_dir() else []
    return max(numbered, key=lambda place: int(place.name), default=None)
