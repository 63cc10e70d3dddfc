"""What a result depends on besides configuration and data: versions, BLAS, threads, processor."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

import layerflow

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)


def environment() -> dict[str, str]:
    """Return what a result depends on; equal environments give bit-identical results."""
    return {
        "layerflow": layerflow.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "instructions": _instructions(),
        "blas": _blas(),
        "blas_threads": _blas_threads(),
    }


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return one line for each difference between two environments."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name}: {before.get(name, 'unknown')} then, {now.get(name, 'unknown')} now" for name in names]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _instructions() -> str:
    return " ".join(_numpy_build().get("SIMD Extensions", {}).get("found", ()))


def _blas() -> str:
    blas = _numpy_build().get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _blas_threads() -> str:
    """Return the number of BLAS threads, from threadpoolctl, or else from the environment variables."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        asked = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
        if len(set(asked.values())) == 1:
            return next(iter(asked.values()))
        return ", ".join(f"{name}={value}" for name, value in asked.items()) or f"one per core ({os.cpu_count()})"
    return ", ".join(str(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas")


def _numpy_build() -> dict[str, Any]:
    shown: dict[str, Any] | None = np.show_config(mode="dicts")  # type: ignore[assignment]
    return shown or {}
