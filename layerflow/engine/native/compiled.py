"""A program as machine code that can be called."""

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np

from layerflow.engine.native.compilation import Code, aligned_bytes, machine
from layerflow.engine.native.fusion import fused, plan
from layerflow.engine.native.kernels import Buffer, Kernel
from layerflow.engine.native.lowering import Lowering
from layerflow.engine.native.memory import Layout
from layerflow.engine.native.printing import Printer
from layerflow.engine.native.products import SMALL_BY_LANES
from layerflow.engine.program import Guard, Program
from layerflow.parameter import Array


class Compiled:
    """Machine code for a program.

        code = Compiled(program)
        code.bind({"parameter.weight": weight})         # read at every run, from where it is
        failed = code.run({"input.0": x, ...})          # the guard that does not hold, or None
        code.outputs["output.0"]                        # overwritten by the next run

    Args:
        program: as it was recorded.
        outputs: arrays for outputs by name; new ones are made for the others.
        layout: how it is run many times; see `run_many`.
    """

    def __init__(
        self,
        program: Program,
        outputs: Mapping[str, Array] | None = None,
        layout: Layout = Layout(),  # noqa: B008
    ) -> None:
        here = machine()
        lowered = Lowering(program, SMALL_BY_LANES[here.lanes], here.blas is not None, layout)
        self.program, self.layout, self.guards = program, layout, lowered.program.guards
        self.kernels = fused(lowered.kernels, lowered.expressions)
        size = plan(self.kernels, lowered.buffers)
        self.text = printed(self.kernels, lowered.buffers, here)
        self.code = Code(self.text)
        self.arena = aligned_bytes(size)
        self.buffers = [buffer for buffer in lowered.buffers if buffer.kind != "temporary"]
        self.slots = {buffer.name: i for i, buffer in enumerate(self.buffers) if buffer.kind == "given"}
        self._pointers = (ctypes.c_void_p * max(len(self.buffers), 1))()
        self._held: dict[int, Array] = {}
        self._failed = np.zeros(1, np.int64)
        self.outputs: dict[str, Array] = {}
        for i, buffer in enumerate(self.buffers):
            if buffer.kind == "constant":
                self._point(i, np.ascontiguousarray(buffer.value))
            elif buffer.name.startswith("output:") and buffer.name.removeprefix("output:") not in layout.series:
                name = buffer.name.removeprefix("output:")
                given = (outputs or {}).get(name)
                shape = program.outputs[name].shape
                self.outputs[name] = np.zeros(shape, buffer.dtype) if given is None else given
                self._point(i, self.outputs[name])
        self._blas = (here.blas.single, here.blas.double) if here.blas else (0, 0)

    def bind(self, arrays: Mapping[str, Array]) -> None:
        """Take inputs from these arrays from now on; names that the program does not have are passed over."""
        for name, array in arrays.items():
            slot = self.slots.get(name)
            if slot is not None and self._held.get(slot) is not array:
                self._point(slot, array)

    def run(self, arrays: Mapping[str, Array]) -> Guard | None:
        """Run once; return the guard that does not hold, in which case the outputs mean nothing."""
        return self.run_many(arrays, 1)[1]

    def run_many(self, arrays: Mapping[str, Array], count: int) -> tuple[int, Guard | None]:
        """Run up to `count` times; return how many runs were whole, and the guard that stopped the next one.

        Outputs that are series have an array (count, ...) each in `outputs`.
        """
        self.bind(arrays)
        for name in self.layout.series & self.program.outputs.keys():
            held = self.outputs.get(name)
            if held is None or len(held) < count:
                node = self.program.outputs[name]
                self.outputs[name] = np.zeros((count, *node.shape), node.dtype)
                self._point(self.slots[f"output:{name}"], self.outputs[name])
        self._failed[0] = 0
        done = self.code.run(self._pointers, self.arena.ctypes.data, *self._blas, count, self._failed.ctypes.data)
        return done, self.guards[self._failed[0] - 1] if self._failed[0] else None

    def _point(self, slot: int, array: Array) -> None:
        buffer = self.buffers[slot]
        if array.dtype != buffer.dtype or (buffer.size and array.size != buffer.size):
            raise ValueError(
                f"{buffer.name} is {array.dtype} with {array.size} elements; the program was recorded for "
                f"{buffer.dtype} with {buffer.size}"
            )
        if not array.flags.c_contiguous:
            if buffer.name.startswith("output:") or buffer.name in self.layout.states.values():
                raise ValueError(f"{buffer.name} has gaps; results are written into arrays without")
            array = np.ascontiguousarray(array)
        self._held[slot] = array
        self._pointers[slot] = array.__array_interface__["data"][0]


ARGUMENTS = "ptr %gemm_single, ptr %gemm_double, i64 %step"


def printed(kernels: list[Kernel], buffers: list[Buffer], here: Any) -> str:
    """All kernels in LLVM's language, and the function `run`, which calls them `count` times."""
    declared: dict[str, str] = {}
    functions: dict[str, str] = {}  # their text -> their name
    slots = {buffer.number: i for i, buffer in enumerate(each for each in buffers if each.kind != "temporary")}
    calls: list[str] = []
    used: set[int] = set()
    for kernel in kernels:
        touched = _touched(kernel)
        used |= touched.keys()
        printer = Printer(declared)
        written = {number for number, _ in kernel.writes()}
        printer.pointers = {number: f"%b{i}" for i, number in enumerate(touched)}
        printer.starts = touched
        printer.body(kernel, buffers, here)
        kinds = [f"ptr noalias {'' if number in written else 'readonly '}%b{i}" for i, number in enumerate(touched)]
        head = f"({', '.join([*kinds, ARGUMENTS])}) noinline nounwind {{"
        text = "\n".join([head, *printer.lines, "  ret void", "}"])
        name = functions.setdefault(text, f"kernel{len(functions)}")
        arguments = []
        for number, start in touched.items():
            pointer = f"%buffer{number}"
            if start:
                pointer = f"%p{len(calls)}_{number}"
                offset = start * buffers[number].dtype.itemsize
                calls.append(f"  {pointer} = getelementptr i8, ptr %buffer{number}, i64 {offset}")
            arguments.append(f"ptr {pointer}")
        calls.append(f"  call void @{name}({', '.join([*arguments, ARGUMENTS])})")
        if kernel.guard:
            calls += _checked(kernel, len(calls))
    pointers = []
    for number in sorted(used):
        if number in slots:
            pointers.append(f"  %slot{number} = getelementptr ptr, ptr %given, i64 {slots[number]}")
            pointers.append(f"  %buffer{number} = load ptr, ptr %slot{number}")
        else:
            offset = buffers[number].offset
            pointers.append(f"  %buffer{number} = getelementptr i8, ptr %arena, i64 {offset}")
    bodies = [f"define internal void @{name}{text}" for text, name in functions.items()]
    return "\n".join([*declared.values(), *bodies, HEAD, *pointers, LOOP, *calls, TAIL])


PARAMETERS = "ptr %given, ptr %arena, ptr %gemm_single, ptr %gemm_double, i64 %count, ptr %failed"
HEAD = f"define i64 @run({PARAMETERS}) nounwind {{\nentry:"
LOOP = """  br label %head
head:
  %step = phi i64 [0, %entry], [%next, %tail]"""
TAIL = """  br label %tail
tail:
  %next = add nuw nsw i64 %step, 1
  %again = icmp ult i64 %next, %count
  br i1 %again, label %head, label %done
done:
  ret i64 %count
}
"""


def _touched(kernel: Kernel) -> dict[int, int]:
    """The buffers of a kernel, and the first element of each that it touches, picked indices apart."""
    found: dict[int, int] = {}
    indexed = [*kernel.writes(), *kernel.reads()]
    if kernel.product is not None:
        indexed = [(each.buffer, each.index) for each in (kernel.product.c, kernel.product.a, kernel.product.b)]
    for number, index in indexed:
        start = 0 if index is None else index.start
        found[number] = min(found.get(number, start), start)
    return found


def _checked(kernel: Kernel, number: int) -> list[str]:
    """Leave the program where a guard is false."""
    buffer = kernel.stores[0].buffer
    return [
        f"  %flag{number} = load i8, ptr %buffer{buffer}",
        f"  %holds{number} = icmp ne i8 %flag{number}, 0",
        f"  br i1 %holds{number}, label %go{number}, label %stop{number}",
        f"stop{number}:",
        f"  store i64 {kernel.guard}, ptr %failed",
        "  ret i64 %step",
        f"go{number}:",
    ]
