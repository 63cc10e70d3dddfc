"""Text as tokens: windows for language models, single lines, and lines with a label."""

import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layerflow.data.dataset import Dataset, encode_labels, listed
from layerflow.data.preprocessing import Preprocessing
from layerflow.data.reader import DataPath, Reader, checksum, open_data, set_name
from layerflow.errors import ConfigError, DataError

PADDING = "<pad>"
"""The name of token 0, which fills up lines that are shorter than the longest."""

END = "\n"
Tokens = NDArray[np.int64]


@dataclass
class Text(Reader):
    """The characters of a UTF-8 text, or its bytes, as tokens: whole numbers for an `Embedding`.

    With `samples: windows` the text is cut into windows of `length` tokens, and the targets are the tokens that follow
    each of them. With `lines` every line is a sample: it starts from a line break, its targets end with one, and
    shorter lines are filled up with token 0, which the loss leaves out by `{type: SoftmaxCE, ignore_index: 0}`. With
    `labelled` every line is a label, a tab and a text, which is filled up likewise; the target is the label.

    The vocabulary is that of the training file and is stored with the model.

    Args:
        path: The text file; .gz is decompressed.
        samples: "windows", "lines" or "labelled".
        length: Tokens per sample; lines that are longer are cut, with a note. By default 64, or the longest line.
        unit: "characters" or "bytes".
    """

    path: DataPath
    samples: Literal["windows", "lines", "labelled"] = "windows"
    length: int | None = None
    unit: Literal["characters", "bytes"] = "characters"

    def __post_init__(self) -> None:
        if self.length is not None and self.length < 1:
            raise ConfigError(f"Text: 'length' must be at least 1, got {self.length}")

    def read(self, need_target: bool = True, like: Preprocessing | None = None) -> Dataset:
        """Read the file; see `Reader.read`."""
        text = self._text()
        windows = self.samples == "windows"
        lines = [text] if windows else text.splitlines()
        places = [row for row, line in enumerate(lines, 1) if line]
        lines = [line for line in lines if line]
        if not lines:
            raise DataError(f"{self.path}: contains no text")
        labels = self._cut_labels(lines, places) if self.samples == "labelled" and need_target else None
        known = None if like is None else like.vocabulary
        vocabulary = known or self._vocabulary(lines)
        index = {symbol: token for token, symbol in enumerate(vocabulary)}
        if windows:
            return self._windows(self._encoded(lines[0], index, 1), vocabulary, need_target)
        tokens = [self._encoded(line, index, row) for line, row in zip(lines, places, strict=True)]
        length = self.length or (like.sample_shape[0] if like else max(map(len, tokens)) + (labels is None))
        notes, y, classes = self._notes(tokens, length), None, like.classes if like else None
        if labels is not None:
            y, classes = encode_labels(labels, lambda row: f"{self.path}:{places[row]}", classes)
        elif self.samples == "lines":
            classes, end = vocabulary, np.array([index[END]])
            y = _filled([np.concatenate([each, end]) for each in tokens], length) if need_target else None
            tokens = [np.concatenate([end, each]) for each in tokens]
        return Dataset(
            _filled(tokens, length), y, None, classes, set_name(self.path), checksum(self.path), notes,
            np.array(places), vocabulary=vocabulary,
        )  # fmt: skip

    def _text(self) -> str:
        with open_data(self.path) as file:
            content = file.read()
        if self.unit == "bytes":
            return content.decode("latin-1")
        try:
            return content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise DataError(
                f"{self.path}:{line}: byte {content[error.start]:#x} is not UTF-8; save the file as UTF-8, or write "
                "unit: bytes"
            ) from error

    def _cut_labels(self, lines: list[str], places: list[int]) -> list[str]:
        """Take the labels off the lines."""
        labels = []
        for position, (line, row) in enumerate(zip(lines, places, strict=True)):
            label, tab, rest = line.partition("\t")
            if not tab or not rest:
                raise DataError(f"{self.path}:{row}: expected a label, a tab and a text, got {line[:40]!r}")
            labels.append(label)
            lines[position] = rest
        return labels

    def _vocabulary(self, lines: Iterable[str]) -> tuple[str, ...]:
        symbols = set().union(*map(set, lines))
        if self.samples == "windows":
            return tuple(sorted(symbols))
        return (PADDING, *sorted(symbols | {END}))

    def _encoded(self, line: str, index: dict[str, int], row: int) -> Tokens:
        try:
            return np.array([index[symbol] for symbol in line], np.int64)
        except KeyError as error:
            symbol = error.args[0]
            before = line[: line.index(symbol)]
            row, column = row + before.count("\n"), len(before) - before.rfind("\n")
            known = "".join(sorted(set(index) & set(string.printable[:95]))) or listed(list(index))
            raise DataError(
                f"{self.path}:{row}:{column}: the character {symbol!r} is not in the vocabulary of the training text: "
                f"{known}"
            ) from None

    def _windows(self, tokens: Tokens, vocabulary: tuple[str, ...], need_target: bool) -> Dataset:
        length = self.length or 64
        count = (len(tokens) - 1) // length
        if count < 1:
            raise DataError(f"{self.path}: {len(tokens)} tokens are too few for a window of {length} and what follows")
        x = tokens[: count * length].reshape(count, length)
        y = tokens[1 : count * length + 1].reshape(count, length) if need_target else None
        return Dataset(
            x, y, None, vocabulary, set_name(self.path), checksum(self.path), vocabulary=vocabulary, gap=0
        )  # fmt: skip

    def _notes(self, tokens: list[Tokens], length: int) -> tuple[str, ...]:
        most = length - (self.samples == "lines")
        cut = sum(len(each) > most for each in tokens)
        return (f"cut {cut} of {len(tokens)} lines to {most} tokens",) if cut else ()


def _filled(rows: list[Tokens], length: int) -> Tokens:
    """The rows in one array, cut or filled up with 0."""
    array = np.zeros((len(rows), length), np.int64)
    for row, tokens in zip(array, rows, strict=True):
        row[: len(tokens)] = tokens[:length]
    return array
