"""What each elementwise function is in instructions, and each fold.

exp, log, tanh and their relatives are written out, so that loops over them run on whole vectors: the argument is
brought near 0, and a polynomial does the rest (J.-M. Muller, Elementary Functions, 2016). The coefficients of tanh are
those of S. Moshier's Cephes library; log1p and expm1 correct the rounding of log and exp after W. Kahan (N. Higham,
Accuracy and Stability of Numerical Algorithms, 2002, section 1.14). All others call C's library.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerflow.errors import RecordError

BOOL = np.dtype(np.bool_)
COMPARISONS = {
    "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "equal": "eq", "not_equal": "ne",
}  # fmt: skip
ARITHMETIC = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div"}
LOGIC = {
    "logical_and": "and", "logical_or": "or", "logical_xor": "xor", "bitwise_and": "and", "bitwise_or": "or",
    "bitwise_xor": "xor",
}  # fmt: skip
INTRINSICS = {
    "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint", "fabs": "fabs",
    "maximum": "maximum", "minimum": "minimum", "fmax": "maxnum", "fmin": "minnum", "copysign": "copysign",
}  # fmt: skip
LIBRARY = {
    "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2",
    "arctanh": "atanh", "cbrt": "cbrt", "cos": "cos", "cosh": "cosh", "exp2": "exp2", "float_power": "pow",
    "fmod": "fmod", "hypot": "hypot", "log10": "log10", "log2": "log2", "power": "pow", "sin": "sin", "sinh": "sinh",
    "tan": "tan",
}  # fmt: skip


def computed(p: Any, function: str, a: Sequence[str], kinds: Sequence[np.dtype[Any]], dtype: np.dtype[Any]) -> str:
    """Print an elementwise function of values `a`, which have types `kinds`; the result has type `dtype`."""
    kind = kinds[0]
    if function == "where":
        return str(p.select(*a, dtype))
    if function in COMPARISONS:
        return str(p.compare(COMPARISONS[function], *a, _comparable(kind)))
    if kind.kind == "b" and function in ("add", "maximum", "multiply", "minimum", "logical_not", "invert"):
        if function in ("logical_not", "invert"):
            return str(p.logic("xor", a[0], "true", BOOL))
        return str(p.logic("or" if function in ("add", "maximum") else "and", *a, BOOL))
    if function in LOGIC:
        return str(p.logic(LOGIC[function], *a, kind))
    if function in ("isnan", "isfinite", "isinf", "signbit"):
        return _tested(p, function, a[0], kind)
    if function == "positive":
        return a[0]
    if kind.kind in "iu":
        return _whole(p, function, a, dtype)
    if function in ARITHMETIC:
        return str(p.binary(ARITHMETIC[function], *a, dtype))
    if function == "absolute":
        function = "fabs"
    if function in INTRINSICS:
        return str(p.intrinsic(INTRINSICS[function], dtype, *a))
    if function in OWN:
        return OWN[function](p, dtype, *a)
    if function in LIBRARY:
        return str(p.library(LIBRARY[function], dtype, *a))
    raise RecordError(f"np.{function} of {kind}: the native engine does not have it; use engine numpy")


def combined(p: Any, function: str, total: str, value: str, dtype: np.dtype[Any], is_fold: bool = False) -> str:
    """Print one turn of a fold: the total so far, with one more value."""
    if function in ("all", "any"):
        return str(p.logic("and" if function == "all" else "or", total, value, BOOL))
    if dtype.kind == "b":
        return str(p.logic("or" if function == "max" else "and", total, value, BOOL))
    if function in ("max", "min"):
        if dtype.kind == "f":
            return str(p.intrinsic("maximum" if function == "max" else "minimum", dtype, total, value))
        return str(p.select(p.compare("gt" if function == "max" else "lt", value, total, dtype), value, total, dtype))
    operation = "add" if function == "sum" else "mul"
    if dtype.kind == "f" and is_fold:  # in any order, so that several run beside each other
        kind = {4: "float", 8: "double"}[dtype.itemsize]
        return str(p.let(f"f{operation} reassoc contract {kind} {total}, {value}"))
    return str(p.binary(operation, total, value, dtype))


def _comparable(kind: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.uint8) if kind.kind == "b" else kind


def _tested(p: Any, function: str, a: str, kind: np.dtype[Any]) -> str:
    if kind.kind != "f":
        return "true" if function == "isfinite" else "false"
    if function == "signbit":
        return str(p.compare("lt", p.intrinsic("copysign", kind, p.constant(1, kind), a), p.constant(0, kind), kind))
    if function == "isnan":
        return str(p.compare("ne", a, a, kind))
    size, infinity = p.intrinsic("fabs", kind, a), p.constant(math.inf, kind)
    return str(p.compare("eq" if function == "isinf" else "lt", size, infinity, kind))


def _whole(p: Any, function: str, a: Sequence[str], dtype: np.dtype[Any]) -> str:
    """Functions of integers."""
    zero, one = p.constant(0, dtype), p.constant(1, dtype)
    if function in ("add", "subtract", "multiply"):
        return str(p.binary(ARITHMETIC[function], *a, dtype))
    if function in ("maximum", "minimum", "fmax", "fmin"):
        return str(
            p.select(p.compare("gt" if function.endswith("x") or "max" in function else "lt", *a, dtype), *a, dtype)
        )
    if function in ("floor", "ceil", "trunc", "rint"):
        return a[0]
    if function == "negative":
        return str(p.binary("sub", zero, a[0], dtype))
    if function == "square":
        return str(p.binary("mul", a[0], a[0], dtype))
    if function in ("absolute", "fabs"):
        negative = p.compare("lt", a[0], zero, dtype)
        return str(p.select(negative, p.binary("sub", zero, a[0], dtype), a[0], dtype))
    if function == "sign":
        is_up, is_down = p.compare("gt", a[0], zero, dtype), p.compare("lt", a[0], zero, dtype)
        minus = p.constant(-1 if dtype.kind == "i" else 0, dtype)
        return str(p.select(is_up, one, p.select(is_down, minus, zero, dtype), dtype))
    if function == "invert":
        return str(p.logic("xor", a[0], p.constant(-1, np.dtype(np.int64)), dtype))
    if function in ("floor_divide", "remainder"):  # towards minus infinity; by 0 both are 0
        kind = p.let
        by_zero = p.compare("eq", a[1], zero, dtype)
        divisor = p.select(by_zero, one, a[1], dtype)
        sign, name = ("s" if dtype.kind == "i" else "u"), f"i{8 * dtype.itemsize}"
        quotient, rest = kind(f"{sign}div {name} {a[0]}, {divisor}"), kind(f"{sign}rem {name} {a[0]}, {divisor}")
        is_off = p.logic(
            "and",
            p.compare("ne", rest, zero, dtype),
            p.compare("lt", p.logic("xor", rest, divisor, dtype), zero, dtype),
            BOOL,
        )
        if function == "floor_divide":
            found = p.select(is_off, p.binary("sub", quotient, one, dtype), quotient, dtype)
        else:
            found = p.select(is_off, p.binary("add", rest, divisor, dtype), rest, dtype)
        return str(p.select(by_zero, zero, found, dtype))
    raise RecordError(f"np.{function} of {dtype}: the native engine does not have it; use engine numpy")


# Functions of real numbers -----------------------------------------------------------------------------------------


class _Numbers:
    """Arithmetic on values of one type, in short."""

    def __init__(self, p: Any, dtype: np.dtype[Any]) -> None:
        self.p, self.dtype = p, dtype
        self.is_single = dtype.itemsize == 4
        self.bits, self.bias = (23, 127) if self.is_single else (52, 1023)
        self.word = f"i{8 * dtype.itemsize}"

    def __call__(self, number: float) -> str:
        return str(self.p.constant(number, self.dtype))

    def add(self, a: str, b: str) -> str:
        return str(self.p.binary("add", a, b, self.dtype))

    def sub(self, a: str, b: str) -> str:
        return str(self.p.binary("sub", a, b, self.dtype))

    def mul(self, a: str, b: str) -> str:
        return str(self.p.binary("mul", a, b, self.dtype))

    def div(self, a: str, b: str) -> str:
        return str(self.p.binary("div", a, b, self.dtype))

    def if_(self, operation: str, a: str, b: str, then: str, otherwise: str) -> str:
        return str(self.p.select(self.p.compare(operation, a, b, self.dtype), then, otherwise, self.dtype))

    def whole(self, operation: str, a: str, b: str) -> str:
        """An instruction on the bits of numbers."""
        return str(self.p.let(f"{operation} {self.word} {a}, {b}"))

    def sign_of(self, a: str) -> str:
        """1 or -1."""
        return str(self.p.intrinsic("copysign", self.dtype, self(1.0), a))

    def power_of_two(self, exponent: str) -> str:
        """2^exponent, from the bits that stand for it."""
        shifted = self.whole("shl", self.whole("add", exponent, str(self.bias)), str(self.bits))
        return str(self.p.from_bits(shifted, self.dtype))

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """Horner's rule; the highest power comes first."""
        total = self(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self.add(self.mul(total, x), self(coefficient))
        return total

    @property
    def log_of_two(self) -> tuple[str, str]:
        """ln 2 in two parts, of which the first has zeros at its end."""
        parts = (0.693359375, -2.12194440e-4) if self.is_single else (6.93145751953125e-1, 1.42860682030941723212e-6)
        return self(parts[0]), self(parts[1])


def exp(p: Any, dtype: np.dtype[Any], x: str) -> str:
    """2^n e^r with r = x - n ln 2, |r| <= ln 2 / 2; 2^n in two factors, so that small results do not vanish early."""
    n = _Numbers(p, dtype)
    low, high = (-104.0, 89.0) if n.is_single else (-746.0, 710.0)
    near = n.if_("gt", x, n(high), n(high), x)
    near = n.if_("lt", near, n(low), n(low), near)
    magic = n(1.5 * 2.0**n.bits)  # adding it rounds to a whole number
    rounded = n.add(n.mul(near, n(math.log2(math.e))), magic)
    whole = n.sub(rounded, magic)
    first, second = n.log_of_two
    rest = n.sub(n.sub(near, n.mul(whole, first)), n.mul(whole, second))
    power = n.polynomial(rest, [1 / math.factorial(k) for k in range(7 if n.is_single else 13, -1, -1)])
    exponent = n.whole("sub", p.as_bits(rounded, dtype), p.as_bits(magic, dtype))
    half = n.whole("ashr", exponent, "1")
    scaled = n.mul(n.mul(power, n.power_of_two(half)), n.power_of_two(n.whole("sub", exponent, half)))
    return n.if_("ne", x, x, x, scaled)


def log(p: Any, dtype: np.dtype[Any], x: str) -> str:
    """e ln 2 + ln m with x = 2^e m, m near 1; ln m is a series in s = (m - 1) / (m + 1)."""
    n = _Numbers(p, dtype)
    smallest, shift = float(np.finfo(dtype).tiny), n.bits + 2
    is_tiny = p.compare("lt", x, n(smallest), dtype)
    scaled = p.select(is_tiny, n.mul(x, n(2.0**shift)), x, dtype)
    bits = p.as_bits(scaled, dtype)
    root_of_half = str(0x3F3504F3 if n.is_single else 0x3FE6A09E667F3BCD)
    exponent = n.whole("ashr", n.whole("sub", bits, root_of_half), str(n.bits))
    m = p.from_bits(n.whole("sub", bits, n.whole("shl", exponent, str(n.bits))), dtype)
    e = p.let(f"sitofp {n.word} {exponent} to {'float' if n.is_single else 'double'}")
    e = n.sub(e, p.select(is_tiny, n(float(shift)), n(0.0), dtype))
    f = n.sub(m, n(1.0))
    s = n.div(f, n.add(f, n(2.0)))
    z = n.mul(s, s)
    series = n.polynomial(z, [2 / (2 * j + 1) for j in range(5 if n.is_single else 11, 0, -1)])
    first, second = n.log_of_two
    small = n.add(n.mul(n.mul(z, s), series), n.mul(e, second))
    found = n.add(n.mul(e, first), n.add(n.mul(s, n(2.0)), small))
    found = n.if_("eq", x, n(0.0), n(-math.inf), found)
    found = n.if_("lt", x, n(0.0), n(math.nan), found)
    found = n.if_("eq", x, n(math.inf), x, found)
    return n.if_("ne", x, x, x, found)


def log1p(p: Any, dtype: np.dtype[Any], x: str) -> str:
    """ln u + (x - (u - 1)) / u with u = 1 + x."""
    n = _Numbers(p, dtype)
    u = p.binary("add", x, n(1.0), dtype, True)
    lost = p.binary("sub", x, p.binary("sub", u, n(1.0), dtype, True), dtype, True)
    found = n.add(log(p, dtype, u), n.div(lost, u))
    found = n.if_("eq", u, n(0.0), n(-math.inf), found)
    return n.if_("eq", x, n(math.inf), x, found)


def expm1(p: Any, dtype: np.dtype[Any], x: str) -> str:
    """(u - 1) (x / ln u) with u = e^x."""
    n = _Numbers(p, dtype)
    u = exp(p, dtype, x)
    less = p.binary("sub", u, n(1.0), dtype, True)
    found = p.binary("mul", less, n.div(x, log(p, dtype, u)), dtype, True)
    found = n.if_("eq", u, n(1.0), x, found)
    found = n.if_("eq", less, n(-1.0), n(-1.0), found)
    return n.if_("eq", u, n(math.inf), u, found)


def tanh(p: Any, dtype: np.dtype[Any], x: str) -> str:
    """A rational function near 0, 1 - 2 / (e^(2 |x|) + 1) elsewhere."""
    n = _Numbers(p, dtype)
    square, size = n.mul(x, x), p.intrinsic("fabs", dtype, x)
    above = n.polynomial(square, [-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3])
    below = n.polynomial(square, [1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3])
    near = n.add(x, n.mul(n.mul(x, square), n.div(above, below)))
    far = n.sub(n(1.0), n.div(n(2.0), n.add(exp(p, dtype, n.mul(size, n(2.0))), n(1.0))))
    far = p.intrinsic("copysign", dtype, far, x)
    return n.if_("gt", size, n(0.625), far, near)


def _logaddexp(p: Any, dtype: np.dtype[Any], x: str, y: str) -> str:
    n = _Numbers(p, dtype)
    larger = p.intrinsic("maximum", dtype, x, y)
    apart = p.intrinsic("fabs", dtype, n.sub(x, y))
    found = n.add(larger, log1p(p, dtype, exp(p, dtype, p.let(_negated(dtype, apart)))))
    return n.if_("eq", x, y, n.add(x, n(math.log(2))), found)  # equal infinities too


def _negated(dtype: np.dtype[Any], x: str) -> str:
    return f"fneg {'float' if dtype.itemsize == 4 else 'double'} {x}"


def _sign(p: Any, dtype: np.dtype[Any], x: str) -> str:
    n = _Numbers(p, dtype)
    return n.if_("gt", x, n(0.0), n(1.0), n.if_("lt", x, n(0.0), n(-1.0), n.if_("eq", x, n(0.0), n(0.0), x)))


def _floor_divide(p: Any, dtype: np.dtype[Any], x: str, y: str) -> str:
    """(x - fmod(x, y)) / y, one less where the rest has the other sign, as a whole number."""
    n = _Numbers(p, dtype)
    rest = p.library("fmod", dtype, x, y)
    quotient = n.div(n.sub(x, rest), y)
    has_other_sign = p.compare("ne", n.sign_of(rest), n.sign_of(y), dtype)
    lower = p.select(has_other_sign, n.sub(quotient, n(1.0)), quotient, dtype)
    quotient = n.if_("eq", rest, n(0.0), quotient, n.if_("ne", rest, rest, quotient, lower))
    down = p.intrinsic("floor", dtype, quotient)
    nearest = n.if_("gt", n.sub(quotient, down), n(0.5), n.add(down, n(1.0)), down)
    return n.if_("eq", y, n(0.0), n.div(x, y), nearest)


def _remainder(p: Any, dtype: np.dtype[Any], x: str, y: str) -> str:
    """x mod y with the sign of y."""
    n = _Numbers(p, dtype)
    rest = p.library("fmod", dtype, x, y)
    has_other_sign = n.if_("lt", n.mul(p.intrinsic("copysign", dtype, n(1.0), rest), y), n(0.0), n.add(rest, y), rest)
    return n.if_("eq", rest, n(0.0), p.intrinsic("copysign", dtype, n(0.0), y), has_other_sign)


def _heaviside(p: Any, dtype: np.dtype[Any], x: str, y: str) -> str:
    n = _Numbers(p, dtype)
    return n.if_("gt", x, n(0.0), n(1.0), n.if_("lt", x, n(0.0), n(0.0), n.if_("eq", x, n(0.0), y, x)))


OWN: dict[str, Callable[..., str]] = {
    "exp": exp,
    "log": log,
    "log1p": log1p,
    "expm1": expm1,
    "tanh": tanh,
    "logaddexp": _logaddexp,
    "sign": _sign,
    "floor_divide": _floor_divide,
    "remainder": _remainder,
    "heaviside": _heaviside,
    "negative": lambda p, dtype, x: str(p.let(_negated(dtype, x))),
    "square": lambda p, dtype, x: str(p.binary("mul", x, x, dtype)),
    "reciprocal": lambda p, dtype, x: str(p.binary("div", p.constant(1, dtype), x, dtype)),
    **{name: (lambda p, dtype, x: str(p.binary("mul", x, p.constant(math.pi / 180, dtype), dtype)))
       for name in ("deg2rad", "radians")},
    **{name: (lambda p, dtype, x: str(p.binary("mul", x, p.constant(180 / math.pi, dtype), dtype)))
       for name in ("rad2deg", "degrees")},
}  # fmt: skip
