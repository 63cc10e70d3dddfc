"""Writes models as one C file without dependencies: the recorded forward for one sample, in static memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.engine.native.expressions import Expression, Index
from layerflow.engine.native.fusion import fused, placed, temporaries
from layerflow.engine.native.kernels import Buffer, Kernel, Matrix
from layerflow.engine.native.lowering import Lowering
from layerflow.engine.program import Program
from layerflow.errors import LayerflowError
from layerflow.parameter import Array

TYPES = {"bool": "uint8_t", "float32": "float", "float64": "double"}
OPERATORS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/", "greater": ">", "less": "<",
    "greater_equal": ">=", "less_equal": "<=", "equal": "==", "not_equal": "!=", "logical_and": "&&",
    "logical_or": "||", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
}  # fmt: skip
FUNCTIONS = {
    "absolute": "fabs", "fabs": "fabs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh",
    "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "cbrt": "cbrt", "ceil": "ceil", "copysign": "copysign",
    "cos": "cos", "cosh": "cosh", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "floor": "floor", "fmod": "fmod",
    "hypot": "hypot", "log": "log", "log10": "log10", "log1p": "log1p", "log2": "log2", "power": "pow",
    "rint": "nearbyint", "sin": "sin", "sinh": "sinh", "sqrt": "sqrt", "tan": "tan", "tanh": "tanh", "trunc": "trunc",
}  # fmt: skip
FORMULAS = {
    "negative": "-{0}", "positive": "{0}", "square": "{0} * {0}", "reciprocal": "1 / {0}", "where": "{0} ? {1} : {2}",
    "maximum": "MAXIMUM({0}, {1})", "minimum": "MINIMUM({0}, {1})", "sign": "SIGN({0})", "logical_not": "!{0}",
    "invert": "!{0}", "isnan": "{0} != {0}", "isinf": "isinf({0}) != 0", "isfinite": "isfinite({0}) != 0",
    "signbit": "signbit({0}) != 0", "logical_xor": "!{0} != !{1}",
    "heaviside": "{0} > 0 ? 1 : {0} < 0 ? 0 : {0} == 0 ? {1} : {0}",
    "fmax": "fmax({0}, {1})", "fmin": "fmin({0}, {1})", "deg2rad": "{0} * 0.017453292519943295",
    "rad2deg": "{0} * 57.29577951308232",
}  # fmt: skip
WHOLE = {
    "remainder": "REST({0}, {1})", "floor_divide": "({0} - REST({0}, {1})) / {1}", "absolute": "{0} < 0 ? -{0} : {0}",
}  # fmt: skip
REAL = {
    "remainder": "{0} - floor({0} / {1}) * {1}", "floor_divide": "floor({0} / {1})",
    "logaddexp": "MAXIMUM({0}, {1}) + log1p(exp(-fabs({0} - {1})))",
}  # fmt: skip
START = {"sum": "0", "prod": "1", "all": "1", "any": "0", "max": "-INFINITY", "min": "INFINITY"}
COMBINED = {
    "sum": "{0} + {1}", "prod": "{0} * {1}", "all": "{0} && {1}", "any": "{0} || {1}", "max": "MAXIMUM({0}, {1})",
    "min": "MINIMUM({0}, {1})",
}  # fmt: skip
HEAD = """\
/* {title}: written by layerflow.

   {signature}

   computes {outputs} for one sample of shape {shape}. It needs C99 and its mathematical library alone, allocates
   nothing, and is not reentrant: {memory:,} bytes hold what is computed, {constants:,} bytes the weights. */

#include <math.h>
#include <stdint.h>

#define MAXIMUM(a, b) ((a) != (a) ? (a) : (b) != (b) ? (b) : (a) > (b) ? (a) : (b))
#define MINIMUM(a, b) ((a) != (a) ? (a) : (b) != (b) ? (b) : (a) < (b) ? (a) : (b))
#define SIGN(a) ((a) > 0 ? 1 : (a) < 0 ? -1 : (a))
#define REST(a, b) ((a) % (b) != 0 && ((a) < 0) != ((b) < 0) ? (a) % (b) + (b) : (a) % (b))

"""


def c_file(program: Program, arrays: Mapping[str, Array], title: str, outputs: Sequence[str], shape: Any) -> str:
    """Return the text of a C file with a function `predict(x, outputs...)`.

    Args:
        program: the forward, recorded for one sample.
        arrays: parameters and buffers by the names of the program's inputs.
        title: what the file is, in its first line.
        outputs: the names of the outputs.
        shape: of a sample.

    Raises:
        RecordError, LayerflowError: something in it has no counterpart in C.
    """
    program = Program(program.nodes, program.inputs, program.outputs)  # without guards, which would need a host
    lowered = Lowering(program, 0)  # products of any layout: nothing is packed
    kernels, buffers = fused(lowered.kernels, lowered.expressions), lowered.buffers
    temporary = temporaries(kernels, buffers)
    names: dict[int, str] = {}
    memory: list[str] = []
    weights: list[str] = []
    wrote = held = 0
    for dtype in sorted({buffer.dtype for buffer in temporary}, key=str):
        own = [buffer for buffer in temporary if buffer.dtype == dtype]
        size = -(-placed(own) // dtype.itemsize)
        memory.append(f"static {_type(dtype)} memory_{dtype}[{size}];")
        wrote += size * dtype.itemsize
        names |= {buffer.number: f"(memory_{dtype} + {buffer.offset // dtype.itemsize})" for buffer in own}
    for buffer in buffers:
        if buffer.kind == "temporary" or buffer.last < 0:
            continue
        value = buffer.value if buffer.kind == "constant" else arrays.get(buffer.name)
        if value is None:
            name = buffer.name.removeprefix("output:").replace("input.0", "x")
            names[buffer.number] = outputs[int(name.removeprefix("output."))] if name.startswith("output.") else name
        else:
            names[buffer.number] = f"weights_{len(weights)}"
            weights.append(_weights(names[buffer.number], np.asarray(value, buffer.dtype), buffer.name))
            held += value.size * buffer.dtype.itemsize
    arguments = [f"const {_type(program.inputs['input.0'].dtype)} *x"]
    for i, name in enumerate(outputs):
        dtype = program.outputs[f"output.{i}"].dtype
        arguments.append(f"{_type(dtype)} *{name}")
    signature = f"void predict({', '.join(arguments)})"
    lines: list[str] = []
    for kernel in kernels:
        lines += _Lines(kernel, buffers, names).lines
    sizes = ", ".join(f"{n}[{program.outputs[f'output.{i}'].size}]" for i, n in enumerate(outputs))
    head = HEAD.format(
        title=title, signature=signature, outputs=sizes, shape=" x ".join(map(str, shape)), memory=wrote, constants=held
    )
    body = "\n".join(f"    {line}" for line in lines)
    return f"{head}{chr(10).join([*weights, *memory])}\n\n{signature}\n{{\n{body}\n}}\n"


def _type(dtype: np.dtype[Any]) -> str:
    return TYPES.get(str(dtype)) or f"{dtype}_t"


def _number(value: Any, dtype: np.dtype[Any]) -> str:
    if dtype.kind != "f":
        return str(int(value))
    if not np.isfinite(value):
        return "NAN" if value != value else "INFINITY" if value > 0 else "-INFINITY"
    text = np.format_float_scientific(dtype.type(value), unique=True, trim="0")
    return f"{text}f" if dtype.itemsize == 4 else text


def _weights(name: str, array: Array, comment: str) -> str:
    numbers = [_number(value, array.dtype) for value in array.ravel()]
    rows = [", ".join(numbers[i : i + 8]) for i in range(0, len(numbers), 8)]
    shown = f"  /* {comment.partition('.')[2]} */" if comment else ""
    return (
        f"static const {_type(array.dtype)} {name}[{max(array.size, 1)}] = {{{shown}\n    "
        + ",\n    ".join(rows)
        + "\n};"
    )


class _Lines:
    """The lines of a kernel."""

    def __init__(self, kernel: Kernel, buffers: list[Buffer], names: dict[int, str]) -> None:
        self.buffers, self.names = buffers, names
        self.lines: list[str] = []
        self.depth, self.count = 0, 0
        self.known: list[dict[Expression, str]] = [{}]
        self._say("{")
        self.depth += 1
        if kernel.product is not None:
            self._product(kernel)
        elif kernel.folds or kernel.function:
            self._fold(kernel)
        else:
            self._nest(kernel.loops)
            for store in kernel.stores:
                value, place = self.value(store.value), self.place(store.buffer, store.index)
                self._say(f"{place} {'+=' if store.mode == 'add' else '='} {value};")
                self.known = [{} for _ in self.known]  # what was read may be another number now
        self._close()
        self._close()

    def _say(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def _nest(self, loops: list[tuple[int, int]]) -> None:
        for variable, size in loops:
            self._say(f"for (int i{variable} = 0; i{variable} < {size}; i{variable}++) {{")
            self.depth += 1
            self.known.append({})

    def _close(self, to: int = 0) -> None:
        while self.depth > to:
            self.depth -= 1
            if len(self.known) > 1:
                self.known.pop()
            self._say("}")

    def index(self, index: Index) -> str:
        parts = [f"i{v}" if stride == 1 else f"{stride} * i{v}" for v, stride in index.terms]
        for stride, pick in index.picks:
            parts.append(self.value(pick) if stride == 1 else f"{stride} * {self.value(pick)}")
        if index.start or not parts:
            parts.append(str(index.start))
        return " + ".join(parts)

    def place(self, buffer: int, index: Index) -> str:
        return f"{self.names[buffer]}[{self.index(index)}]"

    def value(self, expression: Expression) -> str:
        """The text of a value: a number, or the name that it is given."""
        if expression.kind == "constant":
            return _number(expression.value, expression.dtype)
        found = next((known[expression] for known in reversed(self.known) if expression in known), None)
        if found is None:
            text = self._text(expression)
            self.count += 1
            found = self.known[-1][expression] = f"t{self.count}"
            self._say(f"const {_type(expression.dtype)} {found} = {text};")
        return found

    def _text(self, expression: Expression) -> str:
        if expression.kind == "load":
            return self.place(expression.buffer, expression.index)
        operands, dtype = [self.value(each) for each in expression.operands], expression.dtype
        kind = expression.operands[0].dtype
        if expression.kind == "cast":
            return f"{operands[0]} != 0" if dtype.kind == "b" else f"({_type(dtype)}){operands[0]}"
        function = expression.function
        if kind.kind == "b" and function in ("add", "maximum", "multiply", "minimum"):
            return f"{operands[0]} {'||' if function in ('add', 'maximum') else '&&'} {operands[1]}"
        special = (REAL if kind.kind == "f" else WHOLE).get(function)
        if special or function in FORMULAS:
            return self._single((special or FORMULAS[function]), kind).format(*operands)
        if function in OPERATORS:
            return f"{operands[0]} {OPERATORS[function]} {operands[1]}"
        if function not in FUNCTIONS or kind.kind != "f":
            raise LayerflowError(f"C has no function for np.{function} of {kind}")
        return f"{FUNCTIONS[function]}{'f' if dtype.itemsize == 4 else ''}({', '.join(operands)})"

    @staticmethod
    def _single(formula: str, dtype: np.dtype[Any]) -> str:
        """A formula with the functions of float, where that is the type."""
        if dtype != np.float32:
            return formula
        for name in ("log1p", "exp", "fabs", "floor", "fmax", "fmin"):
            formula = formula.replace(f"{name}(", f"{name}f(")
        return formula

    def _product(self, kernel: Kernel) -> None:
        product = kernel.product
        assert product is not None
        self._nest(kernel.loops)
        size = _type(product.dtype)

        def element(matrix: Matrix, row: str, column: str) -> str:
            place = f"{self.index(matrix.index)} + {row} * {matrix.row} + {column} * {matrix.column}"
            return f"{self.names[matrix.buffer]}[{place}]"

        c = element(product.c, "r", "q")
        self._say(f"for (int r = 0; r < {product.rows}; r++)")
        self._say(f"    for (int q = 0; q < {product.columns}; q++) {{")
        self._say(f"        {size} sum = {c if product.adds else '0'};")
        self._say(f"        for (int k = 0; k < {product.inner}; k++)")
        self._say(f"            sum += {element(product.a, 'r', 'k')} * {element(product.b, 'k', 'q')};")
        self._say(f"        {c} = sum;")
        self._say("    }")

    def _fold(self, kernel: Kernel) -> None:
        (store,), function = kernel.stores, kernel.function
        dtype, of = self.buffers[store.buffer].dtype, store.value.dtype
        self._nest(kernel.loops)
        depth = self.depth
        if function in ("argmax", "argmin"):
            self._say(f"{_type(of)} best = 0;")
            self._say(f"{_type(dtype)} where = -1;")
            self._nest(kernel.folds)
            value, place = self.value(store.value), f"i{kernel.folds[0][0]}" if kernel.folds else "0"
            sign = ">" if function == "argmax" else "<"
            self._say(f"if (where < 0 || (best == best && ({value} {sign} best || {value} != {value}))) {{")
            self._say(f"    best = {value};")
            self._say(f"    where = {place};")
            self._say("}")
            self._close(depth)
            self._say(f"{self.place(store.buffer, store.index)} = where;")
            return
        is_running, function = function.startswith("cum"), function.removeprefix("cum")
        start = START[function]
        if dtype.kind in "iu" and function in ("max", "min"):
            limits = np.iinfo(dtype)
            start = f"({limits.min + 1} - 1)" if function == "max" else str(limits.max)
        self._say(f"{_type(dtype)} total = {start};")
        self._nest(kernel.folds)
        self._say(f"total = {COMBINED[function].format('total', self.value(store.value))};")
        if is_running:
            self._say(f"{self.place(store.buffer, store.index)} = total;")
        self._close(depth)
        if not is_running:
            self._say(f"{self.place(store.buffer, store.index)} = total;")
