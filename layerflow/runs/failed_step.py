"""The step that produced NaN or infinity, kept in a file for `layerflow replay`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.errors import DataError, DivergedError
from layerflow.parameter import Array
from layerflow.runs.archive import read_archive, write_archive
from layerflow.runs.files import DIVERGED
from layerflow.training.callbacks import Callback
from layerflow.training.state import Snapshot, State, plain

FORMAT = "layerflow diverged step 1"


class FailedSteps(Callback):
    """Writes the first failed step to `diverged.npz`, and reports on stderr how this and later ones are handled.

    Attributes:
        count: the number of failed steps.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def step_failed(self, state: State, x: Array, y: Array, error: DivergedError) -> None:
        """Save the state before the step, and its batch."""
        self.count += 1
        if self.count == 1:
            snapshot = state.capture()
            facts = {"format": FORMAT, **snapshot.facts, "generators": plain(state.engine.draws), "message": str(error)}
            write_archive(self.folder / DIVERGED, facts, {**snapshot.arrays, "x": np.asarray(x), "y": y})
            error.add_note(f"inspect this step with: layerflow replay {shlex.quote(str(self.folder))}")
        if state.trainer.on_divergence == "skip":
            print(f"epoch {state.epoch + 1}, step {state.step + 1}: skipped: {_first_line(error)}", file=sys.stderr)
        if state.trainer.on_divergence == "halve-lr":
            print(
                f"epoch {state.epoch + 1} starts again with half the learning rate: {_first_line(error)}",
                file=sys.stderr,
            )


def load_failed_step(folder: Path) -> tuple[Snapshot, Array, Array, str]:
    """Return the state before the failed step, its x and y, and the error message."""
    path = folder / DIVERGED
    if not path.exists():
        raise DataError(f"{path}: no such file; only a run that diverged has a step to replay")
    facts, arrays = read_archive(path)
    if facts.get("format") != FORMAT or not {"x", "y"} <= arrays.keys():
        raise DataError(f"{path}: not a step of this version of layerflow")
    x, y = arrays.pop("x"), arrays.pop("y")
    return Snapshot(facts, arrays), x, y, str(facts.get("message"))


def _first_line(error: Any) -> str:
    return str(error).splitlines()[0]
