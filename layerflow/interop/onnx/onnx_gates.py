"""Gates for operators of ONNX that the catalogue does not have."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.arithmetic import sum_to
from layerflow.parameter import Array

SLOPES: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "Acos": (np.arccos, lambda x, y: -1 / np.sqrt(1 - x * x)),
    "Acosh": (np.arccosh, lambda x, y: 1 / np.sqrt(x * x - 1)),
    "Asin": (np.arcsin, lambda x, y: 1 / np.sqrt(1 - x * x)),
    "Asinh": (np.arcsinh, lambda x, y: 1 / np.sqrt(x * x + 1)),
    "Atan": (np.arctan, lambda x, y: 1 / (1 + x * x)),
    "Atanh": (np.arctanh, lambda x, y: 1 / (1 - x * x)),
    "Cosh": (np.cosh, lambda x, y: np.sinh(x)),
    "Reciprocal": (np.reciprocal, lambda x, y: -y * y),
    "Sinh": (np.sinh, lambda x, y: np.cosh(x)),
    "Tan": (np.tan, lambda x, y: 1 + y * y),
    "Ceil": (np.ceil, lambda x, y: np.zeros_like(x)),
    "Floor": (np.floor, lambda x, y: np.zeros_like(x)),
    "Round": (np.rint, lambda x, y: np.zeros_like(x)),
    "Sign": (np.sign, lambda x, y: np.zeros_like(x)),
}
"""The functions of one number, each beside its derivative, given x and y."""


class Function(Gate):
    """y = f(x) element by element, f being one of `SLOPES`; dy/dx stands beside it there."""

    def __init__(self, name: str) -> None:
        self.name = name

    def forward(self, x: Any) -> Any:
        function: Any = SLOPES[self.name][0]
        y = function(x)
        self.save(x, y)
        return y

    def backward(self, grad: Any) -> Gradients:
        slope: Any = SLOPES[self.name][1]
        return (grad * slope(*self.saved),), {}


class Cast(Gate):
    """y = x in another type of real numbers; the gradient goes back in the type of x."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def forward(self, x: Any) -> Any:
        self.save(x.dtype)
        return x.astype(self.dtype)

    def backward(self, grad: Any) -> Gradients:
        (dtype,) = self.saved
        return (grad.astype(dtype),), {}


class Given(Gate):
    """A gate whose parameters and buffers are inputs: y = gate(x), with the arrays that come after x in it.

    Local gradient: that of the gate; of its parameters, as gradients of the inputs.
    """

    def __init__(self, gate: Gate, names: tuple[str, ...]) -> None:
        self.inner: Callable[[], Gate] = lambda: gate  # behind a function, so that its parameters are not learned
        self.names = names

    def forward(self, x: Any, *arrays: Any) -> Any:
        gate = self.inner()
        cells = arrays_of(gate)
        for name, array in zip(self.names, arrays, strict=True):
            cells[name].value = array
        gate.training = self.training
        self.save()
        return gate.forward(x)

    def backward(self, *grads: Any) -> Gradients:
        found, learned = self.inner().backward(*grads)
        return (*found, *[learned.get(name) for name in self.names]), {}

    def __repr__(self) -> str:
        return repr(self.inner())


class Feed:
    """What `Referred.build` takes for an input: the value that an operator has found, else zeros."""

    def __init__(self, maker: "Referred | None", output: int, dtype: Any) -> None:
        self.maker, self.output, self.dtype = maker, output, dtype

    def value(self, shape: Shape) -> Array:
        found: Array = np.zeros(shape, self.dtype) if self.maker is None else self.maker.found[self.output]
        return found


class Referred(Gate):
    """A gate that onnx.reference evaluates.

    Shapes often follow from numbers that follow from shapes. So `build` runs forward on zeros, but for inputs that
    other operators compute, which have found their values in the same way before.

    Args:
        run: the operator, a function of its inputs.
        name: of the operator.
        outputs: how many there are.
    """

    def __init__(self, run: Callable[..., Any], name: str, outputs: int) -> None:
        self.run, self.name, self.num_outputs = run, name, outputs
        self.feeds: list[Feed] = []
        self.found: tuple[Array, ...] = ()  # on zeros

    def build(self, rng: "np.random.Generator", *shapes: Shape) -> Any:
        output = self.bare_forward(*[feed.value(shape) for shape, feed in zip(shapes, self.feeds, strict=True)])
        self.found = output if isinstance(output, tuple) else (output,)
        return tuple([each.shape for each in self.found]) if len(self.found) > 1 else self.found[0].shape

    def __repr__(self) -> str:
        return self.name


class Operator(Referred):
    """An operator that counts, compares, or finds places: no input has a gradient."""

    differentiable = False

    def forward(self, *inputs: Any) -> Any:
        found = self.run(*inputs)
        self.save(len(inputs))
        return tuple(found) if len(found) > 1 else found[0]

    def backward(self, *grads: Any) -> Gradients:
        return (None,) * self.saved[0], {}


class Moved(Referred):
    """The elements of the inputs at other places: y.flat[i] = inputs.flat[index[i]], or a filling.

    Which is where, the operator itself says, applied to the numbers of the elements.
    Local gradient: dL/dx[k] = the sum of the upstream gradient over all places where element k stands.

    Args:
        run, name, outputs: as for `Referred`.
        moved: which inputs are moved; the others, whole numbers, say where to.
        fill: the value of places to which no element goes.
    """

    def __init__(
        self, run: Callable[..., Any], name: str, outputs: int, moved: tuple[int, ...], fill: float = 0.0
    ) -> None:
        super().__init__(run, name, outputs)
        self.moved, self.fill = moved, fill

    def forward(self, *inputs: Any) -> Any:
        numbered, first = list(inputs), 1
        for i in self.moved:
            numbered[i] = np.arange(first, first + inputs[i].size).reshape(inputs[i].shape)
            first += inputs[i].size
        found = [np.asarray(places) for places in self.run(*numbered)]
        self.save(found, [inputs[i].shape for i in self.moved], len(inputs))
        kind = inputs[self.moved[0]].dtype
        pool = np.concatenate([np.full(1, self.fill, kind), *[inputs[i].reshape(-1) for i in self.moved]])
        outputs = tuple([pool[places] for places in found])
        return outputs if len(outputs) > 1 else outputs[0]

    def backward(self, *grads: Any) -> Gradients:
        found, shapes, count = self.saved
        total = np.zeros(1 + sum(int(np.prod(shape)) for shape in shapes), grads[0].dtype)
        for places, grad in zip(found, grads, strict=True):
            np.add.at(total, places, grad)
        down: list[Array | None] = [None] * count
        start = 1
        for i, shape in zip(self.moved, shapes, strict=True):
            size = int(np.prod(shape))
            down[i] = total[start : start + size].reshape(shape)
            start += size
        return tuple(down), {}


class Patches(Gate):
    """What windows see: x (batch, channels, *sizes) -> y (batch, channels, *windows, elements of a window).

    Local gradient: dL/dx[k] = the sum of the upstream gradient over all windows that see element k.

    Args:
        kernel, strides, pads, dilations: as ONNX has them: pads are those before all axes, then those after.
        ceil: whether a last window may reach beyond the padding.
        fill: the value of the padding.
    """

    def __init__(
        self, kernel: list[int], strides: list[int], pads: list[int], dilations: list[int], ceil: bool, fill: float
    ) -> None:
        self.kernel, self.strides, self.pads, self.dilations = kernel, strides, pads, dilations
        self.ceil, self.fill = ceil, fill

    def places(self, sizes: Shape, padding: int = 0) -> Array:
        """The number of the element that each place of each window sees, from 1; 0 beyond, `padding` in the padding."""
        whole = np.arange(1, 1 + int(np.prod(sizes))).reshape(sizes)
        before, after = self.pads[: len(sizes)], self.pads[len(sizes) :]
        whole = np.pad(whole, list(zip(before, after, strict=True)), constant_values=padding)
        picks, counts = [], []
        for axis, size in enumerate(whole.shape):
            step, span = self.strides[axis], self.dilations[axis] * (self.kernel[axis] - 1) + 1
            count = (size - span) // step + 1
            if self.ceil and count * step < sizes[axis] + before[axis] and (size - span) % step:
                count += 1
            missing = (count - 1) * step + span - size
            whole = np.pad(whole, [(0, max(missing, 0) * (i == axis)) for i in range(whole.ndim)])
            picks.append(np.arange(count)[:, None] * step + self.dilations[axis] * np.arange(self.kernel[axis]))
            counts.append(count)
        rank = len(sizes)
        grid = [
            pick.reshape([pick.shape[j // rank] if j % rank == i else 1 for j in range(2 * rank)])
            for i, pick in enumerate(picks)
        ]
        found: Array = whole[tuple(grid)].reshape(*counts, -1)
        return found

    def forward(self, x: Any) -> Any:
        places = self.places(x.shape[2:])
        self.save(places, x.shape)
        rows = np.concatenate([np.full((*x.shape[:2], 1), self.fill, x.dtype), x.reshape(*x.shape[:2], -1)], axis=2)
        return rows[:, :, places]

    def backward(self, grad: Any) -> Gradients:
        places, shape = self.saved
        down = np.zeros((*shape[:2], 1 + int(np.prod(shape[2:]))), grad.dtype)
        key: Any = (slice(None), slice(None), places)
        np.add.at(down, key, grad)
        return (down[:, :, 1:].reshape(shape),), {}


class Remainder(Gate):
    """y = x - n b, n being x / b rounded down, or towards zero with `fmod`: dy/dx = 1, dy/db = -n."""

    def __init__(self, fmod: bool = False) -> None:
        self.fmod = fmod

    def forward(self, x: Any, b: Any) -> Any:
        y = np.fmod(x, b) if self.fmod else np.mod(x, b)
        self.save(x, b, y)
        return y

    def backward(self, grad: Any) -> Gradients:
        x, b, y = self.saved
        return (sum_to(grad, x.shape), sum_to(-grad * np.rint((x - y) / b), b.shape)), {}


def arrays_of(gate: Gate) -> Mapping[str, Any]:
    """Parameters and buffers of a gate by name."""
    return {**gate.named_parameters(), **gate.named_buffers()}
