"""The list of right gates; each file of this folder adds its own."""

from collections.abc import Callable
from typing import Any

import numpy as np

Make = Callable[[np.random.Generator], tuple[Any, ...]]
CORRECT: dict[str, Make] = {}


def correct(title: str) -> Callable[[Make], Make]:
    """Add a function that makes a gate and its inputs from a random generator."""

    def add(make: Make) -> Make:
        assert title not in CORRECT, title
        CORRECT[title] = make
        return make

    return add
