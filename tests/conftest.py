"""Settings for the whole suite."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The suite runs on all cores already; more threads inside each test only get in each other's way.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A slow machine is no failure: no test asserts a time.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

CONFIG = """\
seed: 0
data: {source: {type: CSV, path: ../data/x.csv, target: y}}
model: [{type: Linear, out_features: 8}, ReLU, Linear]
optimizer: {type: SGD, lr: 0.1}
"""


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a run folder: validation losses of its epochs, and facts and settings other than the usual ones."""

    def write(name: str, losses: Sequence[float] = (1.0, 0.5, 0.6), config: str = CONFIG, **facts: Any) -> Path:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        usual = {
            "outcome": "finished",
            "best": {
                "metric": "val_loss",
                "value": min(losses, default=0),
                "epoch": losses.index(min(losses)) + 1 if losses else 0,
            },
            "test": {"loss": 0.7, "accuracy": 0.9},
            "data": {"name": "x", "checksum": "sha256:0"},
            "versions": {"numpy": "2.0"},
        }
        (folder / "run.json").write_text(json.dumps(usual | facts))
        (folder / "config.yaml").write_text(config)
        records = [
            {"epoch": n, "lr": 0.1, "train_loss": loss, "val_loss": loss, "val_accuracy": 1 - loss / 2}
            for n, loss in enumerate(losses, 1)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return folder

    return write
