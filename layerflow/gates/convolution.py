"""Convolutions as matrix products: the windows of the input become columns, the kernels are rows."""

import math
from typing import Any

import numpy as np

from layerflow.errors import GateError
from layerflow.gate import Gate, Gradients, Shape
from layerflow.gates.initializers import Initializer, named_initializer
from layerflow.gates.windows import Sizes, Windows, as_sizes
from layerflow.parameter import Array, Parameter


class Kernels(Gate):
    """What all convolutions share: settings, weights, and the split of the channels into groups."""

    rank = 2

    def __init__(
        self,
        out_channels: int,
        kernel_size: Sizes,
        in_channels: int | None = None,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        init: Initializer | str = "he",
    ) -> None:
        for name, count in ("out_channels", out_channels), ("in_channels", in_channels), ("groups", groups):
            if count is not None:
                as_sizes(self, name, count, 1)
        kernel, step = (
            as_sizes(self, "kernel_size", kernel_size, self.rank),
            as_sizes(self, "stride", stride, self.rank),
        )
        dilations = as_sizes(self, "dilation", dilation, self.rank)
        self.windows = Windows(kernel, step, self._padding(padding, kernel, step, dilations), dilations)
        self.out_channels, self.in_channels, self.groups = out_channels, in_channels, groups
        self.init = named_initializer(init)
        self.weight = Parameter()
        self.bias = Parameter(decay=False) if bias else None

    def _padding(
        self, padding: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
    ) -> tuple[tuple[int, int], ...]:
        if padding != "same":
            return tuple((size, size) for size in as_sizes(self, "padding", padding, self.rank, least=0))
        if max(stride) > 1:
            raise GateError(f"{self!r}: padding='same' needs stride 1; write the padding as a number")
        totals = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)

    def _create(self, rng: "np.random.Generator", shape: Shape, rows_are_inputs: bool = False) -> None:
        in_channels = self.in_channels or (shape[1] if len(shape) > 1 else 0)
        if len(shape) != self.rank + 2 or shape[1] != in_channels:
            axes = "length" if self.rank == 1 else "height, width"
            raise GateError(f"{self!r}: input of shape {shape}, expected (batch, {in_channels or 'channels'}, {axes})")
        if in_channels % self.groups or self.out_channels % self.groups:
            raise GateError(
                f"{self!r}: groups={self.groups} must divide the {in_channels} input channels and the "
                f"{self.out_channels} output channels"
            )
        rows, others = self.out_channels, in_channels
        if rows_are_inputs:
            rows, others = others, rows
        fan_in = in_channels // self.groups * math.prod(self.windows.kernel)
        shape_of_weight = (rows, others // self.groups, *self.windows.kernel)

        def draw(wanted: Shape) -> Array:
            drawn = self.init(rng, (math.prod(wanted) // fan_in, fan_in))
            return drawn.reshape(wanted)

        self.weight.create(shape_of_weight, draw)
        if self.bias is not None:
            self.bias.create((self.out_channels,), np.zeros)

    def _check_channels(self, x: Array, expected: int) -> None:
        if x.ndim != self.rank + 2 or x.shape[1] != expected:
            axes = "length" if self.rank == 1 else "height, width"
            raise GateError(f"{self!r}: input of shape {x.shape}, expected (batch, {expected}, {axes})")

    def _rows(self, x: Array) -> Array:
        """Lay out (batch, channels, axes...) as (groups, channels / groups, batch * axes)."""
        return np.swapaxes(x, 0, 1).reshape(self.groups, x.shape[1] // self.groups, -1)

    def _matrix(self) -> Array:
        """The weights as one matrix per group, one row per first index."""
        weight = self.weight.value
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)


class Convolution(Kernels):
    """A convolution over the last `rank` axes; see Conv2d."""

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._create(rng, shape)
        return (shape[0], self.out_channels, *self.windows.output(self, shape))

    def forward(self, x: Any) -> Any:
        self._check_channels(x, self.weight.value.shape[1] * self.groups)
        output = self.windows.output(self, x.shape)
        columns = self.windows.columns(x, output).reshape(self.groups, self._matrix().shape[2], -1)
        self.save(columns, x.shape)
        y = (self._matrix() @ columns).reshape(self.out_channels, -1)
        if self.bias is not None:
            y += self.bias.value[:, None]
        return np.swapaxes(y.reshape(self.out_channels, len(x), *output), 0, 1)

    def backward(self, grad: Any) -> Gradients:
        columns, shape = self.saved
        rows = self._rows(grad)
        grads = {"weight": (rows @ columns.swapaxes(1, 2)).reshape(self.weight.value.shape)}
        if self.bias is not None:
            grads["bias"] = rows.reshape(self.out_channels, -1).sum(axis=1)
        if not self.needs_grad[0]:
            return (None,), grads
        upstream = self._matrix().swapaxes(1, 2) @ rows
        layout = (shape[1], *self.windows.kernel, shape[0], *grad.shape[2:])
        return (self.windows.add_columns(upstream.reshape(layout), shape),), grads


class Conv1d(Convolution):
    """y[n, o, t] = b[o] + sum over c, i of W[o, c, i] x[n, c, stride * t + dilation * i - padding].

    Shapes: x (batch, in_channels, length) -> y (batch, out_channels, windows), with
    windows = (length + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1; W (out_channels,
    in_channels / groups, kernel_size); b (out_channels,).
    Local gradient: as of Conv2d.

    Args: those of Conv2d, each size being one integer.

    Raises:
        GateError: as Conv2d.
    """

    rank = 1


class Conv2d(Convolution):
    """y[n, o, r, s] = b[o] + sum over c, i, j of W[o, c, i, j] x[n, c, stride r + dilation i - padding, ...].

    With the windows of x as the columns of a matrix X, this is one product, Y = W X + b, for the whole batch. As in
    every framework the kernel isn't flipped, which makes it a cross-correlation.

    Shapes: x (batch, in_channels, height, width) -> y (batch, out_channels, rows, columns), with
    rows = (height + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1; W (out_channels,
    in_channels / groups, kernel_size, kernel_size); b (out_channels,).
    Local gradient: dL/dW = G X^T, dL/db = the sum of G over samples and positions, and dL/dX = W^T G, of which dL/dx
    adds up all entries that are copies of the same element, for the upstream gradient G (out_channels, positions).
    Source: Chellapilla, Puri and Simard 2006, High Performance Convolutional Neural Networks for Document Processing.

    Args:
        out_channels: the number of kernels.
        kernel_size: the height and width of a kernel: an integer, or one per axis. So for the next three.
        in_channels: the channels of the input; inferred from the input by default.
        stride: the distance between neighbouring windows.
        padding: the zeros added on each side, or "same" for an output of the input's size (stride 1 only).
        dilation: the distance between neighbouring elements of a window.
        groups: into how many parts the channels are split; each part of the output sees its part of the input.
            With groups = in_channels the convolution is depthwise.
        bias: whether to add b.
        init: draws the initial weights, as in Linear, with fan_in = in_channels / groups * kernel_size^2.

    Raises:
        GateError: a setting is no such integer; groups doesn't divide the channels; the input has another shape, or is
            smaller than a window.
    """


class ConvTranspose2d(Kernels):
    """y = the adjoint of Conv2d applied to x, plus b: every element of x adds its multiple of the kernel to y.

    Shapes: x (batch, in_channels, height, width) -> y (batch, out_channels, rows, columns), with
    rows = (height - 1) stride - 2 padding + dilation (kernel_size - 1) + 1; W (in_channels, out_channels / groups,
    kernel_size, kernel_size); b (out_channels,).
    Local gradient: dL/dx is the convolution of the upstream gradient g with W; dL/dW = x G^T for the windows G of g;
    dL/db = the sum of g over samples and positions.
    Source: Zeiler, Krishnan, Taylor and Fergus 2010, Deconvolutional Networks.

    Args: those of Conv2d; the padding is taken off the output, as a number.

    Raises:
        GateError: as Conv2d; or nothing of the output is left after the padding.
    """

    def build(self, rng: "np.random.Generator", shape: Shape) -> Shape:
        self._create(rng, shape, rows_are_inputs=True)
        return self._output(shape)

    def _output(self, shape: Shape) -> Shape:
        windows = self.windows
        axes = zip(shape[2:], windows.kernel, windows.stride, windows.padding, windows.dilation, strict=True)
        sizes = [(size - 1) * step - sum(pad) + reach * (kernel - 1) + 1 for size, kernel, step, pad, reach in axes]
        if min(sizes) < 1:
            raise GateError(f"{self!r}: padding leaves nothing of the output for an input of shape {shape}")
        return (shape[0], self.out_channels, *sizes)

    def forward(self, x: Any) -> Any:
        self._check_channels(x, self.weight.value.shape[0])
        self.save(x)
        shape = self._output(x.shape)
        columns = self._matrix().swapaxes(1, 2) @ self._rows(x)
        layout = (self.out_channels, *self.windows.kernel, len(x), *x.shape[2:])
        y = self.windows.add_columns(columns.reshape(layout), shape)
        return y if self.bias is None else y + self.bias.value[:, None, None]

    def backward(self, grad: Any) -> Gradients:
        (x,) = self.saved
        matrix = self._matrix()
        columns = self.windows.columns(grad, x.shape[2:]).reshape(self.groups, matrix.shape[2], -1)
        grads = {"weight": (self._rows(x) @ columns.swapaxes(1, 2)).reshape(self.weight.value.shape)}
        if self.bias is not None:
            grads["bias"] = grad.sum(axis=(0, 2, 3))
        down = (matrix @ columns).reshape(x.shape[1], len(x), *x.shape[2:])
        return (np.swapaxes(down, 0, 1),), grads
