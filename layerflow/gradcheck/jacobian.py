"""Jacobians: of `backward`, one upstream unit vector per output element, and of differences.

A scalar by a vector is a row (1, m), a vector by a scalar a column (k, 1), a vector by a vector (k, m); arrays of more
axes, batches among them, are flattened first.
"""

from typing import Any

import numpy as np

from layerflow.errors import GateError, did_you_mean
from layerflow.gate import Gate
from layerflow.gradcheck.differences import columns
from layerflow.gradcheck.subject import Subject, Tensor, element_line, flat, outputs
from layerflow.parameter import Array


def jacobian(gate: Gate, *inputs: Any, wrt: str | None = None, seed: int = 0) -> Array:
    """The analytic Jacobian, as `backward` gives it: entry [i, j] is d output[i] / d input[j], both flattened.

    Args:
        gate: the gate; a copy in float64 is run.
        inputs: its inputs.
        wrt: the input or parameter with respect to which; by default the first input that is differentiated.
        seed: of the parameters that are created if the gate is not built yet.

    Raises:
        GateError: no such input or parameter, or `backward` gives no gradient for it.
    """
    subject = Subject(gate, inputs, seed)
    tensor = _chosen(subject, wrt)
    output = subject.forward()
    rows = []
    for position, part in enumerate(outputs(output)):
        for element in range(np.size(part)):
            upstream = [np.zeros(np.shape(each)) for each in outputs(output)]
            upstream[position].flat[element] = 1.0
            grad = subject.backward(upstream)[tensor.name]
            if grad is None:
                raise GateError(f"{subject.written}: backward returns None for {tensor.name!r}; it has no Jacobian")
            rows.append(grad.reshape(-1).copy())
    return np.array(rows).reshape(flat(output).size, tensor.value.size)


def numeric_jacobian(gate: Gate, *inputs: Any, wrt: str | None = None, seed: int = 0) -> Array:
    """The same Jacobian from differences of `forward`, accurate to about 1e-10 where the gate is smooth."""
    subject = Subject(gate, inputs, seed)
    tensor = _chosen(subject, wrt)
    return columns([element_line(subject, tensor, i) for i in range(tensor.value.size)], subject.run())


def _chosen(subject: Subject, wrt: str | None) -> Tensor:
    by_name = {tensor.name: tensor for tensor in subject.tensors}
    if wrt is None and subject.tensors:
        return subject.tensors[0]
    if wrt not in by_name:
        raise GateError(
            f"{subject.written} has no input or parameter {wrt!r}{did_you_mean(wrt, by_name)}; "
            f"known: {', '.join(map(repr, by_name)) or 'none'}"
        )
    return by_name[wrt]
