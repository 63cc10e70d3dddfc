"""Runs whose files were damaged: what is intact is used, what is not is told, and nothing is made worse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Train = Callable[..., tuple[Any, ...]]
EXIT_USAGE, EXIT_DATA = 2, 4
LONGER = ("train", "--resume", "runs/run/001", "train.epochs=7", "--quiet")


@pytest.fixture
def trained(place: Any) -> Path:
    assert place.command("train", place.config(), "--quiet").code == 0
    run: Path = place.run()
    return run


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [flip, lambda path: path.write_bytes(path.read_bytes()[:500]), Path.unlink],
    ids=["flipped", "cut", "lost"],
)
def test_a_damaged_last_checkpoint_costs_an_epoch_and_no_bit(
    place: Any, trained: Path, undisturbed: Train, result: Any, damage: Callable[[Path], Any]
) -> None:
    damage(trained / "checkpoints" / "last.npz")
    resumed = place.command(*LONGER)
    assert resumed.code == 0
    assert ("damaged or truncated" in resumed.err) == (damage is not Path.unlink)
    assert result(trained) == undisturbed("run.yaml", "train.epochs=7")


def test_when_none_is_intact_nothing_is_changed(place: Any, trained: Path) -> None:
    for path in (trained / "checkpoints").iterdir():
        flip(path)
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file() and path.name != ".lock"}
    refused = place.command(*LONGER)
    assert refused.code == EXIT_DATA
    assert "no intact checkpoint is left; nothing was changed" in refused.err
    assert all(f"checkpoints/{path.name}: damaged" in refused.err for path in (trained / "checkpoints").iterdir())
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file() and path.name != ".lock"} == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv", "step_losses.f64", "run.json"])
@pytest.mark.parametrize("content", [b"", b"{ half a li", None], ids=["empty", "garbage", "lost"])
def test_damaged_records_are_written_again(
    place: Any, trained: Path, undisturbed: Train, result: Any, name: str, content: bytes | None
) -> None:
    path = trained / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert place.command(*LONGER).code == 0
    expected, found = undisturbed("run.yaml", "train.epochs=7"), result(trained)
    lost_losses = name == "step_losses.f64"  # the only record that no checkpoint repeats
    assert [part for i, part in enumerate(found) if not (lost_losses and i == 3)] == [
        part for i, part in enumerate(expected) if not (lost_losses and i == 3)
    ]
    assert len(found[3]) == len(expected[3])


def test_a_run_without_a_checkpoint_starts_from_the_beginning(
    place: Any, trained: Path, undisturbed: Train, result: Any
) -> None:
    for path in (trained / "checkpoints").iterdir():
        path.unlink()
    resumed = place.command(*LONGER)
    assert "no checkpoint yet" in resumed.err
    assert result(trained) == undisturbed("run.yaml", "train.epochs=7")


# What may change -----------------------------------------------------------------------------------------------------


def test_resume_alone_takes_the_newest_run_of_the_configuration(
    place: Any, trained: Path, undisturbed: Train, result: Any
) -> None:
    place.command("train", "run.yaml", "seed=5", "--quiet")
    assert place.command("train", "run.yaml", "--resume", "seed=5", "train.epochs=7", "--quiet").code == 0
    assert result(place.run(2)) == undisturbed("run.yaml", "seed=5", "train.epochs=7")
    assert not place.run(3).exists()


def test_what_would_change_the_past_needs_permission(place: Any, trained: Path) -> None:
    before = (trained / "checkpoints" / "last.npz").read_bytes()
    refused = place.command("train", "run.yaml", "--resume", "optimizer.lr=0.2", "train.epochs=6", "--quiet")
    assert refused.code == EXIT_USAGE
    assert "optimizer.lr: 0.05 before, 0.2 now (the training so far would have been different)" in refused.err
    assert "train.epochs: 4 before, 6 now\n" in refused.err
    assert "--allow-change" in refused.err
    assert (trained / "checkpoints" / "last.npz").read_bytes() == before
    words = ("train", "run.yaml", "--resume", "optimizer.lr=0.2", "train.epochs=6", "--allow-change", "--quiet")
    assert place.command(*words).code == 0
    assert "optimizer.lr: 0.05 before, 0.2 now" in (trained / "run.json").read_text()


def test_a_model_of_another_shape_is_refused_even_with_permission(place: Any, trained: Path) -> None:
    refused = place.command(*LONGER, "model.0.out_features=9", "--allow-change")
    assert refused.code == EXIT_USAGE
    assert "it was saved with another model" in refused.err


NO_RUNS: list[tuple[tuple[str, ...], str]] = [
    (("--resume", "runs/run/009"), "no such run folder, did you mean 'runs/run/001'?"),
    (("--resume", "runs"), "it has no config.yaml"),
    (("--resume", "--out", "elsewhere", "run.yaml"), "no run to continue"),
    (("--resume", "runs/run/001", "run.yaml", "other.yaml"), "2 configurations"),
    (("--resume",), "CONFIG is missing"),
]


@pytest.mark.parametrize(("words", "message"), NO_RUNS)
def test_a_run_that_cannot_be_continued_is_told(
    place: Any, trained: Path, words: tuple[str, ...], message: str
) -> None:
    place.config("other.yaml")
    try:
        refused = place.command("train", *words)
    except SystemExit as left:
        assert left.code == EXIT_USAGE
        assert message in place.capture()[1]
    else:
        assert refused.code == EXIT_USAGE
        assert message in refused.err
