"""Progress for a person: a bar on a terminal, plain lines elsewhere; messages where another process shows it."""

import json
import math
import os
import sys
import time
from contextlib import suppress
from typing import Any

from layerflow.training.callback import Callback
from layerflow.training.history import Record

LINES = 10
MESSAGES = "LAYERFLOW_PROGRESS"  # the environment variable that asks for messages, and what each of them begins with
MESSAGE_SECONDS = 0.1


class ProgressBar(Callback):
    """A tqdm bar over the steps of the whole training, with the losses of the last epoch behind it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def training_started(self, trainer: Any) -> None:
        """Open the bar."""
        from tqdm import tqdm

        total, done = trainer.epochs * len(trainer.batches), trainer.epoch * len(trainer.batches) + trainer.step
        self.bar = tqdm(
            total=total, initial=done, desc=self.name, unit="step", file=sys.stderr, dynamic_ncols=True, leave=False
        )

    def step_ended(self, trainer: Any) -> None:
        """Move on."""
        self.bar.update()

    def epoch_ended(self, trainer: Any, record: Record) -> None:
        """Show the losses."""
        self.bar.set_postfix_str(f"epoch {trainer.epoch}/{trainer.epochs} {brief(record)}", refresh=False)

    def training_ended(self, trainer: Any) -> None:
        """Clear the bar away."""
        self.close()

    def close(self) -> None:
        """Clear the bar away, also after an error."""
        if hasattr(self, "bar"):
            self.bar.close()


class ProgressLines(Callback):
    """Plain lines, at most about ten per run, so that a log file stays readable."""

    def __init__(self, name: str) -> None:
        self.name = name

    def epoch_ended(self, trainer: Any, record: Record) -> None:
        """Print the epochs that are worth a line."""
        if is_worth_a_line(trainer):
            print(f"{self.name}: epoch {trainer.epoch}/{trainer.epochs} {brief(record)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is open."""


class ProgressMessages(Callback):
    """JSON lines on stderr, a few per second, for the process that runs this one beside others and draws the bars."""

    def __init__(self) -> None:
        self.sent = 0.0

    def training_started(self, trainer: Any) -> None:
        """Say how much there is to do."""
        self._send(trainer)

    def step_ended(self, trainer: Any) -> None:
        """Say how far it is, from time to time."""
        if time.monotonic() - self.sent > MESSAGE_SECONDS:
            self._send(trainer)

    def epoch_ended(self, trainer: Any, record: Record) -> None:
        """Say how the epoch went."""
        self._send(trainer, brief(record), is_worth_a_line(trainer))

    def _send(self, trainer: Any, text: str = "", line: bool = False) -> None:
        self.sent = time.monotonic()
        steps = len(trainer.batches)
        done, total = trainer.epoch * steps + trainer.step, trainer.epochs * steps
        message = {
            "done": done,
            "total": total,
            "epoch": trainer.epoch,
            "epochs": trainer.epochs,
            "text": text,
            "line": line,
        }
        with suppress(BrokenPipeError):  # nobody looks on any more, which is no reason to fail
            print(MESSAGES, json.dumps(message), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is open."""


def make_progress(name: str) -> ProgressBar | ProgressLines | ProgressMessages:
    """Return what suits where stderr goes."""
    if MESSAGES in os.environ:
        return ProgressMessages()
    return ProgressBar(name) if sys.stderr.isatty() else ProgressLines(name)


def is_worth_a_line(trainer: Any) -> bool:
    """Say whether the epoch that ended is one of about ten to be printed."""
    interval = math.ceil(trainer.epochs / LINES)
    is_last: bool = trainer.epoch == trainer.epochs or trainer.history.outcome != "finished"
    return is_last or trainer.epoch % interval == 0


def brief(record: Record) -> str:
    """Return the losses and metrics of an epoch on one line."""
    return " ".join(f"{name}={value:.4g}" for name, value in record.items() if name.startswith(("train_", "val_")))
