"""What is known of a run: what its folder says, and what is written into it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from layerflow.config import Config, Registry, load_config
from layerflow.config.experiment import Experiment
from layerflow.training.checkpoint import Checkpoint
from layerflow.training.environment import environment
from layerflow.training.run_folder import RUN, stored_config_file


def source_of(folder: Path) -> str:
    """Return the file that a run's configuration was read from: what gives it its name."""
    return str(read_run(folder).get("config", f"{folder.resolve().parent.name}.yaml"))


def stored_config(folder: Path, imports: Sequence[str]) -> Config:
    """Return the configuration of a run, under its own name."""
    return replace(
        load_config(stored_config_file(folder), registry=Registry.builtin(imports)), source=source_of(folder)
    )


def facts_of(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Return what a checkpoint says of its run: the configuration as in the folder, and the data's checksums."""
    return {"config": json.loads(json.dumps(experiment.config.resolve(folder))), "checksums": checksums(experiment)}


def checksums(experiment: Experiment) -> dict[str, str]:
    """Return the checksums of the data that training looks at."""
    parts = {"train": experiment.parts.train, "validation": experiment.parts.validation}
    return {name: part.checksum for name, part in parts.items() if part is not None}


def data_facts(experiment: Experiment) -> dict[str, Any]:
    """Return what `run.json` says of the data."""
    parts = experiment.parts
    sizes = {name: len(part) for name in ("train", "validation", "test") if (part := getattr(parts, name)) is not None}
    return {"name": parts.train.name, "checksum": parts.train.checksum, "samples": sizes}


def resumption(checkpoint: Checkpoint, changes: Sequence[str]) -> dict[str, Any]:
    """Return what `run.json` says of the point from which a training was continued."""
    epoch, step = checkpoint.snapshot.position
    return {"epoch": epoch, "step": step, "changes": list(changes)}


def read_run(folder: Path) -> dict[str, Any]:
    """Return what `run.json` says, or nothing while there is none."""
    try:
        run = json.loads((folder / RUN).read_text())
    except (OSError, ValueError):
        return {}
    return run if isinstance(run, dict) else {}


def versions_of(folder: Path) -> dict[str, str]:
    """Return the environment that a run was last carried out in; the present one where that is not known."""
    versions = read_run(folder).get("versions")
    return versions if isinstance(versions, dict) else environment()
