"""Decides whether a training may continue under a changed configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerflow.runs.records import ABSENT, flat
from layerflow.training.history import Best
from layerflow.training.state import Snapshot

if TYPE_CHECKING:
    from layerflow.training.trainer import Trainer

OTHER_PAST = "the training so far would have been different"


@dataclass(frozen=True)
class Change:
    """A changed setting; `objection` says why the training so far would have been different, if it would."""

    key: str
    before: Any
    now: Any
    objection: str = ""

    def __str__(self) -> str:
        change = f"{self.key.removeprefix('config.')}: {_shown(self.before)} before, {_shown(self.now)} now"
        return f"{change} ({self.objection})" if self.objection else change


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Return the settings that differ between two resolved configurations, or other trees of plain values."""
    old, new = dict(flat(before)), dict(flat(now))
    keys = [key for key in {**old, **new} if old.get(key, ABSENT) != new.get(key, ABSENT)]
    return [Change(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys]


def judged(difference: Change, trainer: "Trainer", snapshot: Snapshot, folder: Path) -> Change:
    """Return the change with the objection to it, if there is one, for a trainer prepared with the new settings.

    Paths in a configuration are relative to `folder`.
    """
    key = difference.key.removeprefix("config.")
    if key.startswith("checksums."):
        objection = "the data have changed"
    elif key.startswith("train.checkpoint."):
        objection = ""
    elif key == "train.epochs":
        objection = _against_epochs(difference.before, difference.now, trainer, snapshot)
    elif key == "train.early_stopping.patience":
        objection = _against_patience(trainer, snapshot)
    elif key.startswith("data.") and isinstance(difference.now, str) and (folder / difference.now).is_file():
        objection = ""  # a file may move: its checksum decides
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
    schedule, base = trainer.state.schedule, trainer.state.base_lr
    if any(schedule.lr(base, past, before) != schedule.lr(base, past, now) for past in range(begun)):
        return (
            f"{type(schedule).__name__} depends on the number of epochs, so the learning rates so far would have been "
            "different"
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


def _shown(value: Any) -> str:
    return "nothing" if value is ABSENT else repr(value)
