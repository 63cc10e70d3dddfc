"""A configuration that is right, to be made wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from layerflow.config import Config, Registry, load_config_text

VALID = """\
seed: 0
data:
  source: {type: CSV, path: data/digits.csv, target: digit}
  test: 0.2
  scale: {type: Divide, by: 16}
model:
  - {type: Linear, out_features: 64}
  - ReLU
  - {type: Linear}
loss: SoftmaxCE
regularizer: {type: L2Regularizer, strength: 1e-4}
optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
schedule: {type: Warmup, epochs: 3, after: Cosine}
train:
  epochs: 5
  early_stopping: {metric: val_loss, patience: 4}
  metrics: [accuracy, top_3]
"""

CUSTOM = '''\
"""Gates, an optimizer and a reader that somebody wrote."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

import layerflow as lf
from layerflow.data.reader import Reader
from layerflow.training.optimizers import Optimizer


class Swish2(lf.Gate):
    """y = x * sigmoid(beta * x).

    Args:
        beta: how steep it is.
    """

    def __init__(
        self, beta: float = 1.0, mode: Literal["exact", "fast"] = "exact", inner: lf.Gate | None = None
    ) -> None:
        if beta < 0:
            raise ValueError(f"beta must not be negative, not {beta}")
        1 / beta
        self.beta = beta
        self.inner = inner

    def forward(self, x):
        s = 1 / (1 + np.exp(-self.beta * x))
        self.save(x, s)
        return x * s

    def backward(self, grad):
        x, s = self.saved
        return (grad * (s + self.beta * x * s * (1 - s)),), {}


class Half(lf.Gate):
    """y = x / 2, without type hints and without a constructor."""

    def forward(self, x):
        return x / 2

    def backward(self, grad):
        return (grad / 2,), {}


class Polynomial(lf.Gate):
    """y = scale * (c0 + c1 x + c2 x^2 + ...)."""

    def __init__(self, scale: float = 1.0, *coefficients: float, shift: float = 0.0) -> None:
        self.settings = (scale, coefficients, shift)


class Bounded(lf.Gate):
    """A gate whose hints have bounds of their own."""

    def __init__(
        self,
        rate: Annotated[float, Field(gt=0)] = 1.0,
        size: Annotated[int | None, Field(le=9)] = None,
        table: np.ndarray | None = None,
        later: "Unknown" = 0,
    ) -> None:
        self.rate = rate


class MeanLoss(lf.Gate):
    """The mean of the scores, whatever the targets."""

    def forward(self, scores, targets):
        self.save(scores)
        return np.mean(scores)

    def backward(self, grad):
        (scores,) = self.saved
        return (np.full_like(scores, grad / scores.size), None), {}


class SignSGD(Optimizer):
    """Steps of one size."""

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def update(self, values, grads):
        values -= self.lr * np.sign(grads)


class Nothing(Reader):
    """No data."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def read(self, need_target=True, like=None):
        raise NotImplementedError
'''


@pytest.fixture(scope="session")
def registry() -> Registry:
    """The built-in types, found once."""
    return Registry.builtin()


@pytest.fixture
def valid() -> str:
    """The text of a configuration without problems."""
    return VALID


@pytest.fixture
def load(registry: Registry) -> Callable[..., Config]:
    """Load the valid configuration with a part of its text replaced."""

    def loaded(old: str = "", new: str = "", overrides: tuple[str, ...] = ()) -> Config:
        assert old in VALID
        return load_config_text(VALID.replace(old, new, 1) if old else VALID, overrides, registry, name="c.yaml")

    return loaded


@pytest.fixture(scope="session")
def custom_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of somebody's own types."""
    file = tmp_path_factory.mktemp("custom") / "my_layers.py"
    file.write_text(CUSTOM)
    return file


@pytest.fixture(scope="session")
def custom_registry(custom_file: Path) -> Registry:
    """The built-in types and somebody's own."""
    return Registry.builtin([str(custom_file)])
