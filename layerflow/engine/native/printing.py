"""Prints kernels as LLVM's language: one function for each different kernel, and one that calls them in order."""

import struct
from typing import Any

import numpy as np

from layerflow.engine.native.expressions import Expression, Index, added
from layerflow.engine.native.instructions import combined, computed
from layerflow.engine.native.kernels import STEP, Buffer, Kernel, Matrix
from layerflow.engine.native.products import blas_call, small_product

INT64 = np.dtype(np.int64)
START: dict[str, Any] = {"sum": 0, "prod": 1, "all": True, "any": False, "max": -np.inf, "min": np.inf}


def type_of(dtype: np.dtype[Any]) -> str:
    """The type of a value in a register."""
    if dtype.kind == "b":
        return "i1"
    return {4: "float", 8: "double"}[dtype.itemsize] if dtype.kind == "f" else f"i{8 * dtype.itemsize}"


def stored_type(dtype: np.dtype[Any]) -> str:
    """The type of a value in memory."""
    return "i8" if dtype.kind == "b" else type_of(dtype)


class Printer:
    """The lines of one function, and what they need besides.

    Values are names such as `%t3`, or constants as they are written.
    """

    def __init__(self, declared: dict[str, str]) -> None:
        self.declared = declared
        self.lines: list[str] = ["entry:"]
        self.count = 0
        self.open: list[tuple[str, str, int]] = []  # loops: label, variable, size
        self.names: dict[int, str] = {STEP: "%step"}  # of the loops' variables
        self.known: list[dict[Any, str]] = [{}]  # values by expression, for each open loop
        self.pointers: dict[int, str] = {}
        self.starts: dict[int, int] = {}  # of each buffer, the first element that the kernel touches

    # Instructions --------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def let(self, text: str) -> str:
        """Give a value a name."""
        self.count += 1
        self.line(f"%t{self.count} = {text}")
        return f"%t{self.count}"

    def constant(self, value: Any, dtype: np.dtype[Any]) -> str:
        if dtype.kind == "b":
            return "true" if value else "false"
        if dtype.kind in "iu":
            return str(int(value))
        number = float(np.float32(value)) if dtype.itemsize == 4 else float(value)
        return f"0x{struct.pack('>d', number).hex().upper()}"

    def binary(self, operation: str, a: str, b: str, dtype: np.dtype[Any], is_strict: bool = False) -> str:
        """add, sub, mul or div of numbers; a strict one is rounded by itself, never joined with another."""
        if dtype.kind == "f":
            return self.let(f"f{operation} {'' if is_strict else 'contract '}{type_of(dtype)} {a}, {b}")
        if operation == "div":
            operation = "sdiv" if dtype.kind == "i" else "udiv"
        return self.let(f"{operation} {type_of(dtype)} {a}, {b}")

    def compare(self, operation: str, a: str, b: str, dtype: np.dtype[Any]) -> str:
        """gt, ge, lt, le, eq or ne, as a truth value; with NaN all are false but ne."""
        if dtype.kind == "f":
            return self.let(f"fcmp {'une' if operation == 'ne' else 'o' + operation} {type_of(dtype)} {a}, {b}")
        sign = "" if operation in ("eq", "ne") else "s" if dtype.kind == "i" else "u"
        return self.let(f"icmp {sign}{operation} {type_of(dtype)} {a}, {b}")

    def logic(self, operation: str, a: str, b: str, dtype: np.dtype[Any]) -> str:
        """and, or or xor."""
        return self.let(f"{operation} {type_of(dtype)} {a}, {b}")

    def select(self, condition: str, a: str, b: str, dtype: np.dtype[Any]) -> str:
        return self.let(f"select i1 {condition}, {type_of(dtype)} {a}, {type_of(dtype)} {b}")

    def intrinsic(self, name: str, dtype: np.dtype[Any], *operands: str) -> str:
        """A function that LLVM itself knows."""
        return self._called(f"llvm.{name}.f{8 * dtype.itemsize}", dtype, operands)

    def library(self, name: str, dtype: np.dtype[Any], *operands: str) -> str:
        """A function of C's mathematical library."""
        return self._called(name + ("f" if dtype.itemsize == 4 else ""), dtype, operands)

    def _called(self, name: str, dtype: np.dtype[Any], operands: tuple[str, ...]) -> str:
        kind = type_of(dtype)
        self.declared[name] = f"declare {kind} @{name}({', '.join([kind] * len(operands))})"
        return self.let(f"call {kind} @{name}({', '.join(f'{kind} {each}' for each in operands)})")

    def as_bits(self, a: str, dtype: np.dtype[Any]) -> str:
        return self.let(f"bitcast {type_of(dtype)} {a} to i{8 * dtype.itemsize}")

    def from_bits(self, a: str, dtype: np.dtype[Any]) -> str:
        return self.let(f"bitcast i{8 * dtype.itemsize} {a} to {type_of(dtype)}")

    def cast(self, a: str, before: np.dtype[Any], after: np.dtype[Any]) -> str:
        """Convert a number."""
        if before == after:
            return a
        old, new = type_of(before), type_of(after)
        if after.kind == "b":
            return self.compare("ne", a, self.constant(0, before), before)
        if before.kind == "f" and after.kind != "f":
            name = f"llvm.fpto{'si' if after.kind == 'i' else 'ui'}.sat.{new}.f{8 * before.itemsize}"
            self.declared[name] = f"declare {new} @{name}({old})"
            return self.let(f"call {new} @{name}({old} {a})")
        if before.kind == "f":
            operation = "fpext" if after.itemsize > before.itemsize else "fptrunc"
        elif after.kind == "f":
            operation = "sitofp" if before.kind == "i" else "uitofp"
        elif old == new:
            return a
        else:
            is_signed = before.kind == "i"
            is_shorter = before.kind != "b" and after.itemsize < before.itemsize
            operation = "trunc" if is_shorter else "sext" if is_signed else "zext"
        return self.let(f"{operation} {old} {a} to {new}")

    # Memory --------------------------------------------------------------------------------------------------------

    def place(self, buffer: int, index: Index) -> str:
        """The place of an element, counted from where the pointer of its buffer points to."""
        index = added(index, Index(-self.starts[buffer]))
        found = self._found(index)
        if found is None:
            total = self.constant(index.start, INT64)
            for variable, stride in index.terms:
                name = self.names[variable]
                step = name if stride == 1 else self.let(f"mul nsw i64 {name}, {stride}")
                total = step if total == "0" else self.let(f"add nsw i64 {total}, {step}")
            for stride, pick in index.picks:
                chosen = self.cast(self.value(pick), pick.dtype, INT64)
                step = chosen if stride == 1 else self.let(f"mul nsw i64 {chosen}, {stride}")
                total = step if total == "0" else self.let(f"add nsw i64 {total}, {step}")
            found = self._keep(index, total)
        return found

    def address(self, buffer: int, index: Index, dtype: np.dtype[Any]) -> str:
        place = self.place(buffer, index)
        return self.let(f"getelementptr inbounds {stored_type(dtype)}, ptr {self.pointers[buffer]}, i64 {place}")

    def load(self, buffer: int, index: Index, dtype: np.dtype[Any]) -> str:
        found = self.let(f"load {stored_type(dtype)}, ptr {self.address(buffer, index, dtype)}, align {dtype.itemsize}")
        return self.let(f"trunc i8 {found} to i1") if dtype.kind == "b" else found

    def store(self, buffer: int, index: Index, value: str, dtype: np.dtype[Any]) -> None:
        if dtype.kind == "b":
            value = self.let(f"zext i1 {value} to i8")
        self.line(
            f"store {stored_type(dtype)} {value}, ptr {self.address(buffer, index, dtype)}, align {dtype.itemsize}"
        )
        for known in self.known:  # what was read of this buffer may be another number now
            for key in [key for key in known if isinstance(key, Expression) and _mentions(key, buffer)]:
                del known[key]

    def value(self, expression: Expression) -> str:
        """The name of an expression's value."""
        found = self._found(expression)
        if found is not None:
            return found
        if expression.kind == "load":
            made = self.load(expression.buffer, expression.index, expression.dtype)
        elif expression.kind == "constant":
            return self.constant(expression.value, expression.dtype)
        elif expression.kind == "cast":
            (operand,) = expression.operands
            made = self.cast(self.value(operand), operand.dtype, expression.dtype)
        else:
            operands = [self.value(operand) for operand in expression.operands]
            kinds = [operand.dtype for operand in expression.operands]
            made = computed(self, expression.function, operands, kinds, expression.dtype)
        return self._keep(expression, made)

    def _found(self, key: Any) -> str | None:
        return next((known[key] for known in reversed(self.known) if key in known), None)

    def _keep(self, key: Any, name: str) -> str:
        self.known[-1][key] = name
        return name

    # Loops ---------------------------------------------------------------------------------------------------------

    def begin(self, variable: int, size: int) -> None:
        self.count += 1
        label, before = f"{self.count}", self.lines_label()
        self.line(f"br label %head{label}")
        self.lines.append(f"head{label}:")
        self.names[variable] = f"%i{label}"
        self.line(f"%i{label} = phi i64 [0, %{before}], [%next{label}, %end{label}]")
        self.open.append((label, f"%i{label}", size))
        self.known.append({})

    def lines_label(self) -> str:
        """The label of the block that is being written."""
        return next(line[:-1] for line in reversed(self.lines) if line.endswith(":"))

    def end(self) -> None:
        label, name, size = self.open.pop()
        self.known.pop()
        self.line(f"br label %end{label}")
        self.lines.append(f"end{label}:")
        self.line(f"%next{label} = add nuw nsw i64 {name}, 1")
        self.line(f"%again{label} = icmp ult i64 %next{label}, {size}")
        self.line(f"br i1 %again{label}, label %head{label}, label %after{label}")
        self.lines.append(f"after{label}:")

    def variable(self, start: str, kind: str) -> str:
        """A place for a number that changes; LLVM keeps it in a register."""
        self.count += 1
        self.lines.insert(1, f"  %v{self.count} = alloca {kind}")
        self.line(f"store {kind} {start}, ptr %v{self.count}")
        return f"%v{self.count}"

    # Kernels -------------------------------------------------------------------------------------------------------

    def body(self, kernel: Kernel, buffers: list[Buffer], library: Any) -> None:
        """Print a kernel."""
        if kernel.product is not None:
            self._nest(kernel.loops)
            product = kernel.product
            a, b, c = (self._matrix(each, product.dtype) for each in (product.a, product.b, product.c))
            self.line(blas_call(product, a, b, c, library) if not product.is_small else small_product(
                self.declared, product, a, b, c, library.lanes
            ))  # fmt: skip
        elif not kernel.folds and not kernel.function:
            self._nest(kernel.loops)
            for store in kernel.stores:
                dtype = buffers[store.buffer].dtype
                value = self.value(store.value)
                if store.mode == "add":
                    value = combined(self, "sum", self.load(store.buffer, store.index, dtype), value, dtype)
                self.store(store.buffer, store.index, value, dtype)
        else:
            self._fold(kernel, buffers)
        while self.open:
            self.end()

    def _nest(self, loops: list[tuple[int, int]]) -> None:
        for variable, size in loops:
            self.begin(variable, size)

    def _matrix(self, matrix: Matrix, dtype: np.dtype[Any]) -> str:
        return self.address(matrix.buffer, matrix.index, dtype)

    def _fold(self, kernel: Kernel, buffers: list[Buffer]) -> None:
        (store,), function = kernel.stores, kernel.function
        dtype = buffers[store.buffer].dtype
        if function in ("argmax", "argmin"):
            self._search(kernel, dtype)
            return
        is_running = function.startswith("cum")
        function = function.removeprefix("cum")
        start = self.constant(_start(function, dtype), dtype)
        inner = kernel.folds[-1][0] if kernel.folds else -1
        if is_running or not kernel.loops or not kernel.folds or _runs_along(store.value, inner):
            self._nest(kernel.loops)
            total = self.variable(start, type_of(dtype))
            self._nest(kernel.folds)
            before = self.let(f"load {type_of(dtype)}, ptr {total}")
            after = combined(self, function, before, self.value(store.value), dtype, is_fold=True)
            self.line(f"store {type_of(dtype)} {after}, ptr {total}")
            if is_running:
                self.store(store.buffer, store.index, after, dtype)
            for _ in kernel.folds:
                self.end()
            if not is_running:
                found = self.let(f"load {type_of(dtype)}, ptr {total}")
                self.store(store.buffer, store.index, found, dtype)
            return
        # Memory runs along what is kept: a row of results is filled, then combined with each row of values.
        self._nest(kernel.loops)
        self.store(store.buffer, store.index, start, dtype)
        while self.open:
            self.end()
        self._nest(kernel.folds)
        self._nest(kernel.loops)
        before = self.load(store.buffer, store.index, dtype)
        self.store(store.buffer, store.index, combined(self, function, before, self.value(store.value), dtype), dtype)

    def _search(self, kernel: Kernel, dtype: np.dtype[Any]) -> None:
        """The first of the largest or smallest elements; NaN is found before all others."""
        (store,), of = kernel.stores, kernel.stores[0].value.dtype
        self._nest(kernel.loops)
        worst = _start("max" if kernel.function == "argmax" else "min", of)
        best, where = self.variable(self.constant(worst, of), type_of(of)), self.variable("0", type_of(dtype))
        found = self.variable("false", "i1")
        for variable, size in kernel.folds:
            self.begin(variable, size)
        value, kind = self.value(store.value), type_of(of)
        present, was_found = self.let(f"load {kind}, ptr {best}"), self.let(f"load i1, ptr {found}")
        is_better = self.compare("gt" if kernel.function == "argmax" else "lt", value, present, of)
        first = self.logic("xor", was_found, "true", np.dtype(bool))
        is_better = self.logic("or", is_better, first, np.dtype(bool))
        if of.kind == "f":
            is_nan = self.compare("ne", value, value, of)
            was_number = self.compare("eq", present, present, of)
            is_better = self.logic("or", is_better, is_nan, np.dtype(bool))
            is_better = self.logic(
                "and", is_better, self.logic("or", was_number, first, np.dtype(bool)), np.dtype(bool)
            )
        place = self.names[kernel.folds[0][0]] if kernel.folds else "0"
        present_place = self.let(f"load {type_of(dtype)}, ptr {where}")
        self.line(f"store {type_of(dtype)} {self.select(is_better, place, present_place, dtype)}, ptr {where}")
        self.line(f"store {kind} {self.select(is_better, value, present, of)}, ptr {best}")
        self.line(f"store i1 true, ptr {found}")
        for _ in kernel.folds:
            self.end()
        self.store(store.buffer, store.index, self.let(f"load {type_of(dtype)}, ptr {where}"), dtype)


def _start(function: str, dtype: np.dtype[Any]) -> Any:
    start = START[function]
    if dtype.kind in "iu" and function in ("max", "min"):
        limits = np.iinfo(dtype)
        return limits.min if function == "max" else limits.max
    return start if dtype.kind != "b" or function in ("all", "any") else function == "min"


def _runs_along(expression: Expression, variable: int) -> bool:
    """Whether the innermost loop goes through memory element by element."""
    if expression.kind == "load":
        return (variable, 1) in expression.index.terms
    return any(_runs_along(operand, variable) for operand in expression.operands)


def _mentions(expression: Expression, buffer: int) -> bool:
    if expression.kind == "load" and (
        expression.buffer == buffer or any(_mentions(pick, buffer) for _, pick in expression.index.picks)
    ):
        return True
    return any(_mentions(operand, buffer) for operand in expression.operands)
