"""What surrounds `build`, `forward` and `backward` when a person calls them: building at first use, and checks.

Sweeps call the methods as their author wrote them and do a quicker version of the same checks.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.contract import as_upstream, check_backward, check_build, check_forward, check_rebuild
from layerflow.errors import GateError
from layerflow.parameter import Array, Cell, float_type
from layerflow.walk import Holder, find

if TYPE_CHECKING:
    from layerflow.gate import Gate, Gradients, Shape


_ARRAYS = np.ndarray, np.generic


def as_input(value: Any) -> Any:
    """Return `value` as an array; a bare Python number is a real number, so 3 becomes 3.0."""
    if isinstance(value, np.ndarray | np.generic):
        return value
    return np.float64(value) if isinstance(value, int | float) else np.asarray(value)


def probe(gate: "Gate", shapes: "tuple[Shape, ...]") -> "Shape":
    """The output shape, from one forward on zeros; inputs after the first are tried as labels (integers) too."""
    for rest in (np.float64, np.int64):
        inputs = [np.zeros(shape, np.float64 if i == 0 else rest) for i, shape in enumerate(shapes)]
        try:
            with np.errstate(all="ignore"):
                output = copy.deepcopy(gate).bare_forward(*inputs)
        except Exception as error:
            failure = error
        else:
            check_forward(gate, output)
            return np.shape(output)
    raise GateError(
        f"{gate!r}: its output shape could not be found: forward on zeros of shape "
        f"{', '.join(map(str, shapes))} raised {type(failure).__name__}: {failure}. If such inputs are right, write "
        "`def build(self, rng, *shapes)` in the gate and return the output shape"
    ) from failure


def build_by_hand(gate: "Gate", inputs: tuple[Array, ...]) -> None:
    """Build a gate from its first inputs, in the type of the first that is floating-point."""
    if gate.has_build:
        gate.build(np.random.default_rng(), *(value.shape for value in inputs))
    gate._is_built = True
    dtype = next((value.dtype for value in inputs if np.issubdtype(value.dtype, np.floating)), None)
    for cell in (*gate.parameters(), *gate.named_buffers().values()):
        if dtype is not None and not cell.is_packed:
            cell.astype(dtype)


def _checked_build(build: "Callable[..., Shape]") -> "Callable[..., Shape]":
    @functools.wraps(build)
    def checked(self: "Gate", rng: "np.random.Generator", *shapes: "Shape") -> "Shape":
        if type(self).bare_build is not build:
            return build(self, rng, *shapes)
        # A second build infers shapes anew and must not replace what has been learned since the first.
        before = self.named_parameters()
        kept = {key: item for key, item in vars(self).items() if _holds_state(item, self._is_built)}
        shape = build(self, rng, *shapes)
        check_build(self, shape, shapes)
        check_rebuild(self, before, self.named_parameters(), shapes)
        vars(self).update(kept)
        self._is_built = True
        return tuple(shape)

    return checked


def _holds_state(item: Any, is_built: bool) -> bool:
    """Whether an attribute holds what a second build must leave alone: values, and the generators of a built gate."""
    cells: Iterator[tuple[str, Cell]] = find(item, Cell)
    if any(cell.has_value for _, cell in cells):
        return True
    return is_built and any(True for _ in find(item, np.random.Generator))


def _checked_forward(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def checked(self: "Gate", *inputs: Any, **named: Any) -> Any:
        if type(self).bare_forward is not forward:  # called by a subclass through super(), which is checked itself
            return forward(self, *inputs, **named)
        if named:
            bound = inspect.signature(forward).bind(self, *inputs, **named)
            inputs, named = bound.args[1:], bound.kwargs
        inputs = tuple(as_input(value) for value in inputs)
        if not self._is_built:
            build_by_hand(self, inputs)
        if self._user is not None:
            self.hand_over(None)
        self.needs_grad = (True,) * len(inputs)
        gates: Iterator[tuple[str, Any]] = find(self, Holder)
        for _, gate in gates:
            gate.training = self.training
        output = forward(self, *inputs, **named)
        check_forward(self, output)
        self._ran = [value.shape for value in inputs], np.shape(output), float_type(output)
        return output

    return checked


def _checked_backward(backward: "Callable[..., Gradients]") -> "Callable[..., Gradients]":
    @functools.wraps(backward)
    def checked(self: "Gate", *grads: Any) -> "Gradients":
        if type(self).bare_backward is not backward:
            return backward(self, *grads)
        if self._ran is None and self._saved is None and self._user is None:
            raise GateError(f"{self!r}: backward before forward; call forward first, which stores what backward needs")
        if self._ran is None or self._user is not None:  # forward ran in a container, which knows the shapes
            return backward(self, *grads)
        input_shapes, shape, dtype = self._ran
        result = backward(self, *(as_upstream(repr(self), grad, shape, dtype) for grad in grads))
        check_backward(self, result, input_shapes)
        return result

    return checked


CHECKS = {"build": _checked_build, "forward": _checked_forward, "backward": _checked_backward}
