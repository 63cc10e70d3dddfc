"""Matrix products and their relatives on stand-in arrays: all become `dot` nodes."""

import math
from typing import Any

import numpy as np

from layerflow.engine.traced import Traced, held_by, recorder, refuse


def matmul(a: Any, b: Any) -> Any:
    """`a @ b`."""
    value = np.matmul(held_by(a), held_by(b))
    a, b = (
        (item if isinstance(item, Traced) else Traced.constant(item)).astype(value.dtype, copy=False) for item in (a, b)
    )
    if value.dtype.kind == "b":
        raise refuse("a matrix product of truth values", "x.astype(float) makes them numbers")
    if a.ndim == 1 or b.ndim == 1:
        rows = a.reshape(1, -1) if a.ndim == 1 else a
        return matmul(rows, b.reshape(-1, 1) if b.ndim == 1 else b).reshape(value.shape)
    if b.ndim == 2 and a.ndim > 2 and value.size:
        return matmul(a.reshape(-1, a.shape[-1]), b).reshape(value.shape)
    lead = value.shape[:-2]
    a, b = (np.broadcast_to(item, (*lead, *item.shape[-2:])) for item in (a, b))
    return Traced(recorder().add("dot", (a.node, b.node), {}, value.shape, value.dtype), value)


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """`np.tensordot`."""
    if isinstance(axes, int):
        axes = list(range(np.ndim(a) - axes, np.ndim(a))), list(range(axes))
    of_a, of_b = ([item] if isinstance(item, int) else list(item) for item in axes)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    name_a = [next(letters) for _ in range(np.ndim(a))]
    name_b = [next(letters) for _ in range(np.ndim(b))]
    for i, j in zip(of_a, of_b, strict=True):
        name_b[j] = name_a[i]
    shared = {name_a[i] for i in of_a}
    right = [letter for letter in (*name_a, *name_b) if letter not in shared]
    return einsum(f"{''.join(name_a)},{''.join(name_b)}->{''.join(right)}", a, b)


def einsum(*operands: Any, optimize: Any = False, out: Any = None) -> Any:
    """`np.einsum`: the operands are contracted two by two, from the left."""
    formula, arrays = operands[0], list(operands[1:])
    if not isinstance(formula, str):
        raise refuse("np.einsum without a formula in letters", "write it as np.einsum('ij,jk->ik', a, b)")
    left, arrow, right = formula.replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in formula:
        terms, right = _spelled_out(terms, right, arrays)
    if not arrow:
        letters = "".join(terms)
        right = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    for i, term in enumerate(terms):
        for letter in term:
            while terms[i].count(letter) > 1:  # a diagonal
                first = terms[i].index(letter)
                second = terms[i].index(letter, first + 1)
                arrays[i] = np.diagonal(arrays[i], 0, first, second)
                kept = "".join(c for j, c in enumerate(terms[i]) if j not in (first, second))
                terms[i] = kept + letter
    while len(arrays) > 1:
        rest = "".join(terms[2:]) + right
        term, array = _contracted(terms[0], arrays[0], terms[1], arrays[1], rest)
        terms[:2], arrays[:2] = [term], [array]
    gone = tuple(i for i, letter in enumerate(terms[0]) if letter not in right)
    array = np.sum(arrays[0], axis=gone) if gone else arrays[0]
    term = "".join(letter for letter in terms[0] if letter in right)
    result = np.transpose(array, [term.index(letter) for letter in right]) if term != right else array
    if out is not None:
        out.write(result)
    return result if out is None else out


def _spelled_out(terms: list[str], right: str, arrays: list[Any]) -> tuple[list[str], str]:
    """Write letters in the place of the dots."""
    spare = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in "".join((*terms, right))]
    widths = [np.ndim(x) - len(term) + 3 for term, x in zip(terms, arrays, strict=True) if "." in term]
    dots = "".join(spare[: max(widths)])
    found = []
    for term, x in zip(terms, arrays, strict=True):
        width = np.ndim(x) - len(term) + 3
        found.append(term.replace("...", dots[len(dots) - width :] if width else ""))
    return found, right.replace("...", dots)


def _contracted(term_a: str, a: Any, term_b: str, b: Any, rest: str) -> tuple[str, Any]:
    """Multiply two operands and sum over the letters that nothing else needs."""
    for letter in [letter for letter in term_a if letter not in term_b + rest]:
        a, term_a = np.sum(a, axis=term_a.index(letter)), term_a.replace(letter, "")
    for letter in [letter for letter in term_b if letter not in term_a + rest]:
        b, term_b = np.sum(b, axis=term_b.index(letter)), term_b.replace(letter, "")
    sizes = dict(zip(term_a, np.shape(a), strict=True))
    for letter, size in zip(term_b, np.shape(b), strict=True):
        sizes[letter] = max(size, sizes.get(letter, 1))
    kept = [letter for letter in term_a if letter in term_b and letter in rest]
    summed = [letter for letter in term_a if letter in term_b and letter not in rest]
    own_a = [letter for letter in term_a if letter not in term_b]
    own_b = [letter for letter in term_b if letter not in term_a]

    def matrix(x: Any, term: str, order: list[list[str]]) -> Any:
        letters = [letter for group in order for letter in group]
        moved = np.transpose(x, [term.index(letter) for letter in letters])
        moved = np.broadcast_to(moved, [sizes[letter] for letter in letters])
        return np.reshape(moved, [math.prod(sizes[letter] for letter in group) for group in order])

    product = matmul(matrix(a, term_a, [kept, own_a, summed]), matrix(b, term_b, [kept, summed, own_b]))
    term = "".join((*kept, *own_a, *own_b))
    return term, np.reshape(product, [sizes[letter] for letter in term])
