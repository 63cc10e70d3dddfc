"""The table of built-in gates is complete, and so are their descriptions and cases."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import layerflow as lf
from layerflow import gates
from layerflow.gate import Gate
from layerflow.gates import GATES, LOSSES, REGULARIZERS
from layerflow.gates.binary import BinaryLoss
from layerflow.gates.cell import CellGate
from layerflow.gates.convolution import Convolution, Kernels
from layerflow.gates.examples import examples
from layerflow.gates.loss import ClassLoss, Loss
from layerflow.gates.normalization import PerChannel
from layerflow.gates.pooling import MaxPool
from layerflow.gates.recurrent import RecurrentLayer
from layerflow.gates.regression import ElementLoss
from layerflow.gates.statistics import Reduction


def test_every_gate_of_the_package_is_listed_exported_and_has_cases():
    names = [item.name for item in pkgutil.iter_modules(gates.__path__)]
    modules = [importlib.import_module(f"{gates.__name__}.{name}") for name in names]
    written = {item for module in modules for item in vars(module).values() if inspect.isclass(item)}
    shared = {Gate, Loss, ClassLoss, ElementLoss, BinaryLoss, Kernels, Convolution, MaxPool, PerChannel}
    shared |= {CellGate, RecurrentLayer, Reduction}
    concrete = {item for item in written if issubclass(item, Gate)} - shared
    assert set(GATES.values()) == concrete
    assert all(getattr(lf, name) is gate for name, gate in GATES.items())
    assert examples(np.random.default_rng(0)).keys() == GATES.keys()


def test_losses_and_regularizers_are_named_among_the_gates():
    assert {name for name, gate in GATES.items() if issubclass(gate, Loss)} == set(LOSSES)
    assert set(REGULARIZERS) == {"L1Regularizer", "L2Regularizer"}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
def test_a_gate_documents_its_formula_shapes_gradient_arguments_and_errors(gate):
    text = inspect.getdoc(gate)
    assert "=" in text.split("\n\n")[0]
    assert "Shapes: " in text
    assert "Local gradient: " in text
    settings = [name for name in inspect.signature(gate).parameters if "__init__" in vars(gate)]
    assert all(f"    {name}: " in text for name in settings)


@pytest.mark.parametrize("name", GATES)
def test_a_gate_keeps_float32_and_announces_its_output_shape(name):
    for gate, inputs in examples(np.random.default_rng(3))[name]:
        arrays = [np.asarray(x) for x in inputs]
        arrays = [x.astype(np.float32) if x.dtype == np.float64 else x for x in arrays]
        if not any(x.dtype.kind == "f" for x in arrays):  # nothing in tokens says which type is meant
            gate.build(np.random.default_rng(0), *(x.shape for x in arrays))
            gate.astype(np.float32)
        y = gate.forward(*arrays)
        outputs = y if isinstance(y, tuple) else (y,)
        input_grads, param_grads = gate.backward(*(np.ones(np.shape(item), np.float32) for item in outputs))
        assert {item.dtype for item in outputs} == {np.dtype("f4")}
        assert {grad.dtype for grad in (*input_grads, *param_grads.values()) if grad is not None} <= {np.dtype("f4")}
        assert gate.build(np.random.default_rng(0), *(x.shape for x in arrays)) == (
            y.shape if len(outputs) == 1 else tuple(item.shape for item in outputs)
        )
