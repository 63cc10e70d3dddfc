"""The pipeline of a run, from Python and by command: nothing goes wrong without a message, nothing is lost."""

import errno
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerflow.cli import main
from layerflow.config import load_config
from layerflow.errors import ConfigError, DataError, StorageError
from layerflow.runs import files
from layerflow.runs.files import create_run_folder, locked, to_json
from layerflow.runs.manifest import damaged_files
from layerflow.runs.model import SavedModel
from layerflow.runs.run import Result, train
from layerflow.runs.verification import verify
from layerflow.training.callbacks import Callback

ROOT = Path(__file__).parents[2]
EPOCHS = 4
CONFIG = f"""\
data: {{source: {{type: CSV, path: {ROOT}/data/iris.csv, target: species}}, scale: Standard}}
model: [{{type: Linear, out_features: 4}}, ReLU, Linear]
loss: SoftmaxCE
optimizer: {{type: SGD, lr: 0.1}}
train: {{epochs: {EPOCHS}, checkpoint: {{every: 1}}}}
"""
GROWING = ("metrics.jsonl", "metrics.csv", "step_losses.f64")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "iris.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_of(result: Result) -> Path:
    assert result.folder is not None
    return result.folder


def trained(**options: Any) -> Path:
    return run_of(train(load_config("iris.yaml"), quiet=True, **options))


class Between(Callback):
    """Does something to the run folder after the second epoch."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def epoch_ended(self, trainer: Any, record: Any) -> None:
        if record["epoch"] == 2:
            self.act()


# From Python ---------------------------------------------------------------------------------------------------------


def test_python_trains_as_the_command_does(folder: Path) -> None:
    reported = []
    result = train(load_config("iris.yaml"), quiet=True, report=lambda experiment, run: reported.append(run))
    assert (result.name, result.outcome, result.epochs) == ("iris", "finished", EPOCHS)
    assert reported == [result.folder] == [Path("runs/iris/001")]
    assert main(["train", "iris.yaml", "--quiet"]) == 0
    for name in ("model.npz", "step_losses.f64"):
        assert (run_of(result) / name).read_bytes() == Path("runs/iris/002", name).read_bytes()
    assert damaged_files(run_of(result)) == {}


# Records -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GROWING)
@pytest.mark.parametrize("change", [Path.unlink, lambda path: os.truncate(path, 10)], ids=["removed", "truncated"])
def test_a_record_that_is_spoiled_during_the_run_is_written_again(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, change: Callable[[Path], object]
) -> None:
    run = trained(callbacks=[Between(lambda: change(Path("runs/iris/001", name)))])
    assert f"{name}: was removed or changed during the training; written again" in capsys.readouterr().err
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4]
    verified = verify(run)
    assert (verified.epochs, verified.difference) == (EPOCHS, "")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


RESTORED = ("metrics.jsonl", "metrics.csv", "config.yaml")


@pytest.mark.parametrize("name", [*RESTORED, "step_losses.f64", "run.json"])
@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b""), Path.unlink], ids=["cut", "empty", "lost"])
def test_verify_restores_a_damaged_file_or_names_it(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], object]
) -> None:
    run = trained()
    before = (run / name).read_bytes()
    damage(run / name)
    if name in RESTORED:
        assert verify(run).epochs == EPOCHS
        assert f"{run / name}: " in capsys.readouterr().err
        assert (run / name).read_bytes() == before
    else:
        with pytest.raises(DataError, match=f"damaged files:\n.*{name}: "):
            verify(run)


def test_a_finished_run_without_all_its_steps_is_not_the_same(folder: Path) -> None:
    run = trained()
    manifest = files_of_a_forger(run)
    np.fromfile(run / "step_losses.f64")[:4].tofile(run / "step_losses.f64")
    manifest()
    with pytest.raises(DataError, match="incomplete: 4 records and 4 steps"):
        verify(run)


def files_of_a_forger(run: Path) -> Callable[[], None]:
    from layerflow.runs.manifest import Manifest

    def forge() -> None:
        manifest = Manifest(run)
        manifest.forget([*GROWING])
        manifest.settle()

    return forge


@pytest.mark.parametrize("name", ["model.npz", "config.yaml", "run.json"])
def test_eval_and_predict_name_damaged_files(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run = trained()
    cut(run / name)
    code = main(["eval", str(run)])
    assert f"{run / name}: " in capsys.readouterr().err
    assert code == (0 if name == "config.yaml" else 4)


def test_json_has_no_nan() -> None:
    value = {"a": [1.0, float("nan"), (float("inf"), 2)], "b": None}
    assert json.loads(to_json(value), parse_constant=pytest.fail) == {"a": [1.0, None, [None, 2]], "b": None}


def test_json_of_results_that_are_not_finite_can_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layerflow.config.experiment.Experiment.evaluate", lambda *_: {"loss": float("nan")})
    monkeypatch.setattr(SavedModel, "evaluate", lambda *_: {"loss": float("nan")})
    run = trained()
    assert json.loads((run / "run.json").read_text(), parse_constant=pytest.fail)["test"] == {"loss": None}
    assert main(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["metrics"] == {"loss": None}


# Places --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../x", "..", ".", "", "a/b", "a\\b", "a\nb", "c:d", "/tmp"])
def test_a_name_does_not_lead_out_of_the_folder(folder: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a run folder"):
        create_run_folder(folder / "runs", name)
    assert not (folder / "runs").exists()


def test_a_configuration_named_like_a_parent_folder_stays_inside(folder: Path) -> None:
    (folder / "...yaml").write_text(CONFIG)
    for words in ([], ["--resume"]):
        assert main(["train", "...yaml", "--quiet", *words]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["...yaml", "iris.yaml", "runs"]
    assert [path.relative_to(folder).as_posix() for path in folder.glob("runs/*/*")] == ["runs/yaml/001"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_new_folders_are_flushed_to_the_disk_with_their_parents(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []
    monkeypatch.setattr(files.os, "fsync", lambda number: flushed.append(os.readlink(f"/proc/self/fd/{number}")))
    run = create_run_folder(folder / "deep" / "runs", "iris")
    for made in (run, run.parent, run.parent.parent, folder / "deep"):
        assert str(made.parent) in flushed


def test_checkpoints_are_not_written_through_a_link(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained()
    (run / "checkpoints").rename(folder / "elsewhere")
    (run / "checkpoints").symlink_to(folder / "elsewhere")
    (folder / "elsewhere" / ".precious.1.tmp").touch()
    before = {path: path.read_bytes() for path in (folder / "elsewhere").iterdir()}
    assert main(["train", "--resume", str(run), "train.epochs=9", "--quiet"]) == 6
    assert "checkpoints: is a symbolic link" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (folder / "elsewhere").iterdir()} == before


def test_a_full_disk_at_the_lock_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.FileLock, "acquire", full)
    with pytest.raises(StorageError, match=r"\.lock: cannot be written \(No space left on device\)"):
        trained()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["gates"], ["train", "iris.yaml", "--quiet"], ["gates", "--json"]])
def test_a_full_standard_output_is_told(folder: Path, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "layerflow", *words],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr == "layerflow: the output cannot be written: No space left on device\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("command", ["check", "train"])
def test_a_pipe_as_configuration_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    os.mkfifo("pipe.yaml")
    assert main([command, "pipe.yaml"]) == 2
    assert "pipe.yaml: not a regular file, expected a YAML file" in capsys.readouterr().err


# Continuing ----------------------------------------------------------------------------------------------------------


def test_resume_continues_what_began_and_starts_what_did_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "b.yaml").write_text(CONFIG)
    trained()
    assert main(["train", "iris.yaml", "b.yaml", "--resume", "train.epochs=6", "--quiet"]) == 0
    assert "b: no run to continue in runs/b; starting a new one" in capsys.readouterr().err
    for name in ("iris", "b"):
        assert json.loads(Path("runs", name, "001/run.json").read_text())["epochs"] == 6
        assert not Path("runs", name, "002").exists()


def test_the_command_to_continue_can_be_pasted(folder: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    (folder / "my own.py").write_text("import layerflow as lf\nclass Mine(lf.ReLU):\n    pass\n")
    with pytest.raises(KeyboardInterrupt) as stopped:
        trained(name="it's mine", imports=["my own.py"], callbacks=[Between(stop)])
    (note,) = stopped.value.__notes__
    words = shlex.split(note.partition("continue with: ")[2])
    assert words == ["layerflow", "train", "--resume", "runs/it's mine/001", "--import", "my own.py"]
    assert main([*words[1:], "--quiet"]) == 0


# Searches ------------------------------------------------------------------------------------------------------------

SEARCH = ["search", "iris.yaml", "seed=0,1", "train.epochs=1", "--quiet"]


def test_one_search_at_a_time_uses_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "runs" / "iris-search"
    out.mkdir(parents=True)
    with locked(out):
        assert main(SEARCH) == 6
    assert "another process is writing to this folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_a_search_on_other_data_trains_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder / "iris.csv"
    lines = (ROOT / "data" / "iris.csv").read_text().splitlines(keepends=True)
    data.write_text("".join(lines))
    (folder / "iris.yaml").write_text(CONFIG.replace(f"{ROOT}/data/iris.csv", "iris.csv"))
    assert main(SEARCH) == main(SEARCH) == 0
    assert "2 of 2 runs were there already" in capsys.readouterr().err
    data.write_text("".join(lines[:100]))
    assert main(SEARCH) == 0
    assert "have changed since this run" in capsys.readouterr().err
    assert sorted(path.name for path in (folder / "runs/iris-search/seed=0").iterdir()) == ["001", "002"]


def test_after_a_resumed_run_every_file_has_its_checksum_the_report_s_too(folder: Path) -> None:
    def report(experiment: Any, run: Path) -> None:
        for name in ("report.html", "curves.svg", "confusion.svg"):
            (run / name).write_text(f"{len(experiment.trainer.history)} epochs")

    run = train(load_config("iris.yaml"), quiet=True, report=report).folder
    assert run is not None
    train(load_config("iris.yaml", [f"train.epochs={2 * EPOCHS}"]), resume=run, quiet=True, report=report)
    assert (run / "curves.svg").read_text() == f"{2 * EPOCHS} epochs"
    assert damaged_files(run) == {}
    (run / "curves.svg").write_text("other")
    assert list(damaged_files(run)) == ["curves.svg"]
