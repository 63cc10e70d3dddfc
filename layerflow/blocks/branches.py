"""Gates beside each other: around an identity (`Residual`), or as branches (`Parallel`)."""

from typing import Any

from layerflow.containers.container import Container
from layerflow.containers.sequential import lay_row, named_gates
from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients
from layerflow.gates.shape import Concatenate
from layerflow.sweep import Step

JOINS = ("concatenate", "sum")


class Together(Gate):
    """y = x_1 + ... + x_k, all of one shape: what `Add` would broadcast is an error here.

    Shapes: any number of x, all of the shape of y.
    Local gradient: dy/dx_i = 1.
    """

    def forward(self, *inputs: Any) -> Any:
        shapes = [x.shape for x in inputs]
        if any(shape != shapes[0] for shape in shapes):
            raise GateError(
                f"the branches that are summed have the shapes {', '.join(map(str, shapes))}; they must be the same. "
                "Give the branch as many outputs, or add a Linear beside it"
            )
        return sum(inputs[1:], start=inputs[0])

    def backward(self, grad: Any) -> Gradients:
        return (grad,) * len(self.needs_grad), {}


class Residual(Container, checked=False):
    """y = x + f(x), f being the gates in a row: `Residual(LayerNorm(), Linear(64), ReLU(), Linear(32))`.

    Shapes: x of any shape that the gates return unchanged -> y, the same.
    Local gradient: dL/dx = g + what f sends back for the upstream gradient g.
    Source: He, Zhang, Ren and Sun 2016, Deep Residual Learning for Image Recognition.

    Args:
        gates: the gates in a row, named as in `Sequential`.
        named: more gates, by name.

    Raises:
        GateError: no gate at all; the gates return another shape than they are given.
    """

    def __init__(self, *gates: Gate, **named: Gate) -> None:
        super().__init__()
        self.gates = named_gates(self, gates, named)
        start = self.new_slot(needs_grad=True)
        end = lay_row(self, self.gates, (start,))
        total = self.new_slot()
        self.lay(Step("residual", Together(), (start, *end), (total,)))
        self.input_slots, self.output_slots = (start,), (total,)

    def members(self) -> dict[str, Any]:
        """The gates by name."""
        return dict(self.gates)


class Parallel(Container, checked=False):
    """y = the outputs of the branches, joined: `Parallel(Conv2d(8, 1), Conv2d(8, 3, padding="same"), axis=1)`.

    Shapes: x, which every branch is given; with `shared=False` one input for each branch -> y, the outputs joined.
    Local gradient: each branch gets its part of the upstream gradient, or all of it for a sum; dL/dx is the sum of what
    they send back.

    Args:
        gates: the branches, named as in `Sequential`; one of several gates is a `Sequential`.
        named: more branches, by name.
        join: "concatenate" or "sum"; the outputs that are summed have one shape.
        axis: along which the outputs are concatenated: 1 for the channels of images, the last one for features.
        shared: whether all branches have the same input, or each its own.

    Raises:
        GateError: no gate at all, an unknown `join`, outputs that do not fit.
    """

    def __init__(
        self, *gates: Gate, join: str = "concatenate", axis: int = -1, shared: bool = True, **named: Gate
    ) -> None:
        super().__init__()
        if join not in JOINS:
            raise GateError(f"Parallel: join is {join!r}, expected {' or '.join(map(repr, JOINS))}")
        self.gates = named_gates(self, gates, named)
        self.join, self.axis, self.shared = join, axis, shared
        inputs = [self.new_slot(needs_grad=True) for _ in range(1 if shared else len(self.gates))]
        ends: tuple[int, ...] = ()
        for index, (name, gate) in enumerate(self.gates.items()):
            ends += lay_row(self, {name: gate}, (inputs[0 if shared else index],))
        joined = self.new_slot()
        self.lay(Step("join", Concatenate(axis) if join == "concatenate" else Together(), ends, (joined,)))
        self.input_slots, self.output_slots = tuple(inputs), (joined,)

    def members(self) -> dict[str, Any]:
        """The branches by name."""
        return dict(self.gates)
