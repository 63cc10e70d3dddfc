"""The operations of a gate's forward, recorded, and replayed with one of them changed.

A `Traced` array notes every NumPy operation it goes through. In a replay an edit may give an operation another result,
such as one in which an operand is held at its recorded value. The difference quotient of the edited forward is then the
gradient of a backward with exactly that mistake. No derivative of an operation has to be known for it.
"""

import ast
import functools
import linecache
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import PurePath
from types import CodeType
from typing import Any, ClassVar

import numpy as np

from layerflow.gradcheck.subject import Subject, flat, is_real
from layerflow.parameter import Array

LARGEST = 2000  # operations; a longer forward is not replayed
CREATORS = ("zeros", "ones", "empty", "full")  # of arrays that forward fills element by element
MODULES = ("np", "numpy", "np.linalg", "numpy.linalg")
METHODS = ("sum", "mean", "var", "std", "max", "min", "prod", "cumsum", "dot")

Site = tuple[str, int, int, int, int]
Move = Callable[[float], AbstractContextManager[None]]
Edit = Callable[["Call", tuple[Array, ...], Array], Array]


@dataclass
class Call:
    """One operation.

    Attributes:
        name: as in NumPy: "multiply", "matmul", "mean".
        site: file, first line, last line, first column, last column of the expression.
        place: the same for it and all its callers: a helper that is called on two lines has two.
        operands, result: their values; operands are the floating-point arrays and masks among the arguments.
        positions: of every operand, which argument it is, and which part of it if that is a list.
        sources: for every operand the call whose result it is (or is a view of), or None.
        apply: the operation as a function of its operands.
    """

    index: int
    name: str
    site: Site
    place: int
    operands: tuple[Array, ...]
    positions: tuple[tuple[int, int], ...]
    result: Array
    sources: tuple[int | None, ...]
    apply: Callable[..., Any]

    @property
    def expression(self) -> str:
        """The source of the operation itself; empty if it is not available."""
        file, line, last, start, end = self.site
        text = linecache.getline(file, line)
        return text.encode()[start:end].decode() if line == last and end > start else ""

    @property
    def text(self) -> str:
        """The same, or the name of the operation, as code."""
        return f"`{self.expression or self.name}`"

    @property
    def line(self) -> str:
        """The line of source, and where it is."""
        file, number, *_ = self.site
        text = linecache.getline(file, number).strip()
        where = f"{PurePath(file).name}, line {number}"
        return f"`{text}` ({where})" if text else where

    def operand(self, position: int) -> str:
        """The source of an operand, as in `mu` for the second one of `x - mu`."""
        try:
            node = ast.parse(self.expression, mode="eval").body
        except SyntaxError:
            return f"operand {position + 1} of {self.name}"
        if isinstance(node, ast.BinOp):
            parts = [node.left, node.right]
        elif isinstance(node, ast.UnaryOp):
            parts = [node.operand]
        elif isinstance(node, ast.Call):
            is_method = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) not in MODULES
            parts = [*([node.func.value] if is_method and isinstance(node.func, ast.Attribute) else []), *node.args]
        else:
            parts = []
        argument, nth = self.positions[position]
        part = parts[argument] if argument < len(parts) else None
        if isinstance(part, ast.List | ast.Tuple):
            part = part.elts[nth] if nth < len(part.elts) else None
        return f"`{ast.unparse(part)}`" if part else f"operand {position + 1} of {self.text}"


class Recorder:
    """What the `Traced` arrays report to: it records the calls, or edits them in a replay."""

    def __init__(self, recorded: dict[int, Call] | None = None, edits: dict[int, Edit] | None = None) -> None:
        self.recorded = recorded
        self.edits = edits or {}
        self.calls: list[Call] = []
        self.last = max(self.edits, default=0)
        self.position = 0
        self.work = 0
        self.alive: list[Array] = []  # keeps addresses from being used again
        self.made_by: dict[int, int] = {}

    def run(self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One operation on plain arrays."""
        index, self.position = self.position, self.position + 1
        self.work += 1
        operands: list[Array] | None = [] if self.recorded is None or index in self.edits else None
        plain = tuple(_plain(value, operands) for value in args)
        options = {key: _plain(value, None) for key, value in kwargs.items()} if kwargs else kwargs
        if self.recorded is None and operands is not None:
            before = tuple(np.array(x) for x in operands)  # operands may be written into by out=
            result = function(*plain, **options)
            result = np.asarray(result) if isinstance(result, np.floating) else result
            if index < LARGEST and _is_float(result):
                self._note(index, name, before, operands, result, function, plain, options)
            return _traced(result)
        if index > self.last:  # nothing after this is edited, so nothing needs to be watched
            return function(*plain, **options)
        edit = self.edits.get(index)
        if edit is None or operands is None:
            return _traced(function(*plain, **options))
        now = tuple(np.array(x) for x in operands)
        call = (self.recorded or {})[index]
        result = function(*plain, **options)
        if call.name != name:
            raise RuntimeError("forward took another way")
        changed = edit(call, now, np.asarray(result))
        out = options.get("out")
        if out is not None:
            target = out[0] if isinstance(out, tuple) else out
            target[...] = changed
            return _traced(target)
        return _traced(changed)

    def _note(
        self, index: int, name: str, before: tuple[Array, ...], operands: list[Array], result: Any, *how: Any
    ) -> None:
        function, plain, options = how
        options = {key: value for key, value in options.items() if key != "out"}
        sources = tuple(self.made_by.get(_address(x)) for x in operands)
        if isinstance(result, np.ndarray):
            self.alive.append(result)
            self.made_by[_address(result)] = index

        def apply(*values: Array) -> Any:
            return function(*_filled(plain, iter(values)), **options)

        site, place = _site()
        self.calls.append(Call(index, name, site, place, before, _positions(plain), np.array(result), sources, apply))


class Traced(np.ndarray[Any, np.dtype[Any]]):
    """An array that reports its operations."""

    recorder: ClassVar[Recorder] = Recorder()

    def __getitem__(self, key: Any) -> Any:
        """A single element is an array without axes, so that loops over elements are recorded, too."""
        found = super().__getitem__(key)
        if isinstance(found, np.floating):
            found = super().__getitem__((*(key if isinstance(key, tuple) else (key,)), ...))
        return found

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        return Traced.recorder.run(getattr(ufunc, method), name, args, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return Traced.recorder.run(func, func.__name__, tuple(args), dict(kwargs))


def _method(name: str) -> Any:
    function = getattr(np.ndarray, name)

    def method(self: Traced, *args: Any, **kwargs: Any) -> Any:
        return Traced.recorder.run(function, name, (self, *args), kwargs)

    return method


for _name in METHODS:
    setattr(Traced, _name, _method(_name))


class Replay:
    """A gate's forward, recorded once.

    Attributes:
        calls: its operations in order; empty if it could not be recorded.
        work: how many operations were replayed so far.
        explained: the hypotheses that explained a gradient, and the factors they had.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject, self.work = subject, 0
        self.explained: list[tuple[Any, float]] = []
        recorder = Recorder()
        try:
            with traced(subject, recorder) as forward:
                forward()
            self.calls = recorder.calls
        except Exception:  # an operation that takes no subclass of arrays: then there is nothing to replay
            self.calls = []

    def slopes(self, edits: dict[int, Edit], moves: Sequence[Move], steps: Sequence[float]) -> Array:
        """The derivative of every output along each line: central differences, extrapolated if there are two steps."""
        found = []
        recorder = Recorder({call.index: call for call in self.calls}, edits)
        with traced(self.subject, recorder) as forward:

            def at(move: Move, t: float) -> Array:
                recorder.position = 0
                with move(t):
                    return forward()

            for move in moves:
                central = [(at(move, h) - at(move, -h)) / (2.0 * h) for h in steps]
                self.work, recorder.work = self.work + recorder.work, 0
                found.append(central[0] if len(steps) == 1 else (4.0 * central[1] - central[0]) / 3.0)
        return np.array(found)


@contextmanager
def traced(subject: Subject, recorder: Recorder) -> Iterator[Callable[[], Array]]:
    """Let the subject's inputs and parameters, and arrays that it makes, report to `recorder`; gives its forward."""
    before, Traced.recorder = Traced.recorder, recorder
    parameters = subject.gate.parameters()
    for parameter in parameters:
        parameter._value = parameter.value.view(Traced)

    def forward() -> Array:
        subject.restore()
        inputs = [x.view(Traced) if is_real(x) else x for x in subject.inputs]
        return flat(_plain(subject.gate.bare_forward(*inputs), None))

    makers = {name: getattr(np, name) for name in CREATORS}
    for name, make in makers.items():
        setattr(np, name, _reporting(make))
    try:
        with np.errstate(all="ignore"):
            yield forward
    finally:
        Traced.recorder = before
        for name, make in makers.items():
            setattr(np, name, make)
        for parameter in parameters:
            parameter._value = parameter.value.view(np.ndarray)


def _reporting(make: Callable[..., Array]) -> Callable[..., Array]:
    """A function that makes arrays, which report what is done with them; those of other threads do not."""
    mine = threading.get_ident()

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Array:
        array = make(*(_plain(value, None) for value in args), **kwargs)
        return array.view(Traced) if threading.get_ident() == mine and _is_float(array) else array

    return made


def _plain(value: Any, operands: list[Array] | None) -> Any:
    """The same without `Traced`; appends the floating-point arrays in it to `operands`, if that is a list."""
    if isinstance(value, np.ndarray):
        array = value.view(np.ndarray) if isinstance(value, Traced) else value
        if operands is not None and array.dtype.kind in "fb":
            operands.append(array)
        return array
    if isinstance(value, list | tuple):
        return type(value)(_plain(item, operands) for item in value) if type(value) in (list, tuple) else value
    return value


def _positions(arguments: tuple[Any, ...]) -> tuple[tuple[int, int], ...]:
    """Which argument each operand is, and which part of it."""
    found: list[tuple[int, int]] = []
    for index, argument in enumerate(arguments):
        operands: list[Array] = []
        _plain(argument, operands)
        found += [(index, nth) for nth in range(len(operands))]
    return tuple(found)


def _filled(value: Any, operands: Iterator[Array]) -> Any:
    """The arguments with other operands."""
    if isinstance(value, np.ndarray):
        return next(operands) if value.dtype.kind in "fb" else value
    if isinstance(value, list | tuple):
        return type(value)(_filled(item, operands) for item in value)
    return value


def _traced(result: Any) -> Any:
    if type(result) in (list, tuple):
        return type(result)(map(_traced, result))
    return np.asarray(result).view(Traced) if _is_float(result) else result


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.floating) and value.dtype.kind == "f"


def _address(array: Array) -> int:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return int(array.__array_interface__["data"][0])


def _site() -> tuple[Site, int]:
    """Where the author's code is (the innermost frame outside NumPy and this file), and by which calls it got there."""
    site: Site | None = None
    way: list[tuple[CodeType, int]] = []
    for depth in count(2):
        frame = sys._getframe(depth)
        file = frame.f_code.co_filename
        if site is not None and file == __file__:
            return site, hash(tuple(way))
        if file != __file__ and "/numpy/" not in file.replace("\\", "/"):
            way.append((frame.f_code, frame.f_lasti))
            if site is None:
                positions = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
                line, last, start, end = (part or 0 for part in positions)
                site = file, line, last, start, end
    raise AssertionError
