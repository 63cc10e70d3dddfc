"""Columns that are made of others: the parts of a date, and texts with too many different values in buckets."""

import zlib
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from layerflow.errors import DataError

ISO = "iso"
DATE_PARTS = ("year", "month", "weekday", "days")
CURRENCIES = "$€£¥%"
Columns = dict[str, NDArray[np.float64]]


def date_columns(name: str, cells: Sequence[str], form: str, place: Callable[[int], str]) -> Columns:
    """Return year, month, weekday (0 for Monday) and days since 1970 of dates; NaN where a cell is empty.

    Args:
        name: of the column; the parts are called `name.year` and so on.
        cells: the texts.
        form: "iso", or a format of Python's `strptime` such as "%d.%m.%Y".
        place: returns the location of a cell for messages.

    Raises:
        DataError: a cell is no such date.
    """
    rows = np.full((len(cells), len(DATE_PARTS)), np.nan)
    for row, cell in enumerate(cells):
        if not cell:
            continue
        date = parsed_date(cell, form)
        if date is None:
            expected = "a date such as 2026-11-27" if form == ISO else f"a date of the form {form}"
            raise DataError(f"{place(row)}: {cell!r} is not {expected}")
        seconds = (date.replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds()
        rows[row] = date.year, date.month, date.weekday(), seconds / 86400
    return {f"{name}.{part}": rows[:, i] for i, part in enumerate(DATE_PARTS)}


def parsed_date(cell: str, form: str) -> datetime | None:
    """Return the date in a cell, or None if it is no such date."""
    try:
        return datetime.fromisoformat(cell) if form == ISO else datetime.strptime(cell, form)
    except ValueError:
        return None


def hashed_columns(name: str, cells: Sequence[str], buckets: int) -> Columns:
    """Return one column for each of so many buckets: 1 where a text falls into it, and 0 elsewhere.

    The bucket follows from the text alone (CRC-32), so that a text that training has not seen has one too. An empty
    cell falls into none.
    """
    hot = np.zeros((len(cells), buckets))
    for row, cell in enumerate(cells):
        if cell:
            hot[row, zlib.crc32(cell.encode()) % buckets] = 1
    return {f"{name}#{i}": hot[:, i] for i in range(buckets)}


def plain_number(cell: str, decimal: str, thousands: str) -> str:
    """Return a number as Python writes it: without signs of currency, and with a decimal point."""
    text = cell.strip().strip(CURRENCIES).strip()
    for sign in "+-":
        if text.startswith(sign):
            text = sign + text[1:].strip().strip(CURRENCIES).strip()
    if thousands:
        whole, mark, rest = text.partition(decimal)
        groups = whole.split(thousands)
        if len(groups) > 1 and all(len(group) == 3 for group in groups[1:]):
            text = "".join(groups) + mark + rest
    return text.replace(decimal, ".") if decimal != "." else text
