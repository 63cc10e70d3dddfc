"""The contract every layer keeps: `forward` stores what `backward` needs, `backward` returns every gradient.

    class Scale(lf.Gate):
        def __init__(self, start=1.0):
            self.gamma = lf.Parameter(start)

        def forward(self, x):
            self.save(x)
            return self.gamma.value * x

        def backward(self, grad):
            (x,) = self.saved
            return (self.gamma.value * grad,), {"gamma": np.sum(grad * x)}

`backward` takes the upstream gradient, dL/d(output), and returns the pair `(input_grads, param_grads)`: a tuple with
one entry per input (`None` where there is no gradient, as for labels) and a dict by parameter name.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from layerflow.contract import as_upstream, check_backward, check_build, check_forward, check_rebuild
from layerflow.errors import GateError
from layerflow.parameter import Array, Buffer, Cell, Parameter, float_type

# Annotations quote "np.random.Generator": NumPy loads its random module, 20 ms, only when that is asked for.
Shape = tuple[int, ...]
Kind = TypeVar("Kind")
Gradients = tuple[tuple[Array | None, ...], dict[str, Array]]
Memory = list[tuple["Gate", Any, dict[str, Any]]]


class Gate:
    """One differentiable step. Subclass it and write `forward` and `backward`; nothing else is asked for.

    There is no `super().__init__()` to call and nothing to register: parameters are found in the attributes (in lists,
    tuples, dicts and inner gates too), and the constructor's arguments are recorded, so that a gate can be written to
    YAML and rebuilt.

    Attributes:
        training: False while a model is evaluated; written by the container before each sweep.
        needs_grad: one bool per input, written likewise; `backward` may return `None` where it is False.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_arguments", "_is_built", "_ran", "_saved", "_user", "needs_grad", "training",
    )  # fmt: skip

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _is_built: bool
    _ran: tuple[list[Shape], Shape, np.dtype[Any]] | None  # by hand: input shapes, output shape and type
    _saved: tuple[Any, ...] | None
    _user: Any  # the step that ran forward last; None after a forward by hand
    training: bool
    needs_grad: tuple[bool, ...]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}() takes no arguments")
        gate = super().__new__(cls)
        gate._arguments = (args, kwargs)
        gate._is_built = False
        gate._ran = gate._saved = gate._user = None
        gate.training = True
        gate.needs_grad = ()
        return gate

    def __init_subclass__(cls, checked: bool = True, **kwargs: Any) -> None:
        """Put the checks for use by hand around the three methods an author writes; sweeps call the bare ones."""
        super().__init_subclass__(**kwargs)
        for name, with_checks in _CHECKS.items():
            owner = next(base for base in cls.__mro__ if name in base.__dict__)
            if owner is cls or not issubclass(owner, Gate):  # a mixin's method counts as the gate's own
                written = owner.__dict__[name]
                setattr(cls, f"bare_{name}", written)
                if checked:
                    setattr(cls, name, with_checks(written))

    # The author's part -------------------------------------------------------------------------------------------

    def build(self, rng: "np.random.Generator", *shapes: Any) -> Shape:
        """Create the parameters that depend on the input shapes and return the output shape; touch no data.

        Unless overridden, the output shape is found by running `forward` once on zeros, on a copy.
        """
        shape = _probe(self, shapes)
        self._is_built = True
        return shape

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the output for the inputs, and `save` what `backward` will need."""
        raise NotImplementedError(f"{type(self).__name__} has no forward: write `def forward(self, x): ...`")

    def backward(self, grad: Any) -> Gradients:
        """Return `(input_grads, param_grads)` for the upstream gradient `grad`."""
        raise NotImplementedError(f"{type(self).__name__} has no backward: write `def backward(self, grad): ...`")

    def save(self, *values: Any) -> None:
        """Keep values for `backward`, which reads them from `self.saved`."""
        self._saved = values

    @property
    def saved(self) -> tuple[Any, ...]:
        """What the last `forward` saved."""
        if self._saved is None:
            raise GateError(
                f"{self!r}: nothing is saved; `backward` came before `forward`, or `forward` has no `self.save(...)`"
            )
        return self._saved

    # What every gate can do --------------------------------------------------------------------------------------

    def __call__(self, *inputs: Any) -> Any:
        """Add this gate to the graph of the given nodes and return its node; on plain arrays, run `forward`."""
        for value in inputs:
            if (graph := getattr(value, "graph", None)) is not None:
                return graph.apply(self, *inputs)
        return self.forward(*inputs)

    def members(self) -> dict[str, Any]:
        """The named objects among which parameters, buffers, generators and inner gates are looked for."""
        return vars(self)

    def named_parameters(self) -> dict[str, Parameter]:
        """Every `Parameter` by its dotted name; one that is held twice appears once, under its first name."""
        found = list(find(self, Parameter))
        named = dict(found)
        if len(named) < len(found):
            names = [name for name, _ in found]
            twice = next(name for name in names if names.count(name) > 1)
            raise GateError(f"{self!r}: two parameters have the name {twice!r}; rename a gate or an attribute")
        return named

    def parameters(self) -> list[Parameter]:
        """Every `Parameter`, once."""
        return list(self.named_parameters().values())

    def named_buffers(self) -> dict[str, Buffer]:
        """Every `Buffer` by its dotted name."""
        return dict(find(self, Buffer))

    def named_generators(self) -> "dict[str, np.random.Generator]":
        """Every random generator by its dotted name."""
        return dict(find(self, np.random.Generator))

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments as they were given, by name."""
        args, kwargs = self._arguments
        bound = inspect.signature(type(self)).bind(*args, **kwargs)
        return dict(bound.arguments)

    def astype(self, dtype: DTypeLike) -> Self:
        """Turn all parameters and buffers into another floating-point type, in place; return the gate.

        What a `ParameterStore` had packed leaves it: pack after choosing the type.
        """
        for cell in (*self.parameters(), *self.named_buffers().values()):
            cell.astype(dtype)
        return self

    def reuse(self) -> Self:
        """Return this gate for a second place: stored inputs of its own; the same parameters, buffers, generators."""
        held = (*self.parameters(), *self.named_buffers().values(), *self.named_generators().values())
        second = copy.deepcopy(self, {id(item): item for item in held})
        for _, gate in find(second, Gate):
            gate._ran = gate._saved = gate._user = None
        return second

    def hand_over(self, user: Any) -> None:
        """Let another step, or someone by hand (`None`), run forward; the step before keeps its memory for backward."""
        if self._user is not None:
            self._user.memory = self.memory()
        self._user = user

    def memory(self) -> Memory:
        """What this gate and its inner gates hold at the moment, for `recall`."""
        return [(gate, gate._saved, dict(vars(gate))) for _, gate in find(self, Gate)]

    def __repr__(self) -> str:
        args, kwargs = self._arguments
        written = [repr(value) for value in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
        return f"{type(self).__name__}({', '.join(written)})"

    # The methods as written, without the checks: what sweeps call --------------------------------------------------

    bare_build = build
    bare_forward = forward
    bare_backward = backward


def find(root: Any, kind: type[Kind]) -> Iterator[tuple[str, Kind]]:
    """Yield every instance of `kind` that `root` holds, itself included, with its dotted name; each object once."""
    seen: set[int] = set()

    def visit(name: str, item: Any) -> Iterator[tuple[str, Kind]]:
        if id(item) in seen:
            return
        if isinstance(item, kind):
            seen.add(id(item))
            yield name, item
        if isinstance(item, Gate):
            seen.add(id(item))
            held = item.members()
        elif isinstance(item, dict):
            held = item
        elif isinstance(item, list | tuple):
            held = dict(zip(map(str, range(len(item))), item, strict=True))
        else:
            return
        for key, value in held.items():
            yield from visit(f"{name}.{key}" if name else str(key), value)

    yield from visit("", root)


def recall(memory: Memory) -> None:
    """Bring back what gates held when `memory` was taken."""
    for gate, saved, attributes in memory:
        gate._saved = saved
        vars(gate).clear()
        vars(gate).update(attributes)


def as_input(value: Any) -> Any:
    """Return `value` as an array; a bare Python number is a real number, so 3 becomes 3.0."""
    if isinstance(value, np.ndarray | np.generic):
        return value
    return np.asarray(value, dtype=np.float64 if isinstance(value, int | float) else None)


def _probe(gate: Gate, shapes: tuple[Shape, ...]) -> Shape:
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


def _checked_build(build: Callable[..., Shape]) -> Callable[..., Shape]:
    @functools.wraps(build)
    def checked(self: Gate, rng: "np.random.Generator", *shapes: Shape) -> Shape:
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
    def checked(self: Gate, *inputs: Any, **named: Any) -> Any:
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
        for _, inner in find(self, Gate):
            inner.training = self.training
        output = forward(self, *inputs, **named)
        check_forward(self, output)
        self._ran = [value.shape for value in inputs], np.shape(output), float_type(output)
        return output

    return checked


def build_by_hand(gate: Gate, inputs: tuple[Array, ...]) -> None:
    """Build a gate from its first inputs, in the type of the first that is floating-point."""
    if type(gate).bare_build is not Gate.bare_build:
        gate.build(np.random.default_rng(), *(value.shape for value in inputs))
    gate._is_built = True
    dtype = next((value.dtype for value in inputs if np.issubdtype(value.dtype, np.floating)), None)
    for cell in (*gate.parameters(), *gate.named_buffers().values()):
        if dtype is not None and not cell.is_packed:
            cell.astype(dtype)


def _checked_backward(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    @functools.wraps(backward)
    def checked(self: Gate, *grads: Any) -> Gradients:
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


_CHECKS = {"build": _checked_build, "forward": _checked_forward, "backward": _checked_backward}
