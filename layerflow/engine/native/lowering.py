"""Lowers a program to kernels over buffers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.engine.native.expressions import (
    ZERO,
    Expression,
    Expressions,
    Index,
    added,
    flat,
    loop,
    scaled,
)
from layerflow.engine.native.kernels import STEP, Buffer, Kernel, Matrix, Product, Store
from layerflow.engine.native.memory import Layout, Memory
from layerflow.engine.native.placement import root
from layerflow.engine.native.simplify import only_splits, reshape_groups, simplified
from layerflow.engine.program import VIEWS, Node, Program
from layerflow.errors import RecordError

Loops = list[tuple[int, int]]
INT64, BOOL = np.dtype(np.int64), np.dtype(np.bool_)
NEUTRAL: dict[str, Any] = {
    "sum": 0, "prod": 1, "all": True, "any": False, "max": -np.inf, "min": np.inf,
}  # fmt: skip


class Lowering(Memory):
    """The kernels of a program.

    Args:
        program: as it was recorded.
        layout: how it is run many times.
        small: products of up to so many multiplications are loops of our own; larger ones are given to BLAS.
        has_blas: whether there is one.

    Attributes:
        kernels: in the order in which they run.
    """

    def __init__(self, program: Program, small: int, has_blas: bool = True, layout: Layout = Layout()) -> None:  # noqa: B008
        super().__init__(simplified(program), layout)
        self.small, self.has_blas = small, has_blas
        self.expressions = Expressions()
        self.kernels: list[Kernel] = []
        self.variables = 0
        self._known: dict[Any, Expression] = {}
        self._lower()

    def _lower(self) -> None:
        program = self.program
        for name, node in program.inputs.items():
            size = node.size if name not in self.layout.rows | self.layout.series else 0
            buffer = self.buffer(node.dtype, size, "given", name)
            if name in self.layout.series:
                self.series[buffer.number] = node.size
            if name in self.layout.rows:
                self._batch(node, buffer)
            else:
                self.settle(node, buffer, is_readonly=True)
        for node in program.nodes:
            if node.kind == "constant" and node.number in self.placement.in_memory:
                buffer = self.buffer(node.dtype, node.size, "constant", value=node.settings["value"])
                self.settle(node, buffer, is_readonly=True)
        finals = self.settled_outputs()
        self.settle_pieces()
        guards: dict[int, list[int]] = {}
        for i, guard in enumerate(program.guards):
            guards.setdefault(root(guard.node).number, []).append(i)
        for node in program.nodes:
            if node.number in self.placement.in_memory and node.kind not in ("input", "constant"):
                self._kernels_of(node)
            for i in guards.get(node.number, ()):
                self._guard(i)
        for node, number in finals:
            if self.homes.get(node.number) != (number, 0):
                self._fill(node, number, 0)

    def _batch(self, node: Node, data: Buffer) -> None:
        """Gather the samples of a batch."""
        rows = next((buffer for buffer in self.buffers if buffer.name == "rows"), None)
        rows = rows or self.buffer(INT64, 0, "given", "rows")
        copied = self.buffer(node.dtype, node.size, "temporary")
        self.settle(node, copied, is_readonly=True)
        loops, indices = self.loops(node.shape)
        sample = self.expressions.load(rows.number, added(indices[0], scaled(loop(STEP), node.shape[0])), INT64)
        inner = int(np.prod(node.shape[1:], dtype=np.int64))
        place = added(Index(0, (), ((inner, sample),)), flat([ZERO, *indices[1:]], node.shape))
        value = self.expressions.load(data.number, place, node.dtype)
        self._add(loops, [Store(copied.number, flat(indices, node.shape), value)])

    def _over(self, node: Node, base: Node) -> tuple[int, int]:
        """Let a node that changes parts of `base` take its memory, if nothing reads that any more; else copy it."""
        inner = base
        while inner.kind == "reshape":
            inner = inner.inputs[0]
        home = self.homes.get(inner.number)
        if (
            home is not None and home[0] not in self.readonly and inner.kind not in VIEWS
            and inner.number not in self.pinned and node.number not in self.homes
            and self.last_read(inner) <= self.position[node.number]
            and not any(self.reads(each, inner) for each in node.inputs[1:])
        ):  # fmt: skip
            self.homes[node.number] = home
            return home
        home = self.home(node)
        self._fill(base, *home)
        return home

    def _set_apart(self, value: Node, base: Node) -> None:
        """Compute a value before the memory is changed that it reads."""
        while base.kind == "reshape":
            base = base.inputs[0]
        if self.reads(value, base):
            buffer = self.buffer(value.dtype, value.size, "temporary").number
            self._fill(value, buffer, 0)
            self.homes[value.number] = buffer, 0
            self._known.clear()

    # Values at an index --------------------------------------------------------------------------------------------

    def loops(self, shape: Sequence[int]) -> tuple[Loops, list[Index]]:
        """A loop for each axis, and the indices that they make."""
        made = [(self.variables + i, size) for i, size in enumerate(shape)]
        self.variables += len(made)
        return made, [loop(variable) if size != 1 else ZERO for variable, size in made]

    def value(self, node: Node, indices: Sequence[Index], is_computed: bool = False) -> Expression:
        """An element of a node: read from memory, unless `is_computed`, or computed from those of its inputs."""
        key = node.number, tuple(indices), is_computed
        if key not in self._known:
            self._known[key] = self._value(node, list(indices), is_computed)
        return self._known[key]

    def _value(self, node: Node, indices: list[Index], is_computed: bool) -> Expression:
        make = self.expressions
        if node.kind == "constant" and node.number not in self.placement.in_memory:
            return make.constant(node.settings["value"].flat[0].item(), node.dtype)
        if node.number in self.homes and not is_computed:
            buffer, start = self.homes[node.number]
            return make.load(buffer, self._place(indices, node.shape, buffer, start), node.dtype)
        if node.kind == "elementwise":
            operands = [self.value(each, _aligned(indices, node.shape, each.shape)) for each in node.inputs]
            function = node.settings["function"]
            if function == "copy":
                return operands[0]
            return make.cast(operands[0], node.dtype) if function == "cast" else make.operation(
                function, operands, node.dtype
            )  # fmt: skip
        if node.kind == "gather":
            return self.value(node.inputs[0], self._picked(node.inputs[1:], indices))
        base = node.inputs[0]
        if node.kind == "reshape" and base.number in self.homes and not only_splits(base.shape, node.shape):
            buffer, start = self.homes[base.number]
            return make.load(buffer, self._place(indices, node.shape, buffer, start), node.dtype)
        return self.value(base, self._behind(node, base, indices))

    def _picked(self, places: Sequence[Node], indices: Sequence[Index]) -> list[Index]:
        """The indices into the base of a gather or scatter."""
        lead = np.broadcast_shapes(*[place.shape for place in places])
        picks = [self.value(place, _aligned(indices[: len(lead)], lead, place.shape)) for place in places]
        return [*[Index(0, (), ((1, pick),)) for pick in picks], *indices[len(lead) :]]

    def _behind(self, view: Node, base: Node, indices: list[Index]) -> list[Index]:
        """The indices into the base of a view."""
        settings = view.settings
        if view.kind == "transpose":
            found = [ZERO] * len(indices)
            for i, axis in enumerate(settings["axes"]):
                found[axis] = indices[i]
            return found
        if view.kind == "slice":
            pairs = zip(indices, settings["starts"], settings["steps"], strict=True)
            return [added(Index(start), scaled(index, step)) for index, start, step in pairs]
        if view.kind == "broadcast":
            return _aligned(indices, view.shape, base.shape)
        if view.kind == "windows":
            found = indices[: len(base.shape)]
            for i, axis in enumerate(settings["axes"]):
                found[axis] = added(found[axis], indices[len(base.shape) + i])
            return found
        found = [ZERO] * len(base.shape)  # a reshape that only splits axes
        for left, right in reshape_groups(base.shape, view.shape):
            for axis in left:
                if base.shape[axis] != 1:
                    found[axis] = flat([indices[i] for i in right], [view.shape[i] for i in right])
        return found

    # Kernels -------------------------------------------------------------------------------------------------------

    def _add(self, loops: Loops, stores: list[Store], folds: Loops | None = None, function: str = "") -> None:
        sizes = [size for _, size in loops]
        if 0 in sizes:
            return
        if folds and 0 in [size for _, size in folds]:
            dtype = self.buffers[stores[0].buffer].dtype
            neutral = self.expressions.constant(NEUTRAL[function], dtype)
            folds, stores = [], [Store(stores[0].buffer, stores[0].index, neutral)]
            function = ""
        self.kernels.append(Kernel(loops, stores, folds or [], function))

    def _place(self, indices: Sequence[Index], shape: Sequence[int], buffer: int, start: int = 0) -> Index:
        """The place of an element in a buffer, in the part of the present run if each has one."""
        place = flat(indices, shape, start)
        return added(place, scaled(loop(STEP), self.series[buffer])) if buffer in self.series else place

    def _fill(self, node: Node, buffer: int, start: int) -> None:
        """Write a value into memory."""
        loops, indices = self.loops(node.shape)
        is_computed = node.number in self.homes and self.homes[node.number] == (buffer, start)
        value = self.value(node, indices, is_computed and node.kind in ("elementwise", "gather"))
        self._add(loops, [Store(buffer, self._place(indices, node.shape, buffer, start), value)])

    def _guard(self, number: int) -> None:
        guard = self.program.guards[number]
        value = self.value(guard.node, [])
        if not guard.expected:
            value = self.expressions.operation("logical_not", [value], BOOL)
        buffer = self.buffer(BOOL, 1, "temporary").number
        self.kernels.append(Kernel([], [Store(buffer, ZERO, value)], guard=number + 1))

    def _kernels_of(self, node: Node) -> None:
        if node.dtype.kind not in "biuf" or node.dtype.itemsize > 8 or node.dtype == np.float16:
            raise RecordError(
                f"{node.origin}: arrays of {node.dtype}; the native engine has float32, float64, integers"
            )
        if node.kind in ("elementwise", "gather"):
            self._fill(node, *self.home(node))
        elif node.kind in ("reduce", "arg", "cumulate"):
            self._fold(node)
        elif node.kind == "dot":
            self._product(node)
        elif node.kind == "update":
            value = node.inputs[1]
            self._set_apart(value, node.inputs[0])
            buffer, start = self._over(node, node.inputs[0])
            loops, indices = self.loops(value.shape)
            pairs = zip(indices, node.settings["starts"], node.settings["steps"], strict=True)
            places = [added(Index(first), scaled(index, step)) for index, first, step in pairs]
            self._add(loops, [Store(buffer, flat(places, node.shape, start), self.value(value, indices))])
        elif node.kind == "scatter":
            value = node.inputs[1]
            self._set_apart(value, node.inputs[0])
            buffer, start = self._over(node, node.inputs[0])
            loops, indices = self.loops(value.shape)
            place = flat(self._picked(node.inputs[2:], indices), node.shape, start)
            self._add(loops, [Store(buffer, place, self.value(value, indices), node.settings["mode"])])
        else:
            self._concatenation(node)

    def _fold(self, node: Node) -> None:
        x, settings = node.inputs[0], node.settings
        buffer, start = self.home(node)
        loops, indices = self.loops(x.shape)
        function = settings["function"]
        axes = settings["axes"] if node.kind == "reduce" else (settings["axis"],)
        kept = [i for i in range(len(loops)) if i not in axes]
        if node.kind == "cumulate":
            place, function = flat(indices, node.shape, start), f"cum{function}"
        else:
            place = flat([indices[i] for i in kept], node.shape, start)
        store = Store(buffer, place, self.value(x, indices))
        self._add([loops[i] for i in kept], [store], [loops[i] for i in axes], function)

    def _concatenation(self, node: Node) -> None:
        buffer, start = self.home(node)
        axis, before = node.settings["axis"], 0
        for part in node.inputs:
            inner = part
            while inner.kind == "reshape":
                inner = inner.inputs[0]
            place = buffer, start + before * int(np.prod(node.shape[1:], dtype=np.int64))
            if axis or self.homes.get(inner.number) != place:
                loops, indices = self.loops(part.shape)
                places = list(indices)
                places[axis] = added(places[axis], Index(before))
                self._add(loops, [Store(buffer, flat(places, node.shape, start), self.value(part, indices))])
            before += part.shape[axis]

    # Products ------------------------------------------------------------------------------------------------------

    def _product(self, node: Node) -> None:
        a, b = node.inputs[:2]
        (rows, inner), columns = a.shape[-2:], b.shape[-1]
        adds = len(node.inputs) == 3
        buffer, start = self._over(node, node.inputs[2]) if adds else self.home(node)
        loops, lead = self.loops(node.shape[:-2])
        is_tiny = columns == 1 and not adds
        if node.dtype.kind != "f" or not rows * columns * inner or is_tiny or 0 in node.shape:
            self._product_as_sum(node, buffer, start)
            return
        is_small = rows * columns * inner <= self.small or not self.has_blas
        left = self._matrix(a, lead, lambda m: is_small or 1 in (m.row, m.column))
        right = self._matrix(b, lead, lambda m: m.column == 1 if is_small else 1 in (m.row, m.column))
        place = flat([*lead, ZERO, ZERO], node.shape, start)
        product = Product(
            rows, columns, inner, left, right, Matrix(buffer, place, columns, 1), adds, node.dtype, is_small
        )
        self.kernels.append(Kernel(loops, product=product))

    def _product_as_sum(self, node: Node, buffer: int, start: int) -> None:
        a, b = node.inputs[:2]
        loops, indices = self.loops(node.shape)
        folds, (inner,) = self.loops(a.shape[-1:])
        values = self.value(a, [*indices[:-1], inner]), self.value(b, [*indices[:-2], inner, indices[-1]])
        product = self.expressions.operation("multiply", values, node.dtype)
        self._add(loops, [Store(buffer, flat(indices, node.shape, start), product)], folds, "sum")

    def _matrix(self, node: Node, lead: list[Index], is_right: Any) -> Matrix:
        """The last two axes of a node as a matrix in memory; packed if they do not lie as `is_right` wants them."""
        (row, column), (i, j) = self.loops(node.shape[-2:])
        value = self.value(node, [*lead, i, j])
        if value.kind == "load" and not value.index.picks:
            strides = dict(value.index.terms)
            rows, columns = strides.pop(row[0], 0), strides.pop(column[0], 0)
            rows = rows if row[1] != 1 else max(node.shape[-1], 1) if columns in (0, 1) else 1
            columns = columns if column[1] != 1 else 1 if rows != 1 else node.shape[-2]
            found = Matrix(value.buffer, Index(value.index.start, tuple(strides.items())), rows, columns)
            if is_right(found) and 0 not in (rows, columns):
                return found
        packed = self.buffer(node.dtype, node.size, "temporary").number
        loops, indices = self.loops(node.shape)
        self._add(loops, [Store(packed, flat(indices, node.shape), self.value(node, indices))])
        return Matrix(packed, flat([*lead, ZERO, ZERO], node.shape), node.shape[-1], 1)


def _aligned(indices: Sequence[Index], shape: Sequence[int], own: Sequence[int]) -> list[Index]:
    """The indices of an array that is broadcast to a shape."""
    before = len(shape) - len(own)
    return [ZERO if size == 1 else indices[before + i] for i, size in enumerate(own)]
