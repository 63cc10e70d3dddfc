"""What the columns of a table hold, judged by their texts: what a first configuration follows from."""

import csv
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from layerflow.data.columns import ISO, parsed_date, plain_number
from layerflow.data.dataset import as_number
from layerflow.data.reader import open_data
from layerflow.data.table import missing_texts, number_or_nan, records
from layerflow.errors import DataError

IDENTIFIERS = frozenset({"id", "index", "idx", "no", "nr", "row", "uid", "uuid", "key"})

MOST_CATEGORIES = 50
"""A text column with more different values is free text, and so is one whose values rarely repeat."""

DATE_FORMS = (ISO, "%d.%m.%Y", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%d %b %Y", "%b %d, %Y")
"""Forms of dates; one is taken where all cells have it, and no other of them fits as well."""

MARKS = (".", ""), (".", ","), (",", ""), (",", "."), (",", " "), (".", "'")
"""Decimal mark and mark between thousands, the usual ones first."""

Role = Literal["number", "category", "identifier", "text", "constant", "empty", "date", "hashed"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its name in the header.
        present: How often each text occurs, without those that mean a missing value.
        missing: The number of missing values.
        role: What it can be used for: numbers, categories, dates and texts to be hashed are features; identifiers of
            the rows, free text, constant text and empty columns carry no signal.
        form: of dates.
    """

    name: str
    present: Counter[str]
    missing: int
    role: Role
    form: str = ""


def read_columns(path: str, delimiter: str) -> tuple[list[Column], tuple[str, str]]:
    """Read a whole CSV file column by column; raises DataError as `records` does.

    Returns the columns, and decimal mark and mark of thousands: those by which most columns are numbers.
    """
    rows = records(path, delimiter)
    _, header = next(rows)
    columns = list(zip(*(cells for _, cells in rows), strict=True))
    if not columns:
        raise DataError(f"{path}: no rows below the header")
    texts = [[cell.strip() for cell in cells] for cells in columns]
    numeric = {marks: sum(_is_numeric(cells, marks) for cells in texts) for marks in MARKS}
    marks = max(MARKS, key=lambda each: numeric[each])  # the first of several
    return [_column(name, cells, marks) for name, cells in zip(header, texts, strict=True)], marks


def _is_numeric(cells: list[str], marks: tuple[str, str]) -> bool:
    """Whether a column has numbers with these marks, and nothing else."""
    plain = {plain_number(cell, *marks) for cell in set(cells)}
    found = [number_or_nan(cell) for cell in plain]
    return None not in found and any(number == number for number in found)


def _date_form(present: Counter[str]) -> str:
    """The form of dates that all cells of a column have; empty if there is none, or several."""
    fitting = [form for form in DATE_FORMS if all(parsed_date(cell, form) is not None for cell in present)]
    return fitting[0] if len(fitting) == 1 else ""


def guess_delimiter(path: str) -> str:
    """Return the delimiter that splits the first line into most cells; a comma if none does."""
    with open_data(path) as file:
        start = file.readline(1 << 20).decode("utf-8-sig", "replace")
    first = next(iter(start.splitlines()), "")

    def width(delimiter: str) -> int:
        try:
            return len(next(csv.reader([first], delimiter=delimiter), []))
        except csv.Error:
            return 0

    return max(",;\t|", key=width)


def _column(name: str, cells: list[str], marks: tuple[str, str]) -> Column:
    absent = missing_texts(cells)
    present = Counter(cell for cell in cells if cell not in absent)
    if present and all(as_number(cell) is None for cell in present) and (form := _date_form(present)):
        return Column(name, present, len(cells) - present.total(), "date" if len(present) > 1 else "constant", form)
    if _is_numeric(cells, marks):
        plain = [plain_number(cell, *marks) for cell in cells]
        absent = missing_texts(plain)
        present = Counter(cell for cell in plain if cell not in absent)
        return Column(name, present, len(plain) - present.total(), _role(name, plain, present))
    return Column(name, present, len(cells) - present.total(), _role(name, cells, present))


def _role(name: str, cells: list[str], present: Counter[str]) -> Role:
    if not present:
        return "empty"
    is_key, is_named_key = len(present) == len(cells), name.lower() in IDENTIFIERS
    if all(as_number(cell) is not None for cell in present):
        return "identifier" if is_key and len(cells) > 1 and (is_named_key or _counts_up(cells)) else "number"
    if is_key:
        return "identifier" if is_named_key or all(" " not in cell for cell in cells) else "text"
    if len(present) == 1:
        return "constant"
    if len(present) <= min(MOST_CATEGORIES, max(2, len(cells) // 2)):
        return "category"
    return "hashed" if len(cells) >= 3 * len(present) else "text"


def _counts_up(cells: list[str]) -> bool:
    """Return whether the cells number the rows: n, n + 1, n + 2, ..., in more rows than chance explains."""
    values = [float(cell) for cell in cells]
    return len(values) >= 10 and all(after - before == 1 for before, after in pairwise(values))
