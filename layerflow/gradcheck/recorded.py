"""The law that a gate is the same when it is recorded as a program."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.engine.interpreter import GuardError, interpret
from layerflow.engine.program import Program
from layerflow.engine.recorder import record_gate
from layerflow.errors import LayerflowError, RecordError
from layerflow.gate import Gate
from layerflow.gradcheck.subject import Subject, copied, is_real, outputs
from layerflow.parameter import Array

TOLERANCE: dict[np.dtype[Any], float] = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}


def same_result_when_recorded(gate: Gate, inputs: Sequence[Any], is_native: bool = False) -> None:
    """Forward and backward of the recorded program equal NumPy's, on the given inputs and on others near them.

    A gate whose author has written `recordable = False` must be refused. `is_native` runs it as machine code.
    """
    run = _run_natively if is_native else interpret
    for dtype in TOLERANCE:
        subject = Subject(gate, inputs)
        subject.gate.astype(dtype)
        given = [x.astype(dtype) if is_real(x) else x for x in subject.inputs]
        own = copied(subject.gate)  # runs twice: state that is no buffer shows itself then
        upstream = [g.astype(dtype) for g in subject.upstream(subject.forward(*given))]
        try:
            program = record_gate(own, given, upstream)
        except RecordError as error:
            assert not gate.recordable, f"it cannot be recorded: {error}"
            return
        assert gate.recordable, f"{subject.written}: it can be recorded, so `recordable = False` is wrong"
        near = [_moved(x, subject.rng) for x in given]
        for values in (given, near):
            draws = drawn(program, own)
            try:
                expected, state = _by_numpy(own, values, upstream)
            except LayerflowError:
                assert values is near, "the gate refuses its own example"  # what is near need not be valid
                continue
            try:
                found = run(program, state | draws)
            except GuardError as error:
                raise AssertionError(f"{subject.written}: NumPy runs, but the program is not valid: {error}") from error
            _compare(subject.written, expected, found, TOLERANCE[dtype])


def _run_natively(program: Program, inputs: Mapping[str, Any]) -> dict[str, Array]:
    from layerflow.engine.native.compiled import Compiled

    compiled = Compiled(program)
    if (guard := compiled.run({name: np.asarray(value) for name, value in inputs.items()})) is not None:
        raise GuardError(guard)
    return compiled.outputs


def drawn(program: Any, gate: Gate) -> dict[str, Any]:
    """What the generators of a gate give for the draws of a program; the generators themselves stay as they are."""
    generators = copied(gate).named_generators()
    return {
        draw.name: getattr(generators[draw.generator], draw.method)(*draw.arguments, **draw.named)
        for draw in program.draws
    }


def _by_numpy(gate: Gate, values: Sequence[Array], upstream: Sequence[Array]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results as the program names them, and the program's inputs."""
    state = {f"input.{i}": np.array(x) for i, x in enumerate(values)}
    state |= {f"upstream.{i}": g for i, g in enumerate(upstream)}
    state |= {f"parameter.{name}": cell.value.copy() for name, cell in gate.named_parameters().items()}
    state |= {f"buffer.{name}": cell.value.copy() for name, cell in gate.named_buffers().items()}
    with np.errstate(all="ignore"):
        results = {f"output.{i}": part for i, part in enumerate(outputs(gate.forward(*[x.copy() for x in values])))}
        input_grads, param_grads = gate.backward(*upstream)
    results |= {f"input_grad.{i}": grad for i, grad in enumerate(input_grads) if grad is not None}
    results |= {f"grad.{name}": grad for name, grad in param_grads.items()}
    results |= {f"buffer.{name}": buffer.value for name, buffer in gate.named_buffers().items()}
    return results, state


def _moved(x: Array, rng: "np.random.Generator") -> Array:
    """Other numbers of the same kind: real ones a little off, whole ones in another order."""
    if is_real(x):
        return np.asarray(x * (1 + 0.01 * rng.uniform(-1, 1, x.shape)), x.dtype)
    return np.roll(x, 1, axis=0) if x.ndim else x


def _compare(written: str, expected: dict[str, Any], found: dict[str, Array], tolerance: float) -> None:
    for name, value in expected.items():
        array = np.asarray(value)
        if name not in found and name.startswith("buffer."):
            continue  # the program leaves it alone; what it is now has just been read
        assert name in found, f"{written}: the program has no {name}"
        assert found[name].dtype == array.dtype, f"{written}: {name} is {array.dtype}, recorded {found[name].dtype}"
        scale = max(float(np.max(np.abs(array[np.isfinite(array)]), initial=0.0)), 1.0)
        same = np.allclose(found[name], array, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
        assert same, (
            f"{written}: {name} of the recorded program differs from NumPy's. Perhaps a number was computed outside of "
            "NumPy, or state is kept in a plain attribute: keep it in an lf.Buffer"
        )
