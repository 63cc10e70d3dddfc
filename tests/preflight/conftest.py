"""A small training that is as it should be, to be made worse in one way at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from layerflow.config import Registry, load_config_text
from layerflow.config.experiment import read_parts
from layerflow.preflight import Context

SOUND = """\
data:
  source: {type: Blobs, samples: 240, classes: 3, features: 4, noise: 4.0, seed: 1}
  test: 0.2
  validation: null
  scale: Standard
model: [{type: Linear, out_features: 16}, ReLU, {type: Linear, out_features: 12}, ReLU, Linear]
loss: SoftmaxCE
regularizer: {type: L2Regularizer, strength: 1e-3}
optimizer: {type: SGD, lr: 0.1}
train: {batch_size: 16}
"""

OWN = '''\
"""Gates and a loss with a mistake each."""

import numpy as np

import layerflow as lf


class Centred(lf.Gate):
    """x minus the mean over the batch, at all times or in training only."""

    def __init__(self, always: bool = True):
        self.always = always

    def forward(self, x):
        mixes = self.always or self.training
        self.save(mixes)
        return x - x.mean(axis=0) if mixes else x

    def backward(self, grad):
        (mixes,) = self.saved
        return (grad - grad.mean(axis=0) if mixes else grad,), {}


class Placed(lf.Gate):
    """x times 1 plus its place in the batch."""

    def forward(self, x):
        places = 1.0 + np.arange(len(x), dtype=x.dtype)[:, np.newaxis]
        self.save(places)
        return x * places

    def backward(self, grad):
        (places,) = self.saved
        return (grad * places,), {}


class Noise(lf.Gate):
    """Noise from NumPy's global generator, in training."""

    def forward(self, x):
        return x + np.random.standard_normal(x.shape).astype(x.dtype) if self.training else x

    def backward(self, grad):
        return (grad,), {}


class Wrong(lf.Gate):
    """x^2 with the derivative of x."""

    def forward(self, x):
        return x * x

    def backward(self, grad):
        return (grad,), {}


class Sunk(lf.Gate):
    """x - 100."""

    def forward(self, x):
        return x - 100

    def backward(self, grad):
        return (grad,), {}


class Blocked(lf.Gate):
    """x, without a gradient."""

    def forward(self, x):
        return x

    def backward(self, grad):
        return (0 * grad,), {}


class Smoothed(lf.SoftmaxCE):
    """Cross entropy of labels that are sure of themselves to nine parts in ten, so that it is never near 0."""

    def forward(self, scores, targets):
        sure = np.eye(scores.shape[1], dtype=scores.dtype)[targets]
        return super().forward(scores, 0.9 * sure + 0.1 / scores.shape[1])

    def expect(self, scores, targets):
        pass


class SummedCE(lf.SoftmaxCE):
    """Cross entropy, summed over the batch."""

    def forward(self, scores, targets):
        self.rows = len(scores)
        return super().forward(scores, targets) * self.rows

    def backward(self, grad):
        return super().backward(grad * self.rows)
'''


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The built-in types, and gates with mistakes."""
    file = tmp_path_factory.mktemp("own") / "mistaken.py"
    file.write_text(OWN)
    return Registry.builtin([str(file)])


@pytest.fixture
def context(registry: Registry) -> Callable[..., Context]:
    """What the checks look at, for the sound training under some overrides."""

    def made(*overrides: str) -> Context:
        config = load_config_text(SOUND, overrides, registry)
        return Context(config, read_parts(config))

    return made


@pytest.fixture
def table_context(context: Callable[..., Context], tmp_path: Path) -> Callable[..., Context]:
    """The same for a table of given columns, the last of which is the target."""

    def made(columns: dict[str, list[object]], *overrides: str, categorical: str = "") -> Context:
        names, rows = list(columns), zip(*columns.values(), strict=True)
        file = tmp_path / "table.csv"
        file.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]) + "\n")
        source = f"{{type: CSV, path: {file}, target: {names[-1]}, categorical: [{categorical}]}}"
        return context(f"data.source={source}", *overrides)

    return made


@pytest.fixture
def rng() -> np.random.Generator:
    """Numbers for the tables."""
    return np.random.default_rng(0)
