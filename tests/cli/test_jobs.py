"""`layerflow train --jobs`: several processes at a time, one bar each, and no process left behind."""

import fcntl
import json
import os
import pty
import re
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

from layerflow.cli.train import train_file
from layerflow.runs.jobs import Job, train_all

Command = Callable[..., Any]
LONG = "train.epochs=1000000"


def arguments_of(process: str) -> str:
    """Return the command line of a process; empty when there is none."""
    try:
        return Path("/proc", process, "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def trainings_of(folder: Path) -> list[str]:
    """Return the processes that train in a folder."""
    found = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [
        process for process in found if str(folder) in arguments_of(process) and "runs.jobs" in arguments_of(process)
    ]


def wait_until(happened: Callable[[], bool], seconds: float = 180.0) -> None:
    """Wait for something; fail when it does not come."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Keep matplotlib from the processes that this one starts, as `environment` keeps it from others."""
    monkeypatch.syspath_prepend(environment["PYTHONPATH"].split(os.pathsep)[0])


@pytest.fixture
def long_training(tmp_path: Path, folder: Path, environment: dict[str, str]) -> Callable[[], subprocess.Popen[str]]:
    """Start three trainings without end, two at a time, and return when the two have finished an epoch."""

    def start() -> subprocess.Popen[str]:
        for name in ("b", "c"):
            (tmp_path / f"{name}.yaml").write_text((tmp_path / "iris.yaml").read_text())
        files = [str(tmp_path / f"{name}.yaml") for name in ("iris", "b", "c")]
        process = subprocess.Popen(
            [sys.executable, "-m", "layerflow", "train", *files, LONG, "--jobs", "2", "--quiet", "--json"],
            cwd=tmp_path, env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        metrics = [tmp_path / "runs" / name / "001" / "metrics.jsonl" for name in ("iris", "b")]
        wait_until(lambda: all(file.exists() and file.stat().st_size for file in metrics))
        return process

    return start


def test_configurations_train_side_by_side_as_they_do_alone(folder: Path, process_command: Command) -> None:
    (folder / "b.yaml").write_text((folder / "iris.yaml").read_text())
    words = ["iris.yaml", "b.yaml", "--seed=3", "train.epochs=2", "--json"]
    together = process_command("train", *words, "--jobs", "2", "--out", "together")
    assert together.code == 0
    assert [result["name"] for result in json.loads(together.out)] == ["iris", "b"]
    assert together.err.count("epoch 2/2") == 2
    assert process_command("train", *words, "--quiet", "--out", "alone").code == 0
    for name in ("iris", "b"):
        first, second = (
            [
                {**json.loads(line), "seconds": 0}
                for line in Path(place, name, "001/metrics.jsonl").read_text().splitlines()
            ]
            for place in ("together", "alone")
        )
        assert first == second
        facts = json.loads(Path("together", name, "001/run.json").read_text())
        assert facts["command"][:2] == ["layerflow", "train"]
        assert facts["versions"].get("blas_threads", "1") == "1"


def test_one_failing_run_stops_no_other_and_the_worst_code_counts(folder: Path, layerflow_command: Command) -> None:
    (folder / "gone.yaml").write_text((folder / "iris.yaml").read_text().replace("iris.csv", "missing.csv"))
    done = layerflow_command("train", "gone.yaml", "iris.yaml", "--jobs", "2", "--quiet")
    assert done.code == 4
    assert "gone: " in done.err
    assert "missing.csv" in done.err
    rows = [line.split()[:2] for line in done.out.splitlines()]
    assert rows[1:] == [["gone", "failed"], ["iris", "accuracy"]]


def test_a_broken_configuration_is_said_before_anything_starts(folder: Path, layerflow_command: Command) -> None:
    (folder / "wrong.yaml").write_text((folder / "iris.yaml").read_text().replace("epochs", "epoch"))
    done = layerflow_command("train", "wrong.yaml", "iris.yaml", "--jobs", "2")
    assert done.code == 2
    assert "did you mean 'epochs'" in done.err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5"])
def test_a_number_of_jobs_that_is_none_is_refused(folder: Path, layerflow_command: Command, count: str) -> None:
    done = layerflow_command("train", "iris.yaml", f"--jobs={count}")
    assert done.code == 2
    assert "must be a positive integer" in done.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_saves_all_and_starts_no_more(
    long_training: Callable[[], subprocess.Popen[str]], tmp_path: Path, number: int, code: int
) -> None:
    process = long_training()
    process.send_signal(number)
    out, err = process.communicate(timeout=180)
    assert process.returncode == code
    assert [(result["name"], result["outcome"]) for result in json.loads(out)] == [
        ("iris", "interrupted"),
        ("b", "interrupted"),
    ]
    assert "skipped: c" in err
    for name in ("iris", "b"):
        assert json.loads((tmp_path / "runs" / name / "001/run.json").read_text())["outcome"] == "interrupted"
        assert (tmp_path / "runs" / name / "001/checkpoints/last.npz").exists()
        assert f"--resume runs/{name}/001" in err
    assert not (tmp_path / "runs/c").exists()
    assert not trainings_of(tmp_path)


def test_children_end_when_their_parent_is_killed(
    long_training: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = long_training()
    assert len(trainings_of(tmp_path)) == 2
    process.kill()
    process.communicate()
    wait_until(lambda: not trainings_of(tmp_path))
    for name in ("iris", "b"):
        assert json.loads((tmp_path / "runs" / name / "001/run.json").read_text())["outcome"] == "interrupted"


def job(name: str, **options: Any) -> Job:
    settings = {"file": "iris.yaml", "overrides": ["train.epochs=1"], "seed": None, "folder": None, "imports": []}
    return Job(name, train_file, settings | {"quiet": True, "out": Path("runs")} | options)


def test_a_child_that_is_killed_is_said_and_the_others_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "dies.py").write_text("import os\nos.kill(os.getpid(), 9)\n")
    killed, fine = train_all([job("killed", imports=["dies.py"]), job("fine")], 1)
    assert (killed.name, killed.outcome, killed.exit_code) == ("killed", "failed", 137)
    assert (fine.name, fine.outcome, fine.exit_code) == ("fine", "finished", 0)
    assert "killed: ended with signal 9 before it had a result" in capsys.readouterr().err


def test_a_job_without_a_readable_configuration_fails_with_a_message(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, fine = train_all([job("gone", file="gone.yaml"), job("fine")], 2)
    assert (gone.name, gone.outcome, gone.exit_code) == ("gone", "failed", 2)
    assert (fine.outcome, fine.exit_code) == ("finished", 0)
    written = capsys.readouterr().err
    assert "gone.yaml" in written
    assert "Traceback" not in written


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_a_run_prints_is_passed_on_with_its_name_and_spoils_no_result(
    folder: Path, capsys: pytest.CaptureFixture[str], stream: str
) -> None:
    talks = "import sys\nimport layerflow as lf\nclass Mine(lf.ReLU):\n    pass\n"
    (folder / "talks.py").write_text(f"{talks}print('a word', file=sys.{stream}, flush=True)\n")
    (result,) = train_all([job("mine", imports=["talks.py"])], 1)
    assert result.outcome == "finished"
    assert "mine: a word\n" in capsys.readouterr().err


def test_options_reach_every_run(folder: Path, layerflow_command: Command) -> None:
    (folder / "b.yaml").write_text((folder / "iris.yaml").read_text())
    words = ["iris.yaml", "b.yaml", "train.epochs=1", "--jobs", "2", "--quiet", "--out=x y", "--seed=3"]
    done = layerflow_command("train", *words, "--name", "same", "--on-divergence", "skip")
    assert done.code == 0
    runs = [json.loads(file.read_text()) for file in sorted(Path("x y/same").glob("*/run.json"))]
    assert [(run["seed"], run["on_divergence"]) for run in runs] == [(3, "skip")] * 2


def test_on_a_terminal_every_run_has_a_line_of_its_own(folder: Path, environment: dict[str, str]) -> None:
    (folder / "b.yaml").write_text((folder / "iris.yaml").read_text())
    words = ["train", "iris.yaml", "b.yaml", "train.epochs=200", "--jobs", "2"]
    screen, code = on_terminal([sys.executable, "-m", "layerflow", *words], environment)
    assert code == 0
    bars = [line for line in re.split(r"[\r\n]|\x1b\[A", screen) if "%|" in line]
    assert {line.split(":")[0] for line in bars} == {"runs", "iris", "b"}
    torn = [line for line in bars if line.count("%|") > 1 or not re.match(r"(runs|iris|b): +\d+%\|", line)]
    assert not torn
    assert "LAYERFLOW_PROGRESS" not in screen
    assert "accuracy" in screen.splitlines()[-1]


def on_terminal(words: list[str], environment: dict[str, str]) -> tuple[str, int]:
    """Run a command on a terminal of 100 columns; return all that it wrote there, and its exit code."""
    own, its = pty.openpty()
    fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(words, env=environment, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    written = b""
    while True:
        try:
            ready = select.select([own], [], [], 60)[0]
            assert ready, "nothing more came"
            piece = os.read(own, 65536)
        except OSError:  # how Linux says that nobody writes there any more
            break
        if not piece:
            break
        written += piece
    os.close(own)
    return written.decode(), process.wait(timeout=180)
