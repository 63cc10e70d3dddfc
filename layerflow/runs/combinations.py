"""A search: `optimizer.lr=0.1,0.01 seed=0..4` gives ten combinations, each trained unless it has been already."""

import hashlib
import itertools
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.config import Config
from layerflow.config.elements import build
from layerflow.config.problems import Source
from layerflow.config.yaml import dump_yaml, parse_value
from layerflow.errors import ConfigError, DataError, LayerflowError
from layerflow.runs.files import locked, numbered_runs
from layerflow.runs.jobs import Job, train_all
from layerflow.runs.records import Run, read_run
from layerflow.runs.run import imported_files

MAXIMUM = 10_000
WHOLE_RANGE = re.compile(r"(-?\d{1,15})\.\.(-?\d{1,15})")
RANGE = re.compile(r"(-?[\d.]+(?:[eE][-+]?\d{1,3})?)\.\.(-?[\d.]+(?:[eE][-+]?\d{1,3})?)")
SEPARATORS = re.compile(r"""("(?:\\.|[^"\\])*"|'[^']*'|[\[{]|[\]}]|,)""")
UNFIT = re.compile(r"[^A-Za-z0-9._=,+-]")
NAME_LENGTH = 120
# Trained again with the same settings, these end in the same way.
SETTLED = {"finished": 0, "stopped early": 0, "diverged": 5}


@dataclass(frozen=True)
class Choice:
    """A key and its values as YAML texts; or the ends of the range from which values are sampled."""

    key: str
    values: tuple[str, ...] = ()
    ends: tuple[float, float] | None = None

    def draw(self, rng: np.random.Generator) -> str:
        """Return one value: from the list, or from the range, on a logarithmic scale if it spans a factor of 10."""
        if self.ends is None:
            return self.values[rng.integers(len(self.values))]
        low, high = self.ends
        is_wide = low > 0 and high / low >= 10
        value = math.exp(rng.uniform(math.log(low), math.log(high))) if is_wide else rng.uniform(low, high)
        return f"{value:.4g}"


@dataclass(frozen=True)
class Combination:
    """The settings of one run as texts by key: those that vary in the search, and the fixed ones."""

    varying: dict[str, str]
    fixed: dict[str, str]

    @property
    def overrides(self) -> list[str]:
        """The overrides as on the command line."""
        return [f"{key}={value}" for key, value in (self.fixed | self.varying).items()]

    @property
    def name(self) -> str:
        """The varying settings as a folder name; shortened, with a digest, where a file system might refuse it."""
        text = ",".join(f"{key}={value}" for key, value in self.varying.items()) or "all"
        fit = UNFIT.sub("_", text)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return fit if fit == text and len(fit) <= NAME_LENGTH else f"{fit[:NAME_LENGTH]}-{digest}"

    @property
    def settings(self) -> dict[str, Any]:
        """The varying settings except the seed, as values; runs with equal settings are repetitions."""
        return {key: yaml_value(value) for key, value in self.varying.items() if key != "seed"}


def read_choice(text: str, is_random: bool = False) -> Choice:
    """Read `key=0.1,0.01`, `key=0..4` (integers, both ends included) or, for a random search, `key=1e-4..1e-1`."""
    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise ConfigError(f"{text}: must be written key=value,value such as optimizer.lr=0.1,0.01, or seed=0..4")
    if whole := WHOLE_RANGE.fullmatch(values):
        first, last = int(whole[1]), int(whole[2])
        if not first <= last < first + MAXIMUM:
            raise ConfigError(
                f"{text}: a range goes from the smaller to the larger number, with at most {MAXIMUM:,} values"
            )
        return Choice(key, tuple(str(number) for number in range(first, last + 1)))
    if RANGE.fullmatch(values):
        return _between(text, key, values, is_random)
    parts = tuple(dict.fromkeys(_split(values)))
    if not all(parts):
        raise ConfigError(f"{text}: a value is missing between two commas")
    for part in parts:
        yaml_value(part)
    return Choice(key, parts)


def combinations(texts: Sequence[str], random: int | None = None) -> list[Combination]:
    """Return all combinations of the values, or `random` of them.

    These are drawn alike at every call, so that more of them begin with the fewer.

    Every draw is run with each of the seeds. A choice of one value holds for all the runs.

    Raises:
        ConfigError: something is not a choice, a key stands twice, or there are too many combinations.
    """
    choices = [read_choice(text, random is not None) for text in texts]
    keys = [choice.key for choice in choices]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise ConfigError(f"{twice} is given twice; list all its values at once: {twice}=a,b")
    fixed = {choice.key: choice.values[0] for choice in choices if len(choice.values) == 1}
    varying = [choice for choice in choices if choice.key not in fixed]
    if random is None:
        count = math.prod(len(choice.values) for choice in varying)
        if count > MAXIMUM:
            raise ConfigError(f"these are {count:,} runs, more than {MAXIMUM:,}; take fewer values, or --random 100")
        products = itertools.product(*(choice.values for choice in varying))
        return [Combination(dict(zip([c.key for c in varying], values, strict=True)), fixed) for values in products]
    seeds = next((choice.values for choice in varying if choice.key == "seed"), None)
    drawn = _drawn([choice for choice in varying if choice.key != "seed"], random)
    return [
        Combination(settings | ({} if seed is None else {"seed": seed}), fixed)
        for settings in drawn
        for seed in seeds or (None,)
    ]


def yaml_value(text: str) -> Any:
    """Return the value that a text stands for in a configuration."""
    return parse_value(text, Source(text, (text,), is_override=True)).plain()


def _between(text: str, key: str, values: str, is_random: bool) -> Choice:
    if not is_random:
        raise ConfigError(
            f"{text}: a range of fractions needs a random search: add --random 20, or list the values with commas"
        )
    try:
        low, high = map(float, values.split("..", 1))
    except ValueError:
        raise ConfigError(f"{text}: the ends of the range must be numbers, such as optimizer.lr=1e-4..1e-1") from None
    if not low < high or math.isinf(high - low):
        raise ConfigError(f"{text}: a range goes from the smaller to the larger number")
    return Choice(key, ends=(low, high))


def _split(text: str) -> Iterator[str]:
    """Split at the commas that are not inside brackets or quotes."""
    depth, part = 0, ""
    for piece in SEPARATORS.split(text):
        depth += (piece in ("[", "{")) - (piece in ("]", "}"))
        if piece == "," and depth <= 0:
            yield part.strip()
            part = ""
        else:
            part += piece
    yield part.strip()


def _drawn(choices: Sequence[Choice], count: int) -> list[dict[str, str]]:
    """Draw until there are `count` different settings, or until hardly any can be left."""
    rng = np.random.default_rng(0)
    drawn: dict[tuple[str, ...], None] = {}
    for _ in range(100 * count):
        drawn[tuple(choice.draw(rng) for choice in choices)] = None
        if len(drawn) == count:
            break
    return [dict(zip([choice.key for choice in choices], values, strict=True)) for values in drawn]


# Training them -------------------------------------------------------------------------------------------------------


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
            folder = result.folder or begun or next(iter(numbered_runs(out / member.combination.name)), None)
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
    for place in numbered_runs(folder):
        try:
            run = read_run(place)
            if run.config_text == config.to_yaml(place) and current.matches(run, config):
                return run
        except DataError:
            continue
    return None
