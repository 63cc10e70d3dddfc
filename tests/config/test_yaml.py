"""YAML as text: scalars, positions, and everything that is no YAML."""

# ruff: noqa: E501 - a table shows each expected line whole

import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerflow.config.yaml import MAXIMUM_BYTES, MAXIMUM_DEPTH, dump_yaml, parse_document, read_document
from layerflow.errors import ConfigError

SCALARS: list[tuple[str, Any]] = [
    ("1e-4", 1e-4),
    ("1E+3", 1000.0),
    (".5", 0.5),
    ("1.", 1.0),
    ("-0.25e2", -25.0),
    ("017", 17),
    ("0o17", 15),
    ("0x1F", 31),
    ("+12", 12),
    (".inf", math.inf),
    ("-.Inf", -math.inf),
    ("~", None),
    ("null", None),
    ("", None),
    ("true", True),
    ("FALSE", False),
    ("no", "no"),
    ("on", "on"),
    ("Yes", "Yes"),
    ("y", "y"),
    ("12:30", "12:30"),
    ("2024-01-01", "2024-01-01"),
    ("1_000", "1_000"),
    ("0b11", "0b11"),
    ("'1e-4'", "1e-4"),
    ('"true"', "true"),
    ("<<", "<<"),
    ("=", "="),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_a_scalar_means_what_yaml_1_2_says(text: str, value: Any) -> None:
    read = parse_document(f"key: {text}\n").plain()["key"]
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_document("key: .nan").plain()["key"])


def test_keys_are_text_as_written() -> None:
    assert parse_document("1: a\nno: b\n~: c").plain() == {"1": "a", "no": "b", "~": "c"}


def test_aliases_repeat_a_value_and_copies_do_not_share() -> None:
    root = parse_document("a: &x {b: [1, 2]}\nc: *x\n")
    assert root.plain() == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}
    assert isinstance(root.value, dict)
    assert root.value["a"] is not root.value["c"]


def test_every_value_has_its_line_column_and_path() -> None:
    root = parse_document("a: 1\nb:\n  - {c: 2, d: [3, 4]}\n").settle()
    (item,) = root.entries["b"].value  # type: ignore[misc, union-attr]
    second = item.entries["d"].value[1]  # type: ignore[union-attr]
    found = {node.path: (node.place.line, node.place.column) for node in (root.entries["a"], item, second)}
    assert found == {("a",): (1, 4), ("b", 0): (3, 5), ("b", 0, "d", 1): (3, 19)}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)

BAD: list[tuple[str, str]] = [
    ("", "c.yaml:1:1: empty: a configuration has at least the sections data, model and loss"),
    ("# only a comment\n", "c.yaml:1:1: empty: a configuration has at least the sections data, model and loss"),
    ("a: 1\nb: 2\na: 3\n", "c.yaml:3:1: 'a' is written twice (first in line 1): keep one of them"),
    ("a: {b: 1, b: 2}", "c.yaml:1:11: 'b' is written twice (first in line 1): keep one of them"),
    ("a:\n\tb: 1", "c.yaml:2:1: a tab where YAML expects spaces: indent with spaces"),
    ("a: !!python/object:os.system x", "c.yaml:1:4: the tag 'tag:yaml.org,2002:python/object:os.system' has no meaning here: write the plain value"),
    ("a: !mine x", "c.yaml:1:4: the tag '!mine' has no meaning here: write the plain value"),
    ("a: 1\n---\nb: 2", "c.yaml:2:1: a second document begins here: one file holds one configuration"),
    ("a: b: c", "c.yaml:1:5: not valid YAML: a key inside a value: give the line the indentation of the keys beside it, or quote the text if ': ' is part of it"),
    ("a: *x", "c.yaml:1:4: *x refers to nothing: no &x comes before it"),
    ("a: &x [1, *x]", "c.yaml:1:11: *x contains itself"),
    ("? [1]\n: 2", "c.yaml:1:3: a key must be plain text"),
    ("a: 1e999", "c.yaml:1:4: a number beyond the range of a float (write .inf for infinity)"),
    (f"a: {'9' * 5000}", "c.yaml:1:4: a number of more than 300 characters"),
    ("a: 'x\\ud800'\nb: \"\\ud800\"", "c.yaml:2:4: half of a surrogate pair, which is not a character"),
    ("a: x\x01", "c.yaml:1:5: a control character, which YAML does not allow"),
    ("a: [1, 2", "c.yaml:1:9: not valid YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)"),
    ("[" * 5000, f"c.yaml:1:{MAXIMUM_DEPTH + 2}: nested more than {MAXIMUM_DEPTH} levels deep"),
    ("\n".join(" " * i + "a:" for i in range(100)), f"c.yaml:{MAXIMUM_DEPTH + 2}:{MAXIMUM_DEPTH + 2}: nested more than {MAXIMUM_DEPTH} levels deep"),
    (BOMB, "c.yaml:5:8: more than 20000 values, repeated ones included"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "first_line"), BAD)
def test_what_is_not_yaml_is_reported_in_one_line(text: str, first_line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "c.yaml")
    assert str(caught.value).splitlines()[0] == first_line


def test_a_key_that_is_written_twice_is_reported_beside_text_that_is_no_yaml() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document("a: 1\na: *x\n", "c.yaml")
    assert str(caught.value).splitlines()[::3] == [
        "c.yaml:2:1: 'a' is written twice (first in line 1): keep one of them",
        "c.yaml:2:4: *x refers to nothing: no &x comes before it",
    ]


def test_the_source_line_follows_with_a_caret() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document("a: 1\nb: {c: !x 2}\n", "c.yaml")
    assert str(caught.value).splitlines()[1:] == ["    b: {c: !x 2}", "           ^"]


def test_files_that_are_not_text_are_reported_in_one_line(tmp_path: Path) -> None:
    large, binary, folder, missing = (tmp_path / name for name in ("large", "binary", "folder", "missing"))
    large.write_text("a: 1\n" * (MAXIMUM_BYTES // 4))
    binary.write_bytes(b"a: 1\nb: \xff\xfe")
    folder.mkdir()
    expected = {
        large: f"{large}: larger than 256 KiB, too large for a configuration: is it a data file?",
        binary: f"{binary}:2:4: byte 0xff is not UTF-8: save the file as UTF-8 text",
        folder: f"{folder}: a folder, expected a YAML file",
        missing: f"{missing}: no such file",
    }
    for file, first_line in expected.items():
        with pytest.raises(ConfigError) as caught:
            read_document(file)
        assert str(caught.value).splitlines()[0] == first_line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe: not a regular file, expected a YAML file"):
        read_document(tmp_path / "pipe")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbfseed: 1\n")
    assert read_document(tmp_path / "c.yaml").plain() == {"seed": 1}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), PLAIN, min_size=1, max_size=3))
def test_what_is_dumped_is_read_back(value: dict[str, Any]) -> None:
    assert parse_document(dump_yaml(value)).plain() == value


@pytest.mark.parametrize("text", [text for text, _ in SCALARS])
def test_text_that_looks_like_something_else_is_dumped_in_quotes(text: str) -> None:
    assert parse_document(dump_yaml({"key": text})).plain() == {"key": text}


@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`,?\n\t \\~0x.\x85\u2028", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_document(text)
    except ConfigError as error:
        assert str(error).startswith("<text>")
