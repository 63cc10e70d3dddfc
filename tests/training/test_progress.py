"""Progress where no terminal is: few lines, one per epoch that is worth one."""

import io
import sys

import numpy as np
import pytest

import layerflow as lf
from layerflow.training.callbacks import ProgressBar, ProgressLines, brief, progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def fit(callback: lf.Callback, epochs: int, **settings: object) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    model = lf.Sequential(lf.Linear(2))
    lf.Trainer(
        model, lf.SoftmaxCE(), lf.SGD(lr=0.1), epochs=epochs, callbacks=[callback], batch_size=10, **settings
    ).fit(x, y)  # type: ignore[arg-type]


@pytest.mark.parametrize(("epochs", "lines"), [(1, 1), (3, 3), (10, 10), (11, 6), (19, 10), (1000, 10)])
def test_a_log_gets_at_most_ten_lines_and_the_last_epoch(
    epochs: int, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(ProgressLines("digits"), epochs)
    written = capsys.readouterr().err.splitlines()
    assert len(written) == lines
    assert written[-1].startswith(f"digits: epoch {epochs}/{epochs} train_loss=")


def test_the_epoch_at_which_training_stops_early_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    stopping = lf.EarlyStopping("train_loss", patience=1, min_delta=10.0)
    fit(ProgressLines("digits"), 100, early_stopping=stopping)
    assert capsys.readouterr().err.splitlines()[-1].startswith("digits: epoch 2/100")


def test_a_terminal_gets_a_bar_that_counts_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with progress("digits") as (bar,):
        assert isinstance(bar, ProgressBar)
        fit(bar, 3)
    assert "digits:" in terminal.getvalue()
    assert "/6" in terminal.getvalue()


def test_elsewhere_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress("digits") as (shown,):
        assert isinstance(shown, ProgressLines)


def test_quiet_means_no_progress() -> None:
    with progress("digits", quiet=True) as shown:
        assert shown == []


def test_a_line_tells_losses_and_metrics_in_four_digits() -> None:
    record = {
        "epoch": 3,
        "lr": 0.1,
        "train_loss": 0.123456,
        "val_accuracy": 0.98765,
        "seconds": 2.0,
        "gradient_norm": 1.0,
    }
    assert brief(record) == "train_loss=0.1235 val_accuracy=0.9877"
