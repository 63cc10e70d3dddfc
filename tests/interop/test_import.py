"""ONNX files become graphs of gates that compute, learn and are checked like any other."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import ConfigError, DataError
from layerflow.gates import GATES
from layerflow.interop.onnx.importing import Importer, UnsupportedOperator
from layerflow.interop.onnx.onnx_gates import SLOPES

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
helper = onnx.helper
RNG = np.random.default_rng(0)
FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


# ONNX's own tests ----------------------------------------------------------------------------------------------------

BY_VALUE = {
    "Mod",
    "BitShift",
    "Max",
    "Min",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Where",
    "Gather",
    "Pow",
    "Equal",
    "Less",
    "Greater",
}
"""Operators whose whole numbers are data, not shapes or axes."""
NOT_NUMBERS = {"ImageDecoder", "SequenceMap", "QuantizeLinear"}
DIFFERENT = {"reduce_max_empty_set", "reduce_min_empty_set", "reduce_prod_empty_set", "reduce_log_sum_exp_empty_set"}
"""Reductions of nothing, which are errors here."""


def node_tests() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [
        case for case in found
        if case.model is not None and case.model.graph.node[0].op_type not in NOT_NUMBERS
        and not any(isinstance(x, onnx.TensorProto | list) or x is None for x in case.data_sets[0][0])
        and case.name.removeprefix("test_").removesuffix("_expanded") not in DIFFERENT
    ]  # fmt: skip


def passes(case: Any) -> bool:
    """Whether a model can be imported; its results must then be those of the case."""
    names = [each.name for each in case.model.graph.input]
    given = dict(zip(names, map(np.asarray, case.data_sets[0][0]), strict=True))
    settings = {
        name: value for name, value in list(given.items())[1:] if value.dtype.kind in "iu" and value.ndim < 2
    }  # fmt: skip
    if case.model.graph.node[0].op_type.removesuffix("OrEqual") in BY_VALUE or len(case.data_sets) > 1:
        settings = {}
    try:
        graph = Importer(onnx, case.model, case.name, settings).graph
    except UnsupportedOperator as error:
        assert f"{case.name}: " in str(error)
        return False
    for inputs, expected in case.data_sets:
        output = graph.forward(*[x for name, x in zip(names, inputs, strict=True) if name not in settings])
        for found, wanted in zip(output if isinstance(output, tuple) else (output,), expected, strict=True):
            assert (found.shape, found.dtype) == (np.shape(wanted), np.asarray(wanted).dtype), case.name
            np.testing.assert_allclose(found, wanted, case.rtol, max(case.atol, 1e-6), err_msg=case.name)
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_onnx_node_tests_pass_or_are_refused_by_name(every: int) -> None:
    cases = node_tests()[::every]
    with np.errstate(all="ignore"):
        passed = [passes(case) for case in cases]
    assert sum(passed) > 0.65 * len(cases), f"{sum(passed)} of {len(cases)}"


# Models --------------------------------------------------------------------------------------------------------------


def saved(path: Path, nodes: list[Any], weights: dict[str, Any], shape: list[Any], kind: int = FLOAT) -> Path:
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info("y", FLOAT, None)]
    arrays = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "model", inputs, outputs, arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def drawn(*shape: int) -> Any:
    return (RNG.normal(size=shape) / np.sqrt(max(shape[-1], 1))).astype(np.float32)


def as_torch_writes() -> dict[str, Any]:
    """Models as exporters write them: nodes, weights, the shape of x."""
    node = helper.make_node
    flat = [  # x.view(x.size(0), -1), with the batch open
        node("Shape", ["c"], ["s"]), node("Gather", ["s", "zero"], ["n0"], axis=0),
        node("Unsqueeze", ["n0", "axis"], ["u"]),
        node("Concat", ["u", "rest"], ["to"], axis=0), node("Reshape", ["c", "to"], ["f"]),
    ]  # fmt: skip
    shapes = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
    return {
        "mlp": (
            [node("Gemm", ["x", "w", "b"], ["h"], transB=1), node("Relu", ["h"], ["r"]),
             node("Gemm", ["r", "w2", "b2"], ["y"], transB=1)],
            {"w": drawn(6, 5), "b": drawn(6), "w2": drawn(3, 6), "b2": drawn(3)}, ["batch", 5],
        ),
        "cnn": (
            [node("Conv", ["x", "w", "b"], ["c0"], pads=[1, 1, 1, 1]),
             node("BatchNormalization", ["c0", "g", "b", "m", "v"], ["n"]), node("Clip", ["n", "low", "high"], ["r"]),
             node("MaxPool", ["r"], ["c"], kernel_shape=[2, 2], strides=[2, 2]), *flat,
             node("MatMul", ["f", "w2"], ["y"])],
            shapes | {"w": drawn(4, 2, 3, 3), "b": drawn(4), "g": np.ones(4, np.float32), "m": drawn(4),
                      "v": np.ones(4, np.float32), "low": np.float32(0), "high": np.float32(6), "w2": drawn(36, 3)},
            ["batch", 2, 6, 6],
        ),
        "lstm": (
            [node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
             node("LSTM", ["t", "w", "r", "b"], ["s", "h", ""], hidden_size=4, direction="bidirectional"),
             node("Transpose", ["h"], ["l"], perm=[1, 0, 2]), node("Flatten", ["l"], ["y"])],
            {"w": drawn(2, 16, 3), "r": drawn(2, 16, 4), "b": drawn(2, 32)}, ["batch", 5, 3],
        ),
        "attention": (
            [node("MatMul", ["x", "wq"], ["q"]), node("MatMul", ["x", "wk"], ["k"]), node("MatMul", ["x", "wv"], ["v"]),
             node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), node("MatMul", ["q", "kt"], ["s0"]),
             node("Div", ["s0", "root"], ["s"]), node("Softmax", ["s"], ["a"], axis=-1),
             node("MatMul", ["a", "v"], ["o"]),
             node("Add", ["o", "x"], ["z"]), node("LayerNormalization", ["z", "g", "b"], ["n"], axis=-1),
             node("Erf", ["n"], ["e"]), node("Mul", ["n", "e"], ["y"])],
            {"wq": drawn(4, 4), "wk": drawn(4, 4), "wv": drawn(4, 4), "root": np.float32(2), "g": drawn(4),
             "b": drawn(4)},
            ["batch", 5, 4],
        ),
    }  # fmt: skip


@pytest.fixture(params=as_torch_writes())
def imported(request: Any, tmp_path: Path) -> tuple[Path, lf.ComputationalGraph, Any]:
    nodes, weights, shape = as_torch_writes()[request.param]
    path = saved(tmp_path / "m.onnx", nodes, weights, shape)
    return path, lf.import_onnx(path), RNG.normal(size=(4, *shape[1:])).astype(np.float32)


def test_an_imported_model_computes_what_onnxruntime_does(imported: Any) -> None:
    path, graph, x = imported
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (x, x[:1], np.concatenate([x, x])):
        (expected,) = session.run(None, {"x": batch})
        np.testing.assert_allclose(graph.forward(batch), expected, rtol=1e-4, atol=1e-5)


def test_an_imported_model_passes_the_gradient_check_and_learns(imported: Any) -> None:
    _, graph, x = imported
    report = lf.check_gradients(graph, x.astype(np.float64))
    assert report.ok, str(report)
    target = RNG.normal(size=graph.forward(x).shape)
    trainer = lf.Trainer(graph, lf.SquaredError(), lf.Adam(0.01), epochs=20, batch_size=4)
    history = trainer.fit(x, target)
    assert history["train_loss"][-1] < 0.9 * history["train_loss"][0]


def test_weights_keep_the_names_of_the_file_where_no_gate_has_them(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "offset"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = lf.import_onnx(saved(tmp_path / "m.onnx", nodes, {"offset": drawn(3)}, ["batch", 3]))
    graph.forward(drawn(2, 3))
    assert list(graph.named_parameters()) == ["offset"]
    assert "relu" in graph.summary()


def test_what_layerflow_exports_it_imports(tmp_path: Path) -> None:
    images = RNG.normal(size=(3, 2, 6, 6))
    model = lf.Sequential(lf.Conv2d(4, 3, padding=1), lf.ReLU(), lf.MaxPool2d(2), lf.Flatten(), lf.Linear(3))
    model.forward(images)
    path = lf.export_onnx(model, tmp_path / "m.onnx", images)
    again = lf.import_onnx(path)
    x = images.astype(np.float32)
    np.testing.assert_allclose(again.forward(x), model.forward(images), rtol=1e-5, atol=1e-6)
    assert sum(p.value.size for p in again.parameters()) >= sum(p.value.size for p in model.parameters())
    grads = again.backward(np.ones((3, 3), np.float32))[0][0]
    model.forward(images)
    np.testing.assert_allclose(grads, model.backward(np.ones((3, 3)))[0][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SLOPES)
def test_functions_have_the_derivative_beside_them(name: str, tmp_path: Path) -> None:
    graph = lf.import_onnx(saved(tmp_path / "m.onnx", [helper.make_node(name, ["x"], ["y"])], {}, ["batch", 3]))
    x = np.array([[0.3, 0.45, 0.8]]) + (1.0 if name == "Acosh" else 0.0)
    assert lf.check_gradients(graph, x).ok


def test_operators_that_move_elements_have_right_gradients(tmp_path: Path) -> None:
    node = helper.make_node
    cases = {
        "Slice": ([node("Slice", ["x", "a", "b", "c", "d"], ["y"])],
                  {"a": np.array([3]), "b": np.array([-9]), "c": np.array([1]), "d": np.array([-2])}),
        "Pad": ([node("Pad", ["x", "p"], ["y"], mode="reflect")], {"p": np.array([0, 1, 0, 2])}),
        "Gather": ([node("Gather", ["x", "i"], ["y"], axis=1)], {"i": np.array([[0, 2], [2, 2]])}),
        "Tile": ([node("Tile", ["x", "r"], ["y"])], {"r": np.array([2, 3])}),
        "Expand": ([node("Expand", ["x", "s"], ["y"])], {"s": np.array([2, 1, 1])}),
        "Trilu": ([node("Trilu", ["x"], ["y"])], {}),
        "Split": ([node("Split", ["x"], ["z", "y"], axis=1, num_outputs=2)], {}),
        "TopK": ([node("TopK", ["x", "k"], ["y", "i"])], {"k": np.array([2])}),
        "AveragePool": ([node("Unsqueeze", ["x", "n"], ["u"]),
                         node("AveragePool", ["u"], ["y"], kernel_shape=[3], pads=[1, 1], strides=[2])],
                        {"n": np.array([0])}),
        "LpPool": ([node("Unsqueeze", ["x", "n"], ["u"]), node("LpPool", ["u"], ["y"], kernel_shape=[2], p=3)],
                   {"n": np.array([0])}),
        "Resize": ([node("Resize", ["x", "", "scales"], ["y"], mode="nearest")],
                   {"scales": np.array([1, 2], np.float32)}),
        "Mod": ([node("Mod", ["x", "m"], ["y"], fmod=1)], {"m": np.array([0.7, 0.9, 1.1, 0.6], np.float32)}),
    }  # fmt: skip
    for name, (nodes, weights) in cases.items():
        graph = lf.import_onnx(saved(tmp_path / "m.onnx", nodes, weights, [3, 4]))
        report = lf.check_gradients(graph, RNG.permutation(12).reshape(3, 4) / 5 + 0.11)
        assert report.ok, (name, str(report))


# What cannot be imported ---------------------------------------------------------------------------------------------


def test_unsupported_operators_are_named_with_their_nodes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["d"], name="first"), helper.make_node("Relu", ["d"], ["r"]),
        helper.make_node("DFT", ["r"], ["y"]),
    ]  # fmt: skip
    path = saved(tmp_path / "m.onnx", nodes, {}, [2, 3, 3])
    with pytest.raises(UnsupportedOperator) as caught:
        lf.import_onnx(path)
    assert str(caught.value).splitlines() == [
        f"{path}: operator Det 'first' has no gate",
        f"{path}: operator DFT that gives 'y' has no gate",
    ]


@pytest.mark.parametrize("content", [b"", b"not ONNX", b"\x08\x09\x12"], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(DataError, match=r"m\.onnx: not an ONNX model"):
        lf.import_onnx(tmp_path / "m.onnx")


def test_a_missing_file_or_library_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(DataError, match=r"none\.onnx: no such file"):
        lf.import_onnx(tmp_path / "none.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'layerflow\[onnx\]'"):
        lf.import_onnx(tmp_path / "none.onnx")


def test_external_data_that_is_missing_is_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": drawn(40, 40)}, ["b", 40])
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    lf.import_onnx(path).forward(drawn(2, 40))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(DataError, match=r"weights\.bin"):
        lf.import_onnx(path)


def test_the_table_uses_gates_of_the_catalogue(tmp_path: Path) -> None:
    nodes, weights, shape = as_torch_writes()["cnn"]
    graph = lf.import_onnx(saved(tmp_path / "m.onnx", nodes, weights, shape))
    graph.forward(drawn(2, 2, 6, 6))
    kinds = {type(step.gate).__name__ for step in graph.steps}
    assert {"Conv2d", "BatchNorm", "Clip", "MaxPool2d", "Linear"} <= kinds & set(GATES)
