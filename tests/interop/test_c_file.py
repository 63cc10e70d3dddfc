"""Models printed in C compute what NumPy computes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.cli import main as layerflow
from layerflow.engine.program import Program
from layerflow.engine.recorder import record, record_gate
from layerflow.errors import LayerflowError
from layerflow.gates.examples import examples
from layerflow.gradcheck.subject import Subject
from layerflow.interop.c_file import c_file
from layerflow.interop.deployment import compiled, export_run

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
RNG = np.random.default_rng(0)


def single_inputs() -> dict[str, list[tuple[Any, Any]]]:
    """The cases of the gates that have one input."""
    cases = examples(np.random.default_rng(0)).items()
    found = {
        name: [(gate, xs[0]) for gate, xs in of_gate if len(xs) == 1 and np.size(xs[0])] for name, of_gate in cases
    }
    return {name: of_gate for name, of_gate in found.items() if of_gate}


def printed(gate: lf.Gate, x: Any) -> tuple[str, Any]:
    """A gate in C for inputs of the shape of x, and what it gives in NumPy."""
    expected = gate.forward(x)
    program = record_gate(gate, [x], None)
    outputs = {name: node for name, node in program.outputs.items() if name.startswith("output.")}
    arrays = {f"parameter.{key}": cell.value for key, cell in gate.named_parameters().items()}
    arrays |= {f"buffer.{key}": cell.value for key, cell in gate.named_buffers().items()}
    program = Program(program.nodes, program.inputs, outputs)
    text = c_file(program, arrays, "gate", [f"y{i}" for i in range(len(outputs))], x.shape)
    return text, expected if isinstance(expected, tuple) else (expected,)


@needs_compiler
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(single_inputs()))
def test_a_gate_in_c_equals_numpy(name: str, every: bool) -> None:
    cases = single_inputs()[name]
    for gate, inputs in cases if every else cases[len(cases) // 2 :][:1]:
        subject = Subject(gate, (inputs,))
        subject.forward(*subject.inputs)
        subject.restore()
        own, (x,) = subject.gate, subject.inputs
        own.training = False
        own.astype(np.float32)
        x = np.ascontiguousarray(x.astype(np.float32) if x.dtype.kind == "f" else x)
        text, expected = printed(own, x)
        for found, wanted in zip(compiled(text, COMPILER or "")(x, expected), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_functions_are_those_of_numpy() -> None:
    x = np.concatenate([RNG.normal(size=60) * 3, [0.0, 1e-6, -1e-6, np.inf, -np.inf, np.nan, 2.5, -2.5]])
    y = np.append(x[1:], 0.7)
    one = ["log1p", "expm1", "square", "exp2", "trunc", "cbrt", "isfinite", "isinf", "isnan", "signbit", "sign", "rint"]
    two = [
        "remainder", "floor_divide", "logaddexp", "hypot", "arctan2", "copysign", "heaviside", "maximum", "minimum",
        "greater", "not_equal", "logical_xor",
    ]  # fmt: skip
    whole = ["add", "remainder", "floor_divide", "maximum", "absolute"]

    def run(active: Any) -> dict[str, Any]:
        a = active.input("input.0", np.stack([x, y]))
        found = [getattr(np, name)(a[0]) for name in one] + [getattr(np, name)(a[0], a[1]) for name in two]
        i, j = np.trunc(np.clip(a, -9, 9)[:, :60]).astype(np.int64)
        found += [getattr(np, name)(*[i, j + 20][: 1 if name == "absolute" else 2]) for name in whole]
        found += [
            np.cumsum(a[0, :9]),
            np.cumprod(a[0, :9]),
            a[0, :60].argmax(),
            a[0].argmax(),
            a.max(axis=0),
            i.max(),
            (-i - 99).max(),
        ]
        return {f"output.{k}": value for k, value in enumerate(found)}

    with np.errstate(all="ignore"):
        program = record(run)
        names = [*one, *two, *whole, "cumsum", "cumprod", "largest", "nan", "max", "whole", "negative"]
        text = c_file(program, {}, "functions", [f"y_{name}{i}" for i, name in enumerate(names)], (2, len(x)))
        from layerflow.engine.interpreter import interpret

        expected = interpret(program, {"input.0": np.stack([x, y])})
    like = [expected[f"output.{k}"] for k in range(len(names))]
    for name, found, wanted in zip(names, compiled(text, COMPILER or "")(np.stack([x, y]), like), like, strict=True):
        if name in ("remainder", "floor_divide") and wanted.dtype.kind == "f":  # of infinity, they differ
            found, wanted = found[:60], wanted[:60]
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12, err_msg=name)


CONFIG = """\
seed: 1
data: {source: Moons, test: 0.2, scale: Standard}
model: [{type: Linear, out_features: 8}, Tanh, Linear]
loss: SoftmaxCE
optimizer: {type: Adam, lr: 0.02}
train: {epochs: 2}
"""


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CONFIG)
    assert layerflow(["train", "c.yaml", "-q"]) == 0
    return tmp_path / "runs" / "c" / "001"


@needs_compiler
def test_a_run_in_c_predicts_as_layerflow_does(run_folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert layerflow(["export", str(run_folder), "-o", "m.c"]) == 0
    assert "compared with the model" in capsys.readouterr().err
    text = (tmp_path / "m.c").read_text()
    assert 'const char *const classes[] = {"' in text
    saved = lf.load_model(run_folder)
    run = compiled(text, COMPILER or "")
    for x in RNG.normal(size=(20, 2)).astype(np.float32):
        scores, shares, label = run(x, [np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), np.zeros(1, int)])
        np.testing.assert_allclose(scores, saved.scores(x[None]), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(shares, saved.probabilities(x[None]), rtol=1e-5, atol=1e-5)
        assert saved.classes[label[0]] == saved.predict(x[None])[0]


def test_without_a_compiler_the_file_is_written_and_it_is_said(
    run_folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("layerflow.interop.deployment.shutil.which", lambda name: None)
    assert "not compared with the model" in export_run(lf.load_model(run_folder), tmp_path / "m.c")
    assert "void predict(const float *x, float *scores" in (tmp_path / "m.c").read_text()


@needs_compiler
def test_a_file_that_computes_something_else_is_not_kept(run_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("layerflow.interop.c_file", fromlist=["x"]).OPERATORS, "add", "-")
    with pytest.raises(LayerflowError, match="would give other numbers"):
        export_run(lf.load_model(run_folder), tmp_path / "m.c")
    assert not (tmp_path / "m.c").exists()
