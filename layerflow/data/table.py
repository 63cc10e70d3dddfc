"""The lines of a CSV file: decoded, unquoted, counted."""

import csv
import io
from collections import Counter
from collections.abc import Iterator

from layerflow.data.labels import listed
from layerflow.data.paths import open_data
from layerflow.errors import ConfigError, DataError, did_you_mean

Record = tuple[int, list[str]]
"""The number of the line on which a record starts, counted from 1, and its cells."""


def records(path: str, delimiter: str) -> Iterator[Record]:
    """Yield the records of a CSV file (RFC 4180, UTF-8 with or without BOM, .gz too), the header first.

    Blank lines are skipped; every record must have as many cells as the header.

    Raises:
        DataError: The file is missing, damaged, empty or not UTF-8; a row is ragged; a column has no name or a
            name that another one has.
    """
    with open_data(path) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        header: list[str] = []
        line = 1
        try:
            for cells in reader:
                if not cells or (len(cells) == 1 and len(header) != 1 and not cells[0].strip()):
                    pass
                elif not header:
                    header = [cell.strip() for cell in cells]
                    _check_header(header, f"{path}:{line}")
                    yield line, header
                elif len(cells) != len(header):
                    raise DataError(
                        f"{path}:{line}: {len(cells)} cells, but the header has {len(header)} columns; "
                        "give every row one cell per column"
                    )
                else:
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not valid CSV: {error}; check the quotes") from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{_undecodable_line(path)}: not UTF-8 ({error.reason}); save it as UTF-8"
            ) from error
    if not header:
        raise DataError(f"{path}: holds blank lines only; give a header line and rows")


def find_column(name: str, header: list[str], path: str) -> int:
    """Return where the column `name` stands; raises DataError with the closest name, or the likely reason."""
    if name in header:
        return header.index(name)
    hint = ""
    if len(header) == 1:
        hint = next((f"; write `delimiter: {mark!r}`?" for mark in (";", "\t", "|", ",") if mark in header[0]), "")
    if not hint and all(_is_number(cell) for cell in header):
        hint = "; the first line holds numbers only: add a header line"
    raise DataError(f"{path}: no column {name!r}{did_you_mean(name, header) or hint}; columns: {listed(header)}")


def check_delimiter(delimiter: str) -> None:
    """Raise ConfigError unless `delimiter` is one character that can separate cells."""
    if len(delimiter) != 1 or delimiter in '"\r\n ':
        raise ConfigError(f"CSV: 'delimiter' must be one character such as ',' or ';', got {delimiter!r}")


def _check_header(header: list[str], where: str) -> None:
    if "" in header:
        raise DataError(f"{where}: column {header.index('') + 1} has no name; name every column in the header")
    if duplicates := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{where}: duplicate column name {listed(duplicates)}; give every column its own name")


def _undecodable_line(path: str) -> int:
    with open_data(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
