"""The types that layerflow ships, by kind."""

import importlib
import inspect
import pkgutil
from typing import Any

from layerflow import gates
from layerflow.config.registry import Factory, Kind
from layerflow.containers.sequential import Sequential
from layerflow.data import READERS
from layerflow.data.reader import Reader
from layerflow.data.scaling import SCALERS, Scaler
from layerflow.gate import Gate
from layerflow.gates.initializers import INITIALIZERS, Initializer
from layerflow.training.optimizers import OPTIMIZERS, Optimizer
from layerflow.training.schedules import SCHEDULES, Schedule


def builtin_kinds() -> list[Kind]:
    """Return every kind with its built-in types, in fresh dicts that can be added to."""
    families = {
        module.name: _gates_in(f"{gates.__name__}.{module.name}") for module in pkgutil.iter_modules(gates.__path__)
    }
    losses, regularizers = families.pop("loss", {}), families.pop("regularizer", {})
    layers = {name: gate for family in families.values() for name, gate in family.items()}
    initializers = {name.lower(): initializer for name, initializer in INITIALIZERS.items()} | INITIALIZERS
    return [
        Kind("gate", {**layers, "Sequential": Sequential}, Gate),
        Kind("loss", losses, Gate, hint=(), fits=_takes_two_inputs),
        Kind("regularizer", regularizers, Gate, hint=()),
        Kind("optimizer", dict(OPTIMIZERS), Optimizer),
        Kind("schedule", dict(SCHEDULES), Schedule),
        Kind("reader", dict(READERS), Reader),
        Kind("scaler", dict(SCALERS), Scaler),
        Kind("initializer", dict(initializers), hint=Initializer, text_is_name=True),
    ]


def _gates_in(module: str) -> dict[str, Factory]:
    return {
        name: item
        for name, item in vars(importlib.import_module(module)).items()
        if isinstance(item, type) and issubclass(item, Gate) and item.__module__ == module and not name.startswith("_")
    }


def _takes_two_inputs(target: Any) -> bool:
    parameters = list(inspect.signature(target.forward).parameters.values())[1:]
    positional = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 or any(item.kind is item.VAR_POSITIONAL for item in parameters)
