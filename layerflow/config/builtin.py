"""The types that layerflow ships, by kind."""

import inspect
from typing import Annotated, Any

from layerflow.config.hints import MODEL
from layerflow.config.registry import Factory, Kind
from layerflow.data import READERS
from layerflow.data.reader import Reader
from layerflow.data.scaling import SCALERS, Scaler
from layerflow.gate import Gate
from layerflow.gates import GATES, LOSSES, REGULARIZERS
from layerflow.gates.initializers import INITIALIZERS, Initializer
from layerflow.training.optimizers import OPTIMIZERS, Optimizer
from layerflow.training.schedules import SCHEDULES, Schedule


def builtin_kinds() -> list[Kind]:
    """Return every kind with its built-in types, in fresh dicts that can be added to."""
    losses: dict[str, Factory] = {name: GATES[name] for name in LOSSES}
    regularizers: dict[str, Factory] = {name: GATES[name] for name in REGULARIZERS}
    layers = {name: gate for name, gate in GATES.items() if name not in (*LOSSES, *REGULARIZERS)}
    lower_case = {name.lower(): initializer for name, initializer in INITIALIZERS.items()}
    return [
        Kind("gate", {**layers, "Sequential": _row, "ComputationalGraph": _graph}, Gate),
        Kind("loss", losses, Gate, fits=_takes_two_inputs),
        Kind("regularizer", regularizers, Gate),
        Kind("optimizer", dict(OPTIMIZERS), Optimizer),
        Kind("schedule", dict(SCHEDULES), Schedule),
        Kind("reader", dict(READERS), Reader),
        Kind("scaler", dict(SCALERS), Scaler),
        Kind(
            "initializer",
            {**INITIALIZERS, **lower_case},
            hint=Initializer,
            text_is_name=True,
            aliases=frozenset(lower_case),
        ),
    ]


def _row(gates: Annotated[Any, MODEL]) -> Gate:
    """Gates in a row, as one gate of the model."""
    nested: Gate = gates
    return nested


def _graph(graph: Annotated[Any, MODEL]) -> Gate:
    """A graph `{inputs: [x], gates: [...], output: name}`, as one gate of the model."""
    nested: Gate = graph
    return nested


def _takes_two_inputs(target: Any) -> bool:
    parameters = list(inspect.signature(target.forward).parameters.values())[1:]
    positional = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 or any(item.kind is item.VAR_POSITIONAL for item in parameters)
