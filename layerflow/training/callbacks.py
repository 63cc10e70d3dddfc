"""Callbacks: code that is called while a model trains, and the ones that show its progress."""

import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from layerflow.errors import ConfigError, DivergedError
from layerflow.parameter import Array
from layerflow.training.history import Record
from layerflow.training.state import State

LINES = 10
MESSAGES = "LAYERFLOW_PROGRESS"  # the environment variable that asks for messages, and the first word of each of them
MESSAGE_SECONDS = 0.1


class Callback:
    """Base class of all callbacks. Override the methods you need:

        class Printer(lf.Callback):
            def epoch_ended(self, state, record):
                print(state.epoch, record["train_loss"])

        lf.Trainer(model, loss, optimizer, callbacks=[Printer()])

    `state` is the `State` of the training: the position (`state.epoch` finished epochs and `state.step` steps of the
    next one), the settings (`state.trainer`), the history, weights and gradients (`state.store`), and the values of
    the last step (`state.objective`). A callback reads it. An exception raised in a callback ends the training and
    reaches the caller of `fit`.
    """

    every_step = True  # False: `step_ended` may come once for several steps, every twentieth of a second at least

    def training_started(self, state: State) -> None:
        """Everything is built; no step has been taken yet."""

    def step_ended(self, state: State) -> None:
        """A step has been taken (or skipped, with `on_divergence="skip"`)."""

    def step_failed(self, state: State, x: Array, y: Array, error: DivergedError) -> None:
        """The step on the batch (x, y) produced NaN or infinity and was not taken.

        `state.engine.draws` are the states of the random generators before it.
        """

    def epoch_ended(self, state: State, record: Record) -> None:
        """An epoch has ended; `record` has its losses, metrics, learning rate, norms and seconds."""

    def training_ended(self, state: State) -> None:
        """The last epoch has ended, and the model has its best weights."""


def parse_interval(text: str | int) -> tuple[int, str]:
    """Read how often a callback acts: "2 epochs", "100 steps", "10 seconds", or a number of epochs.

    Returns the number and the unit, "epoch", "step" or "second"; raises `ConfigError` for anything else.
    """
    if isinstance(text, int) and text > 0:
        return text, "epoch"
    match = re.fullmatch(r"([1-9]\d{0,8}) (epoch|step|second)s?", str(text))
    if match is None:
        raise ConfigError(f"{text!r} is not an interval, such as '2 epochs', '100 steps' or '10 seconds'")
    return int(match[1]), match[2]


# Progress ------------------------------------------------------------------------------------------------------------


class ProgressBar(Callback):
    """A tqdm progress bar over all steps, with the losses of the last epoch."""

    every_step = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: Any = None

    def training_started(self, state: State) -> None:
        """Open the bar."""
        from tqdm import tqdm

        total, done = state.trainer.epochs * len(state.batches), state.epoch * len(state.batches) + state.step
        self.bar = tqdm(
            total=total, initial=done, desc=self.name, unit="step", file=sys.stderr, dynamic_ncols=True, leave=False
        )

    def step_ended(self, state: State) -> None:
        """Advance the bar."""
        self.bar.update(state.epoch * len(state.batches) + state.step - self.bar.n)

    def epoch_ended(self, state: State, record: Record) -> None:
        """Show the losses."""
        self.bar.set_postfix_str(f"epoch {state.epoch}/{state.trainer.epochs} {brief(record)}", refresh=False)


class ProgressLines(Callback):
    """Plain lines for log files, about ten per run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def epoch_ended(self, state: State, record: Record) -> None:
        """Print a line for about every tenth of the epochs."""
        if is_worth_a_line(state):
            print(
                f"{self.name}: epoch {state.epoch}/{state.trainer.epochs} {brief(record)}", file=sys.stderr, flush=True
            )


class ProgressMessages(Callback):
    """JSON lines on stderr, a few per second, for a parent process that shows the progress of several runs."""

    every_step = False

    def __init__(self) -> None:
        self.sent = 0.0

    def training_started(self, state: State) -> None:
        """Send the number of steps."""
        self._send(state)

    def step_ended(self, state: State) -> None:
        """Send the position, a few times per second."""
        if time.monotonic() - self.sent > MESSAGE_SECONDS:
            self._send(state)

    def epoch_ended(self, state: State, record: Record) -> None:
        """Send the losses of the epoch."""
        self._send(state, brief(record), is_worth_a_line(state))

    def _send(self, state: State, text: str = "", line: bool = False) -> None:
        self.sent = time.monotonic()
        steps, epochs = len(state.batches), state.trainer.epochs
        message = {
            "done": state.epoch * steps + state.step, "total": epochs * steps, "epoch": state.epoch, "epochs": epochs,
            "text": text, "line": line,
        }  # fmt: skip
        with suppress(BrokenPipeError):  # the parent process has ended, which is no reason to fail
            print(MESSAGES, json.dumps(message), file=sys.stderr, flush=True)


@contextmanager
def progress(name: str, quiet: bool = False) -> Iterator[list[Callback]]:
    """Return the callback to show progress with, none if `quiet`; a bar is removed at the end, also after an error.

    It sends messages to a parent process, draws a bar on a terminal, and prints plain lines elsewhere.
    """
    if quiet:
        yield []
    elif MESSAGES in os.environ:
        yield [ProgressMessages()]
    elif not sys.stderr.isatty():
        yield [ProgressLines(name)]
    else:
        bar = ProgressBar(name)
        try:
            yield [bar]
        finally:
            if bar.bar is not None:
                bar.bar.close()


def is_worth_a_line(state: State) -> bool:
    """Return whether the epoch that ended is one of about ten to be printed."""
    interval = math.ceil(state.trainer.epochs / LINES)
    is_last: bool = state.epoch == state.trainer.epochs or state.history.outcome != "finished"
    return is_last or state.epoch % interval == 0


def brief(record: Record) -> str:
    """Return the losses and metrics of an epoch on one line."""
    return " ".join(f"{name}={value:.4g}" for name, value in record.items() if name.startswith(("train_", "val_")))
