"""The benches of faulty and of right gates, which live beside the scripts that measure on them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def load_bench(name: str = "bench_diagnosis") -> ModuleType:
    """Import a script once per process."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per faulty gate."""
    if "faulty" in metafunc.fixturenames:
        faulty = load_bench().FAULTY
        metafunc.parametrize("faulty", faulty, ids=[item.title for item in faulty])


@pytest.fixture
def bench() -> ModuleType:
    """The script as a module."""
    return load_bench()


@pytest.fixture
def right_bench() -> ModuleType:
    """The bench of right gates."""
    return load_bench("bench_gradcheck")
