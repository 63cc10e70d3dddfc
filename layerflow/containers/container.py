"""What `Sequential` and `ComputationalGraph` share: they lay out steps, and the sweeps do the rest."""

import inspect
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import DTypeLike

from layerflow.contract import Shape, as_upstream, changed
from layerflow.errors import GateError
from layerflow.gate import CURRENT, Gate, Gradients, Run, build_by_hand, find
from layerflow.parameter import Array, Parameter, as_input, float_type
from layerflow.sweep import Step, backward_sweep, forward_sweep, learn, write_gradients


class Container(Gate, checked=False):
    """A gate made of gates. A nested container is laid out flat: its steps become steps of the outer one.

    Attributes:
        steps: the uses of gates, in the order in which they run.
        values, grads: what the last sweeps computed, by slot.
        memories: what the gates keep for backward, by the first slot that their step writes.
        writers: the index of the step that writes a slot; `None` for inputs, parameters and constants.
        needed: whether a slot needs a gradient.
        sources: the slots that read a `Parameter`.
        constants: the slots whose value never changes.
        shapes: the shape of every slot, since the last `build`.
        input_slots, output_slots: where the sweeps begin and end.
        is_watched: whether forward copies the parameters, so that backward can refuse when one was changed since. The
            training objective, which only its trainer runs, does without.
    """

    is_watched: ClassVar[bool] = True
    draw: ClassVar[Any]  # the reports' part, set where the package is put together
    summary: ClassVar[Any]

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.values: list[Any] = []
        self.grads: list[Any] = []
        self.memories: list[Any] = []
        self.writers: list[int | None] = []
        self.needed: list[bool] = []
        self.sources: dict[int, Parameter] = {}
        self.constants: dict[int, Any] = {}
        self.shapes: dict[int, Shape] = {}
        self.input_slots: tuple[int, ...] = ()
        self.output_slots: tuple[int, ...] = ()
        self._names: dict[Parameter, str] | None = None
        self._seen: dict[Parameter, tuple[Array, int]] = {}  # the value read, and the first step that read it

    # Laying out steps --------------------------------------------------------------------------------------------

    def new_slot(self, value: Any = None, needs_grad: bool = False, writer: int | None = None) -> int:
        """Make room for one more value, its gradient, and what a gate keeps of it."""
        self.values.append(value)
        self.grads.append(None)
        self.memories.append(None)
        self.writers.append(writer)
        self.needed.append(needs_grad)
        return len(self.values) - 1

    def slots_for(self, gate: Gate) -> tuple[int, ...]:
        """Make room for the outputs of a gate, as many as are known before it has run."""
        if isinstance(gate, Container) and gate.is_plain:
            gate.finish()
            return tuple([self.new_slot() for _ in gate.output_slots])
        return tuple([self.new_slot() for _ in range(gate.num_outputs)])

    def lay(self, step: Step) -> None:
        """Append a step, or in place of the step of a nested container all the steps of that."""
        name, gate, reads, writes = step.name, step.gate, step.reads, step.writes
        if not isinstance(gate, Container) or not gate.is_plain:
            for slot in writes:
                self.writers[slot] = len(self.steps)
            self.steps.append(step)
            return
        gate.finish()
        if len(gate.input_slots) != len(reads):
            raise GateError(
                f"{name!r} is a {type(gate).__name__} with {len(gate.input_slots)} inputs; it is given {len(reads)}"
            )
        if any(gate.writers[slot] is None for slot in gate.output_slots):
            raise GateError(f"{name!r} is a {type(gate).__name__} whose output no gate computes; leave it out")
        if len(gate.output_slots) != len(writes):
            raise GateError(f"{name!r} has {len(gate.output_slots)} outputs; it had {len(writes)} when it was added")
        slots = dict(zip(gate.input_slots + gate.output_slots, reads + writes, strict=True))
        for inner, constant in gate.constants.items():
            slots[inner] = self.new_slot(constant)
            self.constants[slots[inner]] = constant
        for inner, parameter in gate.sources.items():
            slots[inner] = self.new_slot(needs_grad=True)
            self.sources[slots[inner]] = parameter
        for inner_step in gate.steps:
            inputs = tuple([slots[slot] for slot in inner_step.reads])
            outputs = tuple([slots[slot] if slot in slots else self.new_slot() for slot in inner_step.writes])
            slots |= zip(inner_step.writes, outputs, strict=True)
            own = Step(f"{name}.{inner_step.name}", inner_step.gate, inputs, outputs)
            own.place, own.is_operator = step.place or inner_step.place, inner_step.is_operator
            self.lay(own)

    def widen(self, step: Step, count: int) -> None:
        """Make room for all outputs of a gate, once it is known how many; steps that read the first then read all."""
        if len(step.writes) > 1:
            raise GateError(f"{step.gate!r} has {count} outputs, but {len(step.writes)} were expected")
        (first,) = step.writes
        step.writes = (first, *[self.new_slot(writer=self.writers[first]) for _ in range(count - 1)])

        def widened(slots: tuple[int, ...]) -> tuple[int, ...]:
            return tuple([new for slot in slots for new in (step.writes if slot == first else (slot,))])

        for other in self.steps:
            other.reads = widened(other.reads)
        self.output_slots = widened(self.output_slots)

    @property
    def is_plain(self) -> bool:
        """Whether its sweeps are those of its steps; a subclass with a `forward` of its own is like any other gate."""
        cls: Any = type(self)
        return cls.forward is cls.bare_forward and cls.backward is cls.bare_backward

    def save(self, *values: Any) -> None:
        """Refuse what is meant for gates; a subclass with a `forward` of its own saves as any gate does."""
        if self.is_plain:
            raise GateError(f"{type(self).__name__}.save keeps values for backward; write lf.save_model(model, path)")
        super().save(*values)

    def finish(self) -> None:
        """Lay the steps that are still to be laid, and settle the outputs."""

    def build(self, rng: "np.random.Generator", *shapes: Shape) -> Any:
        """Infer every shape from those of the inputs, creating parameters on the way; return the output's shape."""
        self.finish()
        if len(shapes) != len(self.input_slots):
            raise GateError(
                f"{type(self).__name__} has {len(self.input_slots)} inputs, {len(shapes)} shapes were given"
            )
        known = dict(zip(self.input_slots, map(tuple, shapes), strict=True))
        known |= {slot: np.shape(constant) for slot, constant in self.constants.items()}
        for step in self.steps:
            # The parameters that nodes hold may have been created by the gates before.
            given = [self.sources[slot].value.shape if slot in self.sources else known[slot] for slot in step.reads]
            try:
                shape = step.gate.build(rng, *given)
            except Exception as error:
                self._check_arity(step, error)
                error.add_note(step.located("build", given))
                raise
            several = shape if shape and isinstance(shape[0], tuple) else (shape,)
            if len(several) != len(step.writes):
                self.widen(step, len(several))
            known |= zip(step.writes, several, strict=True)
        self.shapes, self._names, self._is_built = known, None, True
        for step in self.steps:
            step.plan(self.needed)
        return _one_or_all([known[slot] for slot in self.output_slots])

    def _check_arity(self, step: Step, error: Exception) -> None:
        """Say so where the reason for an error is the number of inputs that a gate is given."""
        given = len(step.reads)
        try:
            inspect.signature(type(step.gate).bare_forward).bind(step.gate, *step.reads)
        except TypeError:
            raise GateError(
                f"{step.name!r} is {step.gate!r}, whose forward does not take {given} "
                f"input{'s' * (given != 1)}, as many as it is given here"
            ) from error

    def astype(self, dtype: DTypeLike) -> Self:
        """Turn the constants into another floating-point type too; see `Gate.astype`."""
        for _, container in find(self, Container):
            for slot, constant in container.constants.items():
                if np.issubdtype(constant.dtype, np.floating):
                    container.constants[slot] = container.values[slot] = constant.astype(dtype)
        return super().astype(dtype)

    def parameter_names(self) -> dict[Parameter, str]:
        """The dotted name of every parameter, which is also written into it."""
        if self._names is None:
            self._names = {parameter: name for name, parameter in self.named_parameters().items()}
            for parameter, name in self._names.items():
                parameter.name = name
        return self._names

    # The sweeps --------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Any) -> Any:
        """Run all steps on the inputs and return the output (a tuple of them, if the container has several)."""
        inputs = tuple(map(as_input, inputs))
        if not self._is_built:
            build_by_hand(self, inputs)
        if len(inputs) != len(self.input_slots):
            raise GateError(
                f"{type(self).__name__}.forward takes {len(self.input_slots)} inputs, {len(inputs)} were given"
            )
        values = self.values = self.values.copy()  # what an earlier forward left stays as it was
        self.memories, self._ran = self.memories.copy(), None
        for slot, value in zip(self.input_slots, inputs, strict=True):
            values[slot] = value
        for slot, parameter in self.sources.items():
            values[slot] = parameter.present
        is_watched = self.is_watched and not CURRENT.depth
        self._seen = {p: (p.value.copy(), 0) for p in self.parameter_names()} if is_watched else {}
        with CURRENT:
            forward_sweep(self.steps, values, self.memories, self.training)
        outputs = [values[slot] for slot in self.output_slots]
        self._ran = Run.of(inputs, [] if self.is_plain else outputs, [])
        return _one_or_all(outputs)

    def backward(self, *grads: Any) -> Gradients:
        """Run the steps back from the upstream gradients, one per output; scalar outputs need none: they start from 1.

        Where some are given, `None` stands for an output that is not used.

        Returns:
            the gradients of the inputs (`None` where none was wanted or none arrived) and of the parameters by name.
        """
        self.finish()
        outputs = self.output_slots
        if self._ran is None or any(self.values[slot] is None for slot in outputs):
            raise GateError(
                f"{type(self).__name__}: backward before forward; call forward first, which stores what backward needs"
            )
        if len(grads) not in (0, len(outputs)):
            raise GateError(
                f"{type(self).__name__}.backward takes {len(outputs)} gradients, one per output; "
                f"{len(grads)} were given"
            )
        given = dict(zip(outputs, grads or [None] * len(outputs), strict=True))
        if any(grad is not None for grad in grads):
            given = {slot: grad for slot, grad in given.items() if grad is not None}
        for index in range(len(self.steps)) if self._seen else ():
            self.check_unchanged(index)
        self.grads = [None] * len(self.values)
        learned = self.sweep_back(given, reversed(self.steps), [])
        if learned.keys() != self.parameter_names().keys():
            self._names = None  # perhaps a gate was given another parameter since
        write_gradients(self.parameter_names(), learned)
        return (
            tuple([self.grads[slot] for slot in self.input_slots]),
            {
                name: learned[parameter] if parameter in learned else np.zeros_like(parameter.value)
                for parameter, name in self.parameter_names().items()
            },
        )

    def sweep_back(self, given: dict[int, Any], steps: Iterable[Step], reached: list[int]) -> dict[Parameter, Array]:
        """Run steps back from the given slots (slot -> upstream gradient); return the gradients of the parameters."""
        for slot, grad in given.items():
            self.grads[slot] = self._seed(slot, grad)
        learned = backward_sweep(steps, self.values, self.memories, self.grads, reached)
        for slot, parameter in self.sources.items():
            if self.grads[slot] is not None:
                learn(learned, parameter, self.grads[slot])
        return learned

    def check_unchanged(self, index: int) -> None:
        """Raise `GateError` when a parameter was changed since the step with this index has read it."""
        step = self.steps[index]
        for parameter in (*step.parameters, *[self.sources[slot] for slot in step.reads if slot in self.sources]):
            value, since = self._seen.get(parameter, (None, 0))
            if value is not None and (index < since or not parameter.equals(value)):
                raise changed(self, parameter)

    def _watch(self, parameter: Parameter, index: int) -> None:
        """Keep the value that a step reads, unless an earlier step has read the same."""
        seen = self._seen.get(parameter)
        if seen is None or not parameter.equals(seen[0]):
            self._seen[parameter] = parameter.value.copy(), index

    def _passing(self, reached: list[int]) -> Iterator[Step]:
        """Yield the steps behind the slots that gradients reach, last first, each once all of them have arrived."""
        steps, writers = self.steps, self.writers
        waiting: list[int] = []
        last = None
        while reached or waiting:
            while reached:
                writer = writers[reached.pop()]
                if writer is not None:
                    heappush(waiting, -writer)
            if waiting and (index := -heappop(waiting)) != last:  # once for all outputs of a gate
                if self._seen:
                    self.check_unchanged(index)
                yield steps[index]
                last = index

    def _seed(self, slot: int, grad: Any) -> Any:
        value = self.values[slot]
        shape = np.shape(value)
        if grad is None:
            if shape:
                raise GateError(
                    f"backward from {self.described(slot)} of shape {shape} needs the upstream gradient: "
                    "backward(grad), of that shape"
                )
            return float_type(value).type(1)
        place = "" if np.shape(grad) == shape else f"{type(self).__name__}, from {self.described(slot)}"
        return as_upstream(place, grad, shape, float_type(value))[()]

    def described(self, slot: int) -> str:
        """A slot in words."""
        return "an output"


def _one_or_all(outputs: list[Any]) -> Any:
    return outputs[0] if len(outputs) == 1 else tuple(outputs)
