"""`layerflow verify`: the same bits again, or the first step that differs, by its place and value."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerflow.runs.manifest import Manifest

EXIT_DIFFERENT, EXIT_DATA = 3, 4


@pytest.fixture
def trained(place: Any) -> Path:
    assert place.command("train", place.config(), "--quiet").code == 0
    run: Path = place.run()
    return run


@pytest.mark.parametrize(
    ("words", "counted"),
    [((), "28 steps, 4 epochs"), (("--steps", "10"), "10 steps, 1 epochs"), (("--steps", "999"), "28 steps")],
)
def test_a_run_is_repeated_bit_by_bit(place: Any, trained: Path, words: tuple[str, ...], counted: str) -> None:
    done = place.command("verify", "runs/run/001", *words)
    assert (done.code, done.err) == (0, "")
    assert f"the same, bit by bit: {counted}" in done.out


def certify(run: Path, name: str) -> None:
    """Enter a file into the manifest as it is: not damaged, but written with other content."""
    manifest = Manifest(run)
    manifest.forget([name])
    manifest.settle()


def test_the_first_step_that_differs_is_named(place: Any, trained: Path) -> None:
    losses = np.fromfile(trained / "step_losses.f64", "<f8")
    losses[[9, 20]] = np.nextafter(losses[[9, 20]], 0)
    losses.tofile(trained / "step_losses.f64")
    certify(trained, "step_losses.f64")
    done = place.command("verify", "runs/run/001")
    assert done.code == EXIT_DIFFERENT
    assert "the loss of epoch 2, step 3 was " in done.out
    assert place.command("verify", "runs/run/001", "--steps", "9").code == 0


def test_a_record_that_differs_is_named(place: Any, trained: Path) -> None:
    lines = (trained / "metrics.jsonl").read_text().splitlines()
    record = json.loads(lines[2])
    record["val_loss"] += 1e-12
    (trained / "metrics.jsonl").write_text("\n".join([*lines[:2], json.dumps(record), *lines[3:]]) + "\n")
    certify(trained, "metrics.jsonl")
    done = place.command("verify", "runs/run/001")
    assert done.code == EXIT_DIFFERENT
    assert "val_loss of epoch 3 was " in done.out


def test_what_differs_in_the_environment_is_told(place: Any, trained: Path) -> None:
    run = json.loads((trained / "run.json").read_text())
    run["versions"]["numpy"] = "1.0"
    (trained / "run.json").write_text(json.dumps(run))
    certify(trained, "run.json")
    assert "numpy: 1.0 then, " in place.command("verify", "runs/run/001").err


def test_a_run_that_was_broken_off_in_an_epoch_is_verified_as_far_as_it_came(place: Any) -> None:
    process = place.start("train", *place.slow_config(), seconds=0.05)
    place.wait_until(lambda: (place.run() / "checkpoints" / "last.npz").exists())
    process.send_signal(signal.SIGTERM)
    place.end(process)
    position = len(np.fromfile(place.run() / "step_losses.f64", "<f8"))
    done = place.command("verify", "runs/run/001", "--import", "slow.py")
    assert done.code == 0
    assert int(done.out.split(": ")[2].split(" steps")[0]) >= position >= 7


def test_a_resumed_run_is_the_same_as_one_in_a_single_go(place: Any, trained: Path) -> None:
    assert place.command("train", "--resume", "runs/run/001", "train.epochs=6", "--quiet").code == 0
    done = place.command("verify", "runs/run/001")
    assert "42 steps, 6 epochs" in done.out


def test_a_run_that_met_with_divergence_is_repeated_too(place: Any) -> None:
    (place.folder / "fragile.py").write_text(FRAGILE)
    config = place.config("run.yaml", ("ReLU,", "ReLU, Fragile,"))
    done = place.command("train", config, "--import", "fragile.py", "--quiet", "--on-divergence", "halve-lr")
    assert "half the learning rate" in done.err
    assert done.code == 0
    again = place.command("verify", "runs/run/001", "--import", "fragile.py")
    assert "28 steps, 4 epochs" in again.out


FRAGILE = """\
import numpy as np
import layerflow as lf

class Fragile(lf.Gate):
    def __init__(self):
        self.count = 0

    def build(self, rng, shape):
        return shape

    def forward(self, x):
        self.count += self.training
        return x * np.float32(np.inf) if self.count == 10 and self.training else x

    def backward(self, grad):
        return (grad,), {}
"""
