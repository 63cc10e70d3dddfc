"""The mutations and laws of `scripts/fuzz.py`, in this process."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="session")
def fuzzing() -> SimpleNamespace:
    """What makes cases by seed, and what runs and judges them."""
    path, pictures = list(sys.path), sys.modules.get("matplotlib")
    sys.path.insert(0, str(SCRIPTS / "fuzzing"))
    try:
        case, *kinds = map(importlib.import_module, ("case", "configs", "data_files", "model_files"))
    finally:
        sys.path[:] = path
        assert sys.modules.get("matplotlib") is pictures
    configs, data_files, model_files = kinds
    makers = {"configs": configs.config_case, "data": data_files.data_case, "models": model_files.model_case}
    return SimpleNamespace(
        make=makers, run=case.run, judge=case.judge, Case=case.Case, Outcome=case.Outcome, ignored=case.ignored
    )
