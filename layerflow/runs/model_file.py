"""A trained model in one `.npz` file: its arrays, and its description as JSON. No pickle is written or read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layerflow.errors import DataError
from layerflow.gate import Gate
from layerflow.parameter import Array
from layerflow.training.archive import DamagedFile, read_archive, write_archive

FORMAT = "layerflow model 1"


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds: a description (plain JSON values) and the arrays by name."""

    description: dict[str, Any]
    parameters: dict[str, Array]
    buffers: dict[str, Array]

    def fill(self, model: Gate, path: str) -> None:
        """Put the arrays into a model that was built from the description."""
        for held, saved in ((model.named_parameters(), self.parameters), (model.named_buffers(), self.buffers)):
            if set(held) != set(saved):
                raise DataError(
                    f"{path}: holds {', '.join(sorted(saved)) or 'nothing'}, "
                    f"the model it describes has {', '.join(sorted(held))}"
                )
            for name, cell in held.items():
                if cell.has_value and cell.value.shape != saved[name].shape:
                    raise DataError(
                        f"{path}: {name} has shape {saved[name].shape}, the model it describes needs {cell.value.shape}"
                    )
                if saved[name].dtype.kind != "f":
                    raise DataError(f"{path}: {name} holds {saved[name].dtype}, not floating-point numbers")
                if not np.isfinite(saved[name]).all():
                    raise DataError(f"{path}: {name} holds NaN or infinity: nothing can be predicted with it")
                cell.value = saved[name]


def save_model(path: Path, model: Gate, description: Mapping[str, Any]) -> None:
    """Write a model; the file is complete, or as it was before."""
    arrays = {f"parameter/{name}": parameter.value for name, parameter in model.named_parameters().items()}
    arrays |= {f"buffer/{name}": buffer.value for name, buffer in model.named_buffers().items()}
    write_archive(path, {"format": FORMAT, **description}, arrays)


def load_model(path: Path) -> ModelFile:
    """Read a model file; raises `DataError` for anything that is not a whole one."""
    if not path.exists():
        raise DataError(f"{path}: no such file; give a run folder or its model.npz")
    try:
        description, arrays = read_archive(path)
    except DamagedFile as error:
        raise DataError(f"{error}; train the model again") from error
    if description.get("format") != FORMAT:
        raise DataError(f"{path}: not a model file of this version of layerflow")

    def part(kind: str) -> dict[str, Array]:
        return {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}

    return ModelFile(description, part("parameter/"), part("buffer/"))
