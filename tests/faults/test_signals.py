"""Signals: a training ends after its step with everything saved, or saves and goes on."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

Train = Callable[..., tuple[Any, ...]]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_that_is_asked_to_end_continues_to_the_same_bits(
    place: Any, undisturbed: Train, result: Any, number: int, code: int
) -> None:
    words = place.slow_config()
    process = place.start("train", *words, seconds=0.02)
    place.wait_until(lambda: (place.run() / "checkpoints" / "last.npz").exists())
    process.send_signal(number)
    ended = place.end(process)
    assert ended.code == code
    assert "layerflow train --resume runs/run/001 --import slow.py" in ended.err
    assert '"interrupted"' in (place.run() / "run.json").read_text()
    assert not (place.run() / "model.npz").exists()
    assert place.command("train", "--resume", "runs/run/001", "--import", "slow.py", "--quiet").code == 0
    assert result(place.run()) == undisturbed(*words)


def test_a_second_signal_ends_at_once(place: Any) -> None:
    process = place.start("train", *place.slow_config(), seconds=30)
    place.wait_until(lambda: (place.run() / "checkpoints").exists())
    process.send_signal(signal.SIGINT)
    assert "press Ctrl-C again" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert place.end(process).code == 130


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_training_that_is_asked_to_save_goes_on(place: Any, undisturbed: Train, result: Any, number: int) -> None:
    words = place.slow_config(("every: 1", "every: 100 epochs"))
    process = place.start("train", *words, seconds=0.02)
    last = place.run() / "checkpoints" / "last.npz"
    place.wait_until(lambda: last.parent.exists())
    process.send_signal(number)
    place.wait_until(last.exists)
    assert process.poll() is None
    assert place.end(process).code == 0
    assert result(place.run()) == undisturbed(*words)


def test_configurations_that_are_no_longer_trained_are_named(place: Any) -> None:
    words = place.slow_config()
    second, third = place.config("second.yaml"), place.config("third.yaml")
    process = place.start("train", *words, second, third, seconds=0.02)
    place.wait_until(lambda: (place.run() / "checkpoints" / "last.npz").exists())
    process.send_signal(signal.SIGTERM)
    ended = place.end(process)
    assert ended.code == 143
    assert "skipped: second, third" in ended.err
    assert not place.run(name="second").exists()


def test_before_the_training_ctrl_c_ends_at_once_and_leaves_nothing(place: Any) -> None:
    (place.folder / "mine.py").write_text("import time\nprint('waiting', flush=True)\ntime.sleep(30)\n")
    process = place.start("train", place.config(), "--import", "mine.py")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    ended = place.end(process)
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert not (place.folder / "runs").exists()
