"""How a model is trained: everything that is fixed before the first step."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from layerflow.errors import ConfigError
from layerflow.gate import Gate
from layerflow.training.history import EarlyStopping
from layerflow.training.hyperparameters import count, number
from layerflow.training.optimizers import Optimizer
from layerflow.training.schedules import Schedule

ON_DIVERGENCE = ("stop", "skip", "halve-lr")
DTYPES = ("float32", "float64")


@dataclass(frozen=True, eq=False)
class Settings:
    """The settings of a `Trainer`, described there; `dataclasses.replace` makes a trainer with other ones."""

    model: Gate
    loss: Gate
    optimizer: Optimizer
    _: KW_ONLY
    regularizer: Gate | Sequence[Gate] = ()
    schedule: Schedule | None = None
    epochs: int = 20
    batch_size: int = 32
    shuffle: bool = True
    drop_last: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    early_stopping: EarlyStopping | None = None
    best: str | None = None
    metrics: Sequence[str] | None = None
    on_divergence: str = "stop"
    seed: int = 0
    dtype: str = "float32"
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "threads"):
            if (value := getattr(self, name)) is not None or name != "threads":
                object.__setattr__(self, name, count(self, name, value))
        for name in ("clip_norm", "clip_value"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, number(self, name, value, "(0, inf)"))
        for name, allowed in (("on_divergence", ON_DIVERGENCE), ("dtype", DTYPES)):
            if (value := getattr(self, name)) not in allowed:
                raise ConfigError(f"{name} is {value!r}, expected {' or '.join(map(repr, allowed))}")
        if isinstance(self.metrics, str):
            raise ConfigError(f"metrics is {self.metrics!r}, expected a list of names: metrics=[{self.metrics!r}]")
        for name in self.metrics or ():
            if not isinstance(name, str):
                raise ConfigError(
                    f"metrics contains {name!r}, expected the name of a metric such as 'accuracy'; "
                    "compute your own metrics in the epoch_ended method of a Callback"
                )

    @property
    def regularizers(self) -> tuple[Gate, ...]:
        """The regularizers, none, one or several."""
        return (self.regularizer,) if isinstance(self.regularizer, Gate) else tuple(self.regularizer)
