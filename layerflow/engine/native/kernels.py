"""Buffers, and kernels: nests of loops that read buffers and write them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from layerflow.engine.native.expressions import Expression, Index, loads, picked
from layerflow.parameter import Array

STEP = -1  # the variable that counts the runs of a program in one call


@dataclass(eq=False)
class Buffer:
    """Memory of one type.

    Attributes:
        kind: "given" by the caller under a name, "constant", or "temporary": a part of the arena, from `offset` on.
    """

    number: int
    dtype: np.dtype[Any]
    size: int
    kind: str
    name: str = ""
    value: Array | None = None
    first: int = 1 << 60
    last: int = -1
    offset: int = 0


@dataclass(frozen=True)
class Store:
    """An element that is written, or added to."""

    buffer: int
    index: Index
    value: Expression
    mode: str = "set"


@dataclass(frozen=True)
class Matrix:
    """A matrix in memory: where it starts, and the strides of rows and columns."""

    buffer: int
    index: Index
    row: int
    column: int


@dataclass(frozen=True)
class Product:
    """C = A B, or C += A B, for matrices of (rows, inner) and (inner, columns)."""

    rows: int
    columns: int
    inner: int
    a: Matrix
    b: Matrix
    c: Matrix
    adds: bool
    dtype: np.dtype[Any]
    is_small: bool


@dataclass(eq=False)
class Kernel:
    """Loops, outermost first, around stores, a fold or a product.

    Attributes:
        loops, folds: (variable, size); the value of a fold is combined over its loops by `function`.
        function: "sum", "max", ..., "argmax", "argmin", "cumsum", "cumprod", or empty.
        guard: the number of the guard that the one stored value is, plus 1; the program stops where it is false.
    """

    loops: list[tuple[int, int]]
    stores: list[Store] = field(default_factory=list)
    folds: list[tuple[int, int]] = field(default_factory=list)
    function: str = ""
    product: Product | None = None
    guard: int = 0

    def reads(self) -> Iterable[tuple[int, Index | None]]:
        """Yield (buffer, index) of all that is read; the index of a matrix is None."""
        for store in self.stores:
            yield from loads(store.value)
            yield from picked(store.index)
            if store.mode == "add":
                yield store.buffer, store.index
        if self.product:
            yield self.product.a.buffer, None
            yield self.product.b.buffer, None
            if self.product.adds:
                yield self.product.c.buffer, None

    def writes(self) -> Iterable[tuple[int, Index | None]]:
        """Yield (buffer, index) of all that is written."""
        for store in self.stores:
            yield store.buffer, store.index
        if self.product:
            yield self.product.c.buffer, None
