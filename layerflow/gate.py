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
import inspect
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from layerflow.byhand import CHECKS, probe
from layerflow.errors import GateError
from layerflow.parameter import Array, Buffer, Parameter
from layerflow.walk import Holder, find

# Annotations quote "np.random.Generator": NumPy loads its random module, 20 ms, only when that is asked for.
Shape = tuple[int, ...]
Gradients = tuple[tuple[Array | None, ...], dict[str, Array]]
Memory = list[tuple[Any, Any, dict[str, Any]]]


class Gate(Holder):
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
    has_build: ClassVar[bool] = False  # whether its author wrote a build

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
        for name, with_checks in CHECKS.items():
            owner = next(base for base in cls.__mro__ if name in base.__dict__)
            if owner is cls or not issubclass(owner, Gate):  # a mixin's method counts as the gate's own
                written = owner.__dict__[name]
                setattr(cls, f"bare_{name}", written)
                cls.has_build = cls.has_build or name == "build"
                if checked:
                    setattr(cls, name, with_checks(written))

    # The author's part -------------------------------------------------------------------------------------------

    def build(self, rng: "np.random.Generator", *shapes: Any) -> Shape:
        """Create the parameters that depend on the input shapes and return the output shape; touch no data.

        Unless overridden, the output shape is found by running `forward` once on zeros, on a copy.
        """
        shape = probe(self, shapes)
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
        return [part for _, gate in find(self, Gate) for part in gate.own_memory()]

    def own_memory(self) -> Memory:
        """What this gate alone holds."""
        return [(self, self._saved, dict(vars(self)))]

    def restore(self, saved: Any, attributes: dict[str, Any]) -> None:
        """Hold again what was held; see `recall`."""
        self._saved = saved
        vars(self).clear()
        vars(self).update(attributes)

    def __repr__(self) -> str:
        args, kwargs = self._arguments
        written = [repr(value) for value in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
        return f"{type(self).__name__}({', '.join(written)})"

    # The methods as written, without the checks: what sweeps call --------------------------------------------------

    bare_build = build
    bare_forward = forward
    bare_backward = backward


def recall(memory: Memory) -> None:
    """Bring back what gates held when `memory` was taken."""
    for holder, saved, attributes in memory:
        holder.restore(saved, attributes)
