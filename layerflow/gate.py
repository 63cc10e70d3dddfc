"""The contract every layer keeps: `forward` saves what `backward` needs, `backward` returns every gradient.

    class Scale(lf.Gate):
        def __init__(self, start=1.0):
            self.gamma = lf.Parameter(start)

        def forward(self, x):
            self.save(x)
            return self.gamma.value * x

        def backward(self, grad):
            (x,) = self.saved
            return (self.gamma.value * grad,), {"gamma": np.sum(grad * x)}

`forward` returns one array, or a tuple of arrays. `backward` takes one upstream gradient dL/d(output) per output, zeros
for an output that nobody used, and returns the pair `(input_grads, param_grads)`: a tuple with one entry per input
(`None` where there is no gradient, as for labels) and a dict by parameter name.
"""

import copy
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from layerflow.contract import Shape as Shape
from layerflow.contract import as_upstreams, changed, check_backward, check_build, check_forward, check_rebuild
from layerflow.errors import GateError
from layerflow.parameter import Array, Buffer, Cell, Parameter, as_input, float_type

# Annotations quote "np.random.Generator": NumPy loads its random module, 20 ms, only when that is asked for.
Gradients = tuple[tuple[Array | None, ...], dict[str, Array]]
Kind = TypeVar("Kind")


class Run(NamedTuple):
    """What a forward by hand leaves for the checks of backward.

    The shapes of the inputs, shape and type of each output, and the parameters with copies of their values.
    """

    inputs: list[Shape]
    outputs: list[tuple[Shape, np.dtype[Any]]]
    parameters: list[tuple[Parameter, Array]]

    @classmethod
    def of(cls, inputs: Sequence[Any], outputs: Sequence[Any], parameters: list[tuple[Parameter, Array]]) -> "Run":
        """Note what a forward has read and returned."""
        return cls([x.shape for x in inputs], [(np.shape(y), float_type(y)) for y in outputs], parameters)


class Gate:
    """One differentiable step. Subclass it and write `forward` and `backward`; nothing else is required.

    There is no `super().__init__()` to call and nothing to register: parameters are found in the attributes (in lists,
    tuples, dicts and inner gates too), and the constructor's arguments are recorded, so that a gate can be rebuilt.

    Attributes:
        training: False while a model is evaluated; written by the container before each sweep.
        needs_grad: one bool per input, written likewise; `backward` may return `None` where it is False.
        num_outputs: how many arrays `forward` returns. Needed only in graphs whose inputs have no values yet; elsewhere
            it is seen from what `forward` returns.
        differentiable: False stops the gradient: nothing in front of the gate is run backwards from here.
        recordable: False says that the gate cannot be recorded, so that only the NumPy engine runs it.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_arguments", "_is_built", "_memory", "_ran", "_saved", "needs_grad", "training",
    )  # fmt: skip

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]
    _is_built: bool
    _memory: Any  # what the step that ran forward last keeps of it; None after a forward by hand
    _ran: Run | None  # by hand
    _saved: tuple[Any, ...] | None
    training: bool
    needs_grad: tuple[bool, ...]
    num_outputs: int = 1
    differentiable: ClassVar[bool] = True
    recordable: ClassVar[bool] = True
    has_build: ClassVar[bool] = False  # whether its author wrote a build

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}() takes no arguments")
        gate = super().__new__(cls)
        gate._arguments = (args, kwargs)
        gate._is_built = False
        gate._ran = gate._saved = gate._memory = None
        gate.training = True
        gate.needs_grad = ()
        return gate

    def __init_subclass__(cls, checked: bool = True, **kwargs: Any) -> None:
        """Put the checks for use by hand around the three methods an author writes; sweeps call the bare ones."""
        super().__init_subclass__(**kwargs)
        for name, with_checks in CHECKS.items():
            owner = next(base for base in cls.__mro__ if name in base.__dict__)
            if owner is cls or not issubclass(owner, Gate):  # a mixin's method counts as the gate's own
                written = owner.__dict__[name]
                setattr(cls, f"bare_{name}", written)
                cls.has_build = cls.has_build or name == "build"
                if checked:
                    setattr(cls, name, with_checks(written))

    # The author's part -------------------------------------------------------------------------------------------

    def build(self, rng: "np.random.Generator", *shapes: Any) -> Any:
        """Create the parameters that depend on the input shapes and return the output shape; touch no data.

        A gate of several outputs returns a tuple of shapes. Unless overridden, `forward` is run once on zeros, on a
        copy, to find the output shape; inner gates that are still to be built are built for the shapes they met there.
        """
        shape = probe(self, rng, shapes)
        self._is_built = True
        return shape

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the output for the inputs, and `save` what `backward` will need."""
        raise NotImplementedError(f"{type(self).__name__} has no forward: write `def forward(self, x): ...`")

    def backward(self, grad: Any) -> Gradients:
        """Return `(input_grads, param_grads)` for the upstream gradient `grad`."""
        raise NotImplementedError(f"{type(self).__name__} has no backward: write `def backward(self, grad): ...`")

    # The methods as written, without the checks: what sweeps call.
    bare_build, bare_forward, bare_backward = build, forward, backward

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
        """Add this gate to the graph of the given nodes and return its node, or a tuple of nodes for several outputs.

        On plain arrays, run `forward`.
        """
        for value in inputs:
            if (graph := getattr(value, "graph", None)) is not None:
                return graph.apply(self, *inputs)
        return self.forward(*inputs)

    def members(self) -> dict[str, Any]:
        """The named objects among which parameters, buffers, generators and inner gates are looked for."""
        return vars(self)

    def named_parameters(self) -> dict[str, Parameter]:
        """Every `Parameter` by its dotted name; one that is held twice appears once, under its first name."""
        named: dict[str, Parameter] = {}
        for name, parameter in find(self, Parameter):
            if name in named:
                raise GateError(f"{self!r}: two parameters have the name {name!r}; rename a gate or an attribute")
            named[name] = parameter
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
        return dict(inspect.signature(type(self)).bind(*args, **kwargs).arguments)

    def astype(self, dtype: DTypeLike) -> Self:
        """Turn all parameters and buffers into another floating-point type, in place; return the gate.

        What a `ParameterStore` had packed leaves it: pack after choosing the type.
        """
        for cell in (*self.parameters(), *self.named_buffers().values()):
            cell.astype(dtype)
        return self

    def __repr__(self) -> str:
        args, kwargs = self._arguments
        written = [repr(value) for value in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
        return f"{type(self).__name__}({', '.join(written)})"


# What a gate holds -----------------------------------------------------------------------------------------------


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


def gates_in(gate: Gate) -> list[Gate]:
    """A gate and all gates inside it."""
    return [each for _, each in find(gate, Gate)]


# One gate, several places: the step that ran forward keeps what the gate left, and puts it back before backward.

Memory = list[tuple[Gate, tuple[Any, ...] | None, Run | None, dict[str, Any]]]


def remember(gates: Sequence[Gate]) -> Memory:
    """Return what a forward has just left in a gate and the gates inside it."""
    memory: Memory = []
    for gate in gates:
        memory.append((gate, gate._saved, gate._ran, gate.__dict__.copy()))
        gate._memory = memory
    return memory


def saved_in(memory: Any) -> list[Any]:
    """What `save` was given, as a step remembers it: for the gate, and for each gate inside it."""
    return [entry[1] for entry in memory] if isinstance(memory, list) else [memory]


def exchange(memory: Memory) -> Memory:
    """Put back what a forward left; return what the gates held instead, to be put back afterwards."""
    found = [(entry[0], entry[0]._saved, entry[0]._ran, entry[0].__dict__) for entry in memory]
    for gate, saved, ran, attributes in memory:
        gate._saved, gate._ran, gate.__dict__ = saved, ran, attributes
    return found


# Use by hand: building at the first forward, and the checks that sweeps do in a quicker way -----------------------


class _Current(threading.local):
    """How many forwards of a thread are open: inside one (`with CURRENT:`), inner gates need not watch parameters."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *error: object) -> None:
        self.depth -= 1


CURRENT = _Current()


def probe(gate: Gate, rng: "np.random.Generator", shapes: tuple[Shape, ...]) -> Any:
    """Return the output shape, or a tuple of them, after one forward of a copy on zeros.

    Inputs after the first are tried as labels (integers) too. Inner gates are built for the shapes they met.
    """
    for rest in (np.float64, np.int64):
        inputs = [np.zeros(shape, np.float64 if i == 0 else rest) for i, shape in enumerate(shapes)]
        twin = copy.deepcopy(gate)
        pairs = list(zip(gates_in(gate), gates_in(twin), strict=True))[1:]
        try:
            with np.errstate(all="ignore"):
                output = twin.bare_forward(*inputs)
        except Exception as error:
            failure = error
            continue
        check_forward(gate, output)
        for inner, double in pairs:
            if not inner._is_built and double._is_built and double._ran is not None:
                inner.build(rng, *double._ran.inputs)
        return tuple(map(np.shape, output)) if isinstance(output, tuple) else np.shape(output)
    raise GateError(
        f"{gate!r}: its output shape could not be found: forward on zeros of shape "
        f"{', '.join(map(str, shapes))} raised {type(failure).__name__}: {failure}. If such inputs are right, write "
        "`def build(self, rng, *shapes)` in the gate and return the output shape"
    ) from failure


def build_by_hand(gate: Gate, inputs: tuple[Array, ...]) -> None:
    """Build a gate from its first inputs, in the type of the first that is floating-point."""
    if gate.has_build:
        gate.build(np.random.default_rng(), *[value.shape for value in inputs])
    gate._is_built = True
    dtype = next((value.dtype for value in inputs if np.issubdtype(value.dtype, np.floating)), None)
    for cell in (*gate.parameters(), *gate.named_buffers().values()):
        if dtype is not None and not cell.is_packed:
            cell.astype(dtype)


def _checked_build(build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(build)
    def checked(self: Gate, rng: "np.random.Generator", *shapes: Shape) -> Any:
        if type(self).bare_build is not build:
            return build(self, rng, *shapes)
        # A second build infers shapes anew and must not replace what has been learned since the first.
        parameters, attributes = self.named_parameters(), dict(vars(self))
        kept = {key: item for key, item in attributes.items() if _holds_state(item, self._is_built)}
        returned = check_build(self, build(self, rng, *shapes), shapes)
        again = self.named_parameters()
        vars(self).update(kept)
        check_rebuild(self, parameters, again, attributes if self._is_built else {}, shapes)
        self._is_built = True
        return returned

    return checked


def _holds_state(item: Any, is_built: bool) -> bool:
    """Whether an attribute holds what a second build must leave alone: values, and the generators of a built gate."""
    if any(cell.has_value for _, cell in find(item, Cell)):
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
        inputs = tuple(map(as_input, inputs))
        if not self._is_built:
            build_by_hand(self, inputs)
        self.needs_grad, self._memory = (True,) * len(inputs), None
        for gate in gates_in(self):
            gate.training = self.training
        # Inside another forward, that one watches all parameters.
        watched = [] if CURRENT.depth else [(p, p.value.copy()) for p in self.parameters() if p.has_value]
        with CURRENT:
            output = forward(self, *inputs, **named)
        self._ran = Run.of(inputs, check_forward(self, output), watched)
        return output

    return checked


def _checked_backward(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
    @functools.wraps(backward)
    def checked(self: Gate, *grads: Any) -> Gradients:
        if type(self).bare_backward is not backward:
            return backward(self, *grads)
        run = self._ran
        if run is None and self._saved is None and self._memory is None:
            raise GateError(f"{self!r}: backward before forward; call forward first, which stores what backward needs")
        if run is None:  # forward ran in a container, which knows the shapes
            return backward(self, *grads)
        for parameter, before in run.parameters:
            if not parameter.equals(before):
                raise changed(self, parameter)
        result = backward(self, *as_upstreams(repr(self), grads, run.outputs))
        check_backward(self, result, run.inputs)
        return result

    return checked


CHECKS = {"build": _checked_build, "forward": _checked_forward, "backward": _checked_backward}
