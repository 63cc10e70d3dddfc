"""Trainings that are killed at random instants and resumed end in the bits of those left alone.

The full number, which takes several minutes: `pytest -m slow tests/faults/test_kills.py`.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_trainings_end_in_the_same_bits(kills: int) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "kill_test.py"), "--kills", str(kills)],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kills} kills" in done.stdout
