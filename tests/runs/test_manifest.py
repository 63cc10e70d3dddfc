"""The manifest of a run: right at any instant, and whatever happens to a file is noticed and named."""

from pathlib import Path

import pytest

from layerflow.errors import DataError
from layerflow.runs.manifest import MANIFEST, Manifest, damaged_files, state_of


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    manifest = Manifest(tmp_path)
    manifest.write({"a": b"one", "b": b"two"})
    manifest.settle()
    return manifest


def test_intact_files_are_intact(manifest: Manifest) -> None:
    assert damaged_files(manifest.folder) == {}


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "missing"), (b"", "0 bytes, expected 3"), (b"onX", "changed since it was written")],
)
def test_damage_is_named(manifest: Manifest, content: bytes | None, problem: str) -> None:
    file = manifest.folder / "a"
    file.unlink() if content is None else file.write_bytes(content)
    assert damaged_files(manifest.folder) == {"a": problem}
    assert damaged_files(manifest.folder, ["b"]) == {}


def test_a_link_to_the_same_content_is_damage(manifest: Manifest) -> None:
    (manifest.folder / "a").rename(manifest.folder / "c")
    (manifest.folder / "a").symlink_to("c")
    assert damaged_files(manifest.folder) == {"a": "a symbolic link"}


@pytest.mark.parametrize("is_written", [False, True])
def test_a_process_may_die_before_or_after_it_writes_a_file(manifest: Manifest, is_written: bool) -> None:
    manifest.expect({"a": state_of(b"one and more"), "new": state_of(b"new"), "b": None})
    if is_written:
        (manifest.folder / "a").write_bytes(b"one and more")
        (manifest.folder / "new").write_bytes(b"new")
        (manifest.folder / "b").unlink()
    assert damaged_files(manifest.folder) == {}
    again = Manifest(manifest.folder)  # what continues knows which of the two it was
    again.expect({"other": state_of(b"other")})
    assert damaged_files(manifest.folder) == {}
    (manifest.folder / "a").write_bytes(b"one" if is_written else b"one and more")
    assert "a" in damaged_files(manifest.folder)


def test_a_half_written_file_is_damage(manifest: Manifest) -> None:
    manifest.expect({"a": state_of(b"one and more")})
    (manifest.folder / "a").write_bytes(b"one and")
    assert damaged_files(manifest.folder) == {"a": "7 bytes, expected 12"}


def test_after_the_end_the_state_before_is_damage(manifest: Manifest) -> None:
    manifest.write({"a": b"one and more"})
    manifest.settle()
    (manifest.folder / "a").write_bytes(b"one")
    assert damaged_files(manifest.folder) == {"a": "3 bytes, expected 12"}


def test_every_change_of_the_manifest_itself_is_noticed(manifest: Manifest) -> None:
    file = manifest.folder / MANIFEST
    content = file.read_bytes()
    for place in range(len(content)):
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        file.write_bytes(damaged)
        try:
            found = damaged_files(manifest.folder)
        except DataError:
            continue
        assert found == {}, "only white space may change"
        assert content[place : place + 1].isspace()
    file.unlink()
    with pytest.raises(DataError, match="missing"):
        damaged_files(manifest.folder)
