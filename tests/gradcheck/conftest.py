"""The bench of faulty gates, which lives beside the script that measures on it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_diagnosis.py"


def load_bench() -> ModuleType:
    """Import the script once per process."""
    if "bench_diagnosis" not in sys.modules:
        spec = importlib.util.spec_from_file_location("bench_diagnosis", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["bench_diagnosis"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["bench_diagnosis"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per faulty gate."""
    if "faulty" in metafunc.fixturenames:
        faulty = load_bench().FAULTY
        metafunc.parametrize("faulty", faulty, ids=[item.title for item in faulty])


@pytest.fixture
def bench() -> ModuleType:
    """The script as a module."""
    return load_bench()
