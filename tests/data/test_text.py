"""`Text`: characters and bytes as tokens, in windows, lines and labelled lines."""

import gzip

import numpy as np
import pytest

from layerflow.data import Preprocessing, Standard, Text
from layerflow.data.text import PADDING
from layerflow.errors import ConfigError, DataError


@pytest.fixture
def write(tmp_path):
    def written(content, name="text.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return written


def test_windows_predict_the_tokens_that_follow(write):
    text = "hello world, hello sea\n" * 3
    data = Text(write(text), length=10).read()
    assert data.x.shape == data.y.shape == (6, 10)
    assert data.classes == data.vocabulary == tuple(sorted(set(text)))
    joined = "".join(data.vocabulary[token] for token in data.x.ravel())
    following = "".join(data.vocabulary[token] for token in data.y.ravel())
    assert joined == text[:60] and following == text[1:61]
    assert data.gap == 0


def test_lines_begin_and_end_with_a_break_and_are_filled_up(write):
    data = Text(write("ab\n\nabc\r\nb"), samples="lines").read()
    assert data.vocabulary == (PADDING, "\n", "a", "b", "c")
    np.testing.assert_array_equal(data.x, [[1, 2, 3, 0], [1, 2, 3, 4], [1, 3, 0, 0]])
    np.testing.assert_array_equal(data.y, [[2, 3, 1, 0], [2, 3, 4, 1], [3, 1, 0, 0]])
    assert data.lines.tolist() == [1, 3, 4]


def test_long_lines_are_cut_with_a_note(write):
    data = Text(write("abcdef\nab\n"), samples="lines", length=4).read()
    assert data.x.shape == (2, 4)
    assert data.notes == ("cut 1 of 2 lines to 3 tokens",)


def test_labelled_lines_have_their_label_as_target(write):
    data = Text(write("spam\tbuy now\nham\thello\nspam\tnow\n"), samples="labelled").read()
    assert data.classes == ("ham", "spam") and data.y.tolist() == [1, 0, 1]
    assert data.x.shape == (3, 7)
    assert "".join(data.vocabulary[token] for token in data.x[1, :5]) == "hello"


def test_bytes_are_a_unit_and_gzip_is_read(write):
    data = Text(write(gzip.compress(bytes(range(200, 240)) * 3), "raw.txt.gz"), length=20, unit="bytes").read()
    assert len(data.vocabulary) == 40 and data.x.shape == (5, 20)


def test_the_vocabulary_is_that_of_the_training_text_and_survives_saving(write):
    train = Text(write("abc abd abe\n" * 9), length=8).read()
    like = Preprocessing.from_dict(Preprocessing.fit(train).to_dict())
    assert like.vocabulary == train.vocabulary
    new = Text(write("ebd cab\nbad\n", "new.txt"), length=8).read(like=like)
    assert "".join(like.vocabulary[token] for token in new.x[0]) == "ebd cab\n"
    with pytest.raises(DataError, match=r"odd\.txt:2:3: the character 'X' is not in the vocabulary"):
        Text(write("abc\nabXc abc abc", "odd.txt"), length=8).read(like=like)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("\n\n", {"samples": "lines"}, "contains no text"),
        ("abc", {"length": 5}, "3 tokens are too few for a window of 5"),
        ("spam buy", {"samples": "labelled"}, "text.txt:1: expected a label, a tab and a text, got 'spam buy'"),
        ("a\tb\na\tc", {"samples": "labelled"}, "all 2 samples are of the one class 'a'"),
        (b"ab\nc\xff", {}, "text.txt:2: byte 0xff is not UTF-8"),
    ],
)
def test_a_text_that_cannot_be_used_is_named(write, content, settings, message):
    with pytest.raises(DataError, match=message):
        Text(write(content), **settings).read()


def test_tokens_are_not_scaled(write):
    data = Text(write("abc " * 40), length=8).read()
    with pytest.raises(ConfigError, match="Standard cannot be used on tokens"):
        Preprocessing.fit(data, Standard())
    with pytest.raises(ConfigError, match="'length' must be at least 1"):
        Text("x", length=0)
