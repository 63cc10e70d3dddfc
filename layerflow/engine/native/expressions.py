"""What a loop computes: expressions of elements in memory, whose places are affine in the loops' variables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Index(NamedTuple):
    """A place in an array: start + sum of stride * variable + sum of stride * an index that is read from memory.

    Variables are numbers, each of one loop.
    """

    start: int = 0
    terms: tuple[tuple[int, int], ...] = ()  # (variable, stride)
    picks: "tuple[tuple[int, Expression], ...]" = ()  # (stride, index)


class Expression:
    """A value of the innermost loop: a `load`, a `constant`, a `cast`, or an `operation`.

    Two of the same kind and parts are one object; see `Expressions`.
    """

    __slots__ = ("buffer", "dtype", "function", "index", "kind", "operands", "value")

    def __init__(
        self, kind: str, dtype: np.dtype[Any], function: str, operands: "tuple[Expression, ...]", buffer: int,
        index: Index, value: Any,
    ) -> None:  # fmt: skip
        self.kind, self.dtype, self.function, self.operands = kind, dtype, function, operands
        self.buffer, self.index, self.value = buffer, index, value


ZERO = Index()


class Expressions:
    """Makes expressions, each once."""

    def __init__(self) -> None:
        self.known: dict[Any, Expression] = {}

    def _made(
        self, kind: str, dtype: Any, function: str = "", operands: tuple[Expression, ...] = (), buffer: int = -1,
        index: Index = ZERO, value: Any = None,
    ) -> Expression:  # fmt: skip
        key = (kind, dtype, function, operands, buffer, index, repr(value))
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = Expression(kind, dtype, function, operands, buffer, index, value)
        return found

    def load(self, buffer: int, index: Index, dtype: np.dtype[Any]) -> Expression:
        return self._made("load", dtype, buffer=buffer, index=index)

    def constant(self, value: Any, dtype: np.dtype[Any]) -> Expression:
        return self._made("constant", dtype, value=value)

    def operation(self, function: str, operands: Sequence[Expression], dtype: np.dtype[Any]) -> Expression:
        return self._made("operation", dtype, function, tuple(operands))

    def cast(self, operand: Expression, dtype: np.dtype[Any]) -> Expression:
        return operand if operand.dtype == dtype else self._made("cast", dtype, operands=(operand,))

    def moved(self, expression: Expression, variables: Mapping[int, Index]) -> Expression:
        """The expression with other indices in the place of variables."""
        if expression.kind == "constant":
            return expression
        if expression.kind == "load":
            return self.load(expression.buffer, self.moved_index(expression.index, variables), expression.dtype)
        operands = tuple([self.moved(operand, variables) for operand in expression.operands])
        return self._made(expression.kind, expression.dtype, expression.function, operands)

    def moved_index(self, index: Index, variables: Mapping[int, Index]) -> Index:
        """The index with others in the place of variables."""
        parts = [scaled(variables.get(variable, loop(variable)), stride) for variable, stride in index.terms]
        picks = tuple([(stride, self.moved(pick, variables)) for stride, pick in index.picks])
        return added(Index(index.start, (), picks), *parts)


def loop(variable: int) -> Index:
    """The index that a loop's variable is."""
    return Index(0, ((variable, 1),), ())


def scaled(index: Index, factor: int) -> Index:
    """factor * index."""
    if factor == 0:
        return ZERO
    terms = tuple([(variable, stride * factor) for variable, stride in index.terms])
    return Index(index.start * factor, terms, tuple([(stride * factor, pick) for stride, pick in index.picks]))


def added(*indices: Index) -> Index:
    """The sum of indices."""
    start, strides = 0, dict[int, int]()
    picks: tuple[tuple[int, Expression], ...] = ()
    for index in indices:
        start += index.start
        picks += index.picks
        for variable, stride in index.terms:
            strides[variable] = strides.get(variable, 0) + stride
    return Index(start, tuple(sorted((v, s) for v, s in strides.items() if s)), picks)


def strides_of(shape: Sequence[int]) -> list[int]:
    """The strides, in elements, of an array without gaps."""
    found, stride = [], 1
    for size in reversed(shape):
        found.append(stride)
        stride *= size
    return found[::-1]


def flat(indices: Iterable[Index], shape: Sequence[int], start: int = 0) -> Index:
    """The place in memory of an element of an array without gaps."""
    return added(Index(start), *[scaled(i, stride) for i, stride in zip(indices, strides_of(shape), strict=True)])


def loads(expression: Expression) -> Iterable[tuple[int, Index]]:
    """Yield (buffer, index) of everything that an expression reads."""
    if expression.kind == "load":
        yield expression.buffer, expression.index
        yield from picked(expression.index)
    for operand in expression.operands:
        yield from loads(operand)


def picked(index: Index) -> Iterable[tuple[int, Index]]:
    """Yield (buffer, index) of everything that an index reads."""
    for _, pick in index.picks:
        yield from loads(pick)
