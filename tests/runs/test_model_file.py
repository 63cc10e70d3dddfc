"""Model files: what is saved comes back bit by bit; what is no whole model file is refused."""

from pathlib import Path

import numpy as np
import pytest

import layerflow as lf
from layerflow.errors import DataError
from layerflow.training.model_file import load_model, save_model


def build(width: int = 4) -> lf.Sequential:
    model = lf.Sequential(lf.Linear(width), lf.ReLU(), lf.Linear(3, bias=False))
    model.build(np.random.default_rng(0), (1, 2))
    return model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A saved model."""
    path = tmp_path / "model.npz"
    save_model(path, build().astype("float32"), {"name": "grüße", "classes": ["a", "b"], "rate": 0.1})
    return path


def test_a_saved_model_comes_back_bit_by_bit(file: Path) -> None:
    saved = load_model(file)
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
    save_model(tmp_path / "m.npz", gate, {})
    twin = lf.Sequential(Shift())
    load_model(tmp_path / "m.npz").fill(twin, "x")
    np.testing.assert_array_equal(twin["0"].by.value, [3.0, 4.0])


def test_every_cut_of_the_file_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"model\.npz"):
            load_model(file)


def test_every_changed_byte_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for position in range(0, len(whole), 61):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        with pytest.raises(DataError, match=r"model\.npz"):
            load_model(file)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataError, match=r"other\.npz"):
        load_model(tmp_path / "other.npz")
    with pytest.raises(DataError, match="no such file; give a run folder"):
        load_model(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: build(5), "0.weight has shape (4, 2), the model it describes needs (5, 2)"),
        (lambda: build()[:2], "holds 0.bias, 0.weight, 2.weight, the model it describes has 0.bias, 0.weight"),
    ],
)
def test_arrays_that_do_not_fit_the_model_are_named(file: Path, model, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError) as error:
        load_model(file).fill(model(), str(file))
    assert message in str(error.value)


def test_saving_replaces_a_file_whole_and_leaves_nothing_beside_it(file: Path) -> None:
    save_model(file, build(6), {"name": "second"})
    assert load_model(file).description["name"] == "second"
    assert [path.name for path in file.parent.iterdir()] == ["model.npz"]
