"""What `Sequential` and `ComputationalGraph` share: they lay out steps, and the sweeps do the rest."""

from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from layerflow.byhand import as_input, build_by_hand
from layerflow.containers.drawn import Drawn
from layerflow.contract import as_upstream
from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Memory, Shape
from layerflow.parameter import Array, Parameter, float_type
from layerflow.step import AnyStep, Operation, Step, located
from layerflow.sweep import backward_sweep, forward_sweep, plan_gradients, write_gradients
from layerflow.walk import find


class Container(Gate, Drawn, checked=False):
    """A gate made of gates. A nested container is laid out flat: its steps become steps of the outer one.

    Attributes:
        steps: the uses of gates, in the order in which they run.
        values, grads: what the last sweeps computed, by slot.
        sources: the slots that read a `Parameter`.
        constants: the slots whose value never changes.
        needed: which slots need a gradient.
        shapes: the shape of every slot, since the last `build`.
        input_slots, output_slots: where the sweeps begin and end.
    """

    def __init__(self) -> None:
        self.steps: list[AnyStep] = []
        self.values: list[Any] = []
        self.grads: list[Any] = []
        self.sources: dict[int, Parameter] = {}
        self.constants: dict[int, Any] = {}
        self.input_slots: tuple[int, ...] = ()
        self.output_slots: tuple[int, ...] = ()
        self.shapes: dict[int, Shape] = {}
        self.needed: dict[int, bool] = {}
        self._users: dict[int, Gate] = {}
        self._names: dict[Parameter, str] | None = None

    # Laying out steps --------------------------------------------------------------------------------------------

    def new_slot(self, value: Any = None, needs_grad: bool = False) -> int:
        """Make room for one more value and its gradient."""
        self.needed[len(self.values)] = needs_grad
        self.values.append(value)
        self.grads.append(None)
        return len(self.values) - 1

    def lay(self, name: str, gate: Gate, reads: tuple[int, ...], writes: int) -> None:
        """Append the step of a gate, or all the steps of a nested container."""
        if not isinstance(gate, Container) or not gate.is_plain:
            self.steps.append(Step(name, gate, reads, writes))
            return
        gate.finish()
        if len(gate.input_slots) != len(reads) or len(gate.output_slots) != 1:
            raise GateError(
                f"{name!r} is a {type(gate).__name__} of {len(gate.input_slots)} inputs and "
                f"{len(gate.output_slots)} outputs; used as one gate it needs as many inputs as it is given, here "
                f"{len(reads)}, and one output"
            )
        if gate.output_slots[0] not in [step.writes for step in gate.steps]:
            raise GateError(f"{name!r} is a {type(gate).__name__} whose output no gate computes; leave it out")
        slots = dict(zip(gate.input_slots, reads, strict=True)) | {gate.output_slots[0]: writes}
        for inner, constant in gate.constants.items():
            slots[inner] = self.new_slot(constant)
            self.constants[slots[inner]] = constant
        for inner, parameter in gate.sources.items():
            slots[inner] = self.new_slot(needs_grad=True)
            self.sources[slots[inner]] = parameter
        for step in gate.steps:
            if step.writes not in slots:
                slots[step.writes] = self.new_slot()
            reads = tuple([slots[i] for i in step.reads])
            self.steps.append(step.renamed(f"{name}.{step.name}", reads, slots[step.writes]))

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

    def own_memory(self) -> Memory:
        """What this container holds, and what its operations, which have no gates of their own, keep."""
        operations = [step for step in self.steps if isinstance(step, Operation)]
        return super().own_memory() + [(operation, operation.saved, {}) for operation in operations]

    def finish(self) -> None:
        """Lay the steps that are still to be laid, and settle the outputs."""

    def claim(self, step: AnyStep) -> None:
        """Give a gate's second use stored inputs of its own; the parameters stay the same objects."""
        if isinstance(step, Operation) or step.is_claimed:
            return
        if id(step.gate) in self._users:
            step.gate = step.gate.reuse()
        self._users[id(step.gate)] = step.gate
        step.is_claimed = True

    def __setstate__(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
        """Become a copy, whose gates are other objects than those whose ids were known."""
        for attributes in state:
            for name, value in attributes.items():
                setattr(self, name, value)
        self._users = {id(gate): gate for gate in self._users.values()}

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
            self.claim(step)
            # The parameters that nodes hold may have been created by the gates before.
            given = [self.sources[slot].value.shape if slot in self.sources else known[slot] for slot in step.reads]
            try:
                known[step.writes] = step.gate.build(rng, *given)
            except Exception as error:
                error.add_note(located(step, "build", given))
                raise
        self.shapes = known
        plan_gradients(self.steps, self.needed)
        self._names = None
        self._is_built = True
        outputs = tuple([known[slot] for slot in self.output_slots])
        return outputs[0] if len(outputs) == 1 else outputs

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
        inputs = tuple([as_input(value) for value in inputs])
        if not self._is_built:
            build_by_hand(self, inputs)
        if len(inputs) != len(self.input_slots):
            raise GateError(
                f"{type(self).__name__}.forward takes {len(self.input_slots)} inputs, {len(inputs)} were given"
            )
        self._ran = None
        values = self.values
        for slot, value in zip(self.input_slots, inputs, strict=True):
            values[slot] = value
        for slot, parameter in self.sources.items():
            values[slot] = parameter.present
        forward_sweep(self.steps, values, self.training)
        outputs = tuple([values[slot] for slot in self.output_slots])
        self._ran = [value.shape for value in inputs], outputs[0].shape, outputs[0].dtype
        return outputs[0] if len(outputs) == 1 else outputs

    def backward(self, *grads: Any) -> Gradients:
        """Run the steps back from the upstream gradients, one per output; a scalar output needs none: it starts from 1.

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
        learned = self.sweep_back(dict(zip(outputs, grads or [None] * len(outputs), strict=True)))
        return (
            tuple([self.grads[slot] for slot in self.input_slots]),
            {
                name: learned[parameter] if parameter in learned else np.zeros_like(parameter.value)
                for parameter, name in self.parameter_names().items()
            },
        )

    def sweep_back(self, seeds: dict[int, Any]) -> dict[Parameter, Array]:
        """Run back from the given slots (slot -> upstream gradient) and leave every gradient where it belongs."""
        self.grads = [None] * len(self.values)
        for slot, grad in seeds.items():
            self.grads[slot] = self._seed(slot, grad)
        learned = backward_sweep(self.steps, self.values, self.grads)
        for slot, parameter in self.sources.items():
            if (arrived := self.grads[slot]) is not None:
                learned[parameter] = learned[parameter] + arrived if parameter in learned else arrived
        if learned.keys() != self.parameter_names().keys():
            self._names = None  # perhaps a gate was given another parameter since
        write_gradients(self.parameter_names(), learned)
        return learned

    def described(self, slot: int) -> str:
        """A slot in words."""
        return "an output"

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

    def shape_of(self, slot: int) -> Shape:
        """The shape of a slot's value: of the last one it had, else as `build` inferred it."""
        value = self.values[slot]
        return self.shapes[slot] if value is None else np.shape(value)

    # Looking at it -----------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """A table of the steps: name, gate, output shape, number of parameters (shared ones counted once)."""
        if not self._is_built:
            raise GateError(
                f"{type(self).__name__}: shapes are known after build(rng, shape) or the first forward; "
                "summary comes after"
            )
        counted: set[Parameter] = set()
        rows = [("name", "gate", "output shape", "parameters")]
        for step in self.steps:
            fresh = [parameter for parameter in step.gate.parameters() if parameter not in counted]
            counted.update(fresh)
            size = sum(parameter.value.size for parameter in fresh)
            rows.append((step.name, repr(step.gate), str(self.shape_of(step.writes)), f"{size:,}"))
        rows.append(("total", "", "", f"{sum(p.value.size for p in self.parameters()):,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            f"{name:<{widths[0]}}  {gate:<{widths[1]}}  {shape:<{widths[2]}}  {count:>{widths[3]}}"
            for name, gate, shape, count in rows
        )
