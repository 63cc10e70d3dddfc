"""What a training is given, checked: samples, targets and weights, metrics, and parameters to freeze."""

import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from layerflow.containers import ComputationalGraph
from layerflow.containers.container import Container
from layerflow.data.batches import Named, Rows
from layerflow.errors import ConfigError, DataError, did_you_mean
from layerflow.gate import Gate
from layerflow.gates.initializers import named_initializer
from layerflow.gates.loss import balance
from layerflow.parameter import Array
from layerflow.training.evaluation import counted_labels, guessed
from layerflow.training.history import Best
from layerflow.training.metrics import DEFAULT_METRICS, OwnMetric, metric_named, name_of
from layerflow.training.state import prefixed

# Parameters times batch size below which one BLAS thread is used. With two threads on two busy cores a step took 1 to
# 3.4 times as long as with one up to 1.2e6, 2.6 to 10 times from 2.2e6 to 2.7e8, except 4.6e6 with 1.0
# (`scripts/bench_step.py --break-even`). Larger steps keep the threads that BLAS is set to: only they gain from more.
ONE_THREAD_WORK = 1 << 24


def metrics_of(chosen: Any, losses: Mapping[str, Gate], name: str, task: str) -> list[str | OwnMetric]:
    """Return the metrics of an output, after checking that they suit its task."""
    if isinstance(chosen, Mapping):
        if unknown := [key for key in chosen if key not in losses]:
            raise ConfigError(
                f"metrics for {unknown[0]!r}, but there is no such loss{did_you_mean(unknown[0], losses)}"
            )
        chosen = chosen.get(name)
    metrics = list(DEFAULT_METRICS[task] if chosen is None else chosen)
    for metric in metrics:
        if isinstance(metric, str):
            metric_named(metric, task)
    return metrics


def watch(name: str | None, metrics: dict[str, list[str | OwnMetric]], min_delta: float = 0.0) -> Best | None:
    """Return the best value, so far none, of a recorded metric, if one is named."""
    if not name:
        return None
    is_higher = None
    for output, found in metrics.items():
        for metric in found:
            own = prefixed(output, name_of(metric))
            if not isinstance(metric, str) and name in (f"train_{own}", f"val_{own}"):
                is_higher = bool(getattr(metric, "higher_is_better", True))
    return Best(name, min_delta, is_higher)


def draw_matching(model: Gate, init: Mapping[str, Any], drawn: set[int], rng: "np.random.Generator") -> None:
    """Draw the first values of the parameters whose names match a pattern; those in `drawn`, by id, had one already."""
    named = model.named_parameters()
    for pattern in init or ():
        if not any(fnmatchcase(name, pattern) for name in named):
            raise ConfigError(f"init: no parameter matches {pattern!r}; there are {', '.join(named)}")
    for name, parameter in named.items():
        matching = [pattern for pattern in init or () if fnmatchcase(name, pattern)]
        if matching and id(parameter) not in drawn:
            pattern = matching[0]
            shape = parameter.value.shape
            values = np.asarray(named_initializer(init[pattern])(rng, shape))
            if values.shape != shape:
                raise ConfigError(f"init: the initializer of {pattern!r} drew shape {values.shape} for {name} {shape}")
            parameter.value = values.astype(parameter.value.dtype)


def balance_losses(losses: Mapping[str, Gate], targets: Mapping[str, Any]) -> None:
    """Give losses with `class_weight="balanced"` the weights that follow from the targets of the training part."""
    for name, loss in losses.items():
        balance(loss, counted_labels(loss, targets[name]))


def freeze_matching(model: Gate, patterns: Sequence[str]) -> None:
    """Freeze the parameters whose names match a pattern."""
    named = model.named_parameters()
    for pattern in patterns or ():
        matching = [parameter for name, parameter in named.items() if fnmatchcase(name, pattern)]
        if not matching:
            raise ConfigError(f"freeze: no parameter matches {pattern!r}; there are {', '.join(named)}")
        for parameter in matching:
            parameter.frozen = True
    if named and all(parameter.frozen for parameter in named.values()):
        raise ConfigError("all parameters are frozen, so there is nothing to train")


def as_inputs(model: Gate, x: Any, dtype: str, y: Any = None) -> Any:
    """Return x as an array of the trainer's dtype, or as `Rows`, which are read and cast batch by batch."""
    if isinstance(x, Rows | Named):
        return x
    if isinstance(x, Mapping):
        return Named({name: as_inputs(model, x[name], dtype) for name in _input_names(model, x)})
    if isinstance(x, np.memmap):
        return Rows(x, None, lambda rows: rows.astype(dtype, copy=False))
    shapes = [part.shape for part in x if isinstance(part, np.ndarray)] if isinstance(x, list | tuple) else []
    if len(set(shapes)) > 1 or (shapes and y is not None and len(x) != len(y)):
        raise DataError(
            f"x is a list of arrays, {shapes}; expected one array (samples, ...), or for a model of several inputs "
            "a dict of arrays by name"
        )
    try:
        return np.asarray(x, dtype)
    except (TypeError, ValueError) as error:
        raise DataError(f"x cannot be converted to {dtype}: {error}") from error


def _input_names(model: Gate, x: Mapping[str, Any]) -> list[str]:
    """Return the names of the inputs in the order in which the model takes them."""
    names = model.input_names if isinstance(model, ComputationalGraph) else list(x)
    count = len(model.input_slots) if isinstance(model, Container) else len(names)
    if len(names) != count:
        given = ", ".join(map(repr, x))
        raise DataError(f"x has {len(x)} arrays, {given}, but the model takes {count} input{'s' * (count != 1)}")
    for name in x:
        if name not in names:
            hint = did_you_mean(name, names) or f"; its inputs are {', '.join(names)}"
            raise DataError(f"x has {name!r}, but the model has no input of this name{hint}")
    if missing := [name for name in names if name not in x]:
        raise DataError(f"x lacks {', '.join(map(repr, missing))}, an input of the model; it has {', '.join(x)}")
    return names


def as_targets(loss: Gate | Mapping[str, Gate], y: Any, dtype: str) -> Any:
    """Return y as an array, or for several losses as one for each; real numbers in the trainer's dtype."""
    if isinstance(loss, Mapping) and not isinstance(y, Named):
        if not isinstance(y, Mapping) or set(y) != set(loss):
            given = ", ".join(map(repr, y)) if isinstance(y, Mapping) else f"a {type(y).__name__}"
            raise DataError(f"y is {given}; expected a dict with the targets of {', '.join(map(repr, loss))}")
        return Named({name: _target(y[name], dtype) for name in loss})
    if isinstance(y, Mapping):
        raise DataError(f"y is a dict of {', '.join(map(repr, y))}, but there is one loss: give one array of targets")
    return y if isinstance(y, Named) else _target(y, dtype)


def _target(y: Any, dtype: str) -> Array:
    targets: Array = np.asarray(y)
    return targets.astype(dtype) if np.issubdtype(targets.dtype, np.floating) else targets


def as_weights(sample_weight: Any, dtype: str, samples: int | None = None) -> Array | None:
    """Return the weights of the samples, checked."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, tuple):
        raise DataError("sample_weight is a tuple; write validation=(x, y) for a part that is held back")
    weights: Array = np.asarray(sample_weight, dtype)
    if weights.ndim == 0 or (samples is not None and len(weights) != samples):
        raise DataError(f"sample_weight has shape {weights.shape}, expected ({samples or 'samples'},)")
    if not ((weights >= 0) & np.isfinite(weights)).all():
        row = int(np.argmin((weights >= 0) & np.isfinite(weights)))
        raise DataError(f"sample_weight is {weights.flat[row]} in row {row}; weights are finite and 0 or more")
    return weights


def baselines(
    losses: Mapping[str, Gate],
    tasks: Mapping[str, str],
    metrics: Mapping[str, list[str | OwnMetric]],
    train: Mapping[str, Array],
    held: Mapping[str, Array],
) -> dict[str, float]:
    """Return the metrics of the constant guess for each output."""
    guess: dict[str, float] = {}
    for name, loss in losses.items():
        found = guessed(loss, tasks[name], train[name], held[name], metrics[name])
        guess |= {prefixed(name, key): value for key, value in found.items()}
    return guess


def batch_size_for(wanted: int, samples: int) -> int:
    """Return the batch size, or with a warning the number of samples if there are fewer."""
    if 0 < samples < wanted:
        warnings.warn(
            f"batch_size is {wanted}, but there are only {samples} samples; using batches of {samples}", stacklevel=5
        )
        return samples
    return wanted
