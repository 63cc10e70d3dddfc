"""The records of a training, one per epoch, and the best of them."""

from dataclasses import dataclass, field

from layerflow.errors import ConfigError, did_you_mean
from layerflow.training.metrics import higher_is_better

Record = dict[str, float]


@dataclass
class EarlyStopping:
    """Stop when `metric` has not improved by more than `min_delta` for `patience` epochs.

    Prechelt, "Early stopping - but when?", 1998.
    """

    metric: str = "val_loss"
    patience: int = 10
    min_delta: float = 0.0


@dataclass
class Best:
    """The best value of a metric so far, its epoch, and the number of epochs since then.

    `is_higher` says whether higher values are better, where the name of the metric does not.
    """

    metric: str
    min_delta: float = 0.0
    is_higher: bool | None = None
    value: float | None = None
    epoch: int = 0
    waited: int = 0

    def update(self, record: Record, epoch: int) -> bool:
        """Add the record of an epoch (counted from 1); return whether it is the best so far. NaN never is."""
        value = record[self.metric]
        is_higher = higher_is_better(self.metric) if self.is_higher is None else self.is_higher
        gain = value - (self.value or 0.0) if is_higher else (self.value or 0.0) - value
        if value == value and (self.value is None or gain > self.min_delta):
            self.value, self.epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False


@dataclass
class History:
    """The records of a run, one per epoch; `history["val_loss"]` is a column of them.

    Attributes:
        records: for each epoch its number, learning rate, losses, metrics and seconds.
        best: the best epoch by the metric that decides which weights are kept; `None` without validation data.
        baseline: the metrics of the constant guess, on the validation data if there is any, else on the training data.
        outcome: "finished", "stopped early", "interrupted" or "diverged".
    """

    records: list[Record] = field(default_factory=list)
    best: Best | None = None
    baseline: dict[str, float] = field(default_factory=dict)
    outcome: str = "finished"

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, name: str) -> list[float]:
        if self.records and name not in self.records[0]:
            known = self.records[0]
            raise ConfigError(
                f"nothing called {name!r} was recorded{did_you_mean(name, known)} Recorded: {', '.join(known)}"
            )
        return [record[name] for record in self.records]

    @property
    def last(self) -> Record:
        """The record of the last epoch."""
        return self.records[-1]
