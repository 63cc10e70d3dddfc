"""The pictures of a run as geometry: curves over the epochs, predictions against targets, confusion matrices.

`templates/charts.svg` draws them, in `report.html` and in SVG files of their own.
"""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.parameter import Array
from layerflow.report import number
from layerflow.training.metrics import precision_recall_f1

WIDTH, HEIGHT, SQUARE = 460, 230, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 28
MOST_POINTS = 800
CELL = 34
LONGEST_NAME, LONGEST_ACROSS = 24, 5  # characters of a class name: shown at all, shown horizontally above a column
CHARACTER = 7.0  # pixels


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis: maps values to positions and places the ticks."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    @property
    def ticks(self) -> list[float]:
        """Return round numbers inside the axis: powers of ten, or multiples of 1, 2 or 5 times a power of ten."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            every = max(1, math.ceil((last - first + 1) / 6))
            powers = [10.0**power for power in range(first, last + 1, every)]
            return powers if len(powers) > 1 else [self.low, *powers, self.high]
        raw = (self.high - self.low) / 6
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Curve:
    """One line of a chart; `role` gives its color: training, validation, plain, faint."""

    name: str
    role: str
    values: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """Two axes and what is drawn between them; y grows downwards.

    Attributes:
        lines: CSS class and two end points of each straight line.
        paths: CSS class and SVG path of each curve.
        dots: CSS class, center and radius of each point.
    """

    label: str
    width: int
    height: int
    x: Scale
    y: Scale
    x_ticks: Sequence[float]
    lines: Sequence[tuple[str, float, float, float, float]] = ()
    paths: Sequence[tuple[str, str]] = ()
    dots: Sequence[tuple[str, float, float, float]] = ()


def chart(
    title: str,
    epochs: Sequence[float],
    curves: Sequence[Curve],
    marked: float | None = None,
    level: float | None = None,
) -> dict[str, Any]:
    """Return a chart of curves over the epochs, with its legend and the numbers that the page shows at the pointer.

    NaN leaves a gap. `marked`, the epoch whose weights were kept, is a vertical line; `level`, the constant guess, is a
    horizontal line if it lies near the curves.
    """
    every = math.ceil(len(epochs) / MOST_POINTS)
    chosen = sorted({*range(0, len(epochs), every), len(epochs) - 1})
    margin = 0.5 if len(epochs) == 1 else 0.0
    x = Scale(epochs[0] - margin, epochs[-1] + margin, LEFT, WIDTH - RIGHT)
    y = vertical([value for curve in curves for value in curve.values], level)
    lines: list[tuple[str, float, float, float, float]] = []
    if level is not None and y.low <= level <= y.high:
        lines.append(("level", LEFT, y(level), WIDTH - RIGHT, y(level)))
    if marked is not None:
        lines.append(("marked", x(marked), TOP, x(marked), HEIGHT - BOTTOM))
    paths = [(c.role, _path([(x(epochs[i]), c.values[i]) for i in chosen], y)) for c in curves]
    alone = [c for c in curves if len(epochs) == 1 and math.isfinite(c.values[0])]
    dots = [(f"dot {c.role}", x(epochs[0]), y(c.values[0]), 3.0) for c in alone]
    shown = epochs.index(marked) if marked in epochs else len(epochs) - 1
    numbers = {
        "epochs": [epochs[i] for i in chosen],
        "x": [round(x(epochs[i]), 1) for i in chosen],
        "values": [[number(curve.values[i]) for i in chosen] for curve in curves],
        "shown": shown // every,
    }
    return {
        "title": title,
        "plot": Plot(f"{title} over the epochs", WIDTH, HEIGHT, x, y, _epoch_ticks(x, len(epochs)), lines, paths, dots),
        "epoch": epochs[shown],
        "legend": [(curve.name, curve.role, number(curve.values[shown])) for curve in curves],
        "level": "" if level is None else number(level),
        "numbers": numbers,
    }


def scatter(true: Sequence[float], predicted: Sequence[float]) -> Plot:
    """Return predictions against targets, with the line on which they would be exact."""
    values = [*true, *predicted]
    low, high = min(values), max(values)
    margin = (high - low) * 0.04 or 0.5
    x = Scale(low - margin, high + margin, LEFT, SQUARE - RIGHT)
    y = Scale(low - margin, high + margin, SQUARE - BOTTOM, TOP)
    line = ("level", x(x.low), y(y.low), x(x.high), y(y.high))
    dots = [("sample", x(t), y(p), 2.4) for t, p in zip(true, predicted, strict=True)]
    return Plot("predictions against targets", SQUARE, SQUARE, x, y, x.ticks, [line], dots=dots)


def confusion(matrix: Array, classes: Sequence[str]) -> dict[str, Any]:
    """Return a confusion matrix as a picture: rows are true classes, columns predicted ones.

    Recall is at the ends of the rows, precision at the ends of the columns; the shade is the share of the row. Names
    above the columns that are too long to fit are written upwards (`is_tall`).
    """
    names = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in classes]
    longest = max(map(_extent, names))
    is_tall = longest > LONGEST_ACROSS * CHARACTER
    precision, recall, _ = precision_recall_f1(matrix)
    left, top, side = max(longest, _extent("precision")) + 12, (longest if is_tall else 12) + 12, CELL * len(classes)
    return {
        "cell": CELL,
        "left": left,
        "top": top,
        "width": left + side + 1.5 * CELL + 4,
        "height": top + side + CELL + 4,
        "names": list(zip(names, classes, strict=True)),
        "is_tall": is_tall,
        "rows": [[_cell(matrix, classes, i, j) for j in range(len(classes))] for i in range(len(classes))],
        "recall": recall.tolist(),
        "precision": precision.tolist(),
    }


def most_confused(matrix: Array, classes: Sequence[str], most: int) -> list[tuple[str, str, int, int]]:
    """Return the most frequent confusions: true class, predicted class, samples, samples of the true class."""
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(classes)) for place in order]
    return [(classes[i], classes[j], int(wrong[i, j]), int(matrix[i].sum())) for i, j in pairs if wrong[i, j]]


def _cell(matrix: Array, classes: Sequence[str], i: int, j: int) -> tuple[str, str, float, str]:
    """Text, CSS classes, opacity and tooltip of a cell."""
    count, total = int(matrix[i, j]), int(matrix[i].sum())
    if not count:
        return "·", "none", 0.0, ""
    # A confusion of one sample in thirty must still be visible, so its color starts from a visible share.
    shade = count / total if i == j else min(0.25 + count / total, 0.9)
    role = ("right" if i == j else "wrong") + (" strong" if shade > 0.6 else "")
    return str(count), role, shade, f"{count} of {total} '{classes[i]}' samples predicted '{classes[j]}'"


def _extent(text: str) -> float:
    """Return about how many pixels wide a text is; East Asian characters are twice as wide as others."""
    return CHARACTER * sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def vertical(values: Sequence[float], level: float | None = None) -> Scale:
    """Return a logarithmic axis if positive values span more than a factor of 50, else a linear one with a margin.

    The level is included unless the curves would have to shrink by a third for it.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if level is not None and low - (high - low) / 2 <= level <= high + (high - low) / 2:
        low, high = min(low, level), max(high, level)
    if low > 0 and high / low > 50:
        return Scale(low / 1.15, high * 1.15, HEIGHT - BOTTOM, TOP, is_log=True)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    bottom = 0.0 if 0 <= low < (high - low) * 0.15 else low - margin
    return Scale(bottom, high + margin, HEIGHT - BOTTOM, TOP)


def _epoch_ticks(x: Scale, epochs: int) -> list[float]:
    whole = [tick for tick in x.ticks if tick == round(tick) and x.low <= tick <= x.high]
    # The first epoch gets its number if the next tick leaves room for it.
    return ([x.low] if epochs > 1 and (not whole or x(whole[0]) - LEFT > 30) else []) + whole


def _path(points: Iterable[tuple[float, float]], y: Scale) -> str:
    commands, is_open = [], False
    for at, value in points:
        is_drawn = math.isfinite(value)
        if is_drawn:
            commands.append(f"{'L' if is_open else 'M'}{at:.1f} {y(value):.1f}")
        is_open = is_drawn
    return "".join(commands)
