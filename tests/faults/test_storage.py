"""A full disk, a folder that is read-only or gone, two processes in one folder: told clearly, nothing spoiled."""

import ctypes
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerflow.runs.checkpoint import load_checkpoint

Train = Callable[..., tuple[Any, ...]]
EXIT_USAGE, EXIT_DATA, EXIT_STORAGE = 2, 4, 6


def test_a_full_disk_leaves_the_last_good_state(place: Any, undisturbed: Train, result: Any) -> None:
    """No file may grow beyond 8 KiB: the checkpoints of ten epochs do not fit, with their history."""
    config = place.config()
    assert place.command("train", config, "--quiet").code == 0
    last = place.run() / "checkpoints" / "last.npz"
    before = last.read_bytes()
    size = -(-len(before) // 1024)
    stopped = place.end(
        place.start("train", "--resume", "runs/run/001", "train.epochs=40", before=f"ulimit -f {size + 1}")
    )
    assert stopped.code == EXIT_STORAGE
    assert "cannot be written (File too large); everything saved before is intact" in stopped.err
    assert "Traceback" not in stopped.err
    saved = load_checkpoint(last).snapshot
    assert 4 <= saved.position[0] < 40
    assert not list(place.run().rglob(".*.tmp"))
    assert place.command("train", "--resume", "runs/run/001", "train.epochs=40", "--quiet").code == 0
    assert result(place.run()) == undisturbed(config, "train.epochs=40")


def test_a_folder_that_is_removed_during_the_run_is_told(place: Any) -> None:
    process = place.start("train", *place.slow_config(), seconds=0.02)
    place.wait_until(lambda: (place.run() / "checkpoints" / "last.npz").exists())
    while (place.folder / "runs").exists():
        shutil.rmtree(place.folder / "runs", ignore_errors=True)
    ended = place.end(process)
    assert ended.code == EXIT_STORAGE
    assert "no longer exists" in ended.err
    assert "continue with" not in ended.err  # there is nothing to continue
    assert "Traceback" not in ended.err


def obey_permissions() -> None:
    """Take from a child of the superuser the right to write where it may not (capabilities(7); PR_CAPBSET_DROP)."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (1, 2, 3):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
            assert libc.prctl(24, capability, 0, 0, 0) == 0


def test_a_folder_that_may_not_be_written_is_told(place: Any) -> None:
    (place.folder / "runs").mkdir(mode=0o555)
    refused = place.end(place.start("train", place.config(), "--quiet", preexec_fn=obey_permissions))
    assert refused.code == EXIT_USAGE
    assert "cannot be created (Permission denied); choose another place with --out" in refused.err


def test_a_folder_that_becomes_read_only_keeps_its_state(place: Any) -> None:
    process = place.start("train", *place.slow_config(), seconds=0.02, preexec_fn=obey_permissions)
    last = place.run() / "checkpoints" / "last.npz"
    place.wait_until(last.exists)
    last.parent.chmod(0o555)
    ended = place.end(process)
    last.parent.chmod(0o755)
    assert ended.code == EXIT_STORAGE
    assert "Permission denied" in ended.err
    assert load_checkpoint(last).snapshot.position[0] >= 1


def test_a_second_process_is_kept_out_and_a_dead_one_does_not_keep_others_out(
    place: Any, undisturbed: Train, result: Any
) -> None:
    words = place.slow_config()
    process = place.start("train", *words, seconds=0.5)
    place.wait_until(lambda: (place.run() / "checkpoints").exists())
    again = ("train", "--resume", "runs/run/001", "--import", "slow.py", "--quiet")
    refused = place.command(*again)
    assert refused.code == EXIT_STORAGE
    assert f"process {process.pid} is writing to this folder" in refused.err
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert place.command(*again).code == 0
    assert result(place.run()) == undisturbed(*words)


def test_unfinished_files_of_a_dead_process_are_swept(place: Any) -> None:
    place.command("train", place.config(), "--quiet")
    leftovers = [place.run() / ".run.json.123.tmp", place.run() / "checkpoints" / ".last.npz.123.tmp"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    assert place.command("train", "--resume", "runs/run/001", "--quiet").code == 0
    assert not any(leftover.exists() for leftover in leftovers)


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "metrics.csv", "step_losses.f64", "run.json"])
def test_links_in_a_run_folder_lead_nowhere(place: Any, name: str) -> None:
    """A run folder from a stranger may hold a link to a file that must not be touched."""
    place.command("train", place.config(), "--quiet")
    precious = place.folder / "precious"
    precious.write_text("precious")
    (place.run() / name).unlink()
    (place.run() / name).symlink_to(precious)
    place.command("train", "--resume", "runs/run/001", "train.epochs=5", "--quiet")
    assert precious.read_text() == "precious"


# Data that change ----------------------------------------------------------------------------------------------------


def test_data_that_changed_between_two_runs_are_refused(place: Any) -> None:
    source = Path(__file__).parents[2] / "data" / "iris.csv"
    data = place.folder / "mine.csv"
    shutil.copy(source, data)
    config = place.config("run.yaml", (str(source), str(data)))
    assert place.command("train", config, "--quiet").code == 0
    before = (place.run() / "checkpoints" / "last.npz").read_bytes()
    lines = data.read_text().splitlines()
    lines[1], lines[2] = lines[2], lines[1].replace("5", "6", 1)
    data.write_text("\n".join(lines) + "\n")
    refused = place.command("train", "--resume", "runs/run/001", "train.epochs=6", "--quiet")
    assert refused.code == EXIT_USAGE
    assert "checksums.train" in refused.err
    assert "the data have changed" in refused.err
    assert (place.run() / "checkpoints" / "last.npz").read_bytes() == before
    assert place.command("train", "--resume", "runs/run/001", "train.epochs=6", "--allow-change", "--quiet").code == 0


@pytest.mark.parametrize("change", ["truncated", "changed"])
def test_mapped_data_that_change_during_the_run_end_it_before_they_are_read(place: Any, change: str) -> None:
    rng = np.random.default_rng(0)
    np.save(place.folder / "x.npy", rng.normal(size=(400, 100)))
    np.save(place.folder / "y.npy", rng.integers(0, 3, 400))
    words = place.slow_config()
    text = place.folder / "run.yaml"
    text.write_text("data:\n  source: {type: NPY, x: x.npy, y: y.npy}\n" + text.read_text().split("\n", 2)[2])
    process = place.start("train", *words, "train.epochs=50", seconds=0.05)
    last = place.run() / "checkpoints" / "last.npz"
    place.wait_until(last.exists)
    with (place.folder / "x.npy").open("r+b") as file:
        if change == "truncated":
            file.truncate(4096)
        else:
            file.seek(5000)
            file.write(b"\0" * 800)
    ended = place.end(process)
    assert ended.code == EXIT_DATA
    assert "x.npy: changed during the training" in ended.err
    load_checkpoint(last)
