"""Exported models give the results of layerflow, in the libraries that read them."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.cli import main as layerflow
from layerflow.engine.open_batch import Extent, open_program
from layerflow.engine.recorder import record, record_gate
from layerflow.errors import ConfigError, DataError, LayerflowError, RecordError
from layerflow.gates.examples import examples
from layerflow.gradcheck.subject import Subject
from layerflow.interop.deployment import export_run
from layerflow.interop.python_file import python_file

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
CASES = examples(np.random.default_rng(0))

WITHOUT_BATCH = {"Where"}
"""Gates whose cases have no axis for the samples."""


def run(path: Path, *inputs: Any) -> list[Any]:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    found: list[Any] = session.run(None, dict(zip(names, inputs, strict=True)))
    return found


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_gate_is_exported(name: str, tmp_path: Path) -> None:
    refusals = []
    for gate, inputs in CASES[name]:
        subject = Subject(gate, inputs)
        subject.forward(*subject.inputs)
        subject.restore()
        if any(np.ndim(x) == 0 or not len(x) for x in subject.inputs):
            continue
        try:
            lf.export_onnx(subject.gate, tmp_path / "m.onnx", tuple(subject.inputs))
        except (RecordError, ConfigError) as error:
            refusals.append(str(error))
            continue
        assert name not in WITHOUT_BATCH
        return
    assert name in WITHOUT_BATCH, refusals


def models() -> dict[str, tuple[lf.Gate, Any]]:
    images, sequences, rows = RNG.normal(size=(4, 2, 8, 8)), RNG.normal(size=(4, 6, 8)), RNG.normal(size=(4, 5))
    attention = lf.Residual(lf.LayerNorm(), lf.MultiHeadAttention(2, causal=True))
    return {
        "mlp": (lf.Sequential(lf.Linear(8), lf.BatchNorm(), lf.GELU(), lf.Dropout(0.5), lf.Linear(3)), rows),
        "cnn": (
            lf.Sequential(
                lf.Conv2d(4, 3, padding=1), lf.ReLU(), lf.MaxPool2d(2), lf.Conv2d(6, 3, stride=2, groups=2),
                lf.BatchNorm(), lf.AdaptiveAvgPool2d(1), lf.Flatten(), lf.Linear(3),
            ), images,
        ),
        "upsampling": (lf.Sequential(lf.ConvTranspose2d(3, 3, stride=2), lf.Upsample(2, "bilinear")), images),
        "lstm": (lf.Sequential(lf.LSTM(7), lf.GRU(5, bidirectional=True, return_sequences=False)), sequences),
        "transformer": (lf.Sequential(attention, lf.Linear(8), lf.SinusoidalEncoding(), lf.RMSNorm()), sequences),
        "tokens": (
            lf.Sequential(lf.Embedding(11, 6), lf.PositionalEmbedding(9), lf.RNN(4)), RNG.integers(0, 11, (4, 9)),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", models())
def test_a_model_in_onnxruntime_gives_the_scores_of_layerflow(name: str, tmp_path: Path) -> None:
    model, x = models()[name]
    model.forward(x)
    model.training = False
    path = lf.export_onnx(model, tmp_path / "m.onnx", x)
    for batch in (x, x[:1], np.concatenate([x, x[::-1], x])):
        (found,) = run(path, batch.astype(np.float32) if batch.dtype.kind == "f" else batch)
        expected = model.forward(batch)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_in_float64_the_scores_are_equal_to_12_digits(tmp_path: Path) -> None:
    model, x = models()["mlp"]
    model.forward(x)
    model.training = False
    path = lf.export_onnx(model, tmp_path / "m.onnx", x, dtype="float64")
    np.testing.assert_allclose(run(path, x)[0], model.forward(x), rtol=1e-12, atol=1e-13)


def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path) -> None:
    graph = lf.ComputationalGraph()
    a, b = graph.inputs("left", "right")
    hidden = graph.add("hidden", lf.Linear(4), [a]) + graph.add("other", lf.Linear(4), [b])
    graph.output(graph.add("kind", lf.Linear(3), [hidden]), graph.add("size", lf.Linear(1), [hidden]))
    x = {"left": RNG.normal(size=(3, 5)), "right": RNG.normal(size=(3, 2))}
    expected = graph.forward(x["left"], x["right"])
    path = lf.export_onnx(graph, tmp_path / "m.onnx", x, metadata={"made": "today", "classes": ["a", "b"]})
    proto = onnx.load(path)
    assert [each.name for each in proto.graph.input] == ["left", "right"]
    assert [each.name for each in proto.graph.output] == ["kind", "size"]
    assert [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == ["batch", 5]
    assert {p.key: p.value for p in proto.metadata_props} == {"made": "today", "classes": '["a", "b"]'}
    assert {"hidden.weight", "kind.bias"} <= {each.name for each in proto.graph.initializer}
    for found, wanted in zip(run(path, *[v.astype(np.float32) for v in x.values()]), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


class Centred(lf.Gate):
    """y = x - the mean of each column over the batch, and every second row is added once more."""

    def forward(self, x: Any) -> Any:
        self.save()
        return (x - x.mean(axis=0)) * np.arange(1, len(x) + 1)[:, None]

    def backward(self, grad: Any) -> Any:
        return (grad - grad.mean(axis=0),), {}


def test_a_gate_of_ones_own_that_counts_its_samples_is_exported(tmp_path: Path) -> None:
    x = RNG.normal(size=(5, 3))
    path = lf.export_onnx(Centred(), tmp_path / "m.onnx", x)
    np.testing.assert_allclose(run(path, x[:4].astype(np.float32))[0], Centred().forward(x[:4]), rtol=1e-5, atol=1e-5)


def test_functions_of_several_operators_are_those_of_numpy(tmp_path: Path) -> None:
    x = np.concatenate([RNG.normal(size=60) * 3, [0.0, 1e-6, -1e-6, 30.0, -30.0]]).astype(np.float32)
    x, y = x[:, None], (x[::-1] + 0.25)[:, None]
    one = [
        "log1p",
        "expm1",
        "square",
        "exp2",
        "trunc",
        "cbrt",
        "isfinite",
        "signbit",
        "deg2rad",
        "sign",
        "floor",
        "ceil",
        "rint",
        "absolute",
        "tanh",
    ]
    two = [
        "remainder",
        "floor_divide",
        "fmod",
        "logaddexp",
        "hypot",
        "arctan2",
        "copysign",
        "heaviside",
        "not_equal",
        "maximum",
        "power",
    ]

    class Many(lf.Gate):
        def forward(self, x: Any, y: Any) -> Any:
            with np.errstate(all="ignore"):
                found = [getattr(np, name)(x).astype(x.dtype) for name in one]
                found += [getattr(np, name)(np.abs(x) if name == "power" else x, y).astype(x.dtype) for name in two]
            return tuple(found)

        def backward(self, *grads: Any) -> Any:
            return (None, None), {}

    path = lf.export_onnx(Many(), tmp_path / "m.onnx", (x, y))
    for name, found, expected in zip([*one, *two], run(path, x, y), Many().forward(x, y), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6, err_msg=name)


class Steps(lf.Gate):
    """y = what each sample adds to the one before, and the same from behind."""

    def forward(self, x: Any) -> Any:
        return x[1:] - x[:-1], x[::-1][:-2], np.concatenate([x[:2] * 0, x])[2:] + x.max(axis=0)

    def backward(self, *grads: Any) -> Any:
        return (None,), {}


def test_slices_of_the_batch_are_exported_to_onnx_and_python(tmp_path: Path) -> None:
    from layerflow.interop.onnx.exporting import open_forward

    x = RNG.normal(size=(6, 3))
    names: dict[str, Any] = {}
    exec(python_file(open_forward(Steps(), [x]), {}, "m.py", "steps", ["a", "b", "c"]), names)
    path = lf.export_onnx(Steps(), tmp_path / "m.onnx", x, dtype="float64")
    for batch in (x, x[:4], np.concatenate([x, x])):
        for expected, printed, found in zip(
            Steps().forward(batch), names["forward"](batch), run(path, batch), strict=True
        ):
            np.testing.assert_allclose(printed, expected, rtol=1e-12)
            np.testing.assert_allclose(found, expected, rtol=1e-12)


# What cannot be exported ---------------------------------------------------------------------------------------------


def test_what_cannot_be_exported_says_why_and_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    x, path = RNG.normal(size=(4, 3)), tmp_path / "m.onnx"
    path.write_text("kept")
    linear = lf.Linear(2)
    with pytest.raises(ConfigError, match="weight, bias: no value yet"):
        lf.export_onnx(linear, path, x)
    linear.forward(x)
    with pytest.raises(ConfigError, match="dtype is 'float16', expected"):
        lf.export_onnx(linear, path, x, dtype="float16")
    with pytest.raises(DataError, match=r"example 'x' is float64 \(\), expected a batch of samples"):
        lf.export_onnx(linear, path, 1.0)
    with pytest.raises(DataError, match="the example has 'z'; the model's inputs are x"):
        lf.export_onnx(linear, path, {"z": x})
    with pytest.raises(ConfigError, match="a batch of 37 samples cannot run"):
        lf.export_onnx(lf.Reshape((2, 6)), path, x)
    monkeypatch.setattr("layerflow.interop.onnx.nodes.SAME", {"add": "Sub"})
    linear.bias.value = np.ones(2)
    with pytest.raises(LayerflowError, match="onnxruntime gives other results for 1 samples, off by"):
        lf.export_onnx(linear, path, x)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"ONNX needs onnx, which is not installed: pip install 'layerflow\[onnx\]'"):
        lf.export_onnx(linear, path, x)
    assert path.read_text() == "kept"


def test_what_depends_on_the_batch_otherwise_is_named_with_its_line() -> None:
    class Root(lf.Gate):
        def forward(self, x: Any) -> Any:
            return x / np.sqrt(len(x))

        def backward(self, grad: Any) -> Any:
            return (grad,), {}

    with pytest.raises(RecordError, match=r"Root, .*test_export.py:\d+: depends on the batch in a way .* 6\.0"):
        open_program(lambda size: record_gate(Root(), [np.ones((size, 2))], None))


def test_shapes_follow_the_batch() -> None:
    def doubled(size: int) -> Any:
        return record(lambda active: {"y": np.concatenate([active.input("x", np.ones((size, 2)))] * 2).reshape(-1)})

    program = open_program(doubled)
    assert program.inputs["x"].shape == (Extent(0, 1), 2)
    assert program.outputs["y"].shape == (Extent(0, 4),)
    assert str(Extent(3, 2)) == "3 + 2 * batch"


# One Python file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models())
def test_a_forward_printed_as_python_computes_the_same(name: str) -> None:
    from layerflow.interop.onnx.exporting import open_forward

    model, x = models()[name]
    model.forward(x)
    model.training = False
    arrays = {f"parameter.{key}": cell.value for key, cell in model.named_parameters().items()}
    arrays |= {f"buffer.{key}": cell.value for key, cell in model.named_buffers().items()}
    text = python_file(open_forward(model, [x]), arrays, "m.py", "a model", ["scores"])
    names: dict[str, Any] = {}
    exec(text, names)
    for batch in (x, x[:1], np.concatenate([x, x])):
        np.testing.assert_allclose(names["forward"](batch), model.forward(batch), rtol=1e-12, atol=1e-13)


# Runs ----------------------------------------------------------------------------------------------------------------

TABLE = """\
seed: 1
data:
  source: {type: CSV, path: table.csv, target: kind, missing: mean, categorical: [colour]}
  test: 0.2
  scale: Standard
model: [{type: Linear, out_features: 8}, ReLU, Linear]
loss: %s
optimizer: {type: Adam, lr: 0.02}
train: {epochs: 3, batch_size: 16}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: Any) -> Path:
    """A table of numbers, gaps and texts, in the current folder."""
    rng = np.random.default_rng(3)
    with (tmp_path / "table.csv").open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["size", "year", "colour", "kind"])
        for _ in range(90):
            size = rng.normal() * 3
            write([f"{size:.3f}" if rng.random() > 0.1 else "", 2000 + rng.integers(20), rng.choice(["red", "blue"]),
                   "small" if size < 0 else "large"])  # fmt: skip
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("loss", ["SoftmaxCE", "SigmoidCE", "MulticlassSVM"])
def test_an_exported_run_predicts_as_layerflow_does(loss: str, folder: Path, capsys: Any) -> None:
    (folder / "c.yaml").write_text(TABLE % loss)
    assert layerflow(["train", "c.yaml", "-q"]) == 0
    for ending in ("onnx", "py", "safetensors"):
        assert layerflow(["export", "runs/c/001", "-o", f"m.{ending}"]) == 0
    assert "m.onnx: x (batch, 4) float32 -> scores, " in capsys.readouterr().err
    saved = lf.load_model("runs/c/001")
    x = (RNG.normal(size=(7, 4)) * [3, 10, 0, 0] + [0, 2010, 1, 0]).astype(np.float32)
    x[2, 0] = np.nan
    filled = np.where(np.isnan(x), saved.preprocessing.fill, x)
    scores, *probabilities, label = run(folder / "m.onnx", x)
    np.testing.assert_allclose(scores, saved.scores(filled), rtol=1e-5, atol=1e-5)
    assert label.tolist() == saved.predict(filled).tolist()
    if loss != "MulticlassSVM":
        np.testing.assert_allclose(probabilities[0], saved.probabilities(filled), rtol=1e-5, atol=1e-6)
    assert json.loads(onnx.load("m.onnx").metadata_props[-1].value) == ["large", "small"]
    done = subprocess.run([sys.executable, "m.py", "table.csv"], capture_output=True, text=True, check=True)
    layerflow(["predict", "runs/c/001", "table.csv"])
    predicted = [row["prediction"] for row in csv.DictReader(capsys.readouterr().out.splitlines())]
    assert done.stdout.split() == predicted
    from safetensors.numpy import load_file

    held = load_file("m.safetensors")
    assert held.keys() == saved.model.named_parameters().keys()
    assert all(np.array_equal(held[name], cell.value) for name, cell in saved.model.named_parameters().items())


def test_the_python_file_imports_nothing_but_numpy_and_says_what_is_wrong(folder: Path) -> None:
    (folder / "c.yaml").write_text(TABLE % "SoftmaxCE")
    assert layerflow(["train", "c.yaml", "-q"]) == 0
    assert layerflow(["export", "runs/c/001", "-o", "m.py"]) == 0
    words = [
        sys.executable,
        "-c",
        "import sys; sys.modules['layerflow'] = None; import m; print(m.predict([[0, 2000, 1, 0]]))",
    ]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() in (
        "['small']",
        "['large']",
    )
    (folder / "bad.csv").write_text("size,year,colour\n1,new,red\n")
    done = subprocess.run([sys.executable, "m.py", "bad.csv"], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "bad.csv:2: column 'year': 'new' is not a number"
    (folder / "bad.csv").write_text("size,colour\n1,red\n")
    done = subprocess.run([sys.executable, "m.py", "bad.csv"], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "bad.csv: no column 'year'; there are size, colour"


def test_an_unknown_ending_or_an_existing_file_is_refused(folder: Path, capsys: Any, monkeypatch: Any) -> None:
    (folder / "c.yaml").write_text(TABLE % "SoftmaxCE")
    assert layerflow(["train", "c.yaml", "-q"]) == 0
    assert layerflow(["export", "runs/c/001", "-o", "m.pt"]) == 2
    assert "m.pt: unknown ending '.pt'; expected .onnx, .py, .c, .safetensors" in capsys.readouterr().err
    (folder / "m.py").write_text("kept")
    assert layerflow(["export", "runs/c/001", "-o", "m.py"]) == 2
    assert "m.py: already exists" in capsys.readouterr().err
    assert layerflow(["export", "runs/c/001"]) == 2
    assert "name it with -o" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ConfigError, match=r"pip install 'layerflow\[safetensors\]'"):
        export_run(lf.load_model("runs/c/001"), folder / "m.safetensors")
    assert (folder / "m.py").read_text() == "kept"
