"""Comparing an analytic with a measured slope: strictly where f is smooth, by one-sided slopes where it has a kink."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layerflow.gradcheck.differences import EPS, Slopes
from layerflow.parameter import Array

SAFETY = 4.0  # the estimated error of the numeric slope may be off by this factor
DETECTABLE = 1e-5  # a relative error of this size is found in every element that counts as measured
USELESS = 1e-3  # where noise is larger than this, relative to the tensor's largest slope, nothing is decided
NO_NOISE = 1e-200
ABSORBED = 2.0**16  # slopes up to so many last digits of their terms may have lost their own digits in them


@dataclass
class Comparison:
    """The verdict on every line; each attribute has one entry per line.

    Attributes:
        excess: |analytic - numeric| over what is allowed; more than 1 is wrong.
        relative: |analytic - numeric| / max(|analytic|, |numeric|), 0 where both are 0 as far as can be measured.
        reachable: the relative accuracy of the comparison.
        is_kink: decided by the one-sided slopes.
        is_open: agrees, but an error of `DETECTABLE` would not have been seen.
        is_useless: among those, where the noise is too large to say anything.
    """

    analytic: Array
    numeric: Array
    excess: Array
    relative: Array
    reachable: Array
    is_kink: NDArray[np.bool_]
    is_open: NDArray[np.bool_]
    is_useless: NDArray[np.bool_]

    @property
    def is_wrong(self) -> NDArray[np.bool_]:
        """The lines on which the analytic slope is wrong."""
        return (self.excess > 1.0) & ~self.is_open

    @property
    def worst(self) -> int:
        """The line that agrees least: by relative error, wrong ones first, undecided ones last."""
        rank = np.where(self.is_wrong, 2, np.where(self.is_open, 0, 1))
        return int(np.lexsort((self.relative, rank))[-1])


def compare(analytic: Array, slopes: Slopes, rtol: float, jitter: Array) -> Comparison:
    """Compare the slopes that `backward` gives with the measured ones.

    At a kink every value between the one-sided slopes is a subgradient and accepted (Clarke 1983, chapter 2).

    Args:
        analytic: what `backward` gives, per line.
        slopes: what was measured.
        rtol: the relative difference that is accepted.
        jitter: the rounding noise of `analytic`: `p - 1` in a confident softmax is good to 1e-16, however small it is.
    """
    with np.errstate(all="ignore"):
        digit = EPS * slopes.terms
        jitter = np.maximum(jitter, np.where(np.abs(analytic) <= ABSORBED * digit, digit, 0.0))
        numeric, error = slopes.numeric, SAFETY * (slopes.error + jitter)
        is_measured = np.isfinite(error)
        is_kink = ~slopes.is_smooth & is_measured & np.isfinite(slopes.jump)
        outside = np.abs(analytic - numeric) - np.where(is_kink, slopes.jump / 2.0, 0.0)
        difference = np.where(np.isfinite(analytic), np.maximum(outside, 0.0), np.inf)
        size = np.maximum(np.abs(analytic), np.abs(numeric))
        largest = np.max(np.abs(numeric), initial=0.0, where=np.isfinite(numeric))
        allowed = rtol * size + error
        excess = np.where(slopes.is_confirmed, 0.0, _ratio(difference, allowed))
        excess = np.where(np.isfinite(analytic), excess, np.inf)
        scale = np.maximum(largest, slopes.terms)
        is_zero = (analytic == 0.0) & ((allowed <= DETECTABLE * scale) | (allowed <= NO_NOISE))
        is_open = ~is_measured | ~(is_kink | is_zero | (allowed <= DETECTABLE * size) | (excess > 1.0))
        is_open &= np.isfinite(analytic)
        is_useless = is_open & ~(allowed <= USELESS * np.maximum(size, scale))
        relative = np.where((size <= error) & (excess <= 1.0), 0.0, _ratio(difference, size))
        relative = np.where(np.isfinite(analytic), relative, np.inf)
        against = np.where(np.isfinite(size) & (size > 0.0), size, max(largest, 1.0))
        reachable = np.maximum(_ratio(slopes.error + jitter, against), EPS)
        return Comparison(analytic, numeric, excess, relative, reachable, is_kink & ~is_open, is_open, is_useless)


def _ratio(above: Array, below: Array) -> Array:
    """above / below with 0/0 = 0."""
    return np.where(above == 0.0, 0.0, above / below)
