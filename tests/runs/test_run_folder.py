"""Run folders: numbered, never shared, never overwritten."""

from pathlib import Path

import pytest

from layerflow.errors import ConfigError
from layerflow.runs.files import create_run_folder


def test_folders_are_counted_from_001(tmp_path: Path) -> None:
    assert [create_run_folder(tmp_path / "runs", "iris").name for _ in range(3)] == ["001", "002", "003"]
    assert create_run_folder(tmp_path / "runs", "wine") == tmp_path / "runs" / "wine" / "001"


def test_a_gap_is_not_filled_and_other_names_do_not_count(tmp_path: Path) -> None:
    for name in ("007", "notes", "best.txt"):
        (tmp_path / "iris" / name).mkdir(parents=True)
    assert create_run_folder(tmp_path, "iris").name == "008"


def test_numbers_go_on_beyond_999(tmp_path: Path) -> None:
    (tmp_path / "iris" / "999").mkdir(parents=True)
    assert create_run_folder(tmp_path, "iris").name == "1000"
    assert create_run_folder(tmp_path, "iris").name == "1001"


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(ConfigError, match="choose another place with --out"):
        create_run_folder(tmp_path / "runs", "iris")
