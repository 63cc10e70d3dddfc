"""The thing under test: a float64 copy of a gate, run as a pure function of its inputs and parameters."""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerflow.containers import ComputationalGraph
from layerflow.containers.container import Container
from layerflow.contract import input_names
from layerflow.errors import GateError
from layerflow.gate import Gate
from layerflow.gradcheck.blame import blamed
from layerflow.gradcheck.differences import Line
from layerflow.parameter import Array, Parameter, as_input

FAR = 4.0  # a far step, relative to the largest element of a tensor
SMALL = 2.0**-10  # tensors of smaller values are moved by steps of their own size


@dataclass(frozen=True)
class Tensor:
    """One array with respect to which the gate is differentiated: an input or a parameter of the copy."""

    name: str
    kind: str  # "input" or "parameter"
    holder: Parameter | Array

    @property
    def value(self) -> Array:
        """The array itself, which the numeric derivative moves in place and puts back."""
        return self.holder.value if isinstance(self.holder, Parameter) else self.holder

    @contextmanager
    def moved(self, value: Array) -> Iterator[None]:
        """Give it other values for a while."""
        before = self.value.copy()
        self.value[...] = value
        try:
            yield
        finally:
            self.value[...] = before


class Subject:
    """A copy of a gate and of its inputs: same inputs and same state give the same output, whatever ran before.

    The user's gate and arrays are never touched. Generators and running statistics are put back before every forward.
    `unused` is a second copy, on which nothing has been run; `surrogate` is the function whose derivative is
    meant, where that is not the gate's own forward.
    A parameter whose elements are all equal (a bias of zeros, a scale of ones) is moved to random values nearby: where
    `gamma` is 1, a gradient that lacks the factor `gamma` would pass.

    Raises:
        GateError: inputs that are no numbers, a gate that cannot be built for them or whose own code raises.
    """

    def __init__(self, gate: Gate, inputs: Sequence[Any], seed: int = 0) -> None:
        if not isinstance(gate, Gate):
            raise GateError(f"check_gradients was given {gate!r}, not a gate{_remedy(gate)}")
        self.rng = np.random.default_rng(seed)
        self.name = type(gate).__name__
        self.written = repr(gate)
        self.gate = copied(gate)
        self.inputs = [_own_input(value, index) for index, value in enumerate(inputs)]
        _check_count(gate, len(inputs))
        if not self.gate._is_built:
            self._build()
        for name, parameter in self.gate.named_parameters().items():
            if not parameter.has_value:
                how = f"give it one: lf.Parameter(value), or self.{name}.create(shape, draw) in build(self, rng, shape)"
                raise GateError(f"{self.written}: parameter {name!r} has no value after build; {how}")
        self.gate.astype(np.float64)
        self._leave_special_values()
        names = _names(self.gate, len(self.inputs))
        self.input_names = names
        self.tensors = [Tensor(name, "input", x) for name, x in zip(names, self.inputs, strict=True) if is_real(x)]
        self.tensors += [Tensor(name, "parameter", p) for name, p in self.gate.named_parameters().items()]
        self._generators = [(g, copy.deepcopy(g.bit_generator.state)) for g in self.gate.named_generators().values()]
        self._buffers = [(b, b.value.copy()) for b in self.gate.named_buffers().values() if b.has_value]
        self.gate.needs_grad = (True,) * len(self.inputs)
        self.unused = copied(self.gate)
        self.surrogate: Callable[..., Any] | None = None

    def restore(self) -> None:
        """Put generators and running statistics back to where they were."""
        for generator, state in self._generators:
            generator.bit_generator.state = state
        for buffer, value in self._buffers:
            buffer.value = value.astype(buffer.value.dtype)

    def run(self) -> Array:
        """The output for the inputs and parameters as they are now, as one flat vector."""
        self.restore()
        return flat((self.surrogate or self.gate.bare_forward)(*self.inputs))

    def forward(self, *inputs: Any) -> Any:
        """One forward with the contract's checks, on copies of the given inputs (the subject's own if left out)."""
        self.restore()
        with blamed(self.written, "forward"), np.errstate(all="ignore"):
            return self.gate.forward(*(inputs or [x.copy() for x in self.inputs]))

    def backward(self, upstream: Sequence[Array]) -> dict[str, Array | None]:
        """The gradients by tensor name, for one upstream gradient per output."""
        with blamed(self.written, "backward"), np.errstate(all="ignore"):
            result = self.gate.backward(*upstream)
        return self.by_name(result)

    def by_name(self, result: Any) -> dict[str, Array | None]:
        """What `backward` returned, by tensor name."""
        input_grads, param_grads = result
        grads = dict(zip(self.input_names, input_grads, strict=True))
        for name, x in zip(self.input_names, self.inputs, strict=True):
            if not is_real(x) and grads[name] is not None:
                raise GateError(
                    f"{self.written}: input {name!r} was given as {x.dtype} of shape {x.shape}, but backward returns a "
                    f"gradient for it; only real numbers can be differentiated: give {name}.astype(float)"
                )
        named = {name: None if grad is None else np.asarray(grad) for name, grad in grads.items()}
        return named | {name: np.asarray(grad) for name, grad in param_grads.items()}

    def upstream(self, output: Any) -> list[Array]:
        """A random gradient for each output, no element of which is near 0, nor 1 everywhere."""
        shapes = [np.shape(part) for part in outputs(output)]
        return [np.asarray(self.rng.uniform(0.5, 1.5, shape) * self.rng.choice([-1.0, 1.0], shape)) for shape in shapes]

    def _build(self) -> None:
        if self.gate.has_build or not all(parameter.has_value for parameter in self.gate.parameters()):
            with blamed(self.written, "build"):
                self.gate.build(self.rng, *(x.shape for x in self.inputs))
        self.gate._is_built = True

    def _leave_special_values(self) -> None:
        for parameter in self.gate.parameters():
            value = parameter.value
            if value.size and np.all(value == value.flat[0]):
                factor = self.rng.uniform(0.6, 1.4, value.shape)
                parameter.value = factor - 1.0 if value.flat[0] == 0.0 else value * factor


def element_line(subject: Subject, tensor: Tensor, position: int) -> Line:
    """The line along one element of a tensor."""
    value = float(tensor.value.flat[position])

    def at(step: float) -> Array:
        tensor.value.flat[position] = value + step
        try:
            return subject.run()
        finally:
            tensor.value.flat[position] = value

    return Line(at, _scale(tensor, abs(value)), abs(value), FAR * _scale(tensor, float(np.max(np.abs(tensor.value)))))


def direction_line(subject: Subject, tensor: Tensor, move: Array) -> Line:
    """The line along which a whole tensor moves."""
    value = tensor.value.copy()

    def at(step: float) -> Array:
        with tensor.moved(value + step * move):
            return subject.run()

    scale = _scale(tensor, float(np.max(np.abs(value))))
    return Line(at, scale, far=FAR * scale)


def _scale(tensor: Tensor, size: float) -> float:
    """The power of two at or above `size`, at least 1 unless the whole tensor is small: such steps are exact."""
    usual = typical(tensor.value)
    return float(2.0 ** np.ceil(np.log2(max(size, 1.0 if usual > SMALL else usual))))


def typical(value: Array) -> float:
    """The size of a typical element: the median of those that are not 0; 1 where all are."""
    sizes = np.abs(value[value != 0.0])
    return float(np.median(sizes)) if sizes.size else 1.0


def is_real(x: Array) -> bool:
    """Whether an input can be differentiated at all; integers (labels) and booleans (masks) cannot."""
    return bool(np.issubdtype(x.dtype, np.floating))


def outputs(output: Any) -> tuple[Any, ...]:
    """The outputs as a tuple, of one unless a graph has several."""
    return output if isinstance(output, tuple) else (output,)


def flat(output: Any) -> Array:
    """All outputs, one after the other, as one vector of float64; a copy, for an output may be a view of an input."""
    if isinstance(output, tuple):
        return np.concatenate([flat(part) for part in output])
    return np.array(output, dtype=np.float64).reshape(-1)


def copied(gate: Gate) -> Gate:
    """A deep copy of the gate, on which everything may be tried."""
    try:
        return copy.deepcopy(gate)
    except Exception as error:
        raise GateError(
            f"{gate!r} cannot be copied, and the check works on a copy only: {type(error).__name__}: {error}"
        ) from error


def _own_input(value: Any, index: int) -> Array:
    array = np.array(as_input(value))
    if array.dtype.kind not in "fiub":
        what = f"{type(value).__name__}" if array.dtype == object else f"array of {array.dtype}"
        raise GateError(f"input {index} is {what}; the check needs real numbers (or integers for labels)")
    if array.dtype.kind != "f":
        return array
    array = array.astype(np.float64)
    if not np.all(np.isfinite(array)):
        where = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
        raise GateError(
            f"input {index} holds {array[where]} at {[int(i) for i in where]}; there is no derivative to check there"
        )
    return array


def _names(gate: Gate, count: int) -> list[str]:
    if isinstance(gate, ComputationalGraph) and len(gate.input_names) == count:
        found = gate.input_names
    elif isinstance(gate, Container):
        found = ["x"] if count == 1 else [f"input{i}" for i in range(count)]
    else:
        found = input_names(gate, count)
    parameters = gate.named_parameters()
    return [f"{name} (input)" if name in parameters else name for name in found]


def _check_count(gate: Gate, count: int) -> None:
    """Raise `GateError` unless forward takes so many inputs."""
    if isinstance(gate, Container):
        return  # says so itself, by its input nodes
    signature = inspect.signature(type(gate).bare_forward)
    try:
        signature.bind(gate, *range(count))
    except TypeError:
        parameters = [item.replace(annotation=item.empty) for item in signature.parameters.values()]
        written = ", ".join(map(str, parameters[1:]))
        raise GateError(f"{gate!r}: {count} inputs were given, its forward takes ({written})") from None


def _remedy(gate: Any) -> str:
    return f": write {gate.__name__}(...), with parentheses" if isinstance(gate, type) else ""
