"""The commands of docs/many-runs.md print what the page says; `...` there stands for anything on a line."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "many-runs.md").read_text("utf-8")
COMMAND = re.compile(r"^\$ (.*)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the configurations and data that are shipped."""
    for name in ("configs", "data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_page_print_what_it_says(place: Path) -> None:
    hidden = place / "hidden"  # matplotlib takes longer than these trainings
    hidden.mkdir()
    (hidden / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = os.environ | {"PYTHONPATH": f"{hidden}{os.pathsep}{ROOT}", "OPENBLAS_NUM_THREADS": "1"}
    commands = [
        found
        for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
        for found in COMMAND.findall(block)
    ]
    assert len(commands) == 7
    for command, expected in commands:
        program, *words = shlex.split(command)
        assert program == "layerflow"
        done = subprocess.run(
            [sys.executable, "-m", "layerflow", *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert agrees(done.stdout, expected), f"{command} printed\n{done.stdout}\nexpected\n{expected}"


def agrees(printed: str, expected: str) -> bool:
    """Whether the words of each line agree; a last line that is `...` stands for all further ones."""
    wanted, lines = expected.rstrip().split("\n"), printed.rstrip().split("\n")
    if wanted[-1] == "...":
        wanted, lines = wanted[:-1], lines[: len(wanted) - 1]
    return len(wanted) == len(lines) and all(
        re.fullmatch(
            re.escape(" ".join(want.split())).replace(r"\.\.\.", ".*").replace(r"\.\.", ".*"), " ".join(line.split())
        )
        for want, line in zip(wanted, lines, strict=True)
    )


def test_a_page_that_says_something_else_would_fail() -> None:
    assert agrees("a 0.123 b\nc\nd\n", "a   0.1... b\n...\n")
    assert not agrees("a 0.223 b\n", "a 0.1... b\n")
    assert not agrees("a\nb\n", "a\n")


def test_the_search_with_optuna_runs_where_it_is_installed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    (code,) = re.findall(r"^```python optuna\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code.replace("n_trials=20", "n_trials=3"), "many-runs.md", "exec"), namespace)
    assert len(namespace["study"].trials) == 3
    assert "'lr'" in capsys.readouterr().out
