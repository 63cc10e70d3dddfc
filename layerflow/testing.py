"""Help for those who test gates of their own: all laws in one call, or one test per law.

from layerflow.testing import check_gate, law_tests

check_gate(Scale(), np.random.default_rng(0).normal(size=(4, 3)))

test_scale = law_tests([(Scale(), x), (Scale(2.0), x)])      # in a test file: pytest runs one test per gate and law
"""

from collections.abc import Callable, Iterable
from typing import Any

from layerflow.errors import LayerflowError
from layerflow.gate import Gate
from layerflow.gradcheck.laws import LAWS, Law

Case = tuple[Any, ...]  # (gate, input, ...) or (gate, (input, ...))

__all__ = ["LAWS", "Law", "check_gate", "law_tests"]


def check_gate(gate: Gate, *inputs: Any) -> None:
    """Check every law on a gate and its inputs.

    Raises:
        AssertionError: some laws are broken; the message says which, and how each shows itself.
    """
    broken = []
    for law in LAWS:
        try:
            if law.applies(gate, inputs):
                law.check(gate, inputs)
        except (AssertionError, LayerflowError) as error:
            broken.append(f"{law.name}:\n{error}")
    if broken:
        raise AssertionError(f"{gate!r} breaks {len(broken)} of {len(LAWS)} laws\n\n" + "\n\n".join(broken))


def law_tests(cases: Iterable[Case]) -> Callable[..., None]:
    """Return a pytest test function that runs once per case and law that applies to it.

    Args:
        cases: tuples of a gate and its inputs, `(gate, x)` or `(gate, (x, labels))`.
    """
    import pytest

    split = [(case[0], case[1] if len(case) == 2 and isinstance(case[1], tuple) else tuple(case[1:])) for case in cases]
    pairs = [
        pytest.param(gate, inputs, law, id=f"{type(gate).__name__}{index}-{law.name.replace(' ', '_')}")
        for index, (gate, inputs) in enumerate(split)
        for law in LAWS
        if law.applies(gate, inputs)
    ]

    @pytest.mark.parametrize(("gate", "inputs", "law"), pairs)
    def test_law(gate: Gate, inputs: tuple[Any, ...], law: Law) -> None:
        law.check(gate, inputs)

    parametrized: Callable[..., None] = test_law
    return parametrized
