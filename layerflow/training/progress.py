"""Progress for a person: a bar on a terminal, a few plain lines elsewhere."""

import sys
from typing import Any

from layerflow.training.history import Record
from layerflow.training.observer import Observer

LINES = 10


class ProgressBar(Observer):
    """A tqdm bar over the steps of the whole training, with the losses of the last epoch behind it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def training_started(self, trainer: Any) -> None:
        """Open the bar."""
        from tqdm import tqdm

        total, done = trainer.epochs * len(trainer.batches), trainer.epoch * len(trainer.batches) + trainer.step
        self.bar = tqdm(total=total, initial=done, desc=self.name, unit="step", file=sys.stderr, dynamic_ncols=True, leave=False)

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


class ProgressLines(Observer):
    """Plain lines, at most about ten per run, so that a log file stays readable."""

    def __init__(self, name: str) -> None:
        self.name = name

    def epoch_ended(self, trainer: Any, record: Record) -> None:
        """Print the epochs that are worth a line."""
        interval = max(1, trainer.epochs // LINES)
        if trainer.epoch % interval == 0 or trainer.epoch == trainer.epochs or trainer.history.outcome != "finished":
            print(f"{self.name}: epoch {trainer.epoch}/{trainer.epochs} {brief(record)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is open."""


def make_progress(name: str) -> ProgressBar | ProgressLines:
    """Return what suits where stderr goes."""
    return ProgressBar(name) if sys.stderr.isatty() else ProgressLines(name)


def brief(record: Record) -> str:
    """Return the losses and metrics of an epoch on one line."""
    return " ".join(f"{name}={value:.4g}" for name, value in record.items() if name.startswith(("training_", "validation_")))
