"""Runs that meet with an accident: in this process where only files matter, else in one of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from layerflow.cli import main
from layerflow.runs.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
CONFIG = f"""\
data:
  source: {{type: CSV, path: {ROOT}/data/iris.csv, target: species}}
model: [{{type: Linear, out_features: 16}}, ReLU, {{type: Dropout, rate: 0.2}}, Linear]
loss: SoftmaxCE
optimizer: {{type: SGD, lr: 0.05, momentum: 0.9}}
train: {{epochs: 4, batch_size: 16, checkpoint: {{every: 1, keep: 1}}}}
"""
SLOW = """\
import os
import time
import layerflow as lf

class Slow(lf.Gate):
    def build(self, rng, shape):
        return shape

    def forward(self, x):
        if self.training:
            time.sleep(float(os.environ.get("SECONDS_PER_STEP", 0)))
        return x

    def backward(self, grad):
        return (grad,), {}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


@dataclass
class Place:
    """A scratch folder with a configuration in it, and the commands run there."""

    folder: Path
    environment: dict[str, str]
    capture: Callable[[], tuple[str, str]]
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, *words: object) -> Outcome:
        """Run a command in this process."""
        code = main([str(word) for word in words])
        return Outcome(code, *self.capture())

    def start(self, *words: object, seconds: float = 0.0, before: str = "", **settings: Any) -> subprocess.Popen[str]:
        """Start a command in a process of its own, after what a shell does `before`; each step takes some seconds."""
        environment = self.environment | {"SECONDS_PER_STEP": str(seconds)}
        shell = ["bash", "-c", f'{before or "true"}; exec "$@"', "bash"]
        process = subprocess.Popen(
            [*shell, sys.executable, "-m", "layerflow", *map(str, words)],
            cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> Outcome:
        """Wait for a process."""
        out, err = process.communicate(timeout=180)
        return Outcome(process.returncode, out, err)

    def config(self, name: str = "run.yaml", *changes: tuple[str, str]) -> str:
        """Write a configuration, with some of its text replaced, and return its name."""
        text = CONFIG
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (self.folder / name).write_text(text)
        return name

    def slow_config(self, *changes: tuple[str, str], name: str = "run.yaml") -> list[str]:
        """Write a configuration whose steps can take their time, and return the words that train it."""
        (self.folder / "slow.py").write_text(SLOW)
        slow = ("ReLU,", "ReLU, Slow,")
        return [self.config(name, slow, *changes), "--import", "slow.py", "--quiet"]

    def run(self, number: int = 1, name: str = "run") -> Path:
        """Return a run folder."""
        return self.folder / "runs" / name / f"{number:03d}"

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait for something that the process started last is about to do."""
        process, deadline = self.processes[-1], time.monotonic() + 180
        while not condition():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.005)


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A scratch folder, in which this process is for the length of a test."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "matplotlib.py").write_text("raise ImportError('not installed')")
    environment = os.environ | {"PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}", "PYTHONUNBUFFERED": "1"}
    monkeypatch.chdir(tmp_path)
    place = Place(tmp_path, environment, capsys.readouterr)  # type: ignore[arg-type]
    yield place
    for process in place.processes:
        process.kill()
        process.communicate()


@pytest.fixture
def result() -> Callable[[Path], tuple[Any, ...]]:
    """What a finished run left, without its times, in a form in which equal means equal bits."""

    def read(run: Path) -> tuple[Any, ...]:
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        rows = [line.rsplit(",", 1)[0] for line in (run / "metrics.csv").read_text().splitlines()]
        arrays = load_checkpoint(run / "checkpoints" / "last.npz").snapshot.arrays
        return (
            [{key: value for key, value in record.items() if key != "seconds"} for record in records],
            rows,
            (run / "model.npz").read_bytes(),
            (run / "step_losses.f64").read_bytes(),
            {name: array.tobytes() for name, array in arrays.items()},
        )

    return read


@pytest.fixture
def undisturbed(place: Place, result: Callable[[Path], tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Train without an accident, elsewhere, and return the result."""

    def train(*words: object) -> tuple[Any, ...]:
        done = place.command("train", *words, "--out", "undisturbed", "--quiet")
        assert done.code == 0, done.err
        return result(place.folder / "undisturbed" / "run" / "001")

    return train
