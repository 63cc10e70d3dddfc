"""Run folders read back, the damaged ones included."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from layerflow.errors import ConfigError, DataError
from layerflow.runs.records import find_runs, read_run, read_runs

RunFolder = Callable[..., Path]


def test_figures_are_those_of_the_kept_weights(run_folder: RunFolder) -> None:
    run = read_run(run_folder("a/001"))
    assert run.kept["epoch"] == 2
    assert run.figures == {
        "train_loss": 0.5,
        "val_loss": 0.5,
        "val_accuracy": 0.75,
        "test_loss": 0.7,
        "test_accuracy": 0.9,
    }


@pytest.mark.parametrize("best", [None, {}, "x", {"epoch": None}, {"metric": "val_loss", "value": 1.0, "epoch": 99}])
def test_without_a_best_epoch_the_last_one_counts(run_folder: RunFolder, best: object) -> None:
    assert read_run(run_folder("a/001", best=best)).kept["epoch"] == 3


def test_paths_in_settings_compare_across_folders(run_folder: RunFolder) -> None:
    near, far = run_folder("a/001"), run_folder("b/c/001")
    file = far / "config.yaml"
    file.write_text(file.read_text().replace("../data", "../../../a/data"))
    assert read_run(near).settings == read_run(far).settings
    assert read_run(near).settings["model.0.out_features"] == 8


def test_a_last_line_that_was_cut_off_is_left_out(run_folder: RunFolder) -> None:
    folder = run_folder("a/001")
    file = folder / "metrics.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    assert len(read_run(folder).records) == 2


def test_nan_is_read_as_nan(run_folder: RunFolder) -> None:
    assert math.isnan(read_run(run_folder("a/001", losses=[math.nan, 1.0])).records[0]["train_loss"])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", None, "run.json: missing"),
        ("run.json", b"", "run.json: damaged"),
        ("run.json", b'{"outcome": ', "run.json: damaged"),
        ("run.json", b"[1, 2]", "contains a list"),
        ("run.json", b"\xff\xfe\x00", "cannot be read"),
        ("run.json", b"[" * 100_000, "run.json: damaged"),
        ("metrics.jsonl", b'{"epoch": 1}\n{"epo\n{"epoch": 3}\n', "metrics.jsonl, line 2: damaged"),
        ("metrics.jsonl", b'{"epoch": 1, "train_loss": "low"}\n', "line 1: not the record of an epoch"),
        ("metrics.jsonl", b'{"loss": 1}\n', "line 1: not the record of an epoch"),
        ("metrics.jsonl", b"null\n", "line 1: not the record of an epoch"),
        ("metrics.jsonl", b"", "no epoch has finished (outcome: finished)"),
        ("metrics.jsonl", None, "no epoch has finished (outcome: finished)"),
        ("config.yaml", None, "config.yaml: no such file"),
        ("config.yaml", b"a: [", "config.yaml"),
        ("config.yaml", b"42", "config.yaml: damaged"),
    ],
)
def test_damage_is_said_and_the_others_are_read(
    run_folder: RunFolder, file: str, content: bytes | None, message: str
) -> None:
    whole, damaged = run_folder("a/001"), run_folder("a/002")
    (damaged / file).unlink() if content is None else (damaged / file).write_bytes(content)
    runs, skipped = read_runs([damaged, whole])
    assert [run.folder for run in runs] == [whole]
    assert len(skipped) == 1
    assert message in skipped[0]
    assert str(damaged) in skipped[0]


@pytest.mark.parametrize("content", [b'{"outcome": 1, "best": 3, "test": [], "data": 4}', b"{}"])
def test_facts_of_the_wrong_kind_are_no_crash(run_folder: RunFolder, content: bytes) -> None:
    folder = run_folder("a/001")
    (folder / "run.json").write_bytes(content)
    (run,), skipped = read_runs([folder])
    assert not skipped
    assert set(run.figures) == {"train_loss", "val_loss", "val_accuracy"}


def test_runs_are_found_once_however_they_are_named(run_folder: RunFolder, tmp_path: Path) -> None:
    first, second = run_folder("a/001"), run_folder("b/001")
    (tmp_path / "runs" / "empty").mkdir()
    os.symlink(tmp_path / "runs", tmp_path / "runs" / "loop")
    assert find_runs([second, tmp_path / "runs", first]) == [second, first]


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run folder and does not contain any"):
        find_runs([tmp_path])
    with pytest.raises(ConfigError, match="no such folder"):
        find_runs([tmp_path / "missing"])


def test_a_run_without_a_config_can_still_be_read(run_folder: RunFolder) -> None:
    folder = run_folder("a/001")
    (folder / "config.yaml").unlink()
    run = read_run(folder)
    assert run.outcome == "finished"
    with pytest.raises(DataError, match="missing"):
        _ = run.config_text
