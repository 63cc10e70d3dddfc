"""Running commands: in this process where only their words matter, in a process of their own where the process does."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from layerflow.cli import main

ROOT = Path(__file__).parents[2]

CONFIG = f"""\
data:
  source: {{type: CSV, path: {ROOT}/data/iris.csv, target: species}}
  scale: Standard
model: [{{type: Linear, out_features: 16}}, ReLU, Linear]
loss: SoftmaxCE
optimizer: {{type: SGD, lr: 0.1, momentum: 0.9}}
train: {{epochs: 5}}
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, and what it wrote to the two streams."""

    code: int
    out: str
    err: str


@pytest.fixture
def layerflow_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*words: object) -> Outcome:
        try:
            code = main([str(word) for word in words])
        except SystemExit as exit_:  # how argparse leaves
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def process_command(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Outcome]:
    """Run a command in a process of its own."""

    def run(*words: object) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "layerflow", *map(str, words)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that imports this layerflow; without matplotlib, which takes long to import."""
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "matplotlib.py").write_text("raise ImportError('not installed')")
    return os.environ | {"PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}", "PYTHONWARNINGS": "default"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `iris.yaml`, which trains in a moment."""
    (tmp_path / "iris.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of `iris.yaml`, pictures included."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "iris.yaml").write_text(CONFIG)
    words = ["train", "iris.yaml", "train.epochs=30", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "layerflow", *words], cwd=folder, env=environment, check=True, capture_output=True
    )
    return folder / "runs" / "iris" / "001"


@pytest.fixture(scope="session")
def own_types(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python file with a gate, a loss, an optimizer and a reader of somebody's own."""
    file = tmp_path_factory.mktemp("own") / "my_own.py"
    file.write_text(OWN_TYPES)
    return file


OWN_TYPES = '''\
import numpy as np

import layerflow as lf
from layerflow.data import DataPath, Dataset
from layerflow.data.reader import Reader


class LearnedSwish(lf.Gate):
    """y = x * sigmoid(beta x), beta learned."""

    def __init__(self, beta: float = 1.0):
        self.beta = lf.Parameter(beta)

    def forward(self, x):
        s = 1 / (1 + np.exp(-self.beta.value * x))
        self.save(x, s)
        return x * s

    def backward(self, grad):
        x, s = self.saved
        slope = x * s * (1 - s)
        return (grad * (s + self.beta.value * slope),), {"beta": np.sum(grad * x * slope)}


class Brier(lf.Gate):
    """L = mean of |softmax(s) - t|^2."""

    def probabilities(self, scores):
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def forward(self, scores, labels):
        p = self.probabilities(scores)
        t = np.eye(scores.shape[1], dtype=scores.dtype)[labels]
        self.save(p, t)
        return np.sum((p - t) ** 2) / len(p)

    def backward(self, grad):
        p, t = self.saved
        d = 2 * (p - t) / len(p)
        return (grad * p * (d - np.sum(d * p, axis=1, keepdims=True)), None), {}


class SignSGD(lf.Optimizer):
    """Steps of one size."""

    def __init__(self, lr: float = 0.01):
        self.lr = lr

    def update(self, values, grads):
        values -= self.lr * np.sign(grads)


class Blanks(Reader):
    """Numbers separated by blanks, the last one in a line a class, 0 or 1."""

    def __init__(self, path: DataPath):
        self.path = path

    def read(self, need_target=True, like=None):
        rows = np.loadtxt(self.path)
        y = rows[:, 2].astype(int) if need_target else None
        return Dataset(rows[:, :2], y, None, ("apart", "together"), "blanks", "sha256:0")
'''
