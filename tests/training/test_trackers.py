"""Trackers get the records of a training, from Python and from a configuration."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import layerflow as lf
from layerflow.cli import main
from layerflow.errors import ConfigError
from layerflow.training import trackers

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), RNG.integers(0, 2, 40)


def trained(tracker: Any) -> lf.History:
    trainer = lf.Trainer(lf.Linear(2), lf.SoftmaxCE(), lf.SGD(0.1), epochs=3, batch_size=8, callbacks=[tracker])
    return trainer.fit(X, Y, validation=(X, Y))


class Fake:
    """Stands in the place of a package, and notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Any]] = []
        self.__spec__ = SimpleNamespace(name="fake")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **named: Any) -> Any:
            self.calls.append((name, args, named))
            return self

        return call


@pytest.mark.parametrize("name", ["MLflow", "WandB", "Trackio"])
def test_every_epoch_is_handed_over_once_with_its_number(name: str, monkeypatch: Any) -> None:
    fake, kind = Fake(), trackers.TRACKERS[name]
    monkeypatch.setitem(sys.modules, kind.package, fake)
    history = trained(kind())
    logged = [call for call in fake.calls if call[0] in ("log", "log_metrics")]
    assert [named["step"] for _, _, named in logged] == [1, 2, 3]
    assert [numbers["val_loss"] for _, (numbers,), _ in logged] == history["val_loss"]
    assert fake.calls[-1][0] in ("finish", "end_run")
    started = next(named.get("config") or args[0] for what, args, named in fake.calls if what in ("init", "log_params"))
    assert started["epochs"] == 3


def test_a_missing_package_is_named_before_training(monkeypatch: Any) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="WandB needs wandb, which is not installed: pip install wandb"):
        trackers.WandB()


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = trained(trackers.TensorBoard(str(tmp_path / "board")))
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    found = events.Tensors("val_loss")
    assert [event.step for event in found] == [1, 2, 3]
    tensors = [event.tensor_proto for event in found]
    values = [
        float(np.frombuffer(each.tensor_content, np.float32)[0]) if each.tensor_content else each.float_val[0]
        for each in tensors
    ]
    np.testing.assert_allclose(values, history["val_loss"], rtol=1e-6)


CONFIG = """\
seed: 0
data: {source: Moons, test: 0.2}
model: [{type: Linear, out_features: 8}, ReLU, Linear]
loss: SoftmaxCE
optimizer: {type: SGD, lr: 0.1}
train: {epochs: 2}
callbacks: [{type: MLflow, experiment: moons}]
"""


def test_a_configuration_names_its_trackers_and_verify_calls_none(tmp_path: Path, monkeypatch: Any) -> None:
    fake = Fake()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    assert main(["check", "c.yaml"]) == 0
    assert fake.calls == []
    assert main(["train", "c.yaml", "-q"]) == 0
    assert [call[0] for call in fake.calls] == [
        "set_experiment", "start_run", "log_params", "log_metrics", "log_metrics", "end_run",
    ]  # fmt: skip
    count = len(fake.calls)
    assert main(["verify", "runs/c/001"]) == 0
    assert len(fake.calls) == count


def test_a_callback_of_ones_own_is_named_like_a_gate(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG.replace("{type: MLflow, experiment: moons}", "{type: Says, word: hello}"))
    Path("own.py").write_text(
        "import layerflow as lf\n\n\nclass Says(lf.Callback):\n    def __init__(self, word):\n"
        "        self.word = word\n\n"
        "    def epoch_ended(self, state, record):\n        print(self.word, state.epoch)\n"
    )
    assert main(["train", "c.yaml", "-q", "--import", "own.py"]) == 0
    assert "hello 1\nhello 2\n" in capsys.readouterr().out
    assert main(["check", "c.yaml"]) == 2
    assert "unknown callback 'Says'" in capsys.readouterr().err
