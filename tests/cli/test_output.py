"""Files that commands write: never over their input, through a link or into a device; over a file only with --force."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layerflow.cli.output import check_output, write_output
from layerflow.errors import ConfigError
from layerflow.runs.files import to_json

Command = Callable[..., Any]
IRIS = Path(__file__).parents[2] / "data/iris.csv"


def link_to_file(path: Path) -> None:
    path.with_name("precious.txt").write_text("precious")
    path.symlink_to(path.with_name("precious.txt"))


def dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def existing(path: Path) -> None:
    path.write_text("precious")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a symbolic link": (link_to_file, "is a symbolic link"),
    "a dangling link": (dangling_link, "is a symbolic link"),
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe": (getattr(os, "mkfifo", Path.mkdir), "is not a regular file" if hasattr(os, "mkfifo") else "is a folder"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("command", [["predict", "{trained}", str(IRIS)], ["init", str(IRIS)], ["graph", "iris.yaml"]])
def test_only_regular_files_are_written_whatever_is_forced(
    trained: Path,
    folder: Path,
    layerflow_command: Command,
    command: list[str],
    make: Callable[[Path], object],
    message: str,
) -> None:
    make(folder / "out.txt")
    kind = stat.S_IFMT((folder / "out.txt").lstat().st_mode)
    done = layerflow_command(*(word.format(trained=trained) for word in command), "-o", "out.txt", "--force")
    assert done.code == 2
    assert f"out.txt: {message}" in done.err
    assert stat.S_IFMT((folder / "out.txt").lstat().st_mode) == kind


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no device files here")
def test_a_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="/dev/null: is not a regular file"):
        check_output(Path("/dev/null"), force=True)


@pytest.mark.parametrize("command", [["predict", "{trained}"], ["init"]])
@pytest.mark.parametrize("is_same_name", [True, False])
def test_the_input_is_never_overwritten_under_any_name(
    trained: Path, folder: Path, layerflow_command: Command, command: list[str], is_same_name: bool
) -> None:
    data = folder / "in.csv"
    data.write_bytes(IRIS.read_bytes())
    output = data if is_same_name else folder / "other.csv"
    if not is_same_name:
        os.link(data, output)
    words = [word.format(trained=trained) for word in command]
    done = layerflow_command(*words, data, "-o", output, "--force")
    assert done.code == 2
    assert f"{output.name}: is the input of this command" in done.err
    assert data.read_bytes() == IRIS.read_bytes()


def test_a_model_is_not_overwritten_by_its_predictions(trained: Path, layerflow_command: Command) -> None:
    before = (trained / "model.npz").read_bytes()
    done = layerflow_command("predict", trained, IRIS, "-o", trained / "model.npz", "--force")
    assert done.code == 2
    assert (trained / "model.npz").read_bytes() == before


@pytest.mark.parametrize("command", [["predict", "{trained}", str(IRIS)], ["init", str(IRIS)], ["graph", "iris.yaml"]])
def test_an_existing_file_is_overwritten_only_by_force(
    trained: Path, folder: Path, layerflow_command: Command, command: list[str]
) -> None:
    output = folder / "out.txt"
    output.write_text("precious")
    words = [word.format(trained=trained) for word in command]
    refused = layerflow_command(*words, "-o", output)
    assert refused.code == 2
    assert "already exists; choose another file with -o, or overwrite it with --force" in refused.err
    assert output.read_text() == "precious"
    assert layerflow_command(*words, "-o", output, "--force").code == 0
    assert output.read_text() != "precious"


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Exception, match="No space left on device"):
        write_output("text", tmp_path / "out.csv", force=False)
    assert list(tmp_path.iterdir()) == []


def test_json_has_no_nan_and_no_infinity() -> None:
    value = {"a": float("nan"), "b": [float("inf"), 1.5, {"c": (-float("inf"), "NaN")}], "d": None}
    assert json.loads(to_json(value)) == {"a": None, "b": [None, 1.5, {"c": [None, "NaN"]}], "d": None}


def test_a_metric_that_overflows_is_null_in_json(layerflow_command: Command, folder: Path) -> None:
    """The square of a target of 1e300 is beyond every float."""
    rows = [f"{row},{row % 7},{row / 10}" for row in range(60)]
    Path("train.csv").write_text("\n".join(["a,b,y", *rows]))
    Path("same.csv").write_text("a,b,y\n1,2,0.5\n2,3,1e300\n")
    source = "data.source={type: CSV, path: train.csv, target: y}"
    assert layerflow_command("train", "iris.yaml", "-q", source, "loss=Huber", "optimizer.lr=0.001").code == 0
    done = layerflow_command("eval", "runs/iris/001", "--json", "--data", "same.csv")
    assert done.code == 0

    def refuse(token: str) -> None:
        raise AssertionError(token)

    assert json.loads(done.out, parse_constant=refuse)["metrics"]["rmse"] is None
