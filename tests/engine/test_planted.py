"""Each rule of the lowering, broken on purpose, is found by the random programs: these tests can fail."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerflow.engine.interpreter import interpret
from layerflow.engine.recorder import record

pytest.importorskip("llvmlite")
from layerflow.engine.native import fusion, lowering, memory, simplify
from layerflow.engine.native.compiled import Compiled
from layerflow.engine.native.expressions import Index, added

sys.path.insert(0, str(Path(__file__).parent))
from test_fuzz import Writer, program_of

MOST_PROGRAMS = 150


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LAYERFLOW_CACHE", str(tmp_path))


def everywhere_at_once(kernels: Any, buffers: Any) -> int:
    """A plan in which all temporary buffers lie at the same place."""
    return max((buffer.size * buffer.dtype.itemsize for buffer in buffers), default=0)


def one_further(indices: Any, shape: Any, own: Any) -> Any:
    """Broadcasting that is off by one element in the last axis."""
    found = aligned(indices, shape, own)
    return [*found[:-1], added(found[-1], Index(1))] if own and own[-1] > 1 else found


aligned = lowering._aligned
FAULTS: dict[str, tuple[Any, str, Any]] = {
    "loops are joined though one reads what the other writes elsewhere": (fusion, "_same_place", lambda a, b: True),
    "kernels change places though one needs the other": (fusion, "_depend", lambda a, b: False),
    "temporary buffers overlap": (sys.modules[Compiled.__module__], "plan", everywhere_at_once),
    "memory is taken over that is still read": (memory.Memory, "last_read", lambda self, node: -1),
    "a value is written into memory that it is read from": (memory.Memory, "reads", lambda *given: False),
    "a reshape that merges axes is taken for one that splits": (lowering, "only_splits", lambda a, b: True),
    "an index of a broadcast array is off by one": (lowering, "_aligned", one_further),
    "every constant is taken for 1": (simplify, "_uniform", lambda node: 1 if node.kind == "constant" else None),
    "a fold forgets its neutral element": (sys.modules["layerflow.engine.native.printing"], "_start", lambda f, d: 1),
}


def differs(choices: list[int], steps: int) -> bool:
    """Whether machine code and interpreter differ on a random program, or it cannot even be compiled."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in ((4, 6), (6, 3), (2, 3, 4), (5,), ())]
    program = program_of(Writer(choices), arrays, steps)
    inputs = {f"x{i}": array for i, array in enumerate(arrays)}
    expected = interpret(program, inputs)
    try:
        compiled = Compiled(program)
    except Exception:
        return True
    compiled.run(inputs)
    return not all(
        np.allclose(compiled.outputs[name], value, rtol=1e-9, atol=1e-9, equal_nan=True)
        for name, value in expected.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_rule_is_found(fault: str) -> None:
    """In a process of its own, for what reads the wrong memory may end it."""
    words = [sys.executable, __file__, fault]
    assert subprocess.run(words, capture_output=True, check=False).returncode != 0


def test_the_programs_are_right_without_a_fault() -> None:
    rng = np.random.default_rng(1)
    assert not any(differs(rng.integers(0, 10_000, 40).tolist(), 12) for _ in range(5))


def test_a_state_is_not_replaced_while_it_is_read(monkeypatch: Any) -> None:
    """Of an update that reads other elements of the state than it writes."""

    def run(active: Any) -> dict[str, Any]:
        w = active.input("w", np.arange(5.0))
        return {"w": w[::-1] + w * 2, "total": w.sum() * np.ones(2)}

    program = record(run)
    layout = memory.Layout(states={"w": "w"})
    w = np.arange(5.0)
    compiled = Compiled(program, layout=layout)
    assert compiled.run_many({"w": w}, 3) == (3, None)
    expected = np.arange(5.0)
    for _ in range(3):
        total, expected = expected.sum(), expected[::-1] + expected * 2
    assert np.array_equal(w, expected)
    assert compiled.outputs["total"][0] == total
    monkeypatch.setattr(memory.Memory, "may_replace", lambda *args: True)
    w[...] = np.arange(5.0)
    Compiled(program, layout=layout).run_many({"w": w}, 3)
    assert not np.array_equal(w, expected)


def plant(fault: str) -> None:
    """Break a rule; leave with 1 if a random program shows it, and with 0 if none does."""
    owner, name, replacement = FAULTS[fault]
    setattr(owner, name, replacement)
    rng = np.random.default_rng(1)
    found = (differs(rng.integers(0, 10_000, 40).tolist(), 12) for _ in range(MOST_PROGRAMS))
    sys.exit(1 if any(found) else 0)


if __name__ == "__main__":
    plant(sys.argv[1])
