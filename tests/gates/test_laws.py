"""Every built-in gate keeps every law, on all its cases; a gate without a case fails."""

import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest

import layerflow.gates
from layerflow.gate import Gate
from layerflow.gates import GATES
from layerflow.gates.examples import examples
from layerflow.testing import LAWS, Law

CASES = examples(np.random.default_rng(20))


def test_every_gate_has_cases() -> None:
    assert set(CASES) == set(GATES)


def test_every_gate_that_is_written_is_listed() -> None:
    modules = [
        importlib.import_module(f"layerflow.gates.{item.name}")
        for item in pkgutil.iter_modules(layerflow.gates.__path__)
    ]
    written = {
        item
        for module in modules
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Gate)
    }
    complete = {
        item.__name__ for item in written if "backward" in vars(item) and item.__module__.startswith("layerflow.gates")
    }
    # a base class holds the backward of these
    inherited = {name for name, gate in GATES.items() if "backward" not in vars(gate)}
    assert complete - {"Convolution", "MaxPool", "CellGate", "RecurrentLayer"} == set(GATES) - inherited
    assert inherited == {
        *(
            "Conv1d",
            "Conv2d",
            "MaxPool1d",
            "MaxPool2d",
            "RNNCell",
            "GRUCell",
            "LSTMCell",
            "RNN",
            "GRU",
            "LSTM",
            "Dropout2d",
            "DropPath",
        )
    }


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name.replace(" ", "_"))
@pytest.mark.parametrize("name", sorted(GATES))
def test_law(name: str, law: Law) -> None:
    for gate, inputs in CASES[name]:
        if law.applies(gate, inputs):
            law.check(gate, inputs)


def test_the_law_of_samples_applies_to_most_gates() -> None:
    law = next(law for law in LAWS if law.name == "batch equals stacked samples")
    apart = {name for name, cases in CASES.items() if any(law.applies(gate, inputs) for gate, inputs in cases)}
    assert {"Linear", "ReLU", "Softmax", "Tanh", "Add", "Flatten", "BiasTrick"} <= apart
    assert not {"SoftmaxCE", "L2Regularizer", "MulticlassSVM", "Dropout"} & apart


def test_the_laws_run_on_arrays_that_stay_as_they_are() -> None:
    def state(cases: dict[str, Any]) -> list[bytes]:
        return [np.asarray(x).tobytes() for pairs in cases.values() for _, inputs in pairs for x in inputs]

    fresh = examples(np.random.default_rng(20))
    assert state(fresh) == state(CASES)
