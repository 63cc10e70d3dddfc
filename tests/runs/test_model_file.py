"""Model files: what is saved comes back bit by bit; what is no whole model file is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import DataError
from layerflow.runs.model import pack_model, read_model_file


def build(width: int = 4) -> lf.Sequential:
    model = lf.Sequential(lf.Linear(width), lf.ReLU(), lf.Linear(3, bias=False))
    model.build(np.random.default_rng(0), (1, 2))
    return model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A saved model."""
    path = tmp_path / "model.npz"
    path.write_bytes(pack_model(build().astype("float32"), {"name": "grüße", "classes": ["a", "b"], "rate": 0.1}))
    return path


def test_a_saved_model_comes_back_bit_by_bit(file: Path) -> None:
    saved = read_model_file(file)
    assert saved.description | {"format": ""} == {"format": "", "name": "grüße", "classes": ["a", "b"], "rate": 0.1}
    twin = build()
    for parameter in twin.parameters():
        parameter.value = parameter.value * 0
    saved.fill(twin, "x")
    for name, parameter in build().astype("float32").named_parameters().items():
        assert twin.named_parameters()[name].value.dtype == np.float32
        np.testing.assert_array_equal(twin.named_parameters()[name].value, parameter.value)


def test_numpy_reads_the_file_without_pickle(file: Path) -> None:
    with np.load(file, allow_pickle=False) as archive:
        assert archive["parameter/0.weight"].shape == (4, 2)
        assert all(archive[name].dtype != object for name in archive.files)


def test_buffers_are_saved_too(tmp_path: Path) -> None:
    class Shift(lf.Gate):
        def __init__(self) -> None:
            self.by = lf.Buffer([1.0, 2.0])

        def forward(self, x):  # type: ignore[no-untyped-def]
            return x + self.by.value

        def backward(self, grad):  # type: ignore[no-untyped-def]
            return (grad,), {}

    gate = lf.Sequential(Shift())
    gate["0"].by.value = [3.0, 4.0]
    (tmp_path / "m.npz").write_bytes(pack_model(gate, {}))
    twin = lf.Sequential(Shift())
    read_model_file(tmp_path / "m.npz").fill(twin, "x")
    np.testing.assert_array_equal(twin["0"].by.value, [3.0, 4.0])


def test_every_cut_of_the_file_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"model\.npz"):
            read_model_file(file)


def test_every_changed_byte_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for position in range(0, len(whole), 61):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        with pytest.raises(DataError, match=r"model\.npz"):
            read_model_file(file)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataError, match=r"other\.npz"):
        read_model_file(tmp_path / "other.npz")
    with pytest.raises(DataError, match="no such file; give a run folder"):
        read_model_file(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: build(5), "0.weight has shape (4, 2), but the model it describes needs (5, 2)"),
        (lambda: build()[:2], "contains 0.bias, 0.weight, 2.weight, but the model it describes has 0.bias, 0.weight"),
    ],
)
def test_arrays_that_do_not_fit_the_model_are_named(file: Path, model, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError) as error:
        read_model_file(file).fill(model(), str(file))
    assert message in str(error.value)


# Models without a run ------------------------------------------------------------------------------------------------


def graph() -> lf.ComputationalGraph:
    model = lf.ComputationalGraph()
    x = model.input("x")
    hidden = model.apply(lf.Linear(5), x, name="hidden")
    model.output(model.apply(lf.Add(), hidden, model.apply(lf.Tanh(), hidden), name="sum"))
    return model


MODELS = {
    "a row": lambda: lf.Sequential(lf.Linear(4), lf.ReLU(), lf.Dropout(0.5), lf.Linear(3)),
    "a graph": graph,
    "nested": lambda: lf.Sequential(lf.Linear(4), lf.Sequential(lf.Tanh(), lf.Linear(2)), lf.ReLU()),
    "one gate": lambda: lf.Linear(3),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_plain_model_comes_back_as_it_was(tmp_path: Path, name: str, dtype: str) -> None:
    x = np.random.default_rng(1).normal(size=(6, 2)).astype(dtype)
    model = MODELS[name]()
    model.build(np.random.default_rng(0), x.shape)
    model.astype(dtype)
    model.training = False
    expected = model.forward(x)
    lf.save_model(model, tmp_path / "m.npz")
    twin = lf.load_model(tmp_path / "m.npz")
    twin.training = False
    found = twin.forward(x)
    assert (type(twin), found.dtype) == (type(model), expected.dtype)
    np.testing.assert_array_equal(found, expected)


def test_a_model_with_a_gate_of_ones_own_needs_its_file(tmp_path: Path) -> None:
    code = "import layerflow as lf\nclass Double(lf.Gate):\n    def forward(self, x):\n        return 2 * x\n"
    code += "    def backward(self, grad):\n        return (2 * grad,), {}\n"
    (tmp_path / "double.py").write_text(code)
    scope: dict[str, Any] = {}
    exec(code, scope)
    lf.save_model(lf.Sequential(scope["Double"]()), tmp_path / "m.npz")
    with pytest.raises(lf.ConfigError, match=r"Double[\s\S]*imports=\['my_layers.py'\]"):
        lf.load_model(tmp_path / "m.npz")
    twin = lf.load_model(tmp_path / "m.npz", imports=[str(tmp_path / "double.py")])
    np.testing.assert_array_equal(twin.forward(np.ones((1, 2))), [[2, 2]])


def test_what_cannot_be_saved_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(lf.ConfigError, match=r"0\.weight.*: no value yet"):
        lf.save_model(lf.Sequential(lf.Linear(3)), tmp_path / "m.npz")
    with pytest.raises(lf.ConfigError, match="not str"):
        lf.save_model("model", tmp_path / "m.npz")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_container_does_not_save_itself(tmp_path: Path) -> None:
    with pytest.raises(lf.GateError, match=r"lf\.save_model\(model, path\)"):
        build().save(str(tmp_path / "m.npz"))


def test_saving_replaces_a_file_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for width in (4, 6):
        lf.save_model(build(width), tmp_path / "m.npz")
    assert lf.load_model(tmp_path / "m.npz")[0].weight.value.shape == (6, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]
