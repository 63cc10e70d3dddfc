"""Everything that the rest of a training depends on, taken between two steps and put back bit for bit."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.errors import ConfigError, DataError
from layerflow.parameter import Array
from layerflow.training.history import Best, Record

if TYPE_CHECKING:
    from layerflow.training.trainer import Trainer

EPOCH_START = "epoch_start"


@dataclass(frozen=True)
class Snapshot:
    """The state of a training: plain JSON values, and one flat array each for weights, optimizer slots and so on.

    `records` are those of the epochs before; `None` where they are not part of it.
    """

    facts: dict[str, Any]
    arrays: dict[str, Array]
    records: list[Record] | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Finished epochs, and steps taken in the one that follows."""
        return self.facts["epoch"], self.facts["step"]


def capture(trainer: "Trainer") -> Snapshot:
    """Return the state of a trainer; its arrays are copies, but for those that are never changed in place."""
    arrays = {"values": trainer.store.values.copy()}
    arrays |= _prefixed("optimizer", trainer.optimizer.state()) | _prefixed("schedule", trainer.schedule.state())
    arrays |= _prefixed("buffer", {name: buffer.value.copy() for name, buffer in trainer.buffers.items()})
    if trainer.best_values is not None:
        arrays |= {"best": trainer.best_values} | _prefixed("best_buffer", trainer.best_buffers)
    if trainer.step:
        arrays["losses"] = np.array(trainer.losses)
        if trainer.gathered:
            arrays["scores"], arrays["targets"] = (
                np.concatenate(parts) for parts in zip(*trainer.gathered, strict=True)
            )
    facts: dict[str, Any] = {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "epochs": trainer.epochs,
        "lr_factor": trainer.lr_factor,
        "loss_sum": trainer.loss_sum,
        "objective_sum": trainer.objective_sum,
        "norms": trainer.norms,
        "skipped": trainer.skipped,
        "seconds": time.perf_counter() - trainer.started if trainer.step else 0.0,
        "best": _best_as_dict(trainer.history.best),
        "patience": _best_as_dict(trainer.patience),
        "generators": {name: plain(generator.bit_generator.state) for name, generator in trainer.generators.items()},
    }
    if trainer.epoch_start is not None and trainer.step:
        facts[EPOCH_START] = trainer.epoch_start.facts
        arrays |= _prefixed(EPOCH_START, trainer.epoch_start.arrays)
    return Snapshot(facts, arrays)


def restore(trainer: "Trainer", snapshot: Snapshot) -> None:
    """Put a prepared trainer into the state of a snapshot.

    Raises:
        ConfigError: it is the state of another model, optimizer or schedule.
        DataError: something is missing in it.
    """
    try:
        _restore(trainer, snapshot.facts, snapshot.arrays)
        if snapshot.records is not None:
            trainer.history.records = list(snapshot.records)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"this is not the state of a training: {type(error).__name__}: {error}") from error


def _restore(trainer: "Trainer", facts: dict[str, Any], arrays: dict[str, Array]) -> None:
    _check_fit(trainer, facts, arrays)
    if min(facts["epoch"], facts["step"]) < 0:
        raise ValueError("a negative position")
    trainer.store.load(arrays["values"])
    trainer.optimizer.load_state(_part("optimizer", arrays))
    trainer.schedule.load_state(_part("schedule", arrays))
    for name, value in _part("buffer", arrays).items():
        trainer.buffers[name].value = value
    for name, state in facts["generators"].items():
        trainer.generators[name].bit_generator.state = state
    trainer.best_values = arrays["best"].copy() if "best" in arrays else None
    trainer.best_buffers = _part("best_buffer", arrays)
    _fill_best(trainer.history.best, facts["best"])
    _fill_best(trainer.patience, facts["patience"])
    trainer.epoch, trainer.step, trainer.lr_factor = int(facts["epoch"]), int(facts["step"]), float(facts["lr_factor"])
    trainer.loss_sum, trainer.objective_sum = float(facts["loss_sum"]), float(facts["objective_sum"])
    trainer.norms, trainer.skipped = dict(facts["norms"]), int(facts["skipped"])
    trainer.losses = arrays["losses"].tolist() if trainer.step else []
    trainer.gathered = [(arrays["scores"], arrays["targets"])] if "scores" in arrays else []
    trainer.started = time.perf_counter() - float(facts["seconds"])
    started = facts.get(EPOCH_START)
    trainer.epoch_start = None if started is None else Snapshot(started, _part(EPOCH_START, arrays))


def _check_fit(trainer: "Trainer", facts: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Refuse the state of another model before anything of it is put anywhere."""
    held, saved = trainer.store.values, arrays["values"]
    if held.shape != saved.shape or held.dtype != saved.dtype:
        raise ConfigError(
            f"the saved state has {saved.size} parameters of {saved.dtype}, this model {held.size} of {held.dtype}: "
            "it was another model"
        )
    buffers = {name: buffer.value.shape for name, buffer in trainer.buffers.items()}
    if buffers != {name: value.shape for name, value in _part("buffer", arrays).items()}:
        raise ConfigError(
            f"the saved state has other buffers than this model ({', '.join(buffers) or 'none'}): it was another model"
        )
    if set(trainer.generators) != set(facts["generators"]):
        raise ConfigError("the saved state has other random generators than this model: it was another model")


def _best_as_dict(best: Best | None) -> dict[str, Any] | None:
    return None if best is None else asdict(best)


def _fill_best(best: Best | None, saved: dict[str, Any] | None) -> None:
    """Continue to watch a metric, if it is still the same one."""
    if best is not None and saved is not None and best.metric == saved["metric"]:
        best.value, best.epoch, best.waited = saved["value"], saved["epoch"], saved["waited"]


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _part(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(f"{prefix}/"): array for name, array in arrays.items() if name.startswith(f"{prefix}/")}


def plain(value: Any) -> Any:
    """Return the state of a bit generator in values that JSON can hold; all kinds take lists for arrays."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
