"""Whether a training may continue under a configuration that is no longer quite the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerflow.training.history import Best
from layerflow.training.snapshot import Snapshot

if TYPE_CHECKING:
    from layerflow.training.trainer import Trainer

ABSENT = object()
OTHER_PAST = "what has been trained so far would have been different"


@dataclass(frozen=True)
class Difference:
    """A setting that is not what it was; `objection` says why that would change the past, if it would."""

    key: str
    before: Any
    now: Any
    objection: str = ""

    def __str__(self) -> str:
        change = f"{self.key.removeprefix('config.')}: {_shown(self.before)} before, {_shown(self.now)} now"
        return f"{change} ({self.objection})" if self.objection else change


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Return every setting that differs between two resolved configurations, or other trees of plain values."""
    old, new = dict(_flat("", before)), dict(_flat("", now))
    keys = [key for key in {**old, **new} if old.get(key, ABSENT) != new.get(key, ABSENT)]
    return [Difference(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys]


def judged(difference: Difference, trainer: "Trainer", snapshot: Snapshot, folder: Path) -> Difference:
    """Return the difference with the objection there is to it, for a trainer that is prepared under what holds now.

    Paths in a configuration are relative to `folder`.
    """
    key = difference.key.removeprefix("config.")
    if key.startswith("checksums."):
        objection = "the data are others"
    elif key.startswith("train.checkpoint."):
        objection = ""
    elif key == "train.epochs":
        objection = _against_epochs(difference.before, difference.now, trainer, snapshot)
    elif key == "train.early_stopping.patience":
        objection = _against_patience(trainer, snapshot)
    elif key.startswith("data.") and isinstance(difference.now, str) and (folder / difference.now).is_file():
        objection = ""  # a file that moved; its checksum is compared
    else:
        objection = OTHER_PAST
    return replace(difference, objection=objection)


def _against_epochs(before: Any, now: int, trainer: "Trainer", snapshot: Snapshot) -> str:
    if not isinstance(before, int):
        return OTHER_PAST
    epoch, step = snapshot.position
    begun = epoch + (step > 0)
    if now < begun:
        return f"epoch {begun} has begun already"
    schedule, base = trainer.schedule, trainer.base_lr
    if any(schedule.lr(base, past, before) != schedule.lr(base, past, now) for past in range(begun)):
        return (
            f"{type(schedule).__name__} spreads over the whole training, so that the learning rates so far would have "
            "been others"
        )
    return ""


def _against_patience(trainer: "Trainer", snapshot: Snapshot) -> str:
    stopping = trainer.early_stopping
    if stopping is None:
        return OTHER_PAST
    watched = Best(stopping.metric, stopping.min_delta)
    for record in (snapshot.records or [])[:-1]:
        watched.update(record, int(record["epoch"]))
        if watched.waited >= stopping.patience:
            return f"training would have stopped after epoch {int(record['epoch'])}"
    return ""


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping | list | tuple) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    else:
        yield prefix, value


def _shown(value: Any) -> str:
    return "nothing" if value is ABSENT else repr(value)
