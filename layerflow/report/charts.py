"""Curves as inline SVG, in the colours of the page, with the numbers beside them that a pointer asks for."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from layerflow.report.markup import element, text

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 28
MOST_POINTS = 800


@dataclass(frozen=True)
class Curve:
    """One line of a chart; `role` gives its colour: training, validation, plain, faint."""

    name: str
    role: str
    values: Sequence[float]


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis: from values to positions, and where its ticks are."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        low, high, value = (
            (map(math.log10, (self.low, self.high, value))) if self.is_log else (self.low, self.high, value)
        )
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    @property
    def ticks(self) -> list[float]:
        """Return round numbers inside the axis: powers of ten, or steps of 1, 2 or 5 times one."""
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


def chart(
    title: str,
    epochs: list[float],
    curves: Sequence[Curve],
    marked: float | None = None,
    level: float | None = None,
) -> str:
    """Return a figure: title and legend, and below them the curves over the epochs.

    Args:
        title: what is shown.
        epochs: the numbers of the epochs.
        curves: lines as long as `epochs`; NaN leaves a gap.
        marked: the epoch whose weights were kept, as a vertical line.
        level: the constant guess, as a horizontal line where it lies near the curves.
    """
    every = math.ceil(len(epochs) / MOST_POINTS)
    chosen = sorted({*range(0, len(epochs), every), len(epochs) - 1})
    margin = 0.5 if len(epochs) == 1 else 0.0
    x = Scale(epochs[0] - margin, epochs[-1] + margin, LEFT, WIDTH - RIGHT)
    y = _vertical([value for curve in curves for value in curve.values], level)
    parts = [_grid(x, y, len(epochs))]
    if level is not None and y.low <= level <= y.high:
        parts.append(_line("level", LEFT, y(level), WIDTH - RIGHT, y(level)))
    if marked is not None:
        parts.append(_line("marked", x(marked), TOP, x(marked), HEIGHT - BOTTOM))
    parts += [_path(curve, [epochs[i] for i in chosen], [curve.values[i] for i in chosen], x, y) for curve in curves]
    parts.append(f'<line class="pointer" x1="0" x2="0" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/>')
    shown = epochs.index(marked) if marked in epochs else len(epochs) - 1
    numbers = {
        "epochs": [epochs[i] for i in chosen],
        "x": [round(x(epochs[i]), 1) for i in chosen],
        "values": [[_number(curve.values[i]) for i in chosen] for curve in curves],
        "shown": shown // every,
    }
    legend = "".join(
        element(
            "span", f"{escape(curve.name)} {text('output', _number(curve.values[shown]))}", kind=f"key {curve.role}"
        )
        for curve in curves
    )
    if level is not None:
        legend += text("span", f"constant guess {_number(level)}", kind="key level")
    epoch = element("span", f"epoch {text('output', f'{epochs[shown]:g}')}", kind="epoch")
    drawing = element(
        "svg", "".join(parts), viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", **{"aria-label": f"{title} over the epochs"}
    )
    content = element("figcaption", text("b", title) + epoch) + drawing + element("div", legend, kind="legend")
    return element("figure", content, kind="chart", **{"data-numbers": json.dumps(numbers)})


def scatter(true: Sequence[float], predicted: Sequence[float]) -> str:
    """Return predictions against targets; the line is where they would be right."""
    values = [*true, *predicted]
    low, high = min(values), max(values)
    margin = (high - low) * 0.04 or 0.5
    size = 340
    x = Scale(low - margin, high + margin, LEFT, size - RIGHT)
    y = Scale(low - margin, high + margin, size - BOTTOM, TOP)
    dots = "".join(f'<circle cx="{x(t):.1f}" cy="{y(p):.1f}" r="2.4"/>' for t, p in zip(true, predicted, strict=True))
    ticks = "".join(_tick_x(x, tick, size) + _tick_y(y, tick, size) for tick in x.ticks)
    return (
        f'<svg class="scatter" viewBox="0 0 {size} {size}" role="img" aria-label="predictions against targets">{ticks}'
        f'{_line("level", x(x.low), y(y.low), x(x.high), y(y.high))}<g class="dots">{dots}</g></svg>'
    )


def _vertical(values: Sequence[float], level: float | None) -> Scale:
    """A logarithmic axis where positive values span more than a factor of 50, else a linear one with a margin.

    The level is taken in unless the curves would have to shrink by a third for it.
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


def _grid(x: Scale, y: Scale, epochs: int) -> str:
    whole = [tick for tick in x.ticks if tick == round(tick) and x.low <= tick <= x.high]
    # The first epoch is worth its number where the next tick leaves room for it.
    columns = ([x.low] if epochs > 1 and (not whole or x(whole[0]) - LEFT > 30) else []) + whole
    return "".join([_tick_y(y, tick, WIDTH) for tick in y.ticks] + [_tick_x(x, tick, HEIGHT) for tick in columns])


def _tick_y(y: Scale, tick: float, width: int) -> str:
    label = f'<text x="{LEFT - 7}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{_label(tick)}</text>'
    return _line("grid", LEFT, y(tick), width - RIGHT, y(tick)) + label


def _tick_x(x: Scale, tick: float, height: int) -> str:
    return f'<text x="{x(tick):.1f}" y="{height - BOTTOM + 19}" text-anchor="middle">{_label(tick)}</text>'


def _path(curve: Curve, epochs: Sequence[float], values: Sequence[float], x: Scale, y: Scale) -> str:
    commands, is_open = [], False
    for epoch, value in zip(epochs, values, strict=True):
        is_drawn = math.isfinite(value)
        if is_drawn:
            commands.append(f"{'L' if is_open else 'M'}{x(epoch):.1f} {y(value):.1f}")
        is_open = is_drawn
    dot = (
        f'<circle class="dot {curve.role}" cx="{x(epochs[0]):.1f}" cy="{y(values[0]):.1f}" r="3"/>'
        if len(epochs) == 1 and commands
        else ""
    )
    return f'<path class="curve {curve.role}" d="{"".join(commands)}"/>{dot}'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _label(value: float) -> str:
    if 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{0 if abs(value) < 1e-12 else value:.4g}"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
