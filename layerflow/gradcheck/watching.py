"""Arrays that a gate receives and must not change: found, copied, made read-only and compared."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from layerflow.containers.container import Container
from layerflow.gate import Gate, find, saved_in
from layerflow.gradcheck.blame import guilty_line
from layerflow.gradcheck.subject import Subject, outputs
from layerflow.parameter import Array


def guilty_write(subject: Subject, observation_upstream: list[Array] | None) -> str:
    """The line that writes into an array it received: all of them are made read-only, so that NumPy raises there."""
    inputs = [frozen(x) for x in subject.inputs]
    try:
        subject.restore()
        subject.gate.forward(*inputs)
        if observation_upstream is not None:
            for array in saved_arrays(subject.gate):
                array.flags.writeable = False
            subject.gate.backward(*(frozen(g) for g in observation_upstream))
    except ValueError as error:
        return guilty_line(error) if "read-only" in str(error) else ""
    finally:
        subject.gate._saved = None
    return ""


def saved_arrays(gate: Gate) -> list[Array]:
    """The arrays that forward saved, in the gate, in gates inside it and in a container's steps."""
    held: list[Any] = [inner._saved for _, inner in find(gate, Gate)]
    held += [saved_in(memory) for _, container in find(gate, Container) for memory in container.memories]
    return list({id(array): array for array in _arrays(held)}.values())


def _arrays(held: Any) -> Iterator[Array]:
    if isinstance(held, np.ndarray):
        yield held
    elif isinstance(held, dict):
        yield from _arrays(list(held.values()))
    elif isinstance(held, list | tuple):
        for item in held:
            yield from _arrays(item)


def frozen(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def copied_output(output: Any) -> Any:
    return tuple(np.array(part) for part in output) if isinstance(output, tuple) else np.array(output)


def copies(grads: dict[str, Array | None]) -> dict[str, Array | None]:
    return {name: None if grad is None else grad.copy() for name, grad in grads.items()}


def same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return all(
        np.array_equal(x, y, equal_nan=np.asarray(x).dtype.kind == "f")
        for x, y in zip(outputs(a), outputs(b), strict=True)
    )
