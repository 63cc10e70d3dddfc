"""Numeric derivatives: central differences with the step swept, extrapolated, and with an estimate of their own error.

Along a line f(x + t v) the slope is measured at windows of four steps h, h/2, h/4, h/8. Within a window the central
differences are extrapolated to h -> 0 (Richardson 1911; the choice of the best entry and its error estimate follow
Ridders 1982, "Accurate computation of F'(x) and F'(x) F''(x)"). The window with the smallest error wins.

The one-sided slopes tell a kink from a smooth point: their difference, the jump, halves with h where f is smooth and
stays where f has a kink within h.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from layerflow.parameter import Array

FIRST = (5, 6, 7, 8)  # steps 2^-5 .. 2^-8, relative to max(1, |x|)
COARSER = (1, 2, 3, 4)  # where rounding hides the slope
NARROWER = tuple(tuple(range(first, first + 4)) for first in (7, 8, 9, 10, 11, 13))
FINER = tuple(tuple(range(first, first + 4)) for first in (11, 17, 23, 29, 35))
CONCLUSIVE = 1e-9  # relative error of the numeric derivative with which no closer look is taken
AGREED = 1e-8  # the same, where analytic and numeric slope agree as well
USEFUL = 2.5e-6  # the same, with which a window beside a kink overrules wider ones
NEGLIGIBLE = 1e-12  # the same, relative to the largest slope of all lines
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Line:
    """A line through the point at which the derivative is taken: `at(t)` is the flat output at x + t v."""

    at: Callable[[float], Array]
    scale: float
    size: float = 1.0  # |x| of the element; 0 or 1 where it tells nothing
    far: float = 8.0  # a step that moves every output which depends on x


@dataclass
class Slopes:
    """Measured slopes of sum(weights * f), one per line.

    Attributes:
        numeric: the derivative (at a kink: the mean of the two one-sided slopes).
        error: estimate of its absolute error.
        jump: the difference of the one-sided slopes, weighted and summed over the outputs.
        is_smooth: False where no window was free of a kink.
        is_near_kink: True where a window with larger steps was not free of a kink.
        is_confirmed: near a kink, whether the analytic slope agrees with the finest accurate window that is free of it.
        noise: the part of the error that is rounding, and grows as steps get smaller.
        terms: the size of the terms that add up to the slope.
    """

    numeric: NDArray[np.float64]
    error: NDArray[np.float64]
    jump: NDArray[np.float64]
    is_smooth: NDArray[np.bool_]
    is_near_kink: NDArray[np.bool_]
    is_confirmed: NDArray[np.bool_]
    noise: NDArray[np.float64]
    terms: NDArray[np.float64]

    @property
    def uncertainty(self) -> NDArray[np.float64]:
        """The error, at a kink with a part of the jump: one-sided slopes are used where nothing smooth is accurate."""
        return np.where(self.is_smooth, self.error, self.error + 1e-3 * self.jump)

    def is_useful(self, analytic: Array) -> NDArray[np.bool_]:
        """Where a window close to a kink is free of it, and accurate enough to overrule coarser ones."""
        size = np.maximum(np.abs(analytic), np.abs(self.numeric))
        return np.asarray(self.is_smooth & (self.error <= USEFUL * size))

    def take_better(self, which: NDArray[np.intp], other: "Slopes", analytic: Array) -> None:
        """Replace the given lines' slopes where `other`, measured with smaller steps, is less uncertain."""
        mine = self.uncertainty[which]
        overrules = (self.is_near_kink[which] | ~self.is_smooth[which]) & other.is_useful(analytic[which])
        agrees = np.abs(analytic[which] - other.numeric) <= 4.0 * other.error
        confirmed = np.where(overrules, agrees, self.is_confirmed[which])
        near_kink = self.is_near_kink[which] | ~self.is_smooth[which]
        better = (other.uncertainty < mine) | (np.isnan(mine) & ~np.isnan(other.uncertainty)) | (overrules & agrees)
        for kept, found in zip(vars(self).values(), vars(other).values(), strict=True):
            kept[which[better]] = found[better]
        self.is_confirmed[which], self.is_near_kink[which] = confirmed, near_kink


def measure(lines: Sequence[Line], base: Array, weights: Array, analytic: Array, jitter: Array | float = 0.0) -> Slopes:
    """Measure the slope of `weights @ f` along each line, more finely where the first window does not settle it.

    Args:
        lines: the lines, each through the same point.
        base: the flat output at that point.
        weights: the upstream gradient, flat.
        analytic: the slopes that `backward` gives, which decide where a closer look is worth its time.
        jitter: the rounding noise of each output, where it is more than that of the output itself.
    """
    with np.errstate(all="ignore"):
        heights = np.abs(weights) * np.maximum(EPS * np.abs(base), jitter)
        far = np.array([_far(line, base, np.abs(weights), heights) for line in lines]).reshape(len(lines), 3)
        # A slope that moves no output at all may still be right: its effect is then below the rounding of the outputs.
        rounding = np.where((far[:, 2] == 0.0) & (analytic == 0.0), 0.0, far[:, 0])
        rounding += np.finfo(np.float64).tiny  # smaller numbers have no digits of their own
        rounding += EPS * np.nan_to_num(np.abs(analytic), posinf=0.0) * [line.scale for line in lines]

        def window(which: NDArray[np.intp], exponents: Sequence[int]) -> Slopes:
            return _window([lines[i] for i in which], base, weights, rounding[which], analytic[which], exponents)

        slopes = window(np.arange(len(lines)), FIRST)
        noisy = np.flatnonzero(slopes.is_smooth & (slopes.error > AGREED * np.abs(slopes.numeric)))
        if noisy.size:
            coarse = window(noisy, COARSER)
            coarse.error[~coarse.is_smooth] = np.inf
            slopes.take_better(noisy, coarse, analytic)
        _resolve(slopes, analytic, window)
        rest = _unsettled(slopes, analytic)
        for exponents in FINER:
            if not rest.size:
                break
            slopes.take_better(rest, window(rest, exponents), analytic)
            rest = _unsettled(slopes, analytic)
        tiny = np.array([i for i in rest if 0.0 < lines[i].size < 2.0**-8 * lines[i].scale], dtype=np.intp)
        for exponents in ((2, 3, 4, 5), (6, 7, 8, 9)) if tiny.size else ():
            near = [Line(lines[i].at, 2.0 ** np.floor(np.log2(lines[i].size))) for i in tiny]
            found = _window(near, base, weights, rounding[tiny], analytic[tiny], exponents)
            slopes.take_better(tiny, found, analytic)
        _resolve(slopes, analytic, window)  # again: a finer window may have left a kink in its widest steps
        slopes.terms = far[:, 1]
    return slopes


def _resolve(slopes: Slopes, analytic: Array, window: Callable[[NDArray[np.intp], Sequence[int]], Slopes]) -> None:
    """Confirm slopes that differ from the measured ones by a kink too small to be seen in wide windows.

    One of many units, nearly cut off, may have its kink within the step, where the curvature of the others hides it.
    Narrower windows decide as long as they resolve the difference, or would without kinks.
    """
    difference = np.abs(analytic - slopes.numeric)
    size = np.maximum(np.abs(analytic), np.abs(slopes.numeric))
    rest = np.flatnonzero((difference > 4.0 * slopes.error + 1e-7 * size) & (difference < 1e-4 * size))
    for exponents in NARROWER if rest.size else ():
        found = window(rest, exponents)
        is_sharp = found.is_smooth & (found.error <= difference[rest])
        is_right = is_sharp & (np.abs(found.numeric - analytic[rest]) <= 0.25 * difference[rest])
        right = rest[is_right]
        slopes.is_confirmed[right] = True
        slopes.numeric[right], slopes.error[right] = found.numeric[is_right], found.error[is_right]
        is_limited = found.error <= 3.0 * found.noise
        rest = rest[~is_right & (is_sharp | ~is_limited)]


def _far(line: Line, base: Array, weights: Array, heights: Array) -> tuple[float, float, bool]:
    """What a far step to both sides shows: the rounding in differences, the size of a slope's terms, any move at all.

    Outputs that stay bring no rounding into differences; a far step shows that 1 - 1e-20, rounded to 1, depends on that
    1e-20. Where functions grow fast, it says too much of the terms: they count up to outputs of 1 or their own size.
    """
    above, below = _value(line, line.far, base) - base, _value(line, -line.far, base) - base
    moves = (above != 0.0) | (below != 0.0)
    is_moved = bool(moves.any())
    moves |= not is_moved
    reach = max(np.nan_to_num(weights @ np.abs(side), nan=0.0) for side in (above, below)) / line.far
    size = moves @ (weights * np.abs(base)) / line.scale
    unit = moves @ (weights * np.maximum(np.abs(base), 1.0)) / line.scale
    return float(moves @ heights), float(max(min(reach, unit), size)), is_moved


def _unsettled(slopes: Slopes, analytic: Array) -> NDArray[np.intp]:
    """The lines whose slope is not yet known well enough, and might be from smaller steps."""
    size = np.maximum(np.abs(analytic), np.abs(slopes.numeric))
    largest = np.max(np.abs(slopes.numeric), initial=0.0, where=np.isfinite(slopes.numeric))
    settled = slopes.is_smooth & (slopes.error <= np.maximum(CONCLUSIVE * size, NEGLIGIBLE * largest))
    settled |= slopes.is_smooth & (np.maximum(slopes.error, np.abs(analytic - slopes.numeric)) <= AGREED * size)
    is_flat = (size == 0.0) & (slopes.jump == 0.0) & slopes.is_smooth
    is_limited = slopes.is_smooth & ~slopes.is_near_kink & (slopes.error <= 3.0 * slopes.noise)
    return np.flatnonzero(~settled & ~is_flat & ~is_limited)


def _window(
    lines: Sequence[Line], base: Array, weights: Array, rounding: Array, analytic: Array, exponents: Sequence[int]
) -> Slopes:
    central = np.empty((4, len(lines)))
    values = np.empty((2, 4, len(lines)))
    jump = np.empty((4, len(lines)))
    heights = np.abs(weights)
    for column, line in enumerate(lines):
        for row, exponent in enumerate(exponents):
            step = line.scale * 2.0**-exponent
            above, below = _value(line, step, base), _value(line, -step, base)
            central[row, column] = weights @ (above - below) / (2 * step)
            values[:, row, column] = weights @ (above - base), weights @ (below - base)
            jump[row, column] = heights @ np.abs((above - base) - (base - below)) / step
    # Outputs that move in a few jumps, or not at all, are rounded to a grid that is coarser than they are themselves.
    count = np.array([np.unique(each).size for each in values.reshape(8, -1).T], dtype=np.intp)
    is_grid = (count <= 4) & ((count > 1) | (analytic != 0.0))
    rounding = np.where(is_grid, np.maximum(rounding, EPS * np.max(heights, initial=0.0)), rounding)
    noise = 4 * rounding / np.array([line.scale * 2.0 ** -exponents[-1] for line in lines])
    numeric, error = extrapolate(central)
    error += 1.5 * noise  # a kink with a jump of up to 10 noises passes as smooth
    smooth = _falls_steadily(jump, noise) & np.isfinite(error)
    spread = np.abs(central[3] - central[0]) + np.abs(jump[3] - jump[0]) + noise
    return Slopes(
        np.where(smooth, numeric, central[3]),
        np.where(smooth, error, np.where(np.isfinite(spread), spread, np.inf)),
        jump[3],
        smooth,
        np.zeros(len(lines), dtype=bool),
        np.zeros(len(lines), dtype=bool),
        noise,
        np.zeros(len(lines)),
    )


def _falls_steadily(jump: Array, noise: Array) -> NDArray[np.bool_]:
    """Whether the jump falls as it does where f is smooth: by 2, 8 or 32 per halving of the step.

    At a kink it stays; where a step no longer reaches the kink, it is gone all at once.
    """
    stays = jump[1:] > 0.75 * jump[:-1] + 10.0 * noise
    vanishes = (jump[1:] < jump[:-1] / 40.0) & (jump[:-1] > 20.0 * noise)
    return np.asarray(~np.any(stays | vanishes, axis=0))


def columns(lines: Sequence[Line], base: Array) -> Array:
    """The derivative of every output element along every line: the numeric Jacobian, one column per line."""
    result = np.empty((base.size, len(lines)))
    with np.errstate(all="ignore"):
        for column, line in enumerate(lines):
            best = np.full(base.size, np.inf)
            for exponents in (FIRST, *FINER):
                steps = [line.scale * 2.0**-exponent for exponent in exponents]
                central = np.array([(_value(line, h, base) - _value(line, -h, base)) / (2 * h) for h in steps])
                numeric, error = extrapolate(central)
                error = error + 4 * EPS * np.abs(base) / steps[-1]
                better = error < best
                result[better, column], best[better] = numeric[better], error[better]
                if np.all(best <= CONCLUSIVE * np.maximum(np.abs(result[:, column]), 1e-2)):
                    break
    return result


def extrapolate(central: Array) -> tuple[Array, Array]:
    """The best entry of the Romberg tableau over steps h, h/2, h/4, h/8 (rows), and its error estimate, per column."""
    column = list(central)
    candidates = [column[-1]]
    errors = [np.abs(column[-1] - column[-2])]
    for order in (1, 2, 3):
        factor = 4.0**order
        finer = [(factor * b - a) / (factor - 1.0) for a, b in pairwise(column)]
        for value, a, b in zip(finer, column, column[1:], strict=False):
            candidates.append(value)
            errors.append(np.maximum(np.abs(value - a), np.abs(value - b)))
        column = finer
    ranked = np.where(np.isfinite(errors), errors, np.inf)
    best = np.argmin(ranked, axis=0)
    lines = np.arange(central.shape[1])
    return np.array(candidates)[best, lines], ranked[best, lines]


def _value(line: Line, step: float, base: Array) -> Array:
    """The output at a step; not-a-number where the gate refuses that point, which says nothing against its gradient."""
    try:
        value = line.at(step)
    except Exception:
        return np.full_like(base, np.nan)
    return value if value.shape == base.shape else np.full_like(base, np.nan)
