"""What only a process can show: exit codes, signals, pipes, terminals, and what happens without matplotlib."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
FOREVER = "train.epochs=1000000"


def start(folder: Path, environment: dict[str, str], *words: str, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "layerflow", *words], cwd=folder, env=environment, **streams)


def wait_for(path: Path, lines: int = 3) -> None:
    """Wait until a file has some lines."""
    give_up = time.monotonic() + 180
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < give_up, f"{path} was not written"
        time.sleep(0.02)


def test_exit_codes_reach_the_shell_and_no_warning_leaks(folder: Path, process_command: Command) -> None:
    diverged = process_command("train", "iris.yaml", "optimizer.lr=1e9", "-q")
    assert diverged.code == 5
    assert "Warning" not in diverged.err
    assert "Traceback" not in diverged.err


def test_an_interrupted_training_keeps_what_it_wrote(folder: Path, environment: dict[str, str]) -> None:
    process = start(
        folder, environment, "train", "iris.yaml", FOREVER, "-q", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    run = folder / "runs/iris/001"
    wait_for(run / "metrics.jsonl")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=180)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert b"interrupted" in err
    assert json.loads((run / "run.json").read_text())["outcome"] == "interrupted"
    for line in (run / "metrics.jsonl").read_text().splitlines():
        assert "train_loss" in json.loads(line)


def test_a_reader_that_has_seen_enough_is_no_error(trained: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(
        "sepal_length_cm,sepal_width_cm,petal_length_cm,petal_width_cm\n" + "5.1,3.5,1.4,0.2\n" * 20000
    )
    process = start(
        tmp_path, environment, "predict", str(trained), "new.csv", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=180) == 0
    process.stderr.close()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_appears_on_a_terminal_and_plain_lines_elsewhere(
    folder: Path, environment: dict[str, str], is_terminal: bool
) -> None:
    if is_terminal:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    else:
        ours, theirs = os.pipe()
    process = start(
        folder, environment, "train", "iris.yaml", "train.epochs=300", stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            read = os.read(ours, 65536)
        except OSError:  # how a terminal ends on Linux
            break
        if not read:
            break
        shown += read
    os.close(ours)
    assert process.wait(timeout=180) == 0
    assert (b"step/s" in shown or b"it/s" in shown) == is_terminal
    assert (b"iris: epoch 30/300 train_loss=" in shown) == (not is_terminal)


def test_a_run_and_its_pictures_need_no_matplotlib(folder: Path, process_command: Command) -> None:
    done = process_command("train", "iris.yaml", "-q")
    assert done.code == 0
    assert done.err == ""
    run = folder / "runs/iris/001"
    assert json.loads((run / "run.json").read_text())["outcome"] == "finished"
    for name in ("report.html", "curves.svg", "confusion.svg"):
        assert "<svg" in (run / name).read_text("utf-8")


def test_without_pictures_there_is_the_report_alone(folder: Path, process_command: Command) -> None:
    assert process_command("train", "iris.yaml", "-q", "--no-pictures").code == 0
    assert (folder / "runs/iris/001/report.html").exists()
    assert not list((folder / "runs/iris/001").glob("*.svg"))


def test_the_gate_of_an_installed_package_works_everywhere(
    folder: Path, environment: dict[str, str], process_command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site = tmp_path_factory.mktemp("site")
    (site / "bends.py").write_text(
        "import layerflow as lf\n\n\nclass Bend(lf.Gate):\n"
        "    def __init__(self, slope: float = 2.0):\n        self.slope = slope\n\n"
        "    def forward(self, x):\n        return self.slope * x\n\n"
        "    def backward(self, grad):\n        return (self.slope * grad,), {}\n"
    )
    info = site / "bends-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bends\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[layerflow.gates]\nBend = bends:Bend\n")
    environment["PYTHONPATH"] += f"{os.pathsep}{site}"
    assert process_command("train", "iris.yaml", "-q", "model.1={type: Bend, slope: 0.5}").code == 0
    assert process_command("eval", "runs/iris/001").code == 0
    wrong = process_command("train", "iris.yaml", "-q", "model.1={type: Bend, slop: 0.5}")
    assert (wrong.code, "did you mean 'slope'?" in wrong.err) == (2, True)


def test_two_trainings_at_once_never_share_a_folder(folder: Path, environment: dict[str, str]) -> None:
    processes = [start(folder, environment, "train", "iris.yaml", "-q", stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=180) for process in processes] == [0, 0]
    assert sorted(path.name for path in (folder / "runs/iris").iterdir()) == ["001", "002"]
    assert all((path / "model.npz").exists() for path in (folder / "runs/iris").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(folder: Path, process_command: Command) -> None:
    (folder / "locked").mkdir(mode=0o500)
    done = process_command("train", "iris.yaml", "--out", "locked")
    assert done.code == 2
    assert "the run folder cannot be made (Permission denied)" in done.err
