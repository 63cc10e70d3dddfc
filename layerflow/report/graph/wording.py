"""How gates, numbers and arrays are written in a picture: labels, formulas from docstrings, summaries of arrays."""

import inspect
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.gate import Gate
from layerflow.parameter import Array

SIGNS = {
    "Add": "+", "Subtract": "−", "Multiply": "×", "Divide": "÷", "Negate": "−1·", "MatMul": "@", "Maximum": "max",
    "Minimum": "min", "Exp": "exp", "Log": "log", "Sum": "Σ", "Mean": "mean", "Max": "max", "Transpose": "T",
    "Tanh": "tanh", "Sigmoid": "σ",
}  # fmt: skip
LONGEST_LABEL = 26
MOST_ROWS, MOST_COLUMNS = 16, 24  # of a heat map
BINS = 14


def label_of(gate: Gate) -> str:
    """A gate in one word: its operator sign, or its type with the arguments that differ from the defaults."""
    kind = type(gate).__name__
    defaults = inspect.signature(type(gate)).parameters
    chosen = {name: value for name, value in gate.arguments.items() if not _is_same(value, defaults[name].default)}
    if kind == "Power" and chosen:
        return f"^{chosen['exponent']}"
    if not chosen:
        return SIGNS.get(kind, kind)
    first, *others = chosen
    written = [repr(chosen[first]) if first == next(iter(defaults)) else f"{first}={chosen[first]!r}"]
    label = f"{kind}({', '.join(written + [f'{name}={chosen[name]!r}' for name in others])})"
    return label if len(label) <= LONGEST_LABEL else f"{kind}(…)"


def is_sign(label: str) -> bool:
    """Whether a label is an operator sign; these are drawn in a circle."""
    return label in SIGNS.values()


def is_generated(name: str, gate: Gate) -> bool:
    """Whether the name of a node was generated from the type of its gate."""
    return re.fullmatch(rf"{type(gate).__name__.lower()}(_\d+)?", name) is not None


def formula_of(gate: Gate) -> str:
    """The first paragraph of the gate's docstring, which is its formula; empty if there is none."""
    return (inspect.cleandoc(type(gate).__doc__ or "").split("\n\n")[0]).replace("\n", " ")


def local_gradient_of(gate: Gate) -> str:
    """What the gate's docstring says after `Local gradient:`; empty if it has no such section."""
    document = inspect.cleandoc(type(gate).__doc__ or "")
    found = re.search(r"^Local gradient:\s*(.*?)(?=\n[A-Z]\w*:|\n\n|\Z)", document, re.DOTALL | re.MULTILINE)
    return " ".join(found.group(1).split()) if found else ""


def number(value: Any) -> str:
    """A number in three significant digits, without an exponent if possible."""
    value = float(value)
    if value != value or value in (np.inf, -np.inf):
        return str(value)
    if value == 0 or 0.001 <= abs(value) < 100_000:
        text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
        return "0" if text == "-0" else text
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as `32 × 64`; empty for a scalar."""
    return " × ".join(map(str, shape))


@dataclass(frozen=True)
class Summary:
    """The text lines for a value, and for an array a small picture of it.

    Attributes:
        lines: one line for a scalar; the shape, and mean ± standard deviation, for an array.
        cells: for a small array: its elements in rows, divided by the largest magnitude, between -1 and 1.
        bars: for a large array: the heights of a histogram, between 0 and 1, from its smallest to its largest element.
    """

    lines: tuple[str, ...]
    cells: Array | None = None
    bars: Array | None = None

    @property
    def is_scalar(self) -> bool:
        """Whether there is a single number to show, and no picture."""
        return len(self.lines) == 1


def summarize(value: Any) -> Summary:
    """Summarize a value; NaN and infinity are counted, never averaged."""
    array = np.asarray(value)
    if array.ndim == 0:
        return Summary((number(array),))
    shape = shape_text(array.shape)
    finite = array[np.isfinite(array)]
    if not finite.size:
        return Summary((shape, "empty" if not array.size else "no finite value"))
    if np.issubdtype(array.dtype, np.integer):
        words = f"{finite.min()} to {finite.max()}"
    else:
        words = f"{number(finite.mean())} ± {number(finite.std())}"
    if missing := array.size - finite.size:
        words = f"{missing} non-finite"
    rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array[np.newaxis]
    if array.ndim <= 2 and rows.shape[0] <= MOST_ROWS and rows.shape[1] <= MOST_COLUMNS:
        largest = float(np.abs(finite).max()) or 1.0
        return Summary((shape, words), cells=np.nan_to_num(rows / largest, nan=0.0, posinf=1.0, neginf=-1.0))
    counts, _ = np.histogram(finite.astype(np.float64), BINS)
    return Summary((shape, words), bars=counts / counts.max())


def words_of(value: Any, shape: tuple[int, ...] | None = None) -> str:
    """A value in one line; without a value, its shape."""
    return shape_text(shape or ()) if value is None else " · ".join(summarize(value).lines)


def _is_same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(np.all(value == default))
