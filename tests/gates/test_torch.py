"""A second opinion on every gate: PyTorch's output and gradients, recorded and live."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from layerflow.gates import GATES
from layerflow.gates.examples import examples

ROOT = Path(__file__).parents[2]
WITHOUT = {"Dropout", "Dropout2d", "DropPath", "GaussianNoise"} | {"LSTMCell", "Split"}  # noise; several outputs


def recorded():
    """Return the index of the recorded cases and their arrays by name."""
    with np.load(ROOT / "tests" / "recorded" / "gates.npz") as file:
        index, values = json.loads(str(file["index"])), file["values"]
    arrays, start = {}, 0
    for name, (shape, dtype) in index["layout"].items():
        end = start + int(np.prod(shape))
        arrays[name] = values[start:end].reshape(shape).astype(dtype)
        start = end
    return index["gates"], arrays


RECORDED, ARRAYS = recorded()
CASES = {
    f"{kind}-{number}": (gate, len(inputs))
    for kind, entries in examples(np.random.default_rng(0)).items()
    for number, (gate, inputs) in enumerate(entries)
    if kind not in WITHOUT
}


def assert_agrees(gate, inputs, upstream, expected):
    """Compare the gate's output and gradients with `expected`; parts missing there have no gradient here either."""
    output = gate.forward(*inputs)
    input_grads, param_grads = gate.backward(upstream)
    got = {"output": output} | {f"grad{i}": grad for i, grad in enumerate(input_grads) if grad is not None}
    got |= {f"grad_{name}": grad for name, grad in param_grads.items()}
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, atol=1e-14, err_msg=f"{gate!r}: {name}")
        assert np.shape(got[name]) == value.shape


@pytest.mark.parametrize("name", CASES)
def test_output_and_gradients_equal_the_recorded_ones_of_torch(name):
    gate, count = CASES[name]
    assert RECORDED.get(name) == repr(gate), "the cases have changed: run scripts/record_gates.py again"
    inputs = [ARRAYS[f"{name}/input{i}"] for i in range(count)]
    gate.build(np.random.default_rng(0), *(x.shape for x in inputs))
    for key, parameter in gate.named_parameters().items():
        parameter.value = ARRAYS[f"{name}/{key}"]
    prefix = f"{name}/torch/"
    expected = {key.removeprefix(prefix): array for key, array in ARRAYS.items() if key.startswith(prefix)}
    assert_agrees(gate, inputs, ARRAYS[f"{name}/upstream"], expected)


def test_every_gate_has_a_recorded_case():
    assert {name.split("-")[0] for name in RECORDED} == GATES.keys() - WITHOUT


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(1, 6))
def test_output_and_gradients_equal_those_of_the_installed_torch(seed):
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("record_gates", ROOT / "scripts" / "record_gates.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for _, gate, inputs, upstream in script.cases(seed):
        assert_agrees(gate, inputs, upstream, script.torch_result(gate, inputs, upstream))
