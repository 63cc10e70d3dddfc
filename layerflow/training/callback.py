"""Who may look on while a model trains: progress bars, records, checkpoints."""

from typing import TYPE_CHECKING

from layerflow.errors import DivergedError
from layerflow.parameter import Array
from layerflow.training.history import Record

if TYPE_CHECKING:
    from layerflow.training.trainer import Trainer


class Callback:
    """Base of all callbacks: override what you want to see. `trainer` holds everything there is to look at."""

    def training_started(self, trainer: "Trainer") -> None:
        """Everything is built; no step has been taken."""

    def step_ended(self, trainer: "Trainer") -> None:
        """One step has been taken: `trainer.epoch`, `trainer.step` say which, `trainer.objective` has its values."""

    def step_failed(self, trainer: "Trainer", x: Array, y: Array, error: DivergedError) -> None:
        """A step would have left the finite numbers and was not taken; `trainer.draws` are the generators before it."""

    def epoch_ended(self, trainer: "Trainer", record: Record) -> None:
        """One epoch has ended, and this was recorded."""

    def training_ended(self, trainer: "Trainer") -> None:
        """The last epoch has ended and the best weights are in place."""
