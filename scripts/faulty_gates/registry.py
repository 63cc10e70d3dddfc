"""Faulty gates with their true cause, for measuring the diagnosis of the gradient check."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.gate import Gate

Inputs = Callable[[np.random.Generator], tuple[Any, ...]]


@dataclass(frozen=True)
class Faulty:
    """A faulty gate.

    Attributes:
        title: what its author got wrong, in words.
        causes: the names of causes that describe it rightly; none where the diagnosis should rather say nothing.
        make: returns the gate and its inputs.
    """

    title: str
    causes: frozenset[str]
    make: Callable[[np.random.Generator], tuple[Gate, tuple[Any, ...]]]


FAULTY: list[Faulty] = []


def fault(title: str, *causes: str, inputs: Inputs, gate: Callable[[Any], Gate] | None = None) -> Callable[[Any], Any]:
    """Register a class of gates as faulty; `gate` makes one of it, by default with no arguments."""

    def register(cls: Any) -> Any:
        def make(rng: np.random.Generator) -> tuple[Gate, tuple[Any, ...]]:
            return (gate(cls) if gate else cls()), inputs(rng)

        FAULTY.append(Faulty(title, frozenset(causes), make))
        return cls

    return register


def normal(*shape: int) -> Inputs:
    """One input of normal numbers."""
    return lambda rng: (rng.normal(size=shape),)


def positive(*shape: int) -> Inputs:
    """One input of positive numbers."""
    return lambda rng: (rng.uniform(0.3, 3.0, shape),)


def pair(*shape: int) -> Inputs:
    """Two inputs away from zero."""
    return lambda rng: (rng.uniform(0.5, 2.0, shape), rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape))


def labelled(rows: int, classes: int) -> Inputs:
    """Scores and labels."""
    return lambda rng: (2.0 * rng.normal(size=(rows, classes)), rng.integers(0, classes, rows))


def flaws(inputs: Inputs, **table: tuple[str, ...]) -> Callable[[Any], Any]:
    """Register a class of gates once per flaw: its attribute `flaw` says which line is wrong.

    Args:
        inputs: the inputs of all of them.
        table: for each flaw what its author got wrong, and the causes that describe it rightly.
    """

    def register(cls: Any) -> Any:
        for flaw, (title, *causes) in table.items():
            kind = type(cls.__name__, (cls,), {"flaw": flaw, "__module__": cls.__module__})
            fault(title, *causes, inputs=inputs)(kind)
        return cls

    return register
