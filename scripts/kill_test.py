"""Kill trainings with SIGKILL at random instants, resume them, and compare each with the same training left alone.

    python scripts/kill_test.py --kills 200 --seed 1

Every process is a real one. It is killed after a random time of training, while steps are taken and while files are
written, and then `layerflow train --resume` goes on; when a training has reached its end, weights, optimizer, losses
and metrics must be bit for bit those of the undisturbed training, and its files too (but for the seconds in them).
After each kill, every file must have a state that the manifest lists.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.runs.checkpoint import load_checkpoint
from layerflow.runs.manifest import damaged_files

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 0.35  # seconds of training before the blow
KILLS_PER_TRAINING = 17
DATA = "data: {source: {type: CSV, path: %s, target: %s}, scale: Standard}\n"
IRIS = DATA % (ROOT / "data" / "iris.csv", "species")
WINE = DATA % (ROOT / "data" / "wine.csv", "cultivar")
DIABETES = DATA % (ROOT / "data" / "diabetes.csv", "progression")
CONFIGS = {
    "every_step": IRIS
    + """
model: [{type: Linear, out_features: 32}, ReLU, {type: Dropout, rate: 0.3}, Linear]
loss: SoftmaxCE
regularizer: {type: L2Regularizer, strength: 1e-3}
optimizer: {type: SGD, lr: 0.05, momentum: 0.9, nesterov: true}
schedule: Cosine
train: {epochs: 60, batch_size: 16, checkpoint: {every: 1 steps, keep: 2}}
""",
    "every_epoch": WINE
    + """
dtype: float64
model: [{type: Linear, out_features: 64}, Tanh, {type: Dropout, rate: 0.5}, Linear]
loss: SoftmaxCE
optimizer: {type: Adam, lr: 0.003}
schedule: {type: ReduceOnPlateau, metric: val_loss, patience: 3}
train: {epochs: 400, batch_size: 8, checkpoint: {every: 1, keep: 1}, early_stopping: {patience: 150}}
""",
    "every_seventh_step": DIABETES
    + """
model: [{type: Linear, out_features: 64}, ReLU, Linear]
loss: SquaredError
optimizer: {type: RMSprop, lr: 0.001, momentum: 0.5, centered: true}
schedule: {type: Warmup, epochs: 5, after: {type: Step, step_size: 30}}
train: {epochs: 100, batch_size: 8, clip_norm: 1.0, checkpoint: {every: 7 steps, keep: 0}}
""",
}


def main() -> int:
    """Kill, resume and compare; 0 when every training ended as it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        return Test(Path(folder), rng).carry_out(arguments.kills)


class Test:
    """Runs trainings in a folder and counts what happened."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng = folder, rng
        self.kills = self.while_writing = self.trainings = 0
        for name, text in CONFIGS.items():
            (folder / f"{name}.yaml").write_text(text)

    def carry_out(self, wanted: int) -> int:
        """Take the configurations in turn until there have been as many kills as wanted."""
        expected = {}
        while self.kills < wanted:
            for name in CONFIGS:
                if name not in expected:
                    expected[name] = self.undisturbed(name)
                if self.kills >= wanted:
                    break
                problems = differences(expected[name], self.disturbed(name, wanted))
                self.trainings += 1
                print(
                    f"{name}: {self.kills} kills so far, {self.while_writing} while a file was written; "
                    f"{problems or 'identical'}",
                    flush=True,
                )
                if problems:
                    return 1
        print(
            f"{self.kills} kills in {self.trainings} trainings ({self.while_writing} while a file was written): "
            "all results bit-identical"
        )
        return 0

    def undisturbed(self, name: str) -> Path:
        """Train without a kill and return the run folder."""
        out = self.folder / "undisturbed"
        self.start(f"{name}.yaml", "--out", str(out)).wait()
        return out / name / "001"

    def disturbed(self, name: str, wanted: int) -> Path:
        """Train with kills and return the run folder."""
        out = self.folder / "disturbed"
        shutil.rmtree(out, ignore_errors=True)
        run = out / name / "001"
        process = self.start(f"{name}.yaml", "--out", str(out))
        last = min(wanted, self.kills + KILLS_PER_TRAINING)
        while True:
            if self.kills >= last or not self.wait_for_training(process, run):
                code = process.wait()
                if code:
                    raise SystemExit(f"{name}: a process ended with exit code {code}")
                return run
            time.sleep(self.rng.uniform(0, LONGEST))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                self.kills += 1
                self.while_writing += any(run.rglob(".*.tmp"))
                if damaged := damaged_files(run):
                    raise SystemExit(f"{name}: after kill {self.kills} the manifest does not fit: {damaged}")
                process = self.start("--resume", str(run))

    def wait_for_training(self, process: subprocess.Popen[bytes], run: Path) -> bool:
        """Return when the process has begun to train, or False when it has ended."""
        while process.poll() is None:
            try:
                if f'"pid": {process.pid},' in (run / "run.json").read_text():
                    return True
            except OSError:
                pass
            time.sleep(0.002)
        return False

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `layerflow train` in the folder."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "layerflow", "train", *words, "--quiet"]
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL)


def differences(expected: Path, found: Path) -> list[str]:
    """Return in what two runs differ, apart from times."""
    same_bytes = [
        name
        for name in ("model.npz", "step_losses.f64")
        if (expected / name).read_bytes() != (found / name).read_bytes()
    ]
    texts = [name for name in ("metrics.jsonl", "metrics.csv") if records(expected / name) != records(found / name)]
    states = [
        name
        for name in ("last.npz", "best.npz")
        if state(expected / "checkpoints" / name) != state(found / "checkpoints" / name)
    ]
    return same_bytes + texts + states


def records(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file without their seconds."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def state(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what a checkpoint says of the training, without the seconds, in a form that can be compared bit by bit."""
    snapshot = load_checkpoint(path).snapshot
    facts = {key: value for key, value in snapshot.facts.items() if key != "seconds"}
    return facts, {name: np.ascontiguousarray(array).tobytes() for name, array in snapshot.arrays.items()}


if __name__ == "__main__":
    sys.exit(main())
