"""What a person sees of an array at a glance: a number, or shape, mean, spread and a small heat map or histogram."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.parameter import Array
from layerflow.report.graph.words import number, shape_text

MOST_ROWS, MOST_COLUMNS = 16, 24
BINS = 14


@dataclass(frozen=True)
class Reading:
    """The text lines for a value, and for an array a small picture of it.

    Attributes:
        lines: one line for a scalar; shape, and mean ± standard deviation, for an array.
        cells: for a small array, its elements in rows, divided by the largest magnitude: between -1 and 1.
        bars: for a large one, the heights of a histogram between 0 and 1, from its smallest to its largest element.
    """

    lines: tuple[str, ...]
    cells: Array | None = None
    bars: Array | None = None

    @property
    def is_scalar(self) -> bool:
        """Whether there is one number to show, and no picture."""
        return len(self.lines) == 1


def read(value: Any) -> Reading:
    """Sum up a value: numbers that aren't finite are counted, never averaged away."""
    array = np.asarray(value)
    if array.ndim == 0:
        return Reading((number(array),))
    shape = shape_text(array.shape)
    finite = array[np.isfinite(array)]
    if not finite.size:
        return Reading((shape, "empty" if not array.size else "nothing finite"))
    if np.issubdtype(array.dtype, np.integer):
        words = f"{finite.min()} to {finite.max()}"
    else:
        words = f"{number(finite.mean())} ± {number(finite.std())}"
    if missing := array.size - finite.size:
        words = f"{missing} not finite"
    rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array[np.newaxis]
    if array.ndim <= 2 and rows.shape[0] <= MOST_ROWS and rows.shape[1] <= MOST_COLUMNS:
        largest = float(np.abs(finite).max()) or 1.0
        return Reading((shape, words), cells=np.nan_to_num(rows / largest, nan=0.0, posinf=1.0, neginf=-1.0))
    counts, _ = np.histogram(finite.astype(np.float64), BINS)
    return Reading((shape, words), bars=counts / counts.max())
